"""The verb ``tags doctor``: proposals about a prepared set, and the mapping that accepted ones make."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from underpaint.messages import counted, say
from underpaint.results.preparation import read_record
from underpaint.tag_doctor.doctor import examine
from underpaint.tag_doctor.labelled_set import read_labelled_set
from underpaint.tag_doctor.page import write_page
from underpaint.tag_doctor.table import mapping_rows, read_accepted, rows_of, write_mapping, write_tables

FOLDER = "tag_doctor"
MOST_SHOWN = 2_000
"""Proposals on the page, the likeliest of each kind; the table has all."""


class Examination(NamedTuple):
    """Numbers of an examination."""

    folder: Path
    counts: dict[str, int]
    """Proposals of each kind."""


def propose(folder: str | Path, *, run: str | Path = "", out: str | Path = "") -> Examination:
    """Write proposals about the tags of a prepared set into ``out`` (default ``tag_doctor`` in the set).

    Raises:
        ValueError: if ``folder`` is not a prepared set with labels, or ``run`` not one of its labels.
    """
    folder = Path(folder).expanduser()
    labelled = read_labelled_set(folder)
    say(f"{counted(len(labelled.names), 'label')} of {counted(labelled.images, 'image')}")
    proposals = examine(labelled, Path(run).expanduser() if run else None)
    target = Path(out).expanduser() if out else folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    rows = rows_of(labelled, proposals)
    write_tables(target, rows)
    shown = [row for row in rows if row["kind"] != "implication"]
    shown = [*shown, *(row for row in rows if row["kind"] == "implication")][:MOST_SHOWN]
    lead = f"{counted(len(rows), 'proposal')} about {counted(len(labelled.names), 'label')} of "
    lead += f"{counted(labelled.images, 'image')}, the likeliest of each kind first."
    lead += f" {len(rows) - len(shown):,} more are in proposals.csv." if len(shown) < len(rows) else ""
    write_page(target / "proposals.html", "proposals.html", {"name": labelled.name, "lead": lead, "rows": shown})
    return Examination(target, dict(Counter(row["kind"] for row in rows)))


def accept(folder: str | Path, accepted: str | Path, mapping: str | Path, *, run: str | Path = "") -> int:
    """Write the accepted proposals as the new file ``mapping``, after the rows by which the set was prepared.

    Returns the number of accepted proposals. ``run`` must be the one of the examination.

    Raises:
        ValueError: if the table is of another set, has unknown rows, or contradicts itself.
    """
    folder, file = Path(folder).expanduser(), Path(mapping).expanduser()
    if file.exists():
        raise ValueError(f"{file} exists already; choose another --mapping, or delete it")
    labelled = read_labelled_set(folder)
    proposals = examine(labelled, Path(run).expanduser() if run else None)
    answers = read_accepted(Path(accepted).expanduser(), labelled, proposals)
    if not answers:
        raise ValueError(f"{accepted} accepts nothing; write yes into the column accept")
    write_mapping(file, mapping_rows(labelled, answers, _earlier(folder)))
    return len(answers)


def _earlier(folder: Path) -> Mapping[str, tuple[str, str]]:
    """The mapping by which the set was prepared: label and implied labels of each tag."""
    record = read_record(folder)
    rules = record["settings"]["rules"] if record else {}
    labels, implied = (json.loads(json.dumps(rules.get(name) or {})) for name in ("mapping", "implied"))
    return {tag: (label, implied.get(tag, "")) for tag, label in labels.items()}
