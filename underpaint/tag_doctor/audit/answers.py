"""The questions of an audit's page, and the file of answers that the page saves: the questions and an answer to each.

The file holds the whole design of the sample, so that it can be read without the page. It is held against the set: the
images of each part, and the id of each question, which is a hash of what is asked and how it was drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, cast

from underpaint.files import read_json
from underpaint.results.check import checked
from underpaint.tag_doctor.audit.design import Side
from underpaint.tag_doctor.labelled_set import LabelledSet

FORMAT = 1
ANSWERS = ("yes", "no", "cannot tell")


class PartRecord(TypedDict):
    """A part of a label's images."""

    side: Side
    images: int


class LabelRecord(TypedDict):
    """A label that is asked about."""

    label: int
    name: str
    parts: list[PartRecord]


class Question(TypedDict):
    """An image, and whether it shows the thing of a label."""

    id: str
    label: int
    part: int
    """Place in the label's ``parts``."""
    path: str
    """Shard and key of the image."""


class Design(TypedDict):
    """The sample of a page."""

    set: str
    content_hash: str
    images: int
    """Images that were asked for."""
    seed: int
    run: str
    """Name of the run whose head gave the scores; "" without one."""
    labels: list[LabelRecord]
    questions: list[Question]


class Answer(TypedDict):
    """An answer to one question."""

    id: str
    answer: str


class AnswersFile(TypedDict):
    """``answers.json``."""

    format: int
    design: Design
    answers: list[Answer]


def identity(design: Design, question: Question, name: str) -> str:
    """Id of a question about the label of this name, the same on every page with the same sample."""
    import xxhash

    text = [design["content_hash"], str(design["seed"]), design["run"], name, str(question["part"]), question["path"]]
    return xxhash.xxh3_64_hexdigest("\n".join(text).encode(errors="surrogatepass"))


def read_answers(file: Path, labelled: LabelledSet) -> tuple[Design, dict[str, str]]:
    """The design of a page about this set, and the answers by the id of their question.

    Raises:
        ValueError: if the file is not one that such a page saves, is of another set, or answers an image twice.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist; save the answers on the page audit.html")
    given = checked(AnswersFile, read_json(file), where=str(file))
    if given["format"] != FORMAT:
        raise ValueError(f"{file} has format {given['format']}; this version reads {FORMAT}")
    design = given["design"]
    if design["content_hash"] != labelled.content_hash:
        raise ValueError(
            f"{file} is of the set {design['set']} ({design['content_hash'][:8]}), and not of {labelled.name} "
            f"({labelled.content_hash[:8]}); name the set of its page, or make a new page if the set was prepared again"
        )
    _require_fits(file, design, labelled)
    known = {question["id"] for question in design["questions"]}
    answers: dict[str, str] = {}
    for each in given["answers"]:
        if each["id"] not in known:
            raise ValueError(f"{file}: {each['id']!r} is not a question of its page ({described(design)})")
        if each["id"] in answers:
            raise ValueError(f"{file} answers {each['id']!r} twice; leave one of the two out")
        if each["answer"] not in ANSWERS:
            raise ValueError(
                f"{file}: the answer to {each['id']} is {each['answer']!r}; known are {', '.join(ANSWERS)}"
            )
        answers[each["id"]] = each["answer"]
    if not answers:
        raise ValueError(f"{file} answers nothing; judge some images on the page, and save again")
    return design, answers


def _require_fits(file: Path, design: Design, labelled: LabelledSet) -> None:
    """Refuse a design that no page about this set has."""
    of_label = {record["label"]: record for record in design["labels"]}
    asked = Counter((question["label"], question["part"]) for question in design["questions"])
    edited = len(of_label) < len(design["labels"]) or len({each["id"] for each in design["questions"]}) < asked.total()
    for label, record in of_label.items():
        parts = record["parts"]
        sizes = [sum(part["images"] for part in parts if part["side"] == side) for side in ("wrong", "missing")]
        carriers = int(labelled.count[label]) if 0 <= label < len(labelled.names) else 0
        edited = edited or not carriers or labelled.names[label] != record["name"]
        edited = edited or sizes != [carriers, labelled.images - carriers]
        edited = edited or any(not 0 < part["images"] >= asked[label, place] for place, part in enumerate(parts))
    for question in design["questions"]:
        record, part = of_label.get(question["label"]), question["part"]
        edited = edited or record is None or not 0 <= part < len(record["parts"])
        edited = edited or question["id"] != identity(design, question, labelled.names[question["label"]])
    if edited:
        raise ValueError(f"{file}: its questions are not those of a page about {labelled.name}; save the answers again")


def require_same(file: Path, design: Design, labels: Sequence[str], given: dict[str, object]) -> None:
    """Refuse options that are not those of the page; ``labels`` are names in the set, and may be none."""
    for name, value in given.items():
        if value is not None and value != cast("dict[str, object]", design)[name]:
            raise ValueError(
                f"{file} is of a page with {described(design)}, and --{name} {value} was given; leave it out, or name "
                "the answers of that page"
            )
    if labels and set(labels) != {record["name"] for record in design["labels"]}:
        raise ValueError(
            f"{file} is of a page with {described(design)}, and --labels {' '.join(labels)} was given; leave it out, "
            "or name the answers of that page"
        )


def described(design: Design) -> str:
    """Seed, run and labels of a page, in words."""
    names = ", ".join(record["name"] for record in design["labels"])
    run = f"run {design['run']}" if design["run"] else "no run"
    return f"seed {design['seed']}, {run}, labels {names}"
