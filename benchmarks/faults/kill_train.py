"""Kill a training with SIGKILL at random moments, continue it each time, and compare its weights with a reference.

    python benchmarks/faults/kill_train.py --kills 100 --world 2 --layout fsdp
    python benchmarks/faults/kill_train.py --kills 100 --world 1 --asynchronous
    python benchmarks/faults/kill_train.py --kills 20 --steps 60 --first 1

A kill strikes one rank or all, in training or while a checkpoint is being written, sometimes the very first one. Every
continued start must log the reference's hash of the weights three times (every 5 steps), resume from the newest
complete checkpoint, and leave no damaged one behind; the other ranks of a killed one must end by themselves.
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

from trainings import (
    HASH_STEPS,
    Ranks,
    build,
    draw_seed,
    hashes,
    make_images,
    newest_step,
    resumed_from,
    wait_for_hashes,
)

MET = 3
"""Hashes that a continued start must meet before the next kill."""


def strike(ranks: Ranks, folder: Path, generator: random.Random, *, in_save: bool, one: bool) -> str:
    """Kill at a random moment; what was hit."""
    started = time.monotonic()
    if in_save:
        while not list((folder / "checkpoints").glob("*.part")) and time.monotonic() < started + 120 and ranks.alive():
            time.sleep(0.0005)
        time.sleep(generator.random() * 0.02)
    else:
        time.sleep(generator.random() * 1.5)
    writing = bool(list((folder / "checkpoints").glob("*.part")))
    world = len(ranks.processes)
    victims = [generator.randrange(world)] if one else list(range(world))
    ranks.signal(signal.SIGKILL, victims)
    who = f"rank {victims[0]} of {world}" if one else f"all {world}"
    return f"{who}, {'writing a checkpoint' if writing else 'training'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=draw_seed())
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--layout", choices=("ddp", "fsdp", "hsdp"), default="fsdp")
    parser.add_argument("--stage", choices=("mae", "wsp"), default="mae")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--first", type=float, default=0.15, help="share of new runs struck before a first save")
    parser.add_argument("--asynchronous", action="store_true", help="write checkpoints beside the training")
    options = parser.parse_args()
    generator, problems, hit = random.Random(options.seed), [], Counter[str]()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        images = make_images(root / "images")
        run = build(
            images,
            stage=options.stage,
            layout=options.layout,
            steps=options.steps,
            asynchronous=options.asynchronous,
        )
        whole = Ranks(run, root / "reference", options.world)
        assert whole.end(36_000) == ([0] * options.world, False), whole.said.read_text()[-2000:]
        reference = hashes(root / "reference")
        folder, kills, met, expected = root / "disturbed", 0, 0, 0
        while True:
            ranks = Ranks(run, folder, options.world)
            # strike before the first checkpoint is there
            first = generator.random() < options.first and not folder.exists()
            found = {} if first else wait_for_hashes(ranks, folder, MET)
            met += len(found)
            wrong = {step: value for step, value in found.items() if reference[step] != value}
            if wrong:
                problems.append(f"after kill {kills}: other weights at the steps {sorted(wrong)}")
            if not first and resumed_from(ranks.said) < expected:
                problems.append(f"after kill {kills}: resumed from {resumed_from(ranks.said)}, not {expected}")
            if not first and len(found) < MET and newest_step(folder) < options.steps:
                problems.append(f"after kill {kills}: ended by itself: {ranks.said.read_text()[-500:]}")
                break
            if list((folder / "checkpoints").glob("*.damaged")):
                problems.append(f"after kill {kills}: a damaged checkpoint")
            if problems:
                print(f"problems so far: {problems}", flush=True)
            if kills == options.kills:
                ranks.signal(signal.SIGTERM, list(range(options.world)))
                ranks.end(60)
                break
            if not ranks.alive() or newest_step(folder) + 4 * HASH_STEPS > options.steps:  # near its end: anew
                ranks.signal(signal.SIGKILL, list(range(options.world)))
                ranks.end(10)
                shutil.rmtree(folder, ignore_errors=True)
                expected = 0
                continue
            one = options.world > 1 and generator.random() < 0.5
            where = strike(ranks, folder, generator, in_save=generator.random() < (0.8 if first else 0.5), one=one)
            expected = newest_step(folder)
            codes, late = ranks.end(60)
            kills += 1
            hit[where.partition(", ")[2]] += 1
            if late or 0 in codes:
                problems.append(f"kill {kills}: exit codes {codes}, hung: {late}")
            print(f"kill {kills}: {where}; the newest checkpoint is step {expected}; exit codes {codes}", flush=True)
    print(f"{kills} kills ({dict(hit)}), {met} hashes compared, {len(problems)} problems: {problems[:10]}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
