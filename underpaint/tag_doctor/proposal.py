"""One proposal to mend the tags of a set, with the evidence for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

Kind = Literal["spelling", "inflection", "synonym", "implication", "split", "dead"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change of the label of some tags; ``label`` and ``also`` are what ``--mapping`` would say of them."""

    kind: Kind
    score: float
    """Probability, by the rules' own reckoning, that a person accepts it."""
    source: int
    """The label that changes."""
    target: int
    """The label that it becomes, or that it implies; -1 for splits and dead tags."""
    label: str
    also: str = ""
    reason: str
    evidence: dict[str, float] = field(default_factory=dict)
    """Numbers behind the score; the page and the table show them."""


def probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, log_odds))))
