"""The parts of gpu.py in order of worth; run one after another by a process of their own, which may die.

    python benchmarks/gpu_parts.py --out DIR --deadline 1760000000 "ceilings" "train mae vit_b16 eager"

Each part that begins and each that ends is a line of DIR/parts.jsonl.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Work = Callable[["Setting"], Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Device and folder of the parts, and the earlier measurements."""

    out: Path
    device: str
    dry: bool

    @property
    def seconds(self) -> float:
        """Seconds of one stretch of steps; three are timed."""
        return 0.05 if self.dry else 1.5


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    seconds: float  # that it takes on an H100: what is not begun when less is left
    work: Work


MICROBATCHES = {
    "mae": {"vit_s16": 512, "vit_b16": 256, "vit_l16": 256, "vit_h14": 128},
    "wsp": {"vit_s16": 512, "vit_b16": 256, "vit_l16": 128, "vit_h14": 64},
}


def parts(*, dry: bool) -> list[Part]:
    """All parts but the tests, the most telling first."""
    sizes = {"vit_smoke8": 4} if dry else None
    found = [Part(name="ceilings", seconds=15, work=_ceilings)]
    if sizes:
        found += [_train(stage, "vit_smoke8", 4, "eager") for stage in MICROBATCHES]
        found += [_train("wsp", "vit_smoke8", 4, variant) for variant in ("lean", "checkpointed")]
    else:
        found += [_train_at(stage, "vit_b16", variant) for stage in MICROBATCHES for variant in ("compiled", "eager")]
        found += [_train_at(stage, "vit_l16", variant) for stage in MICROBATCHES for variant in ("compiled", "eager")]
    found += [Part(name=f"peers {stage}", seconds=75, work=partial(_peers, stage)) for stage in MICROBATCHES]
    if not sizes:
        found += [_train_at(stage, size, "compiled") for size in ("vit_h14", "vit_s16") for stage in MICROBATCHES]
    found += [Part(name="profile of the slowest", seconds=25, work=_profile_of_slowest)]
    found += [Part(name="loader", seconds=100, work=_loader)]
    if sizes:
        return [*found, _graphs("mae", "vit_smoke8", 4)]
    found += [_train_at(stage, "vit_l16", "float8") for stage in ("wsp", "mae")] + [
        _train_at("wsp", "vit_h14", "float8")
    ]
    found += [_graphs(*each) for each in (("mae", "vit_s16", 32), ("wsp", "vit_s16", 32), ("mae", "vit_b16", 256))]
    found += [_train_at(stage, size, "eager") for size in ("vit_h14", "vit_s16") for stage in MICROBATCHES]
    found += [
        _train_at(stage, size, variant)
        for size in ("vit_b16", "vit_l16")
        for stage in MICROBATCHES
        for variant in ("lean", "checkpointed")
    ]
    found += [_profile(stage, "vit_b16", variant) for stage in MICROBATCHES for variant in ("compiled", "eager")]
    return found


def _train_at(stage: str, size: str, variant: str) -> Part:
    return _train(stage, size, MICROBATCHES[stage][size], variant)


def _train(stage: str, size: str, microbatch: int, variant: str) -> Part:
    def work(setting: Setting) -> Any:
        from gpu_steps import measure

        return measure(case, setting.device, seconds=setting.seconds)

    case = _case(stage, size, microbatch, variant)
    return Part(name=case.name, seconds=35 if variant in ("compiled", "float8") else 20, work=work)


def _case(stage: str, size: str, microbatch: int, variant: str) -> Any:
    from gpu_steps import Case

    return Case(stage=stage, size=size, microbatch=microbatch, variant=variant)


def _ceilings(setting: Setting) -> Any:
    from gpu_ceilings import ceilings

    return ceilings(setting.device, dry=setting.dry)


def _peers(stage: str, setting: Setting) -> Any:
    from gpu_peers import beside

    batch = 4 if setting.dry else MICROBATCHES[stage]["vit_b16"]
    return beside(stage, setting.device, seconds=setting.seconds, dry=setting.dry, batch=batch)


def _loader(setting: Setting) -> Any:
    from gpu_loader import fed

    return fed(setting.device, seconds=4 * setting.seconds, dry=setting.dry)


def _graphs(stage: str, size: str, microbatch: int) -> Part:
    def work(setting: Setting) -> Any:
        from gpu_graphs import graphs

        return graphs(case, setting.device, seconds=setting.seconds)

    case = _case(stage, size, microbatch, "eager")
    return Part(name=f"graphs {stage} {size} at {microbatch}", seconds=15, work=work)


def _profile(stage: str, size: str, variant: str) -> Part:
    def work(setting: Setting) -> Any:
        from gpu_profile import profiled

        return profiled(_case(stage, size, MICROBATCHES[stage][size], variant), setting.device)

    return Part(name=f"profile {stage} {size} {variant}", seconds=30, work=work)


def _profile_of_slowest(setting: Setting) -> Any:
    """Compiled where there is such a case: the recipe's own form on a GPU."""
    from gpu_profile import profiled

    done = [entry["result"] for entry in read(setting.out) if entry["state"] == "done"]
    cases = [result for result in done if isinstance(result, dict) and "flops_per_second" in result]
    if not cases:
        raise ValueError("no training step was measured before, so none is the slowest")
    compiled = [result for result in cases if result["case"]["variant"] == "compiled"]
    slowest = min(compiled or cases, key=lambda result: result["flops_per_second"])
    return profiled(_case(**slowest["case"]), setting.device)


def read(out: Path) -> list[dict[str, Any]]:
    path = out / "parts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def write(out: Path, entry: dict[str, Any]) -> None:
    with (out / "parts.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")


def run(chosen: Sequence[Part], setting: Setting, deadline: float) -> None:
    for part in chosen:
        if time.time() + part.seconds * (0 if setting.dry else 1) > deadline:
            continue
        write(setting.out, {"part": part.name, "state": "begun"})
        print(f"{time.strftime('%H:%M:%S')} {part.name}", flush=True)
        started = time.time()
        try:
            entry: dict[str, Any] = {"state": "done", "result": part.work(setting)}
        except (RuntimeError, ValueError, TypeError, AssertionError, OSError, ImportError, AttributeError) as error:
            traceback.print_exc()
            entry = {"state": "failed", "problem": f"{type(error).__name__}: {str(error).strip()[:400]}"}
        write(setting.out, {"part": part.name, **entry, "seconds": round(time.time() - started, 2)})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--deadline", type=float, required=True, help="time.time() after which nothing is begun")
    parser.add_argument("--dry", action="store_true", help="on a processor, with networks of a test")
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()
    setting = Setting(out=options.out, device="cpu" if options.dry else "cuda", dry=options.dry)
    run([part for part in parts(dry=options.dry) if part.name in options.names], setting, options.deadline)
    return 0


if __name__ == "__main__":
    sys.exit(main())
