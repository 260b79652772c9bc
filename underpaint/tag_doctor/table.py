"""The table of proposals, in which a person accepts or refuses each, and the mapping that accepted ones make."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from underpaint.data.tables.edited import edited_rows
from underpaint.files import write_bytes
from underpaint.tag_doctor.labelled_set import LabelledSet
from underpaint.tag_doctor.proposal import Proposal

COLUMNS: list[str] = ["id", "accept", "kind", "score", "name", "becomes", "label", "also", "reason", "tags"]
"""Columns of the CSV file: ``accept``, ``label`` and ``also`` may be changed by hand."""
YES, NO = ("yes", "y", "x", "1", "true"), ("no", "n", "0", "false", "")
SHOWN_TAGS = 12


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A proposal that a person accepted, with the targets as they left them."""

    proposal: Proposal
    label: str
    also: str


def rows_of(labelled: LabelledSet, proposals: Sequence[Proposal]) -> list[dict[str, Any]]:
    """The rows of the table, without an answer."""
    return [
        {
            "id": identity(labelled, proposal),
            "accept": "",
            "kind": proposal.kind,
            "score": proposal.score,
            "name": labelled.shown(proposal.source),
            "becomes": labelled.shown(proposal.target) if proposal.target >= 0 else "",
            "label": proposal.label,
            "also": proposal.also,
            "reason": proposal.reason,
            "tags": list(labelled.tags[proposal.source][:SHOWN_TAGS]),
            "evidence": proposal.evidence,
        }
        for proposal in proposals
    ]


def identity(labelled: LabelledSet, proposal: Proposal) -> str:
    """Name of a proposal, the same in every examination of the same set."""
    import xxhash

    text = [labelled.content_hash, proposal.kind, labelled.target(proposal.source), proposal.label, proposal.also]
    return xxhash.xxh3_64_hexdigest("\n".join(text).encode())


def write_tables(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``proposals.csv``, to be edited by hand, and ``proposals.parquet`` with the evidence in columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**row, "tags": "; ".join(row["tags"])} for row in rows)
    write_bytes(folder / "proposals.csv", text.getvalue().encode("utf-8-sig", "backslashreplace"))
    kinds = {name: pa.string() for name in COLUMNS if name not in ("accept", "score", "tags")}
    arrays = {name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
    arrays["score"] = pa.array([row["score"] for row in rows], pa.float64())
    arrays["tags"] = pa.array([row["tags"] for row in rows], pa.list_(pa.string()))
    for name in sorted({name for row in rows for name in row["evidence"]}):
        arrays[name] = pa.array([row["evidence"].get(name) for row in rows], pa.float64())
    sink = BytesIO()
    pq.write_table(pa.table(arrays), sink)
    write_bytes(folder / "proposals.parquet", sink.getvalue())


def read_accepted(file: Path, labelled: LabelledSet, proposals: Sequence[Proposal]) -> list[Accepted]:
    """The proposals that a table accepts, as the page saves it or a person edits it.

    Raises:
        ValueError: if it is not such a table, has a row that is not a proposal about this set, or an unclear answer.
    """
    of_id = {identity(labelled, proposal): proposal for proposal in proposals}
    accepted: list[Accepted] = []
    advice = "save the page's answers, or edit proposals.csv and keep its columns"
    for line, row in edited_rows(file, ("id", "accept"), optional=("label", "also"), advice=advice):
        place, answer = f"{file} line {line}", row["accept"].strip().lower()
        if row["id"] not in of_id:
            raise ValueError(
                f"{place}: {row['id']!r} is not a proposal about {labelled.name}; the table is of another set, or "
                "its ids were edited"
            )
        if answer not in (*YES, *NO):
            raise ValueError(f"{place}: accept is {row['accept']!r}; write yes or no, or leave it empty")
        if answer in YES:
            proposal = of_id[row["id"]]
            label, also = row.get("label", proposal.label), row.get("also", proposal.also)
            accepted.append(Accepted(proposal=proposal, label=label.strip(), also=also.strip()))
    return accepted


def mapping_rows(
    labelled: LabelledSet, accepted: Sequence[Accepted], earlier: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str, str]]:
    """Rows of a mapping file (tag, label, also): those of ``earlier``, and all tags of the labels that change.

    A label that becomes another one that changes too gets the last one's target.

    Raises:
        ValueError: if a label is to become two things, or two labels are to become each other.
    """
    becomes: dict[int, str] = {}
    for each in accepted:
        source = each.proposal.source
        if each.proposal.kind != "implication" and becomes.setdefault(source, each.label) != each.label:
            targets = f"{becomes[source] or 'nothing'!r} and {each.label or 'nothing'!r}"
            raise ValueError(f"{labelled.names[source]!r} is to become {targets}; accept one of the two")
    of_target = {labelled.target(label): label for label in range(len(labelled.names))}
    rows = {tag: [label, also] for tag, (label, also) in earlier.items()}
    for source in becomes:
        target = _last(labelled, source, becomes, of_target)
        for tag in labelled.tags[source]:
            rows[tag] = [target, rows.get(tag, ["", ""])[1]]
    for each in accepted:
        if each.proposal.kind == "implication":
            _imply(labelled, each, rows, becomes)
    return [(tag, label, also) for tag, (label, also) in rows.items()]


def _last(labelled: LabelledSet, source: int, becomes: Mapping[int, str], of_target: Mapping[str, int]) -> str:
    """The target of a label, after all changes of that target."""
    target, passed = becomes[source], [source]
    while (following := of_target.get(target, -1)) in becomes:
        if following in passed:
            names = ", ".join(labelled.names[label] for label in passed)
            raise ValueError(f"{names} are to become each other; refuse one of these merges")
        passed.append(following)
        target = becomes[following]
    return target


def _imply(labelled: LabelledSet, each: Accepted, rows: dict[str, list[str]], becomes: Mapping[int, str]) -> None:
    """Add an implication to the row of the label's most frequent tag; a label that is dropped implies nothing."""
    source = each.proposal.source
    if becomes.get(source) == "" or not labelled.tags[source]:
        raise ValueError(
            f"{labelled.names[source]!r} is dropped, and cannot imply {each.also!r}; accept one of the two"
        )
    row = rows.setdefault(labelled.tags[source][0], [each.label, ""])
    row[1] = ";".join(dict.fromkeys([*filter(None, row[1].split(";")), each.also]))


def write_mapping(file: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """Write a file for ``prepare --mapping``."""
    text = StringIO(newline="")
    has_also = any(also for _, _, also in rows)
    writer = csv.writer(text)
    writer.writerow(("tag", "label", "also") if has_also else ("tag", "label"))
    writer.writerows(row if has_also else row[:2] for row in rows)
    write_bytes(file, text.getvalue().encode("utf-8", "backslashreplace"))
