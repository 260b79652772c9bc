"""Average precision of detections by the rules of COCO and of LVIS, and the kinds of their errors (TIDE)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from underpaint import files
from underpaint.evals.statistics import CONFIDENCE, Interval

Kind = Literal["bbox", "segm"]
"""Overlap of boxes, or of masks."""
OVERLAP = 0.5
"""Smallest overlap of a right detection with its object, in AP50, in the kinds of errors and on pages."""
BACKGROUND = 0.1
"""Overlap below which a detection has found nothing, in TIDE."""
HAVE_INTERVAL = ("AP", "AP50", "AP75")
"""Metrics that have a value however images are drawn; those of one size or frequency may lack objects."""


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
    intervals: dict[str, Interval]
    """95% intervals over the images of HAVE_INTERVAL; none without resamples."""
    by_class: dict[str, float]
    error_shares: dict[str, float]
    """AP50 that is lost by each kind of error: Cls, Loc, Both, Dupe, Bkg, Miss; FP and FN are all of a sort."""


def average_precision(
    annotations: Path,
    detections: Sequence[Detection],
    *,
    kind: Kind = "bbox",
    lvis: bool = False,
    resamples: int = 0,
    seed: int = 0,
) -> Precision:
    """Score detections against an annotation file; ``lvis`` counts by LVIS's rules, which know unlisted classes.

    Computed by hotcoco; equal to pycocotools and lvis. Intervals are those of a bootstrap of ``resamples`` sets of as
    many images, in which an image drawn twice counts as two.

    Raises:
        ValueError: if the file is not such annotations, or hotcoco is not installed.
    """
    scorer, truth = matched(annotations, detections, kind=kind, lvis=lvis)
    scorer.accumulate()
    with redirect_stdout(StringIO()):  # it prints a table
        scorer.summarize()
    metrics: dict[str, float] = dict(scorer.get_results())
    per_class: Mapping[str, float] = scorer.get_results(per_class=True)
    errors: Mapping[str, float] = {} if lvis else scorer.tide_errors(pos_thr=OVERLAP, bg_thr=BACKGROUND)["delta_ap"]
    intervals: dict[str, Interval] = {}
    if resamples:
        intervals = _intervals(truth, scorer, metrics, kind=kind, lvis=lvis, resamples=resamples, seed=seed)
    return Precision(
        metrics=metrics,
        intervals=intervals,
        by_class={name.removeprefix("AP/"): value for name, value in per_class.items() if name.startswith("AP/")},
        error_shares=dict(errors),
    )


def matched(annotations: Path, detections: Sequence[Detection], *, kind: Kind, lvis: bool) -> tuple[Any, Any]:
    """Hotcoco's scorer after the matching of detections with objects, and the objects.

    Raises:
        ValueError: as ``average_precision``.
    """
    try:
        from hotcoco import COCO, COCOeval
    except ImportError as error:
        raise ValueError("average precision needs hotcoco: pip install '.[detection]'") from error
    try:
        truth = COCO(str(annotations))
        results = truth.load_res([dict(each) for each in detections])
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{annotations} cannot be scored: {error}") from error
    scorer = COCOeval(truth, results, kind, lvis_style=lvis)
    scorer.evaluate()
    return scorer, truth


def _intervals(
    truth: Any, scorer: Any, metrics: Mapping[str, float], *, kind: Kind, lvis: bool, resamples: int, seed: int
) -> dict[str, Interval]:
    """Intervals of the metrics: hotcoco resamples the difference of two sets of detections, here to an empty one."""
    from hotcoco import COCOeval, compare

    nothing = COCOeval(truth, truth.load_res([]), kind, lvis_style=lvis)
    nothing.evaluate()
    drawn = compare(nothing, scorer, n_bootstrap=resamples, seed=seed, confidence=CONFIDENCE)["ci"]
    assert drawn is not None
    return {
        name: Interval(metrics[name], drawn[name]["lower"], drawn[name]["upper"])
        for name in HAVE_INTERVAL
        if metrics.get(name, -1) >= 0
    }


def write_detections(folder: Path, detections: Sequence[Detection]) -> None:
    """Write detections as ``detections.json`` into a folder: a file of results in COCO's format."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(detections, separators=(",", ":"), allow_nan=False)
    files.write_bytes(folder / "detections.json", text.encode() + b"\n")
