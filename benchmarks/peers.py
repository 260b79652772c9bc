"""Training steps of MAE and WSP beside those of other tools: images per second, memory, share of the matmul rate.

    python benchmarks/peers.py                      # ViT-B/16 at 224 px, batch 16: an hour on two quiet cores
    python benchmarks/peers.py --size small         # 64 px, patch 8, width 192, batch 128
    python benchmarks/peers.py --size smoke --no-install --repeats 1

Installs the pinned peers into an environment of its own in the cache folder (--environment), which shares torch and all
else with this one. Every measurement is a process of its own; the repeats go round all contenders, so that a busy hour
hits all alike; what is printed is the median over repeats, and the lowest and highest. Before that, losses in fp32 are
compared on the same weights, images and masks. `shipped` and `bf16` are told in peers_steps.py. `matmul` is the share
of the best square product up to 4096 in the same type, measured in the same round: FLOPs counted for our network, which
does the least of all (it embeds the visible patches and predicts the hidden ones, and no others). Exits with 1 if two
losses differ or ours fails; a peer that fails is a row that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peers_steps import CLOCKS, SIZES, run_of

from underpaint.data.cache import cache_folder
from underpaint.plan.parameters import assumed_data

PEERS = {"transformers": "transformers==5.24.0", "timm": "timm==1.0.31", "lightly": "lightly==1.6.0"}
PEERS |= {"stable-pretraining": "stable-pretraining==0.1.8"}
SHARED = ("torch", "torchvision", "numpy", "pillow")
"""Never installed anew."""
STAGES = {
    "mae": ("ours", "transformers", "lightly", "stable-pretraining"),
    "wsp": ("ours-wsp", "timm"),
}
STEPS = Path(__file__).with_name("peers_steps.py")
SECONDS = 3600
TOLERANCE = 1e-5


@dataclass
class Row:
    """A contender, and what its rounds gave."""

    stage: str
    name: str
    variant: str
    medians: list[float] = field(default_factory=list)  # images per second
    shares: list[float] = field(default_factory=list)  # of the matmul rate of the round
    memory: list[float] = field(default_factory=list)  # MiB that torch's allocator gave
    resident: list[float] = field(default_factory=list)  # MiB
    version: str = ""
    problem: str = ""

    @property
    def ours(self) -> bool:
        return self.name.startswith("ours")

    @property
    def rate(self) -> float:
        return statistics.median(self.medians)


def main() -> int:
    options = _options()
    python, problems = (sys.executable, {}) if options.no_install else environment(options.environment)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}", flush=True)
    agree = compare_losses(python, options, problems)
    rows = [
        Row(stage, name, variant, problem=problems.get(name, ""))
        for stage in options.stages
        for name in STAGES[stage]
        for variant in options.variants
        if name.startswith("ours") or variant in ("shipped", "bf16")
    ]
    for number in range(options.repeats):
        rates = {name: best_product(dtype, options.size, CLOCKS[options.clock]) for name, dtype in TYPES.items()}
        shown = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in rates.items())
        print(f"round {number + 1}: products at {shown}; load {os.getloadavg()[0]:.1f}", flush=True)
        for row in rows if number % 2 == 0 else rows[::-1]:
            take(row, python, options, rates)
    print(table(rows, options))
    return int(not agree or any(row.ours and row.problem for row in rows))


TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def environment(folder: Path) -> tuple[str, dict[str, str]]:
    """The Python of an environment with the peers, and why a peer is not in it."""
    python = folder / "bin" / "python"
    if not python.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = subprocess.run([str(python), "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    kept = [line for line in found.splitlines() if line.partition("==")[0] in SHARED]
    (folder / "constraints.txt").write_text("\n".join(kept) + "\n")
    problems: dict[str, str] = {}
    for name, requirement in PEERS.items():
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c"]
        done = subprocess.run([*command, str(folder / "constraints.txt"), requirement], capture_output=True, text=True)
        if done.returncode:
            problems[name] = f"does not install: {_last(done.stderr)}"
    return str(python), problems


def compare_losses(python: str, options: argparse.Namespace, problems: dict[str, str]) -> bool:
    """Print each peer's loss beside ours; whether all that can be compared agree."""
    agree = True
    for name in (name for stage in options.stages for name in STAGES[stage] if not name.startswith("ours")):
        found = problems.get(name) or step(python, [name, "--check", "--size", options.size])
        if isinstance(found, str):
            print(f"loss of {name}: {found}")
            problems[name] = found
        elif "reason" in found:
            print(f"loss of {name}: not compared: {found['reason']}")
        else:
            off = abs(found["ours"] / found["theirs"] - 1)
            agree &= off <= TOLERANCE
            verdict = "agree" if off <= TOLERANCE else "DIFFER"
            print(f"loss of {name}: {found['theirs']:.7f}, ours {found['ours']:.7f}: they {verdict}", flush=True)
    return agree


def step(python: str, arguments: list[str]) -> dict[str, Any] | str:
    """The JSON of a process of peers_steps.py, or what went wrong."""
    root = str(STEPS.parent.parent)
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [python, str(STEPS), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=paths, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"took more than {SECONDS} s"
    if done.returncode:
        return f"failed: {_last(done.stderr)}"
    return json.loads(done.stdout.splitlines()[-1])


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:100]


def best_product(dtype: torch.dtype, size: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """FLOPs per second of the best square product up to 4096 (up to 512 in the smoke test)."""
    best = 0.0
    for side in (512,) if size == "smoke" else (512, 1024, 2048, 4096):
        a, b = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
        a @ b
        for _ in range(3):
            started = clock()
            a @ b
            best = max(best, 2 * side**3 / (clock() - started))
    return best


def take(row: Row, python: str, options: argparse.Namespace, rates: dict[str, float]) -> None:
    """One more measurement."""
    if row.problem:
        return
    arguments = [row.name, "--variant", row.variant, "--size", options.size]
    arguments += ["--steps", str(options.steps), "--batch", str(options.batch), "--clock", options.clock]
    found = step(python, arguments)
    if isinstance(found, str):
        row.problem = found
        return
    size = SIZES[options.size]
    flops = run_of(row.stage, size, 1, "fp32").objective.flops_per_sample(assumed_data(size.labels))
    median = statistics.median(found["rates"])
    row.medians.append(median)
    row.shares.append(median * flops / rates["fp32" if row.variant == "shipped" else "bf16"])
    row.memory.append(found["allocated"])
    row.resident.append(found["resident"])
    row.version = found["version"]
    print(f"  {row.name} {row.variant}: {median:.2f} images/s, load {os.getloadavg()[0]:.1f}", flush=True)


def table(rows: list[Row], options: argparse.Namespace) -> str:
    """Markdown; ratios of ours to the fastest peer of the same kind follow."""
    lines = [
        f"\n{options.size}, batch {options.batch or SIZES[options.size].batch}, {options.repeats} rounds\n",
        "| stage | contender | variant | images/s | lowest to highest | matmul | allocated MiB | resident MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"{row.name} {row.version}".strip()
        if row.problem:
            lines.append(f"| {row.stage} | {name} | {row.variant} | {row.problem} | | | | |")
            continue
        share, memory, resident = (statistics.median(v) for v in (row.shares, row.memory, row.resident))
        spread = f"{min(row.medians):.2f} to {max(row.medians):.2f}"
        numbers = f"{row.rate:.2f} | {spread} | {share:.2f} | {memory:.0f} | {resident:.0f}"
        lines.append(f"| {row.stage} | {name} | {row.variant} | {numbers} |")
    for stage in options.stages:
        lines += ratios([row for row in rows if row.stage == stage and row.medians and not row.problem])
    return "\n".join(lines)


def ratios(rows: list[Row]) -> list[str]:
    """Our bf16 rows against the fastest peer, paired by round: all contenders of a round ran beside the same load."""
    found: list[str] = []
    for ours in (row for row in rows if row.ours and row.variant != "shipped"):
        for variant in ("bf16", "shipped"):
            peers = [row for row in rows if not row.ours and row.variant == variant]
            if not peers:
                continue
            fastest = max(peers, key=lambda row: row.rate)
            paired = statistics.median(a / b for a, b in zip(ours.medians, fastest.medians, strict=True))
            memory = statistics.median(ours.memory) / statistics.median(fastest.memory)
            found.append(
                f"{ours.stage}: ours ({ours.variant}) {paired:.2f} times the images/s of the fastest peer, "
                f"{fastest.name} ({variant}), with {memory:.2f} of its memory"
            )
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="base")
    parser.add_argument("--batch", type=int, default=0, help="(default: 16 for base, 128 for small)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds over all contenders")
    parser.add_argument("--steps", type=int, default=3, help="of each measurement, after a first one that warms up")
    parser.add_argument(
        "--clock", choices=tuple(CLOCKS), default="wall", help="process: on a busy machine, with OMP_NUM_THREADS=1"
    )
    parser.add_argument("--stages", nargs="+", choices=tuple(STAGES), default=list(STAGES))
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=("shipped", "bf16", "lean", "compiled"),
        default=["shipped", "bf16", "lean"],
        help="lean and compiled are ours alone: norms and GELU computed again, torch.compile of each block",
    )
    parser.add_argument("--no-install", action="store_true", help="measure the peers that this environment has")
    parser.add_argument("--environment", type=Path, default=cache_folder() / "peers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
