"""Symbols of the arms of a study: one colour, one marker shape and one sentence each, the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from underpaint.results.study import ArmEntry, Role

SHAPES = {
    "circle": "M0-4.6a4.6 4.6 0 1 0 .01 0Z",
    "square": "M-4.1-4.1h8.2v8.2h-8.2Z",
    "diamond": "M0-5.8L5.8 0 0 5.8-5.8 0Z",
    "triangle": "M0-5.4L5.3 4.1H-5.3Z",
    "wedge": "M0 5.4L5.3-4.1H-5.3Z",
    "plus": "M-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5Z",
    "cross": "M-5-2.9L-2.9-5 0-2.1 2.9-5 5-2.9 2.1 0 5 2.9 2.9 5 0 2.1-2.9 5-5 2.9-2.1 0Z",
    "hourglass": "M-4.8-5.2h9.6L-4.8 5.2h9.6Z",
}
"""SVG paths of about equal weight, centred on the origin."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Symbol of an arm in pictures and tables."""

    colour: str  # a class of style.css, which holds a light and a dark value of a colour-blind safe palette
    shape: str  # a key of SHAPES: colour alone never tells two arms apart
    label: str = ""  # the arm in words

    @property
    def path(self) -> str:
        return SHAPES[self.shape]


MARKS: dict[Role, Mark] = {
    "untrained": Mark(colour="grey", shape="cross"),
    "mae": Mark(colour="amber", shape="triangle"),
    "wsp": Mark(colour="blue", shape="square"),
    "treatment": Mark(colour="green", shape="circle"),
    "equal_compute": Mark(colour="rose", shape="diamond"),
    "equal_time": Mark(colour="sky", shape="wedge"),
}
"""The arms of these roles look the same in every study, in this order."""
SPARE = tuple(
    Mark(colour=colour, shape=shape)
    for colours in (("rust", "blue"), ("green", "rose"), ("amber", "rust"))
    for colour, shape in zip(colours, ("plus", "hourglass"), strict=True)
)
"""Neighbours differ in colour and shape."""
UNKNOWN = Mark(colour="grey", shape="hourglass")
"""An arm that is named but was not measured."""
STAGES: dict[str, Mark] = {"mae": MARKS["mae"], "wsp": MARKS["wsp"]}
"""A single run is drawn as the arm that consists of its stage alone."""


def marks(arms: Iterable[ArmEntry]) -> dict[str, Mark]:
    """Give every arm its mark: that of its role, spare ones in turn where the role has none or gave it already."""
    chosen: dict[str, Mark] = {}
    given = set[Role]()
    spare = 0
    for entry in arms:
        role = entry["role"]
        if role in MARKS and role not in given:
            mark = MARKS[role]
            given.add(role)
        else:
            mark = SPARE[spare % len(SPARE)]
            spare += 1
        chosen[entry["arm"]] = replace(mark, label=title_of(entry))
    return chosen


def title_of(arm: ArmEntry) -> str:
    """An arm in words, as a heading; a baseline keeps the name of its folder."""
    label = arm["label"]
    return label if arm["role"] == "baseline" else label[:1].upper() + label[1:]
