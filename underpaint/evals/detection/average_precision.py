"""Average precision of detections by the rules of COCO and of LVIS, and the kinds of their errors (TIDE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

Kind = Literal["bbox", "segm"]
"""Overlap of boxes, or of masks."""


class RunLengths(TypedDict):
    """A mask in COCO's compressed run lengths."""

    size: list[int]
    counts: str


class Detection(TypedDict):
    """One detection, as a file of results in COCO's format holds it."""

    image_id: int
    category_id: int
    bbox: list[float]
    """Left, top, width and height in pixels of the image."""
    score: float
    segmentation: NotRequired[RunLengths]


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Scores of all detections of one kind."""

    metrics: dict[str, float]
    """AP, AP50, AP75, APs, APm, APl and recalls; for LVIS also APr, APc and APf. -1 where no object counts."""
    by_class: dict[str, float]
    error_shares: dict[str, float]
    """AP50 that is lost by each kind of error: Cls, Loc, Both, Dupe, Bkg, Miss; FP and FN are all of a sort."""


def average_precision(
    annotations: Path, detections: Sequence[Detection], *, kind: Kind = "bbox", lvis: bool = False
) -> Precision:
    """Score detections against an annotation file; ``lvis`` counts by LVIS's rules, which know unlisted classes.

    Computed by hotcoco; equal to pycocotools and lvis.

    Raises:
        ValueError: if there are no detections, the file is not such annotations, or hotcoco is not installed.
    """
    try:
        from hotcoco import COCO, COCOeval
    except ImportError as error:
        raise ValueError("average precision needs hotcoco: pip install '.[detection]'") from error
    if not detections:
        raise ValueError(f"there are no detections to be scored against {annotations}")
    try:
        truth = COCO(str(annotations))
        results = truth.load_res([dict(each) for each in detections])
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{annotations} cannot be scored: {error}") from error
    scorer = COCOeval(truth, results, kind, lvis_style=lvis)
    scorer.evaluate()
    scorer.accumulate()
    with redirect_stdout(StringIO()):  # it prints a table
        scorer.summarize()
    metrics: Mapping[str, float] = scorer.get_results()
    per_class: Mapping[str, float] = scorer.get_results(per_class=True)
    errors: Mapping[str, float] = {} if lvis else scorer.tide_errors(pos_thr=0.5, bg_thr=0.1)["delta_ap"]
    return Precision(
        metrics=dict(metrics),
        by_class={name.removeprefix("AP/"): value for name, value in per_class.items() if name.startswith("AP/")},
        error_shares=dict(errors),
    )
