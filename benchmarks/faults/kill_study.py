"""Kill the study with SIGKILL at random moments, continue it each time, and compare with an undisturbed twin.

    python benchmarks/faults/kill_study.py --kills 20 --seed 1
    python benchmarks/faults/kill_study.py --size tiny --kills 1

The kills are spread over all kinds of parts (each stage, finetuning, evaluation): the part is drawn among those not
finished, then the moment inside it. Prints where each kill struck; exits with 1 if any weight or
metric differs in a bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("random", "mae-", "wsp-", "mae_wsp-", "wsp_equal_compute-", "transfer-", "finetune-", "accuracy-", "pictures")
LONGEST_DELAY = 2.5
"""Seconds into a part at which a kill may strike (less, where the part is shorter)."""


def command(size: str, out: Path) -> list[str]:
    return [sys.executable, "-u", "-m", "underpaint", "study", "stages", "--size", size, "--out", str(out)]


def run_to_end(size: str, out: Path) -> None:
    subprocess.run(command(size, out), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_in(kind: str, size: str, out: Path, generator: random.Random) -> str | None:
    """Start the study, kill it in the next part of a kind, and say where; None when the study ended before."""
    delay = generator.random() * LONGEST_DELAY
    process = subprocess.Popen(command(size, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[") and line.partition("] ")[2].startswith(kind):
            time.sleep(delay)
            os.kill(process.pid, signal.SIGKILL)
            lines = [line, *process.stderr.read().splitlines()]
            code = process.wait()
            last = [each.strip() for each in lines if each.startswith("[")][-1]
            return f"in {last}, {delay:.2f} s after the start of {line.strip()}" if code == -signal.SIGKILL else None
    assert process.wait() == 0, "the study failed by itself"
    return None


def outcome(folder: Path) -> dict[str, str]:
    """Everything that must not differ: weights byte by byte, evaluations, rows and summary."""
    import xxhash

    found = {}
    for path in sorted(folder.rglob("model.safetensors")):
        if "checkpoints" not in path.parts:
            found[str(path.relative_to(folder))] = xxhash.xxh3_64_hexdigest(path.read_bytes())
    for path in sorted((folder / "evals").glob("*.json")):
        found[f"evals/{path.name}"] = json.dumps(json.loads(path.read_text())["output"])
    for path in sorted(folder.glob("*/result.json")):
        found[str(path.relative_to(folder))] = json.dumps(json.loads(path.read_text())["metrics"])
    results = json.loads((folder / "results.json").read_text())
    found["rows and summary"] = json.dumps([results["rows"], results["summary"]])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--size", choices=("smoke", "tiny"), default="smoke")
    parser.add_argument("--reference", type=Path, help="a finished study of this size, instead of a fresh one")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        reference = options.reference or Path(name) / "reference"
        if options.reference is None:
            run_to_end(options.size, reference)
        expected, disturbed = outcome(reference), Path(name) / "disturbed"
        # in the order of the study, so that no kill waits for a part that is done
        kinds = [KINDS[number % len(KINDS)] for number in range(options.kills)]
        struck = 0
        for kind in (
            sorted(kinds, key=KINDS.index) if options.kills >= len(KINDS) else generator.sample(KINDS, options.kills)
        ):
            where = kill_in(kind, options.size, disturbed, generator)
            struck += where is not None
            print(f"kill {struck}: {where or f'none: {kind} was done'}", flush=True)
        run_to_end(options.size, disturbed)
        got = outcome(disturbed)
    differing = sorted(key for key in expected.keys() | got.keys() if expected.get(key) != got.get(key))
    print(f"{struck} kills, {len(expected)} outputs compared, {len(differing)} differ: {differing[:10]}")
    return 1 if differing or not struck else 0


if __name__ == "__main__":
    sys.exit(main())
