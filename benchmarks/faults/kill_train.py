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
from dataclasses import dataclass, field
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

from underpaint.run import Run

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


@dataclass
class Kills:
    """A training that is killed again and again, and what came of it."""

    run: Run
    folder: Path
    reference: dict[int, float]  # hash by step
    generator: random.Random
    options: argparse.Namespace
    kills: int = 0
    met: int = 0  # hashes compared
    expected: int = 0  # the step that the next start must continue from
    hit: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def go_on(self) -> bool:
        """One more start, checked, and its kill; whether another one is to follow."""
        every = list(range(self.options.world))
        ranks = Ranks(self.run, self.folder, self.options.world)
        # strike before the first checkpoint is there
        first = self.generator.random() < self.options.first and not self.folder.exists()
        if not first and not self._check(ranks):
            return False
        self._look_for_damage()
        if self.kills == self.options.kills:
            ranks.signal(signal.SIGTERM, every)
            ranks.end(60)
            return False
        if not ranks.alive() or newest_step(self.folder) + 4 * HASH_STEPS > self.options.steps:  # near its end: anew
            ranks.signal(signal.SIGKILL, every)
            ranks.end(10)
            shutil.rmtree(self.folder, ignore_errors=True)
            self.expected = 0
            return True
        self._kill(ranks, first=first)
        return True

    def _check(self, ranks: Ranks) -> bool:
        """Compare what a start logs with the reference; false if it ended by itself before its time."""
        found = wait_for_hashes(ranks, self.folder, MET)
        self.met += len(found)
        wrong = {step: value for step, value in found.items() if self.reference[step] != value}
        if wrong:
            self._problem(f"after kill {self.kills}: other weights at the steps {sorted(wrong)}")
        if (step := resumed_from(ranks.said)) < self.expected:
            self._problem(f"after kill {self.kills}: resumed from {step}, not {self.expected}")
        if len(found) < MET and newest_step(self.folder) < self.options.steps:
            self._problem(f"after kill {self.kills}: ended by itself: {ranks.said.read_text()[-500:]}")
            return False
        return True

    def _look_for_damage(self) -> None:
        if list((self.folder / "checkpoints").glob("*.damaged")):
            self._problem(f"after kill {self.kills}: a damaged checkpoint")

    def _kill(self, ranks: Ranks, *, first: bool) -> None:
        one = self.options.world > 1 and self.generator.random() < 0.5
        in_save = self.generator.random() < (0.8 if first else 0.5)
        where = strike(ranks, self.folder, self.generator, in_save=in_save, one=one)
        self.expected = newest_step(self.folder)
        codes, late = ranks.end(60)
        self.kills += 1
        self.hit[where.partition(", ")[2]] += 1
        if late or 0 in codes:
            self._problem(f"kill {self.kills}: exit codes {codes}, hung: {late}")
        newest = f"the newest checkpoint is step {self.expected}"
        print(f"kill {self.kills}: {where}; {newest}; exit codes {codes}", flush=True)

    def _problem(self, text: str) -> None:
        self.problems.append(text)
        print(f"PROBLEM {text}", flush=True)


def main() -> int:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        settings = {name: getattr(options, name) for name in ("stage", "layout", "steps", "asynchronous")}
        run = build(make_images(root / "images"), **settings)
        whole = Ranks(run, root / "reference", options.world)
        assert whole.end(36_000) == ([0] * options.world, False), whole.said.read_text()[-2000:]
        reference, generator = hashes(root / "reference"), random.Random(options.seed)
        found = Kills(run, root / "disturbed", reference, generator, options)
        while found.go_on():
            pass
    problems = f"{len(found.problems)} problems: {found.problems[:10]}"
    print(f"{found.kills} kills ({dict(found.hit)}), {found.met} hashes compared, {problems}")
    return 1 if found.problems or found.kills < options.kills else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=draw_seed())
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--layout", choices=("ddp", "fsdp", "hsdp"), default="fsdp")
    parser.add_argument("--stage", choices=("mae", "wsp"), default="mae")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--first", type=float, default=0.15, help="share of new runs struck before a first save")
    parser.add_argument("--asynchronous", action="store_true", help="write checkpoints beside the training")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
