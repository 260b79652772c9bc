"""``underpaint look``: what a folder of images holds, and commands fitted to it with the time that they take here.

Recipes are fitted by the rule of ``fitted_recipes``. MAE has two thirds of the time where there are tags for WSP.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from underpaint.data.folders.folder import listed
from underpaint.data.reading_time import READ, seen
from underpaint.data.splits import HELDOUT_FEWEST
from underpaint.files import OneOrMany, paths_of
from underpaint.fitted_recipes import MINUTES, Fitted, fewest_images, fit, name_of
from underpaint.messages import duration
from underpaint.preparation.folder_survey import FolderSurvey, survey
from underpaint.preparation.labelling import heldout_share


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that starts as it is written."""

    line: str
    seconds: float
    """Expected time on this machine, with the reading of images; 0 where it was not measured."""

    def __str__(self) -> str:
        return f"  {self.line}" + (f"   # about {duration(self.seconds)}" if self.seconds else "")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Tables that describe the images of a folder, as they are named on the command line."""

    tags: tuple[str, ...] = ()
    labels: str = ""

    def classes(self) -> list[str]:
        """The option of a command that reads the classes."""
        return ["--labels", self.labels] if self.labels else []


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """A folder of images, and what can be run on it."""

    survey: FolderSurvey
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        return "\n".join([*self.survey.lines(), "Commands that start as they stand:", *map(str, self.commands)])


def look(folder: str | Path, *, minutes: float = MINUTES, tags: OneOrMany = (), labels: str | Path = "") -> FirstLook:
    """Look at a folder of images before training: kinds, sizes, tags, copies, classes, and commands for ``minutes``.

    ``tags`` are tables of tags beside the folder's own, ``labels`` is a table of classes. Some training steps and
    images are timed on this machine. Nothing is written but what the cache keeps.

    Raises:
        ValueError: if it is not a folder, it holds no images, a table cannot be read, or the time is not positive.
    """
    if not 0 < minutes < float("inf"):
        raise ValueError(f"--minutes {minutes} must be a positive number")
    root = Path(folder).expanduser()
    listing = listed(root)  # what is skipped is a line of the survey
    given = Tables(tags=tuple(map(str, paths_of(tags))), labels=str(labels))
    surveyed = survey(root, listing, tags=given.tags, labels=given.labels)
    some = listing.images[:: max(1, len(listing.images) // READ)][:READ]
    reads = [(root / path).read_bytes for path in some]
    return FirstLook(survey=surveyed, commands=tuple(_commands(surveyed, reads, minutes * 60, given)))


def _commands(
    surveyed: FolderSurvey, reads: Sequence[Callable[[], bytes]], seconds: float, given: Tables
) -> list[Command]:
    folder, name = _as_folder(surveyed.folder), name_of(surveyed.folder)
    copies = surveyed.copies.exact + surveyed.copies.near
    fewest = fewest_images(surveyed.tags.counts)
    options = [*(word for table in given.tags for word in ("--tags", table)), *given.classes()]
    options += [*(["--min-count", str(fewest)] if fewest > 1 else []), *(["--dedupe"] if copies else [])]
    commands = [_command("prepare", folder, "--out", f"sets/{name}", *options)]
    count, labelled = (
        (count - copies) * 9 // 10 for count in (surveyed.usable, surveyed.tags.images)
    )  # a tenth held out
    labels = sum(count >= fewest for count in surveyed.tags.counts)
    enough = labels >= 2 and labelled >= 4
    share = 2 / 3 if enough else 1.0
    if count < 4:
        return commands
    images, data = seen(reads, count=count), f"data=sets/{name}"
    mae = fit("mae", images, seconds=share * seconds, given=[data])
    commands.append(_training(mae, data, f"runs/{name}_mae"))
    if enough:
        tagged = replace(images, count=labelled, labels=labels)
        wsp = fit("wsp", tagged, seconds=(1 - share) * seconds, given=[data], networks=[mae.network])
        commands.append(_training(wsp, data, f"init_from=runs/{name}_mae", f"runs/{name}_mae_wsp"))
        commands.append(_command("predict", f"runs/{name}_mae_wsp", folder, "--top", "3"))
        if labelled * heldout_share(count) >= HELDOUT_FEWEST:  # thresholds are chosen on them
            commands.append(_command("predict", f"runs/{name}_mae_wsp", folder, "--write", "xmp"))
    if len(surveyed.classes) > 1:
        commands.append(_command("eval", "knn", f"runs/{name}_mae", f"dataset={folder}", *given.classes()))
    commands.append(_command("embed", f"runs/{name}_mae", folder, "--out", f"{name}.parquet"))
    return commands


def _training(fitted: Fitted, *given_and_out: str) -> Command:
    *given, out = given_and_out
    return _command("train", fitted.recipe, *given, *fitted.fields, "--out", out, s=fitted.seconds)


def _command(*words: str, s: float = 0.0) -> Command:
    return Command(line=shlex.join(["underpaint", *words]), seconds=s)


def _as_folder(given: str) -> str:
    """The folder as it is written on the command line, where a bare word would name a collection."""
    return given if "/" in given or given.startswith(".") else f"./{given}"
