"""The verb ``tags audit``: a page of images to judge, and the shares of wrong and missing tags that follow."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from underpaint.data.decode.limits import BadImage
from underpaint.data.shards.label_pictures import small_jpeg
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.prepared_source import prepared_source
from underpaint.data.source import Source
from underpaint.messages import counted, say
from underpaint.progress import progress
from underpaint.tag_doctor.audit.answers import (
    Design,
    LabelRecord,
    PartRecord,
    Question,
    identity,
    read_answers,
    require_same,
)
from underpaint.tag_doctor.audit.design import Part, drawing_order, parts_of, shared
from underpaint.tag_doctor.audit.labels import MOST_IMAGES, chosen_labels, find_label
from underpaint.tag_doctor.audit.scores import head_scores
from underpaint.tag_doctor.audit.shares import LabelShares, shares_of, write_shares
from underpaint.tag_doctor.head import read_classifier
from underpaint.tag_doctor.labelled_set import LabelledSet, read_labelled_set
from underpaint.tag_doctor.page import write_page

FOLDER = "tag_audit"
PAGE = "audit.html"
SIDE = 320
"""Largest side of a picture in pixels; a page of 200 photographs has some 5 MB."""
SHOWN_TAGS = 6


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """The sample of an audit; None, "" and () for what is left to the audit."""

    run: str | Path = ""  # finished run of WSP on the set, whose head says where missing and wrong tags are likely
    labels: Sequence[str] = ()  # names or tags of labels
    images: int | None = None  # images to judge, 200 at most
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:
            raise ValueError(f"--seed {self.seed} must be 0 or more")


class Asked(NamedTuple):
    """A page to be answered."""

    page: Path
    labels: tuple[str, ...]
    images: int


class _Drawn(NamedTuple):
    """A picture of an image in the sample."""

    part: int
    path: str
    picture: bytes
    """A JPEG."""


def ask(folder: str | Path, options: AuditOptions | None = None, *, out: str | Path = "") -> Asked:
    """Write the page ``audit.html`` into ``out`` (default ``tag_audit`` in the set).

    Raises:
        ValueError: if ``folder`` is not a prepared set with labels, an option does not fit it, or no image can be read.
    """
    folder, options = Path(folder).expanduser(), options or AuditOptions()
    run = Path(options.run).expanduser() if options.run else None
    labelled = read_labelled_set(folder)
    images = MOST_IMAGES if options.images is None else options.images
    model = read_classifier(run) if run else None
    labels = chosen_labels(labelled, options.labels, images, model.labels if model else None)
    source = prepared_source(PreparedSet(folder, content_hash=labelled.content_hash))
    scores = head_scores(model, source, [labelled.names[label] for label in labels]) if model else None
    design = Design(
        set=labelled.name,
        content_hash=labelled.content_hash,
        images=images,
        seed=options.seed or 0,
        run=run.resolve().name if run else "",
        labels=[],
        questions=[],
    )
    pictures: dict[str, str] = {}
    of_label = shared(images, [images] * len(labels))
    for place, label in enumerate(progress(labels, "Pictures", total=len(labels), unit="labels")):
        parts = _parts(labelled, label, scores[:, place] if scores is not None else None, of_label[place])
        drawn = list(_draw(parts, source, seed=design["seed"], label=labelled.names[label]))
        records = [PartRecord(side=part.side, images=len(part.rows)) for part in parts]
        design["labels"].append(LabelRecord(label=label, name=labelled.names[label], parts=records))
        pictures |= _add_questions(design, label, labelled.names[label], drawn)
    if not pictures:
        raise ValueError(f"no image of {folder} that was drawn can be read; check its shards")
    page = _write_page(Path(out).expanduser() if out else folder / FOLDER, labelled, design, pictures)
    return Asked(page, tuple(labelled.shown(label) for label in labels), len(pictures))


def judge(
    folder: str | Path, answers: str | Path, options: AuditOptions | None = None, *, out: str | Path = ""
) -> tuple[Path, list[LabelShares]]:
    """Estimate the shares from the answers of a page, and write ``audit.csv`` and ``judged.csv`` into ``out``.

    Options that are given must be those of the page. The folder of the tables, and the shares of each label.

    Raises:
        ValueError: if the answers are of another page, or not such a file.
    """
    folder, file, options = Path(folder).expanduser(), Path(answers).expanduser(), options or AuditOptions()
    labelled = read_labelled_set(folder)
    design, given = read_answers(file, labelled)
    labels = [labelled.names[find_label(labelled, name)] for name in options.labels]
    run = Path(options.run).expanduser().resolve().name if options.run else None
    require_same(file, design, labels, {"images": options.images, "seed": options.seed, "run": run})
    shares = shares_of(design, given, labelled)
    target = Path(out).expanduser() if out else folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    write_shares(target, shares, design, given, labelled)
    return target, shares


def _parts(labelled: LabelledSet, label: int, score: Float[np.ndarray, " images"] | None, images: int) -> list[Part]:
    carriers = labelled.images_with(label).astype(np.int64)
    return parts_of(carriers, np.setdiff1d(np.arange(labelled.images), carriers), score, images)


def _draw(parts: Sequence[Part], source: Source, *, seed: int, label: str) -> Iterator[_Drawn]:
    """The sample of each part; an image that cannot be read gives its place to the next one."""
    for number, part in enumerate(parts):
        left = part.drawn
        for row in drawing_order(part, seed=seed, label=label) if left else ():
            try:
                picture = small_jpeg(source.files.read(source.path[row]), SIDE)
            except (BadImage, OSError) as error:
                say(f"{source.path[row]} cannot be judged: {error}")
                continue
            yield _Drawn(number, source.path[row], picture)
            left -= 1
            if not left:
                break


def _add_questions(design: Design, label: int, name: str, drawn: Sequence[_Drawn]) -> dict[str, str]:
    """Add the questions about a label in the order of their ids, which tells nothing of tags; the picture of each."""
    pictures: dict[str, str] = {}
    questions: list[Question] = []
    for each in drawn:
        question = Question(id="", label=label, part=each.part, path=each.path)
        question["id"] = identity(design, question, name)
        questions.append(question)
        pictures[question["id"]] = base64.b64encode(each.picture).decode()
    design["questions"] += sorted(questions, key=lambda question: question["id"])
    return pictures


def _write_page(target: Path, labelled: LabelledSet, design: Design, pictures: dict[str, str]) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    labels = [
        {
            "label": record["label"],
            "shown": labelled.shown(record["label"]),
            "tags": list(labelled.tags[record["label"]][:SHOWN_TAGS]),
        }
        for record in design["labels"]
    ]
    lead = f"{counted(len(pictures), 'image')} of {labelled.images:,} to judge. Some have the tag and some lack it, "
    lead += "and the page does not say which. Judge what the picture shows and save: underpaint tags audit SET "
    lead += "--answers answers.json then gives the shares of wrong and of missing tags."
    content = {"name": labelled.name, "lead": lead, "labels": labels, "design": design, "pictures": pictures}
    write_page(target / PAGE, PAGE, content)
    return target / PAGE
