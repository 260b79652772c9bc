"""Remarks of the evaluations of a study, gathered for its results and its report."""

from __future__ import annotations

from collections.abc import Sequence

from underpaint.evals.score import Score, SetScore
from underpaint.studies.results import task_of

SHOWN_ENCODERS = 4
"""Encoders named after a remark; the others are counted."""


class Remarks:
    """Each remark once, with its task and the encoders that it applies to."""

    def __init__(self) -> None:
        self._encoders: dict[str, list[str]] = {}
        self._said_of: dict[tuple[str, str], list[str]] = {}

    def add(self, encoder: str, scores: Sequence[Score | SetScore]) -> None:
        """Take over the remarks of the scores of an arm or a run."""
        for score in scores:
            task = task_of(score)
            self._encoders.setdefault(task, []).append(encoder)
            for remark in score.remarks:
                self._said_of.setdefault((task, remark), []).append(encoder)

    def lines(self) -> list[str]:
        """One line per remark and task, sorted; encoders are named where it does not apply to all."""
        lines: list[str] = []
        for (task, remark), said_of in self._said_of.items():
            names, everyone = dict.fromkeys(said_of), set(self._encoders[task])
            shown = ", ".join(list(names)[:SHOWN_ENCODERS])
            more = f" and {len(names) - SHOWN_ENCODERS} more" if len(names) > SHOWN_ENCODERS else ""
            lines.append(f"{task}: {remark}" + (f" ({shown}{more})" if set(names) != everyone else ""))
        return sorted(lines)
