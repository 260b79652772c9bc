"""``underpaint look``: what a folder of images holds, and commands fitted to it with the time that they take here.

The rule of the commands. Recipes are those of a laptop. A batch has the recipe's size, or the largest power of two up
to half of the images. Budgets fill the time that is given, two thirds of it for MAE where there are tags for WSP, but
hold at most ``EPOCHS`` times the images; the warm-up is a tenth. Labels need ``MIN_COUNT`` images, or one where fewer
than ``FEW_LABELS`` labels have so many.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from underpaint import recipes
from underpaint.core import DataInfo
from underpaint.data.folders.listing import list_folder
from underpaint.data.loader import read_encoded
from underpaint.data.shards.lanes import Lanes
from underpaint.messages import duration
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.preparation.folder_survey import FolderSurvey, survey
from underpaint.run import Run
from underpaint.studies.parts import measure

EPOCHS = 800
"""Most views of each image, as the published runs of MAE have."""
MIN_COUNT = 5
"""Fewest images of a label, as in the recipe `wsp_laptop`."""
FEW_LABELS = 10
READ = 12
"""Images that are read to measure how long reading takes."""
MINUTES = 180.0
"""An evening."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that starts as it is written."""

    line: str
    seconds: float
    """Expected time on this machine, with the reading of images; 0 where it was not measured."""

    def __str__(self) -> str:
        return f"  {self.line}" + (f"   # about {duration(self.seconds)}" if self.seconds else "")


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """A folder of images, and what can be run on it."""

    survey: FolderSurvey
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        return "\n".join([*self.survey.lines(), "Commands that start as they stand:", *map(str, self.commands)])


def look(folder: str | Path, *, minutes: float = MINUTES) -> FirstLook:
    """Look at a folder of images before training: kinds, sizes, tags, copies, classes, and commands for ``minutes``.

    Some training steps and images are timed on this machine. Nothing is written but what the cache keeps.

    Raises:
        ValueError: if it is not a folder, it holds no images, or the time is not positive.
    """
    if not 0 < minutes < float("inf"):
        raise ValueError(f"--minutes {minutes} must be a positive number")
    surveyed = survey(Path(folder).expanduser())
    return FirstLook(survey=surveyed, commands=tuple(_commands(surveyed, minutes)))


def _commands(surveyed: FolderSurvey, minutes: float) -> list[Command]:
    folder = _as_folder(surveyed.folder)
    name = "".join(letter if letter.isalnum() else "_" for letter in Path(surveyed.folder).resolve().name) or "images"
    copies = surveyed.copies.exact + surveyed.copies.near
    fewest = _min_count(surveyed)
    options = [*(["--min-count", str(fewest)] if fewest > 1 else []), *(["--dedupe"] if copies else [])]
    commands = [_command("prepare", folder, "--out", f"sets/{name}", *options)]
    images, labelled = (
        (count - copies) * 9 // 10 for count in (surveyed.usable, surveyed.tags.images)
    )  # a tenth held out
    labels = sum(count >= fewest for count in surveyed.tags.counts)
    enough = labels >= 2 and labelled >= 4
    share = 2 / 3 if enough else 1.0
    if images < 4:
        return commands
    mae, wsp = recipes.find_recipe("mae_laptop")(), recipes.find_recipe("wsp_laptop")()
    reading = _reading_seconds(Path(surveyed.folder).expanduser(), mae)
    fields, seconds = fitted_fields(mae, images, reading, share * minutes * 60, labels=0)
    prepared = f"data=sets/{name}"
    commands.append(_command("train", "mae_laptop", prepared, *fields, "--out", f"runs/{name}_mae", s=seconds))
    if enough:
        fields, seconds = fitted_fields(wsp, labelled, reading, (1 - share) * minutes * 60, labels=labels)
        start = [prepared, f"init_from=runs/{name}_mae", *fields]
        commands.append(_command("train", "wsp_laptop", *start, "--out", f"runs/{name}_mae_wsp", s=seconds))
        commands.append(_command("predict", f"runs/{name}_mae_wsp", folder, "--top", "3"))
    if len(surveyed.classes) > 1:
        commands.append(_command("eval", "knn", f"runs/{name}_mae", f"dataset={folder}"))
    commands.append(_command("embed", f"runs/{name}_mae", folder, "--out", f"{name}.parquet"))
    return commands


def _command(*words: str, s: float = 0.0) -> Command:
    return Command(line=shlex.join(["underpaint", *words]), seconds=s)


def _as_folder(given: str) -> str:
    """The folder as it is written on the command line, where a bare word would name a collection."""
    return given if "/" in given or given.startswith(".") else f"./{given}"


def _min_count(surveyed: FolderSurvey) -> int:
    """MIN_COUNT, or 1 where fewer than FEW_LABELS labels have so many images."""
    return MIN_COUNT if sum(count >= MIN_COUNT for count in surveyed.tags.counts) >= FEW_LABELS else 1


def fitted_fields(run: Run, images: int, reading: float, allowed: float, *, labels: int) -> tuple[list[str], float]:
    """Fields by which a recipe fits so many images and seconds, and the seconds that are expected."""
    usual = run.budget.batch_size
    batch = min(usual, 1 << max(0, (images // 2).bit_length() - 1))
    run = replace(run, budget=replace(run.budget, batch_size=batch, microbatch=batch))
    assert isinstance(run.objective, (MAEConfig, ClassifyConfig))
    each = measure(run, DataInfo(seed=0, labels=tuple(map(str, range(max(labels, 2))))))[0] + reading
    samples = max(10 * batch, min(int(allowed / each), EPOCHS * images) // batch * batch)
    fields = [f"budget.samples={samples}", f"budget.warmup={samples // 10}"]
    if batch != usual:
        fields += [f"budget.batch_size={batch}", f"budget.microbatch={batch}"]
    if batch < Lanes().count:  # both are powers of two
        fields.append(f"data.lanes.count={batch}")
    return fields, samples * each


def _reading_seconds(folder: Path, run: Run) -> float:
    """Seconds to read and decode one image in this process, the mean over READ of them from all over the folder."""
    root = folder.resolve()
    images = list_folder(root).images
    some: Sequence[str] = images[:: max(1, len(images) // READ)][:READ]
    assert isinstance(run.objective, MAEConfig)
    started = time.perf_counter()
    read_encoded([partial((root / path).read_bytes) for path in some], format=run.objective.encoder.image_input)
    return (time.perf_counter() - started) / len(some)
