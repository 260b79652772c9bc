"""The fields of ``claims.json``: the paper's claims with a verdict on each."""

from __future__ import annotations

from typing import Literal, TypedDict

from underpaint.results.study import Noise

CLAIMS_FILE = "claims.json"

Verdict = Literal["holds", "fails", "not decided", "not measured"]
Rule = Literal["above", "below", "within"]
"""Place of the interval that a claim asks for: on one side of the threshold, or between minus the threshold and it."""


class CheckEntry(TypedDict):
    """One comparison that a claim is judged by."""

    study: str
    what: str  # that is measured, in words
    rule: Rule
    threshold: float  # as a fraction of correct images
    verdict: Verdict
    reason: str  # that there is no verdict by the interval; "" where there is one
    mean: float | None
    low: float | None
    high: float | None
    detectable: float | None  # the smallest true difference that 8 of 10 such studies would show
    n_seeds: int
    noise: list[Noise]


class ClaimEntry(TypedDict):
    """A claim of the paper, and its verdict by all of its checks."""

    claim: str
    text: str
    anchor: str  # the paper's own numbers
    note: str
    verdict: Verdict
    checks: list[CheckEntry]


class StudyEntry(TypedDict):
    """A study that was read."""

    study: str
    folder: str  # its name
    seeds: list[int]
    images: str


class ClaimsEntry(TypedDict):
    """``claims.json``."""

    format: int
    table: int  # version of the table of checks and thresholds
    date: str
    rule: str
    studies: list[StudyEntry]
    claims: list[ClaimEntry]
