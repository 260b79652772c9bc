"""Tags predicted for a folder of images at a stated precision, and written beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch

from underpaint import files
from underpaint.data.decode.packets import BadPacket
from underpaint.evals.class_names import TEMPLATES
from underpaint.evals.engine import Engine
from underpaint.evals.label_thresholds import LabelThreshold, label_thresholds, wilson
from underpaint.evals.score import Interval
from underpaint.evals.tagger import SplitTagger
from underpaint.inference import find_images, load_labeller, tag_probabilities
from underpaint.models.weights import read_description
from underpaint.results.check import checked
from underpaint.run.evaluation_engine import engine_for
from underpaint.run.record import lock
from underpaint.tagging.heldout import held_out, score_held_out
from underpaint.tagging.journal import Journal, Undone
from underpaint.tagging.sidecars import Change, planned_change
from underpaint.tagging.tables import PredictedRow, label_rows, write_labels, write_predicted
from underpaint.training.ranks import join

Form = Literal["xmp", "csv"]
JOB = "job.json"
FORMAT = 1
EXAMPLES = 5
CHANGES_OF_PART = 500
"""Sidecars that are kept in one part of the undo file before they are written."""


class JobRecord(TypedDict):
    """``job.json``: the work that the undo file beside it belongs to."""

    format: int
    folder: str
    model: str
    """Checksum of the weights."""
    precision: float
    heldout: str


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    """Options of tags that are predicted for a folder."""

    precision: float = 0.9  # share of the predicted tags of a label that must be right, on held-out images
    heldout: str = ""  # source of images that the model has not seen; "" takes the held-out images of the run
    labels: tuple[str, ...] = ()  # for a model of images and texts
    prompts: tuple[str, ...] = TEMPLATES
    objective: str = ""
    workers: int | None = None

    def __post_init__(self) -> None:
        if not 0.5 <= self.precision < 1:
            raise ValueError(f"precision={self.precision} must lie between 0.5 and 1; 0.9 is usual")


@dataclass(kw_only=True)
class Tagging:
    """The result of a call."""

    out: Path
    applied: bool
    thresholds: list[LabelThreshold]
    heldout: str
    """Name of the source of the held-out images, and their number."""
    heldout_images: int
    images: int = 0
    tagged: int = 0
    """Images with a predicted tag."""
    tags: int = 0
    created: int = 0
    changed: int = 0
    """Sidecars that are new, and those that were there."""
    unchanged: int = 0
    """Images whose predicted tags people or an earlier call have given them already."""
    problems: list[PredictedRow] = field(default_factory=list)
    left: dict[Path, str] = field(default_factory=dict)
    """Sidecars that were not written, and why: somebody wrote them at the same time, or nobody may."""
    examples: list[Change] = field(default_factory=list)

    @property
    def written_labels(self) -> list[LabelThreshold]:
        """The labels that reach the precision."""
        return [label for label in self.thresholds if label.threshold is not None]

    @property
    def precision_apart(self) -> Interval | None:
        """The precision of all tags on held-out images by thresholds chosen without them; None where none is named."""
        named, right = (
            sum(getattr(label, name) for label in self.thresholds) for name in ("named_apart", "right_apart")
        )
        return wilson(right, named) if named else None


def write_tags(
    model: str | Path,
    folder: str | Path,
    *,
    out: str | Path = "",
    form: Form = "xmp",
    apply: bool = False,
    options: TagOptions | None = None,
) -> Tagging:
    """Predict tags for the images in ``folder`` and write them into XMP files beside these, if ``apply`` says so.

    A label has the lowest threshold that reaches the precision on held-out images; one that never does, or that the
    model does not see, is never written. Tables go into ``out`` (by default ``tags-of-NAME`` in the model's folder), as
    does the undo file. With ``form="csv"`` the tables are all. A call that was killed goes on where it was.

    Raises:
        ValueError: for input the user can mend.
    """
    options, folder = options or TagOptions(), Path(folder)
    out = output_folder(model, folder, out)
    if form == "csv" and apply:
        raise ValueError("form=csv writes its tables without apply, and nothing beside the images; leave apply out")
    if join().world > 1:
        raise ValueError("tags are written by one process; let torchrun share the features before: underpaint predict")
    paths = find_images(folder)
    loaded, name = load_labeller(model, labels=options.labels, prompts=options.prompts, objective=options.objective)
    if not isinstance(loaded, SplitTagger):
        raise ValueError(f"{name} gives no tags; name a run of WSP or of finetuning")
    record: JobRecord = {
        "format": FORMAT,
        "folder": str(folder.resolve()),
        "model": _checksum(Path(model)),
        "precision": options.precision,
        "heldout": options.heldout,
    }
    with lock(out, marks=(JOB,)):
        journal = Journal(out, folder)
        _require_same(journal, record)
        files.write_json(out / JOB, record)
        engine = engine_for(options.workers)
        heldout = held_out(Path(model), options.heldout)
        scores = score_held_out(loaded, heldout, engine)
        thresholds = label_thresholds(scores.probabilities, scores.positive, scores.labels, precision=options.precision)
        write_labels(out, label_rows(thresholds))
        result = Tagging(
            out=out,
            applied=apply,
            thresholds=thresholds,
            heldout=heldout.source.name,
            heldout_images=len(scores.probabilities),
        )
        rows = _named(loaded, paths, thresholds, engine)
        if form == "xmp":
            rows = _with_sidecars(rows, result, journal, model=record["model"])
        write_predicted(out, _counted(rows, result))
    return result


def undo_tags(folder: str | Path, out: str | Path) -> Undone:
    """Restore the sidecars that ``write_tags`` wrote for this folder and ``out``; those changed since then stay.

    Raises:
        ValueError: if there is nothing to undo.
    """
    out, folder = Path(out), Path(folder)
    journal = Journal(out, folder)
    if not journal.parts():
        raise ValueError(f"{out} holds nothing to undo: no tags were written from there, or they are undone already")
    written = Path(_job_of(out)["folder"])
    if written.exists() and not written.samefile(folder):  # one that was moved is given by its new name
        raise ValueError(f"{out} holds the undo file of tags in {written}, not in {folder}; name that folder")
    with lock(out, marks=(JOB,)):
        return journal.undo()


def output_folder(model: str | Path, folder: Path, out: str | Path) -> Path:
    """The folder of the tables and of the undo file."""
    return Path(out) if out else Path(model) / f"tags-of-{folder.resolve().name}"


def _checksum(model: Path) -> str:
    folder = model / "model" if (model / "model").is_dir() else model
    return str(read_description(folder)["weights"].get("xxh3", ""))


def _job_of(out: Path) -> JobRecord:
    return checked(JobRecord, files.read_json(out / JOB), where=str(out / JOB))


def _require_same(journal: Journal, record: JobRecord) -> None:
    """Raise ValueError if other tags were written from this folder and not undone."""
    if not journal.parts():
        return
    out = journal.folder.parent
    before = _job_of(out)
    if differing := [name for name in record if record[name] != before[name]]:
        raise ValueError(
            f"{out} holds the undo file of other tags ({', '.join(differing)} differ); take those back first (--undo), "
            f"or choose another --out"
        )


def _named(
    model: Any, paths: Sequence[Path], thresholds: Sequence[LabelThreshold], engine: Engine
) -> Iterator[tuple[Path, PredictedRow]]:
    """The labels of each image above their thresholds, the most probable ones first."""
    place = {label: column for column, label in enumerate(model.labels)}
    kept = [label for label in thresholds if label.threshold is not None]
    columns = torch.tensor([place[label.label] for label in kept], dtype=torch.int64)
    lowest = torch.tensor([label.threshold for label in kept], dtype=torch.float64)
    for chunk, probabilities, problems in tag_probabilities(model, paths, engine):
        chosen = probabilities[:, columns]
        named = chosen.double() >= lowest
        for row, (path, problem) in enumerate(zip(chunk, problems, strict=True)):
            numbers = [] if problem else named[row].nonzero().flatten().tolist()
            numbers.sort(key=lambda number: -float(chosen[row, number]))
            yield (
                path,
                {
                    "path": files.as_utf8(str(path)),
                    "predicted_tags": [kept[number].label for number in numbers],
                    "probabilities": [float(chosen[row, number]) for number in numbers],
                    "problem": problem,
                },
            )


def _with_sidecars(
    rows: Iterator[tuple[Path, PredictedRow]], result: Tagging, journal: Journal, *, model: str
) -> Iterator[tuple[Path, PredictedRow]]:
    """The same rows, with the problems of sidecars, which are written on the way if ``result.applied``."""
    waiting: list[Change] = []
    before = journal.written() if result.applied else set[Path]()
    for path, row in rows:
        image = path.absolute()
        try:
            change = None if row["problem"] else planned_change(image, row["predicted_tags"], model=model)
        except (BadPacket, OSError) as error:
            row["problem"], change = str(error), None
        if change is not None and change.sidecar not in before:
            waiting.append(change)
        elif row["predicted_tags"] and not row["problem"]:
            result.unchanged += 1
        if len(waiting) == CHANGES_OF_PART:
            _write(waiting, result, journal)
            waiting.clear()
        yield path, row
    _write(waiting, result, journal)


def _write(changes: Sequence[Change], result: Tagging, journal: Journal) -> None:
    """Write the sidecars if ``result.applied``, and count those that are written, or would be."""
    left = journal.write(changes) if result.applied else {}
    done = [change for change in changes if change.sidecar not in left]
    result.left |= left
    result.created += sum(change.before is None for change in done)
    result.changed += sum(change.before is not None for change in done)
    result.examples += done[: EXAMPLES - len(result.examples)]


def _counted(rows: Iterator[tuple[Path, PredictedRow]], result: Tagging) -> Iterator[PredictedRow]:
    for _, row in rows:
        result.images += 1
        result.tags += len(row["predicted_tags"])
        result.tagged += bool(row["predicted_tags"])
        if row["problem"]:
            result.problems.append(row)
        yield row
