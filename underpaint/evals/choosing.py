"""A choice among settings by held-out training images, and what a choice by the test images would have shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from underpaint.training.loop import NonFiniteLoss

C = TypeVar("C")

DIVERGED = -1.0


class Accuracies(NamedTuple):
    """Top-1 of a classifier that was trained without the held-out images."""

    tuning: float
    """Accuracy on the held-out training images."""
    test: float | None = None
    """Accuracy on the test images, which no choice may see; None if it was not measured."""


class Choice(NamedTuple):
    """The place of the best setting, and how good it was."""

    place: int
    tuning_top1: float
    selection_bonus: float | None
    """Top-1 by which the best setting on the test images was better there than the chosen one; both were trained
    without the held-out images."""

    def settings(self) -> dict[str, float]:
        """The accuracies, for ``Score.settings``."""
        bonus = {} if self.selection_bonus is None else {"selection_bonus": self.selection_bonus}
        return {"tuning_top1": self.tuning_top1, **bonus}


def choose(candidates: Sequence[C], judge: Callable[[C], Accuracies], *, what: str) -> Choice:
    """The first of the candidates that are best on held-out images; one whose training diverges is the worst.

    Raises:
        ValueError: if all diverge; ``what`` names the field with their values.
    """
    judged: list[Accuracies] = []
    for candidate in candidates:
        try:
            judged.append(judge(candidate))
        except NonFiniteLoss:
            judged.append(Accuracies(DIVERGED))
    return best_of(judged, what=what)


def best_of(judged: Sequence[Accuracies], *, what: str) -> Choice:
    """The choice among candidates that are judged already; errors as in ``choose``."""
    place = max(range(len(judged)), key=lambda number: judged[number].tuning)  # the first of equals
    if judged[place].tuning == DIVERGED:
        raise ValueError(f"training diverged with every value of {what}; give smaller ones")
    chosen = judged[place].test
    tests = [each.test for each in judged if each.test is not None]
    return Choice(place, judged[place].tuning, max(tests) - chosen if chosen is not None else None)
