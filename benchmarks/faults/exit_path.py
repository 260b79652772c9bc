"""Train two steps on several ranks again and again: every process must end by itself with exit code 0.

    python benchmarks/faults/exit_path.py --times 50 --world 2

Real interpreters that end as they do under torchrun: gloo's threads once aborted some of them at exit (SIGABRT).
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TRAIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from trainings import build
from underpaint.run import execute
execute(build(Path(sys.argv[2]), stage="mae", layout=sys.argv[4], steps=2, asynchronous=True), Path(sys.argv[3]))
"""


def start(images: Path, folder: Path, *, world: int, layout: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", TRAIN, str(Path(__file__).parent), str(images), str(folder), layout]
    return [
        subprocess.Popen(
            command,
            env={**common, "WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--layout", choices=("ddp", "fsdp"), default="fsdp")
    options = parser.parse_args()
    from trainings import make_images

    codes = Counter[int]()
    with tempfile.TemporaryDirectory() as name:
        images = make_images(Path(name) / "images")
        for number in range(options.times):
            started = time.monotonic()
            processes = start(images, Path(name) / f"run{number}", world=options.world, layout=options.layout)
            said = [process.communicate(timeout=600)[1] for process in processes]
            found = [process.returncode for process in processes]
            codes.update(found)
            print(f"start {number + 1}: exit codes {found}, {time.monotonic() - started:.0f} s", flush=True)
            if any(found):
                print("\n".join(text[-2000:] for text in said), flush=True)
    print(f"{options.times} starts of {options.world} ranks, exit codes {dict(codes)}")
    return int(set(codes) != {0})


if __name__ == "__main__":
    sys.exit(main())
