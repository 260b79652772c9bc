"""Zero-shot transfer to classes that no stage saw, for MAE, WSP and MAE then WSP, in many languages.

    PYTHONPATH=. python benchmarks/zeroshot.py --out runs/zeroshot --seeds 1 2 3
    PYTHONPATH=. python benchmarks/zeroshot.py --out runs/photographs --photographs DIR

Trains the encoders, beside each a projection from a locked multilingual text tower (LiT), and measures them by the
names of classes whose pictures, words and near duplicates were held out of all of it: images, captions, vocabulary,
tokenizer, mean and deviation (``zeroshot_images.py`` for drawings, ``photographs_data.py`` for photographs). It can be
stopped and continued; ``table.md`` is written at the end, of the seeds that are done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from photographs_data import prepare_photographs
from zeroshot_images import classes

from underpaint import files, recipes
from underpaint.data.captions.caption_data import CaptionData
from underpaint.data.dataset import ImageData
from underpaint.data.loader import channel_statistics
from underpaint.data.open_source import open_source
from underpaint.evals.score import Score
from underpaint.evals.statistics import estimate
from underpaint.evals.zeroshot_transfer import ZeroShotTransfer
from underpaint.models.weights import read_encoder_config
from underpaint.objectives.lit import LitConfig
from underpaint.run import Budget, Run, encoder_of, execute
from underpaint.run.towers import load_towers

ARMS = {"mae": "", "mae_wsp": "mae", "wsp": ""}
"""The arm that each starts from."""
IMAGES = "benchmarks.zeroshot_images:"
FACTOR = 3
"""The lower end of an interval is to be at least so many times chance."""


@dataclass(frozen=True)
class Design:
    """The runs at one size, and the names of the images."""

    mae: Run
    wsp: Run
    lit: Run
    trained: str
    tested: str
    excluded: str = ""
    """Images whose near duplicates are left out while training; "" where they were before."""
    names: str = ""
    """File of class names; "" takes those of the held-out families of emoji."""


def smoke() -> Design:
    """Seconds: the same path on OpenMoji alone, with a small text tower from scratch."""
    lit = recipes.lit_smoke()
    tested = f"{IMAGES}few_unseen"
    return Design(recipes.mae_smoke(), recipes.wsp_smoke(), lit, f"{IMAGES}few_drawings", tested, excluded=tested)


def small() -> Design:
    """About an hour of two cores for three seeds."""
    mae, wsp, lit = recipes.mae_laptop(), recipes.wsp_laptop(), recipes.lit_multilingual()
    lit = replace(
        lit,
        objective=replace(lit.objective, width=256, tokens=16),
        budget=_budget(102_400, batch=256),
        optim=replace(lit.optim, base_lr=1e-2),
    )
    return Design(
        replace(mae, budget=_budget(96_000), optim=replace(mae.optim, base_lr=2e-3)),
        replace(wsp, budget=_budget(256_000), optim=replace(wsp.optim, base_lr=1e-3, layer_decay=0.65)),
        lit,
        f"{IMAGES}drawings",
        f"{IMAGES}unseen",
        excluded=f"{IMAGES}unseen",
    )


def photographs(out: Path) -> Design:
    """Two hours and a half of one core for three seeds, on what ``prepare_photographs`` leaves; LiT as on drawings."""
    mae, wsp = recipes.mae_small(), recipes.wsp_small()
    shape = replace(encoder_of(mae), size=(64, 64), depth=4)
    trained = replace(encoder_of(wsp), size=(64, 64), depth=4)
    return Design(
        replace(mae, objective=replace(mae.objective, encoder=shape), budget=_budget(102_400)),
        replace(wsp, objective=replace(wsp.objective, encoder=trained), budget=_budget(48_000)),
        small().lit,
        str(out / "set"),
        str(out / "data" / "unseen"),
        names=str(out / "data" / "names.json"),
    )


SIZES = {"smoke": smoke, "small": small}


def _budget(samples: int, *, batch: int = 128) -> Budget:
    return Budget(samples=samples, batch_size=batch, microbatch=batch, warmup=samples // 10)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=list(ARMS), help="an arm needs the one it starts from"
    )
    parser.add_argument("--photographs", type=Path, help="folder of photographs to use in place of drawings")
    options = parser.parse_args(arguments)
    out = options.out.absolute()
    if options.photographs:
        prepare_photographs(options.photographs, out)
        design = photographs(out)
    else:
        design = SIZES[options.size]()
    for seed in options.seeds:
        for arm in sorted(options.arms, key=list(ARMS).index):
            train_and_measure(design, arm, seed, out)
    (out / "table.md").write_text(table(out), encoding="utf-8")
    print((out / "table.md").read_text(encoding="utf-8"))
    return 0


def train_and_measure(design: Design, arm: str, seed: int, out: Path) -> None:
    """The encoder of an arm, the projections beside it, and their scores; what is done is left as it is."""
    name, start = f"{arm}-seed{seed}", ARMS[arm]
    encoder = design.mae if arm == "mae" else design.wsp
    _train(_on(encoder, design), out / name, seed, out / f"{start}-seed{seed}" if start else None)
    lit = _on(design.lit, design)
    assert isinstance(lit.objective, LitConfig)
    objective = replace(lit.objective, encoder=read_encoder_config(out / name), cached_features=True)
    _train(replace(lit, objective=objective), out / f"lit-{name}", seed, out / name)
    scores = out / f"scores-{name}.json"
    if not scores.is_file():
        files.write_json(scores, [score.record() for score in measure(out / f"lit-{name}", design, out)])


def _train(run: Run, folder: Path, seed: int, start: Path | None) -> None:
    if not (folder / "result.json").is_file():
        execute(replace(run, name=folder.name, seed=seed, init_from=str(start or "")), folder)


def _on(run: Run, design: Design) -> Run:
    """The run on the training images, without near duplicates of the test images, with their mean and deviation."""
    assert isinstance(run.data, ImageData)
    encoder = replace(encoder_of(run), **_statistics(design.trained, design.mae))
    data = replace(run.data, source=design.trained, exclude=design.excluded)
    data = replace(data, templates=("{}",)) if isinstance(data, CaptionData) else data
    cadence = replace(run.cadence, log=run.budget.samples // 10, save=64_000, evaluate=10_000_000)
    objective = replace(run.objective, encoder=encoder)
    return replace(run, objective=objective, data=data, threads=1, cadence=cadence)


@cache
def _statistics(trained: str, mae: Run) -> dict[str, tuple[float, ...]]:
    source, encoder = open_source(trained), encoder_of(mae)
    mean, std = channel_statistics(
        source,
        source.rows("pretrain")[::3],
        channels=encoder.channels,
        value_range=encoder.value_range,
        size=encoder.size,
    )
    return {"mean": mean, "std": std}


def measure(run: Path, design: Design, out: Path) -> list[Score]:
    """Top-1 among the held-out classes by their names in every language, and names against English names."""
    if not design.names:
        tables = {language: {name: [word] for name, word in of.items()} for language, of in classes().names.items()}
        files.write_json(out / "names.json", tables)
    (out / "templates.txt").write_text("{}\n", encoding="utf-8")
    evaluation = ZeroShotTransfer(
        dataset=design.tested,
        names=design.names or str(out / "names.json"),
        templates=str(out / "templates.txt"),
        images="all",
    )
    return evaluation(load_towers(run), source=open_source(design.tested), device=torch.device("cpu"), seed=0)


def table(out: Path) -> str:
    """The scores of the seeds that are done, by language and arm, in per cent, as Markdown."""
    scores = {arm: _by_language(out, arm) for arm in ARMS}
    titles = ("language", "arm", "seeds", "top-1", "95% interval", "lowest end of a seed", "chance", "ceiling")
    lines = [f"| {' | '.join((*titles, 'lower end / chance'))} |", "|---" * (len(titles) + 1) + "|"]
    languages = dict.fromkeys(language for of_arm in scores.values() for language, _ in of_arm)
    for language in languages:
        for arm, of_arm in scores.items():
            tested, names = of_arm.get((language, "test"), []), of_arm.get((language, "names"), [])
            if tested:
                whole, each = estimate(tested, seed=0), [estimate([score], seed=0) for score in tested]
                chance, lowest = tested[0].chance or 0.0, min(interval.low for interval in each)
                ceiling = f"{100 * names[0].value:.0f}" if names else ""
                span = f"{100 * whole.low:.2f} to {100 * whole.high:.2f}"
                cells = [language, arm, str(len(tested)), f"{100 * whole.mean:.2f}", span]
                cells += [f"{100 * lowest:.2f}", f"{100 * chance:.2f}"]
                lines.append("| " + " | ".join([*cells, ceiling, f"{whole.low / chance:.1f}"]) + " |")
    return "\n".join(lines) + "\n"


def _by_language(out: Path, arm: str) -> dict[tuple[str, str], list[Score]]:
    """The scores of an arm by language and split, one for each seed."""
    by_language: dict[tuple[str, str], list[Score]] = {}
    for file in sorted(out.glob(f"scores-{arm}-seed*.json")):
        for record in files.read_json(file):
            score = Score.from_record(record)
            by_language.setdefault((score.language, score.split), []).append(score)
    return by_language


if __name__ == "__main__":
    sys.exit(main())
