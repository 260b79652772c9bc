"""A small run on real images for the fault scripts: started on several ranks by forking, watched, and hashed.

The script imports torch once and forks the ranks from there, so that a hundred starts take minutes and not hours.
"""

from __future__ import annotations

import contextlib
import csv
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torch import nn

from underpaint import run as runs
from underpaint.core import Objective
from underpaint.data import loader
from underpaint.data.dataset import ImageData
from underpaint.data.shards.shard_files import Shards
from underpaint.data.source import Folder
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.run import Budget, Cadence, Run, execute
from underpaint.training import sharded_tensors
from underpaint.training.log import read_log
from underpaint.training.optim import OptimConfig
from underpaint.training.parallel import ParallelConfig
from underpaint.training.signals import Interrupted

BATCH = 16
HASH_STEPS, SAVE_STEPS = 5, 7
ENCODER = ViTConfig(size=(16, 16), patch=4, width=32, depth=2, heads=2)


@dataclass(frozen=True, kw_only=True)
class WeightsHash:
    """The weights as one number of 52 bits, which JSON keeps exactly."""

    needs: ClassVar[type] = Objective

    def __call__(self, objective: nn.Module) -> dict[str, float]:
        import xxhash

        digest = xxhash.xxh3_64()
        for name, value in objective.state_dict().items():
            digest.update(name.encode() + sharded_tensors.whole(value).cpu().contiguous().numpy().tobytes())
        return {"weights": float(digest.intdigest() >> 12)}


def make_images(folder: Path, *, count: int = 200, corrupt: int = 0) -> Path:
    """Coloured boxes on noise with tags; the first ``corrupt`` of them are cut off in the middle."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = [("path", "tags")]
    for number in range(count):
        pixels = generator.integers(200, 256, size=(20, 24, 3), dtype=np.uint8)
        colour = generator.integers(0, 200, size=3)
        top, left = generator.integers(0, 12, size=2)
        pixels[top : top + 8, left : left + 8] = colour
        name = f"{number:04d}.png"
        Image.fromarray(pixels).save(folder / name)
        if number < corrupt:
            (folder / name).write_bytes((folder / name).read_bytes()[:300])
        rows.append((name, "red" if colour[0] > 100 else "blue"))
    with (folder / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def build(images: Path, *, stage: str, layout: str, steps: int, asynchronous: bool) -> Run:
    objective = {
        "mae": MAEConfig(encoder=ENCODER, decoder=DecoderConfig(width=16, depth=1, heads=2)),
        "wsp": ClassifyConfig(encoder=ENCODER, init="mae"),
    }[stage]
    return Run(
        name=f"{stage}_faults",
        objective=objective,
        data=ImageData(source=str(images), targets="tags" if stage == "wsp" else "none", scale=(0.4, 1.0), max_bad=0.1),
        budget=Budget(samples=steps * BATCH, batch_size=BATCH, microbatch=8, warmup=BATCH),
        optim=OptimConfig(base_lr=2e-2),
        ema_decay=0.9,
        evals=(WeightsHash(),),
        cadence=Cadence(
            log=HASH_STEPS * BATCH,
            save=SAVE_STEPS * BATCH,
            keep=10**9,
            evaluate=HASH_STEPS * BATCH,
            asynchronous=asynchronous,
        ),
        threads=1,
        device="cpu",
        parallel=ParallelConfig(layout=layout, hang_seconds=120.0),
    )


def make_shards(images: Path, out: Path, *, corrupt: int = 0) -> Path:
    """The images as a prepared set of some ten tars; ``corrupt`` of these each have an image with a wrong bit."""
    import underpaint

    underpaint.prepare([images], out, shard_images=20)
    for tar in sorted((out / "shards").glob("*.tar"))[:corrupt]:
        content = bytearray(tar.read_bytes())
        content[content.index(b"IDAT") + 8] ^= 1
        tar.write_bytes(content)
    return out


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Faults of image files or shards while ranks read them: they get slow, or vanish for a while."""

    folder: Path

    @property
    def delay(self) -> Path:
        """Holds the seconds that every read of an image takes; not there where reading is as quick as the disk."""
        return self.folder.with_name(f"{self.folder.name}.delay")

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.suffix in (".png", ".tar"))

    def slow_down(self, seconds: float) -> None:
        part = self.delay.with_name(f"{self.delay.name}.part")
        part.write_text(str(seconds))
        part.replace(self.delay)

    def recover(self) -> None:
        self.delay.unlink(missing_ok=True)

    def vanish(self, generator: random.Random, *, count: int, seconds: float) -> None:
        """Take files away and bring them back: the same files, so that the source stays what it was."""
        chosen = generator.sample(self.files(), count)
        for path in chosen:
            path.rename(path.with_name(f".{path.name}"))
        time.sleep(seconds)
        for path in chosen:
            path.with_name(f".{path.name}").rename(path)

    def is_felt(self) -> None:
        """Let the ranks forked from here read every image anew each time, with the delay."""
        loader.CACHE_BYTES = 0
        for kind in (Folder, Shards):
            kind.read = self._delayed(kind.read)

    def _delayed(self, read: Any) -> Any:
        def delayed(*given: Any) -> Any:
            with contextlib.suppress(FileNotFoundError):
                time.sleep(float(self.delay.read_text()))
            return read(*given)

        return delayed


class Ranks:
    """The processes of one start."""

    def __init__(self, run: Run, folder: Path, world: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.run = run
        self.said = folder.with_name(f"{folder.name}.stderr")
        self.said.write_text("")
        self.log_before = _inode(folder / "log.jsonl")
        context = multiprocessing.get_context("fork")
        self.processes = [
            context.Process(target=_rank, args=(run, folder, rank, world, port, self.said)) for rank in range(world)
        ]
        for process in self.processes:
            process.start()

    def alive(self) -> bool:
        return any(process.is_alive() for process in self.processes)

    def signal(self, number: int, victims: list[int]) -> None:
        for rank in victims:
            pid = self.processes[rank].pid
            if pid is not None and self.processes[rank].is_alive():
                os.kill(pid, number)

    def end(self, seconds: float) -> tuple[list[int | None], bool]:
        """Wait for all to end by themselves; their exit codes, and whether some had to be killed."""
        deadline = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        late = [rank for rank, process in enumerate(self.processes) if process.is_alive()]
        self.signal(signal.SIGKILL, late)
        for process in self.processes:
            process.join()
        return [process.exitcode for process in self.processes], bool(late)

    def usage(self) -> tuple[float, int]:
        """Resident MiB and open files of rank 0."""
        pid = self.processes[0].pid
        status = Path(f"/proc/{pid}/status").read_text()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return resident / 1024, len(os.listdir(f"/proc/{pid}/fd"))


def _rank(run: Run, folder: Path, rank: int, world: int, port: int, said: Path) -> None:
    sys.stderr = said.open("a", buffering=1)
    os.dup2(sys.stderr.fileno(), 2)
    given = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in given.items()}, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    code = 1
    try:
        execute(run, folder)
        code = 0
    except Interrupted:
        code = 75
    except runs.OutOfSpace as error:
        print(error, file=sys.stderr)
        code = 3
    finally:
        if code == 1:
            import traceback

            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)


def hashes(folder: Path) -> dict[int, float]:
    return {
        line["step"]: line["eval"]["weights"]
        for line in read_log(folder / "log.jsonl")
        if "weights" in line.get("eval", {})
    }


def newest_step(folder: Path) -> int:
    """Step of the newest complete checkpoint; 0 without any."""
    found = [int(path.name[5:]) for path in (folder / "checkpoints").glob("step-????????")]
    return max(found, default=0)


def resumed_from(said: Path) -> int:
    """The step that a start says it continues from; 0 for the beginning."""
    lines = [line for line in said.read_text().splitlines() if "continues from step" in line]
    return int(lines[-1].rpartition(" ")[2].replace(",", "")) if lines else 0


def wait_for_hashes(ranks: Ranks, folder: Path, count: int, *, seconds: float = 120.0) -> dict[int, float]:
    """The hashes that a start logged after the step it resumed from, when there are so many or it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        ended = not ranks.alive()
        found: dict[int, float] = {}
        if _inode(folder / "log.jsonl") != ranks.log_before:  # it has cut the log to its checkpoint
            step = resumed_from(ranks.said)
            found = {at: value for at, value in hashes(folder).items() if at > step}
        if len(found) >= count or ended:
            return found
        assert time.monotonic() < deadline, f"no progress in {seconds} s: {ranks.said.read_text()[-2000:]}"
        time.sleep(0.02)


def _inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


def draw_seed() -> int:
    return random.SystemRandom().randrange(10**6)
