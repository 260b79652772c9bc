"""Train for a long time under random faults, and end with the weights of an undisturbed twin.

    python benchmarks/faults/soak.py --minutes 40 --faults 60 --world 2
    python benchmarks/faults/soak.py --minutes 40 --faults 60 --shards

The faults: SIGKILL of one rank or all, SIGTERM, SIGUSR1, a full disk (a limit on the size of files, so that saving
fails), a rank that freezes for seconds, a flipped bit in the newest checkpoint, image files or shards that are slow to
read or vanish for seconds. Some images are corrupt all the time, for both twins. Memory and open files of rank 0 are
taken while it trains, and over the whole of the twin's training; they must stay flat.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from flip_bits import flip
from trainings import (
    HASH_STEPS,
    Ranks,
    Storage,
    build,
    draw_seed,
    hashes,
    make_images,
    make_shards,
    newest_step,
    wait_for_hashes,
)

from underpaint.run import Run

KINDS = (
    "kill one",
    "kill all",
    "SIGTERM",
    "SIGUSR1",
    "full disk",
    "freeze",
    "flipped bit",
    "slow images",
    "vanished images",
)
FILE_LIMIT = 6_000
"""Bytes; less than a piece of a checkpoint, so that no checkpoint can be written."""
FLAT = 0.05
"""Largest growth of the memory of one start, between the first and the last third of its samples."""


@dataclass
class Soaked:
    """Record of a disturbed training; the usages are those of rank 0, one list for each start."""

    hit: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    usages: list[list[tuple[float, int]]] = field(default_factory=lambda: [[]])


def disturb(
    kind: str, ranks: Ranks, folder: Path, generator: random.Random, *, storage: Storage, pace: float
) -> tuple[bool, str]:
    """One fault; whether the ranks must be started again, and what happened."""
    world = list(range(len(ranks.processes)))
    if kind == "freeze":
        victim, seconds = generator.choice(world), 1 + 4 * generator.random()
        ranks.signal(signal.SIGSTOP, [victim])
        time.sleep(seconds)
        ranks.signal(signal.SIGCONT, [victim])
        return False, f"rank {victim} for {seconds:.1f} s"
    if kind == "slow images":
        seconds = 2 + 4 * generator.random()
        storage.slow_down(0.5)
        time.sleep(seconds)
        storage.slow_down(pace)
        return False, f"0.5 s a file for {seconds:.1f} s"
    if kind == "vanished images":
        there, seconds = len(storage.files()), 0.5 + 3.5 * generator.random()
        count = generator.randrange(1 + there // 20, there)
        storage.vanish(generator, count=count, seconds=seconds)
        return False, f"{count} of {there} files for {seconds:.1f} s"
    if kind == "full disk":
        for process in ranks.processes:
            assert process.pid is not None
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FILE_LIMIT, resource.RLIM_INFINITY))
        codes, late = ranks.end(300)
        return True, f"exit codes {codes}" + (", HUNG" if late else "")
    victims = [generator.choice(world)] if kind == "kill one" else world
    number = {"SIGTERM": signal.SIGTERM, "SIGUSR1": signal.SIGUSR1}.get(kind, signal.SIGKILL)
    ranks.signal(number, [generator.choice(world)] if number != signal.SIGKILL else victims)
    codes, late = ranks.end(120)
    found = f"exit codes {codes}" + (", HUNG" if late else "")
    if kind == "flipped bit" and len(list((folder / "checkpoints").glob("step-????????"))) > 1:
        newest = folder / "checkpoints" / f"step-{newest_step(folder):08d}"
        found += f", {newest.name} {flip(generator.choice(sorted(newest.iterdir())), generator)}"
    return True, found


def watch(ranks: Ranks, seconds: float, usage: list[tuple[float, int]]) -> None:
    """Let them train, and note memory and open files of rank 0."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and ranks.alive():
        try:
            usage.append(ranks.usage())
        except (FileNotFoundError, StopIteration):  # it ends at this moment
            return
        time.sleep(0.5)


def growth(usage: list[tuple[float, int]]) -> tuple[float, int]:
    """Growth of memory as a share, and of open files, from the first third after the warm-up to the last."""
    settled = usage[len(usage) // 4 :]
    third = len(settled) // 3
    if third < 4:
        return 0.0, 0
    (first, files), (last, later) = (
        (statistics.median(s[0] for s in part), max(s[1] for s in part)) for part in (settled[:third], settled[-third:])
    )
    return last / first - 1, later - files


def soak(ranks: Ranks, folder: Path, *, storage: Storage, options: argparse.Namespace) -> Soaked:
    """Fault after fault, starting again what they end, until time and number are reached; then a sound end."""
    generator, found, end = random.Random(options.seed), Soaked(), time.monotonic() + 60 * options.minutes
    while time.monotonic() < end or sum(found.hit.values()) < options.faults:
        if not wait_for_hashes(ranks, folder, 1, seconds=600):
            found.problems.append(f"ended by itself: {ranks.said.read_text()[-500:]}")
            return found
        watch(ranks, generator.random() * 30 * options.minutes / options.faults, found.usages[-1])
        count = sum(found.hit.values())
        if count % len(KINDS) == 0:
            kinds = generator.sample(KINDS, len(KINDS))
        kind, before = kinds[count % len(KINDS)], newest_step(folder)
        restart, what = disturb(kind, ranks, folder, generator, storage=storage, pace=options.pace)
        found.hit[kind] += 1
        if kind == "full disk" and (f"exit codes {[3] * options.world}" not in what or newest_step(folder) != before):
            found.problems.append(f"full disk: {what}, checkpoint {before} -> {newest_step(folder)}")
        if "HUNG" in what:
            found.problems.append(f"{kind}: {what}")
        print(f"fault {count + 1}: {kind}, {what}; step {newest_step(folder)}", flush=True)
        if restart:
            ranks = Ranks(ranks.run, folder, options.world)
            found.usages.append([])
    wait_for_hashes(ranks, folder, 3, seconds=600)
    watch(ranks, 30.0, found.usages[-1])
    ranks.signal(signal.SIGTERM, [0])
    ranks.end(120)
    return found


def train_undisturbed(run: Run, folder: Path, *, world: int, steps: int) -> list[tuple[float, int]]:
    """Train so many steps, and a few more; memory and open files of rank 0."""
    twin, usage = Ranks(run, folder, world), []
    while max(hashes(folder), default=0) < steps and twin.alive():
        watch(twin, 5.0, usage)
    twin.signal(signal.SIGTERM, [0])
    twin.end(120)
    return usage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--faults", type=int, default=60, help="at least so many")
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--layout", choices=("ddp", "fsdp"), default="fsdp")
    parser.add_argument("--seed", type=int, default=draw_seed())
    parser.add_argument(
        "--pace", type=float, default=0.0, help="seconds that reading an image takes at least, to spare the machine"
    )
    parser.add_argument("--shards", action="store_true", help="train on a prepared set of tars, not on a folder")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if options.shards:
            source = make_shards(make_images(root / "images"), root / "set", corrupt=3)
            storage = Storage(folder=source / "shards")
        else:
            source = make_images(root / "images", corrupt=3)
            storage = Storage(folder=source)
        storage.is_felt()
        storage.slow_down(options.pace)
        run = build(source, stage="wsp", layout=options.layout, steps=10**6, asynchronous=True)
        ranks = Ranks(run, root / "disturbed", options.world)
        found = soak(ranks, root / "disturbed", storage=storage, options=options)
        mine = hashes(root / "disturbed")
        storage.recover()
        usage = train_undisturbed(run, root / "twin", world=options.world, steps=max(mine))
        theirs = hashes(root / "twin")
    differing = [step for step, value in mine.items() if theirs.get(step) != value]
    grown = [growth(each) for each in (*found.usages, usage)]
    memory, files = max(each[0] for each in grown), max(each[1] for each in grown)
    print(
        f"{sum(found.hit.values())} faults {dict(found.hit)}, {max(mine)} steps, {len(mine)} hashes (every "
        f"{HASH_STEPS} steps) compared, {len(differing)} differ"
    )
    print(
        f"largest growth of a start: memory {100 * memory:.1f}%, open files {files}; of the twin: memory "
        f"{100 * grown[-1][0]:.1f}%, open files {grown[-1][1]}; problems: {found.problems}"
    )
    return 1 if differing or found.problems or memory > FLAT or files > 2 else 0


if __name__ == "__main__":
    sys.exit(main())
