"""Loss curves of earlier runs of a recipe: finished runs in folders beside this one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from underpaint.results.run import RESULT_FILE, read_log, read_record, read_result
from underpaint.training.expected import Curve
from underpaint.training.log import logged_curve

MOST = 50
"""Largest number of folders beside this one that are looked at, the newest first."""

_FREE = ("seed", "optim", "schedule")
"""Fields in which runs of one recipe may differ: a wrong rate is one of the mistakes that the comparison is for."""


def earlier_curves(folder: Path) -> list[Curve]:
    """The curves of finished runs of this run's recipe, of which no curve was remarkable, in folders beside its own.

    A recipe is all fields of the identity but the seed, the optimizer and the schedule; and the names of the run, of
    its images and of the run that it starts from, without their seeds. The content of images and tags may differ.
    """
    wanted = _recipe(folder)
    beside = [path.parent for path in folder.absolute().parent.glob(f"*/{RESULT_FILE}")]
    beside.sort(key=lambda path: (path / RESULT_FILE).stat().st_mtime, reverse=True)
    return [
        _curve(path)
        for path in beside[:MOST]
        if path != folder.absolute() and _recipe(path) == wanted and not _is_remarkable(path)
    ]


def _recipe(folder: Path) -> dict[str, Any] | None:
    """The comparable fields of a run; None where its record cannot be read."""
    try:
        record = read_record(folder)
    except (OSError, ValueError):
        return None
    run, identity = record["run"], record["identity"].get("run")
    if not isinstance(identity, Mapping):
        return None
    data = run.get("data")
    return {
        "fields": {name: value for name, value in identity.items() if name not in (*_FREE, "name")},
        "name": _without_seed(str(run.get("name"))),
        "source": data.get("source") if isinstance(data, Mapping) else None,
        "start": _without_seed(Path(str(run.get("init_from") or "-")).name),
    }


def _without_seed(name: str) -> str:
    return re.sub(r"seed[-_]?\d+", "seed", name)


def _is_remarkable(folder: Path) -> bool:
    try:
        return bool(read_result(folder).get("remarks"))
    except (OSError, ValueError):
        return True


def _curve(folder: Path) -> Curve:
    try:
        return logged_curve(list(read_log(folder)))
    except (OSError, ValueError):
        return []
