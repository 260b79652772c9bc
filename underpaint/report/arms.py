"""How the arms of a study are told apart: one colour, one marker shape and one sentence each, the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
    """What stands for an arm in pictures and tables."""

    colour: str  # a class of style.css, which holds a light and a dark value of a colour-blind safe palette
    shape: str  # a key of SHAPES: colour alone never tells two arms apart

    @property
    def path(self) -> str:
        return SHAPES[self.shape]


KNOWN = {
    "random": Mark(colour="grey", shape="cross"),
    "mae": Mark(colour="amber", shape="triangle"),
    "wsp": Mark(colour="blue", shape="square"),
    "mae_wsp": Mark(colour="green", shape="circle"),
    "wsp_equal_compute": Mark(colour="rose", shape="diamond"),
    "wsp_equal_time": Mark(colour="sky", shape="wedge"),
}
SPARE = tuple(
    Mark(colour=colour, shape=shape)
    for shape, colours in (("plus", ("rust", "blue", "green")), ("hourglass", ("rose", "amber", "rust")))
    for colour in colours
)
UNKNOWN = Mark(colour="grey", shape="hourglass")
"""An arm that is named but was not measured."""

MEANING = {
    "random": "the untrained encoder, for comparison",
    "mae": "MAE alone: images, no tags",
    "wsp": "WSP alone, from scratch",
    "mae_wsp": "MAE, then the same WSP",
    "wsp_equal_compute": "WSP alone, lengthened to the training FLOPs of mae_wsp",
    "wsp_equal_time": "WSP alone, lengthened to the expected wall time of mae_wsp",
    "mae_wsp_half": "MAE, then half of that WSP: does it get there sooner?",
    "mae_tenth": "a tenth of that MAE",
    "mae_tenth_wsp": "a tenth of that MAE, then the same WSP: is a little enough?",
    "mae_wsp_low_rate": "MAE, then WSP at a quarter of its learning rate, to forget less",
    "mae_wsp_layer_decay": "MAE, then WSP with smaller rates in lower layers, to forget less",
}

IMPORTED = "a baseline: an encoder from elsewhere, not trained here"


def marks(arms: Iterable[str]) -> dict[str, Mark]:
    """Give every arm its mark: the known ones always the same, others in the order in which they come."""
    chosen: dict[str, Mark] = {}
    strangers = 0
    for arm in arms:
        if arm in chosen:
            continue
        if arm in KNOWN:
            chosen[arm] = KNOWN[arm]
        else:
            chosen[arm] = SPARE[strangers % len(SPARE)]
            strangers += 1
    return chosen
