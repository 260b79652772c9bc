"""Flip one bit anywhere in a checkpoint: the load must notice, name it, and take the older one.

python benchmarks/faults/flip_bits.py --flips 100 --world 2
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from trainings import Ranks, build, draw_seed, make_images, newest_step

from underpaint import run as runs
from underpaint.core import DataInfo
from underpaint.training.checkpoint import Checkpoints
from underpaint.training.loop import TrainState, start_average
from underpaint.training.optim import build_optimizer


def new_state(run: runs.Run) -> TrainState:
    objective = run.objective.build(DataInfo(seed=run.seed))
    optimizer = build_optimizer(objective, run.optim, layer_of=objective.layer_of)
    return TrainState(objective, optimizer, start_average(objective, run.ema_decay))


def flip(path: Path, generator: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place, bit = generator.randrange(len(content)), generator.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"{path.name} byte {place} of {len(content)} bit {bit}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=draw_seed())
    parser.add_argument("--world", type=int, default=2, help="ranks that write the checkpoint; one process reads it")
    options = parser.parse_args()
    generator, missed, hit = random.Random(options.seed), [], Counter[str]()
    print(f"seed {options.seed}", flush=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        run = build(make_images(root / "images"), stage="mae", layout="fsdp", steps=200, asynchronous=False)
        ranks = Ranks(run, root / "run", options.world)
        while len(list((root / "run" / "checkpoints").glob("step-????????"))) < 2 and ranks.alive():
            time.sleep(0.05)
        ranks.signal(signal.SIGTERM, list(range(options.world)))
        codes, _ = ranks.end(60)
        assert set(codes) == {75}, (codes, ranks.said.read_text()[-2000:])
        kept = root / "run" / "checkpoints"
        newest, older = sorted((int(path.name[5:]) for path in kept.iterdir()), reverse=True)[:2]
        assert newest == newest_step(root / "run")
        for number in range(options.flips):
            copy = root / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(kept, copy)
            where = flip(generator.choice(sorted((copy / f"step-{newest:08d}").iterdir())), generator)
            hit[where.split(" ")[0]] += 1
            state = new_state(run)
            warnings = list(Checkpoints(folder=copy, keep_every=10**9).resume(state))
            if len(warnings) != 1 or state.step != older:
                missed.append(where)
                print(f"flip {number + 1}: {where}: NOT DETECTED, {warnings}", flush=True)
        state = new_state(run)
        assert not list(Checkpoints(folder=kept, keep_every=10**9).resume(state)), "the untouched one must load"
        assert state.step == newest
    print(f"{options.flips - len(missed)} of {options.flips} flips detected, in {dict(sorted(hit.items()))}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
