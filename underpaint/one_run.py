"""One run, from a recipe by its name or fitted to images: trained, planned, or tried in two steps."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NotRequired, TypedDict

from underpaint import config, files, recipes
from underpaint.data.open_dataset import ImageDataset
from underpaint.data.open_source import folders_of
from underpaint.data.reading_time import Images, images_of
from underpaint.data.shards.prepared_source import is_prepared_name
from underpaint.fitted_recipes import (
    MINUTES,
    NETWORKS,
    STAGES,
    fewest_images,
    fit,
    name_of,
    stage_of,
)
from underpaint.messages import counted, duration, say
from underpaint.preparation.inputs import require_apart
from underpaint.report import write_report
from underpaint.results.check import checked
from underpaint.results.run import RUN_FILE, RunRecord, RunResult
from underpaint.run import Budget, Cadence, Run, execute
from underpaint.run.idle_fields import idle_fields, override_run
from underpaint.run.starting_encoder import require_fitting_start
from underpaint.training.ranks import join


class DerivedPlan(TypedDict):
    """Values that follow from the fields of a run alone."""

    steps: NotRequired[int]  # not of a budget in epochs, which needs the number of images
    peak_lr: float


class PlannedRun(TypedDict):
    """A run before it starts, as ``train --plan`` prints it."""

    recipe: NotRequired[str]  # not of a run that is given as such
    run: dict[str, object]
    derived: DerivedPlan


@dataclass(frozen=True, kw_only=True)
class _Asked:
    run: Run
    recipe: str
    """Name of the recipe; "" of a run that is given as such."""
    overrides: tuple[str, ...]
    folder: Path


def train(
    recipe: str | Run,
    overrides: config.Overrides = (),
    *,
    out: str | Path = "",
    minutes: float | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Train a recipe (a name, ``module:function``, or a Run) into ``out``; the content of its result.json.

    ``overrides`` set fields: ``"optim.base_lr=1e-3"``, a list of such texts, or ``{"optim.base_lr": 1e-3}``.
    ``out`` is ``runs/NAME`` where it is not given. A run that is there already is continued, or returned if finished.
    ``dry_run`` does two steps of everything, saving and evaluation included, in a temporary folder.

    ``"mae"`` and ``"wsp"`` are recipes fitted to the images of ``data`` and to ``minutes`` of training, an evening
    unless given (``fitted_recipes`` has the rule). The run keeps what was chosen at its first start; ``out`` is
    ``runs/FOLDER_STAGE`` where it is not given.

    Raises:
        ValueError: for input the user can mend.
    """
    asked = _asked(recipe, overrides, out, minutes)
    if dry_run:
        return _dry_run(asked.run)
    require_outside(getattr(asked.run.data, "source", ""), asked.folder)
    result = execute(asked.run, asked.folder, overrides=asked.overrides)
    if join().first:
        report = write_report(asked.folder)
        kept = [f"{name}/" for name in ("encoder", "model") if (asked.folder / name).is_dir()]
        say(f"{asked.folder}: finished, with {', '.join([*kept, report.name])}")
    return result


def plan_run(
    recipe: str | Run, overrides: config.Overrides = (), *, out: str | Path = "", minutes: float | None = None
) -> PlannedRun:
    """The run that ``train`` would start with these arguments: every field, and what follows from them alone.

    As a file of JSON it is what ``read_plan`` reads, unless ``recipe`` is a Run.

    Neither data nor devices are looked at, so that a line for a cluster can be checked anywhere; an encoder to start
    from is where it is there. Only ``"mae"`` and ``"wsp"`` are fitted to the data and this machine.

    Raises:
        ValueError: for input the user can mend.
    """
    asked = _asked(recipe, overrides, out, minutes)
    run = asked.run
    require_fitting_start(run, planned=True)
    derived: DerivedPlan = {"peak_lr": run.optim.peak_lr(run.budget.batch_size)}
    if not run.budget.epochs:
        derived = {"steps": run.budget.steps, **derived}
    planned: PlannedRun = {"run": config.record(run), "derived": derived}
    return {"recipe": asked.recipe, **planned} if asked.recipe else planned


def require_outside(source: object, out: Path) -> None:
    """Refuse an output folder among the images, whose pictures would be images of the run when it goes on."""
    if isinstance(source, str) and not is_prepared_name(source):
        require_apart(folders_of(source), out)


def _asked(recipe: str | Run, overrides: config.Overrides, out: str | Path, minutes: float | None) -> _Asked:
    given = config.assignments(overrides)
    if isinstance(recipe, str) and recipe in STAGES:
        return _fitted(recipe, given, out, minutes)
    if minutes is not None:
        raise ValueError(
            f"--minutes {minutes:g} is for `train mae` and `train wsp`, which are fitted to images; a recipe has its "
            f"own budget: set budget.samples"
        )
    run = recipes.find_recipe(recipe)() if isinstance(recipe, str) else recipe
    if not isinstance(run, Run):
        raise ValueError(
            f"{recipe!r} gives a {type(run).__name__}, not a Run; a recipe is a function that returns a Run"
        )
    run, name = override_run(run, given), recipe if isinstance(recipe, str) else ""
    return _Asked(run=run, recipe=name, overrides=given, folder=Path(out) if out else Path("runs") / run.name)


def _fitted(recipe: str, given: tuple[str, ...], out: str | Path, minutes: float | None) -> _Asked:
    """A recipe fitted to images now, or at the first start of the run in the folder."""
    data = [value for name, _, value in (each.partition("=") for each in given) if name in ("data", "data.source")]
    if not data:
        raise ValueError(
            f"train {recipe} fits a recipe to your images: add --data FOLDER, or name a recipe such as {recipe}_laptop"
        )
    if minutes is not None and not 0 < minutes < float("inf"):
        raise ValueError(f"--minutes {minutes} must be a positive number")
    folder = Path(out) if out else Path("runs") / f"{name_of(data[-1])}_{recipe}"

    def chosen() -> tuple[str, Sequence[str]]:
        return _kept(recipe, folder, minutes) or _chosen(recipe, given, folder, minutes or MINUTES)

    name, fields = join().broadcast_from_first(chosen)
    overrides = (*fields, *(each for each in given if each not in fields))
    run = override_run(recipes.find_recipe(name)(), overrides)
    return _Asked(run=run, recipe=name, overrides=overrides, folder=folder)


def _kept(stage: str, folder: Path, minutes: float | None) -> tuple[str, Sequence[str]] | None:
    """The recipe and the overrides of the run that was begun in the folder; None where there is none."""
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    recorded = checked(RunRecord, files.read_json(path), where=str(path))
    name = str(recorded["run"].get("name"))
    if name not in {f"{stage}_{network.recipe}" for network in NETWORKS}:
        raise ValueError(f"{folder} holds a run of {name}, not one of `train {stage}`; choose another --out")
    without = "" if minutes is None else f"; --minutes {minutes:g} changes nothing"
    say(f"{folder} keeps {name} as it was fitted at its first start{without}")
    return name, recorded["overrides"]


def _chosen(recipe: str, given: tuple[str, ...], folder: Path, minutes: float) -> tuple[str, Sequence[str]]:
    """A recipe and fields fitted to the images, which are said with their time."""
    stage, ranks = stage_of(recipe), join()
    images, counts = _images(recipe, given)
    fitted = fit(stage, images, seconds=minutes * 60, given=(*given, *counts), ranks=ranks.world)
    fields = [*given, *counts, *fitted.fields]
    line = shlex.join(["underpaint", "train", fitted.recipe, *fields, "--out", str(folder)])
    say(
        f"{stage} fitted to {counted(images.count, 'image')} and {duration(minutes * 60)} on {fitted.device}, expected "
        f"to take {duration(fitted.seconds)}, as\n  {line}"
    )
    return fitted.recipe, fields


def _images(stage: str, given: tuple[str, ...]) -> tuple[Images, list[str]]:
    """The images that the stage trains on, some of which are read, and a field for the fewest images of a label."""
    run = override_run(recipes.find_recipe(f"{stage}_laptop")(), [g for g in given if not g.startswith("budget.")])
    opened, counts = run.data.open(), list[str]()
    assert isinstance(opened, ImageDataset)
    chosen = any(each.startswith("data.min_count=") for each in given)
    if stage == "wsp" and not chosen and "data.min_count" not in idle_fields(run):
        every = config.override(run, ["data.min_count=1"]).data.open()
        counts = [f"data.min_count={fewest_images(every.vocabulary.count)}"]
        opened = config.override(run, counts).data.open()
        assert isinstance(opened, ImageDataset)
    labels = len(opened.vocabulary.labels) if stage == "wsp" else 0
    return images_of(opened, labels=labels), counts


def _dry_run(run: Run) -> RunResult:
    """Two steps with everything around them; nothing is kept."""
    batch, epochs = run.budget.batch_size, run.budget.epochs
    budget = Budget(samples=2 * batch, batch_size=batch, microbatch=run.budget.microbatch)  # too short for a warm-up
    cadence = Cadence(log=batch, save=batch, keep=batch, evaluate=batch)
    short = replace(run, budget=budget, cadence=cadence, log_to=())
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="underpaint-dry-run-") as folder:
        result = execute(short, Path(folder) / "run")
        write_report(Path(folder) / "run")
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    say(
        f"dry run of {run.name}: two steps, a checkpoint each, evaluation, model and report in "
        f"{duration(time.perf_counter() - started)}; {result['wall_seconds'] / 2:.2f} s a step, "
        f"{size / 2**20:,.0f} MiB written and deleted; the whole run has "
        + (f"{epochs:g} epochs" if epochs else f"{run.budget.steps:,} steps")
    )
    return result
