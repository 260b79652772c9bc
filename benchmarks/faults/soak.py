"""Train for a long time under random faults, and end with the weights of an undisturbed twin.

    python benchmarks/faults/soak.py --minutes 40 --faults 60 --world 2

The faults: SIGKILL of one rank or all, SIGTERM, SIGUSR1, a full disk (a limit on the size of files, so that saving
fails), a rank that freezes for seconds, a flipped bit in the newest checkpoint. Some images are corrupt all the time,
for both twins. Memory and open files of rank 0 are taken while it trains; they must stay flat.
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
from pathlib import Path

from flip_bits import flip
from trainings import HASH_STEPS, Ranks, build, draw_seed, hashes, make_images, newest_step, wait_for_hashes

KINDS = ("kill one", "kill all", "SIGTERM", "SIGUSR1", "full disk", "freeze", "flipped bit")
FILE_LIMIT = 6_000
"""Bytes; less than a piece of a checkpoint, so that no checkpoint can be written."""
FLAT = 0.05
"""Largest growth of the memory of one start, between the first and the last third of its samples."""


def disturb(kind: str, ranks: Ranks, folder: Path, generator: random.Random) -> tuple[bool, str]:
    """One fault; whether the ranks must be started again, and what happened."""
    world = list(range(len(ranks.processes)))
    if kind == "freeze":
        victim, seconds = generator.choice(world), 1 + 4 * generator.random()
        ranks.signal(signal.SIGSTOP, [victim])
        time.sleep(seconds)
        ranks.signal(signal.SIGCONT, [victim])
        return False, f"rank {victim} for {seconds:.1f} s"
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
    """Of memory as a share, and of open files, from the first third after the warm-up to the last."""
    settled = usage[len(usage) // 4 :]
    third = len(settled) // 3
    if third < 4:
        return 0.0, 0
    (first, files), (last, later) = (
        (statistics.median(s[0] for s in part), max(s[1] for s in part)) for part in (settled[:third], settled[-third:])
    )
    return last / first - 1, later - files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--faults", type=int, default=60, help="at least so many")
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--layout", choices=("ddp", "fsdp"), default="fsdp")
    parser.add_argument("--seed", type=int, default=draw_seed())
    options = parser.parse_args()
    generator, hit, problems = random.Random(options.seed), Counter[str](), []
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        images = make_images(root / "images", corrupt=3)
        folder, end = root / "disturbed", time.monotonic() + 60 * options.minutes
        run = build(images, stage="wsp", layout=options.layout, steps=10**6, asynchronous=True)
        ranks, usages = Ranks(run, folder, options.world), [[]]
        pause = 60 * options.minutes / options.faults / 2
        while time.monotonic() < end or sum(hit.values()) < options.faults:
            if not wait_for_hashes(ranks, folder, 1, seconds=600):
                problems.append(f"ended by itself: {ranks.said.read_text()[-500:]}")
                break
            watch(ranks, generator.random() * pause, usages[-1])
            kind = KINDS[sum(hit.values()) % len(KINDS)]
            before = newest_step(folder)
            restart, what = disturb(kind, ranks, folder, generator)
            if kind == "full disk" and ("exit codes [3, 3" not in what or newest_step(folder) != before):
                problems.append(f"full disk: {what}, checkpoint {before} -> {newest_step(folder)}")
            hit[kind] += 1
            if "HUNG" in what:
                problems.append(f"{kind}: {what}")
            print(f"fault {sum(hit.values())}: {kind}, {what}; step {newest_step(folder)}", flush=True)
            if restart:
                ranks = Ranks(run, folder, options.world)
                usages.append([])
        wait_for_hashes(ranks, folder, 3, seconds=600)
        watch(ranks, 30.0, usages[-1])
        ranks.signal(signal.SIGTERM, [0])
        ranks.end(120)
        mine = hashes(folder)
        last = max(mine)
        twin = Ranks(run, root / "twin", options.world)
        while max(hashes(root / "twin"), default=0) < last and twin.alive():
            time.sleep(0.5)
        twin.signal(signal.SIGTERM, [0])
        twin.end(120)
        theirs = hashes(root / "twin")
    differing = [step for step, value in mine.items() if theirs.get(step) != value]
    memory, files = max(growth(usage) for usage in usages)
    print(
        f"{sum(hit.values())} faults {dict(hit)}, {last} steps, {len(mine)} hashes (every {HASH_STEPS} steps) compared"
    )
    print(f"{len(differing)} differ; memory grew by {100 * memory:.1f}%, open files by {files}; problems: {problems}")
    return 1 if differing or problems or memory > FLAT or files > 2 else 0


if __name__ == "__main__":
    sys.exit(main())
