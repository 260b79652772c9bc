"""The shares of wrong and of missing tags of each judged label: as lines, and as tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from io import StringIO
from pathlib import Path

from underpaint.files import write_bytes
from underpaint.tag_doctor.audit.answers import Design, LabelRecord
from underpaint.tag_doctor.audit.design import Side
from underpaint.tag_doctor.audit.estimate import Estimate, Stratum, estimate_shares
from underpaint.tag_doctor.labelled_set import LabelledSet

TOO_WIDE = 0.5
"""Width of an interval from which on the line gives its ends alone."""


@dataclass(frozen=True, kw_only=True)
class LabelShares:
    """A label with its shares, 90% intervals and numbers of images; a row of ``audit.csv``."""

    label: str
    images: int
    """Images with the label."""
    wrong: float
    wrong_low: float
    wrong_high: float
    wrong_judged: int
    missing: float
    missing_low: float
    missing_high: float
    missing_judged: int
    cannot_tell: int
    unanswered: int

    @property
    def line(self) -> str:
        """``heron: 12% wrong (±4), 48% missing (±9)``."""
        if not self.wrong_judged + self.missing_judged:
            return f"{self.label}: not judged"
        wrong = _in_words("wrong", Estimate(self.wrong, self.wrong_low, self.wrong_high))
        missing = _in_words("missing", Estimate(self.missing, self.missing_low, self.missing_high))
        notes = [f"{self.cannot_tell} cannot be told"] * bool(self.cannot_tell)
        notes += [f"{self.unanswered} unanswered"] * bool(self.unanswered)
        return "; ".join([f"{self.label}: {wrong}, {missing}", *notes])


def _in_words(side: Side, share: Estimate) -> str:
    """The share in per cent with the larger distance to an end of its interval, or the ends where these are far."""
    if share.high - share.low > TOO_WIDE:
        return f"between {100 * share.low:.0f} and {100 * share.high:.0f}% {side} (too few images judged to tell)"
    return f"{100 * share.value:.0f}% {side} (±{100 * max(share.high - share.value, share.value - share.low):.0f})"


def shares_of(design: Design, answers: Mapping[str, str], labelled: LabelledSet) -> list[LabelShares]:
    """The shares of every label of a page. Images nobody could tell, or judged, count as if they had not been drawn."""
    return [_label_shares(design, record, answers, labelled) for record in design["labels"]]


def _label_shares(
    design: Design, record: LabelRecord, answers: Mapping[str, str], labelled: LabelledSet
) -> LabelShares:
    strata: dict[Side, list[Stratum]] = {"wrong": [], "missing": []}
    questions = [question for question in design["questions"] if question["label"] == record["label"]]
    for place, part in enumerate(record["parts"]):
        given = [answers.get(question["id"]) for question in questions if question["part"] == place]
        yes, no = given.count("yes"), given.count("no")
        strata[part["side"]].append(Stratum(part["images"], yes + no, no if part["side"] == "wrong" else yes))
    wrong, missing = estimate_shares(strata["wrong"], strata["missing"], seed=design["seed"])
    of_label = [answers.get(question["id"]) for question in questions]
    return LabelShares(
        label=labelled.shown(record["label"]),
        images=int(labelled.count[record["label"]]),
        wrong=wrong.value,
        wrong_low=wrong.low,
        wrong_high=wrong.high,
        wrong_judged=sum(part.judged for part in strata["wrong"]),
        missing=missing.value,
        missing_low=missing.low,
        missing_high=missing.high,
        missing_judged=sum(part.judged for part in strata["missing"]),
        cannot_tell=of_label.count("cannot tell"),
        unanswered=of_label.count(None),
    )


def write_shares(
    folder: Path, shares: Sequence[LabelShares], design: Design, answers: Mapping[str, str], labelled: LabelledSet
) -> None:
    """Write ``audit.csv``, a row for each label, and ``judged.csv``, a row for each judged image."""
    names = [field.name for field in fields(LabelShares)]
    rows = [[f"{cell:.4f}" if isinstance(cell, float) else cell for cell in astuple(each)] for each in shares]
    _write_csv(folder / "audit.csv", names, rows)
    sides = {record["label"]: [part["side"] for part in record["parts"]] for record in design["labels"]}
    judged = [
        (
            question["path"],
            labelled.shown(question["label"]),
            "yes" if sides[question["label"]][question["part"]] == "wrong" else "no",
            answers[question["id"]],
        )
        for question in design["questions"]
        if question["id"] in answers
    ]
    _write_csv(folder / "judged.csv", ["path", "label", "tagged", "shown"], judged)


def _write_csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    write_bytes(file, text.getvalue().encode("utf-8-sig", "backslashreplace"))
