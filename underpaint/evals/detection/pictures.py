"""Images with their annotated objects and the detections of a model, for a page: right, wrong and missed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from underpaint import files, keyed_random
from underpaint.data.decode.limits import BadImage
from underpaint.data.detection.annotations import ObjectTable
from underpaint.data.shards.label_pictures import small_jpeg
from underpaint.evals.detection.average_precision import OVERLAP, Detection, matched
from underpaint.results.detections import FORMAT, PICTURES_FILE, DetectionEntry, DetectionPictures, PicturedImage

DRAWN = 12
"""Images that are drawn at random."""
WORST = 12
"""Further images, those with the most errors."""
SIDE = 480
"""Longer side of a picture in pixels at most."""


class Outcome(NamedTuple):
    """Which detections are right by an overlap of OVERLAP, and which objects are found."""

    truth: Any
    """hotcoco's annotations."""
    right: Mapping[int, bool]
    """By the place of each detection; one that counts neither as right nor as wrong is missing."""
    finder: Mapping[int, int]
    """Place of the detection that found an object, by the object's id."""
    objects: int
    """Number of objects that count."""


class Working(NamedTuple):
    """The score above which detections are shown, where F1 is highest, and what it gives."""

    threshold: float
    precision: float
    recall: float


def write_pictures(
    folder: Path, annotations: Path, table: ObjectTable, root: Path, detections: Sequence[Detection]
) -> None:
    """Write PICTURES_FILE and small JPEGs into ``folder``; an image that cannot be read has none."""
    folder.mkdir(exist_ok=True)
    outcome = compare(annotations, detections, lvis=table.federated)
    working = best_threshold(outcome, detections)
    by_image: dict[int, list[int]] = {}
    for place, detection in enumerate(detections):
        if detection["score"] >= working.threshold and place in outcome.right:
            by_image.setdefault(detection["image_id"], []).append(place)
    names = dict(zip(table.category_ids, table.class_names, strict=True))
    entries: list[PicturedImage] = []
    for row, drawn in _chosen(outcome, table, by_image):
        picture = _picture(root / table.paths[row])
        if not picture:
            continue
        file = f"{len(entries)}.jpg"
        files.write_bytes(folder / file, picture)
        places = by_image.get(table.image_ids[row], [])
        shown = [_shown(detections[place], names, right=outcome.right[place]) for place in places]
        height, width = table.sizes[row].tolist()
        entries.append(
            {
                "picture": file,
                "path": table.paths[row],
                "width": width,
                "height": height,
                "drawn": drawn,
                "truth": [
                    {"box": box, "label": names[category], "detected": outcome.finder.get(number, -1) in places}
                    for number, category, box in _objects(outcome, table.image_ids[row])
                ],
                "detections": sorted(shown, key=lambda each: -each["score"]),
            }
        )
    record: DetectionPictures = {
        "format": FORMAT,
        "dataset": table.name,
        "threshold": working.threshold,
        "precision": working.precision,
        "recall": working.recall,
        "images": entries,
    }
    files.write_json(folder / PICTURES_FILE, record)


def compare(annotations: Path, detections: Sequence[Detection], *, lvis: bool) -> Outcome:
    """Match detections with the objects of their class, the surest first."""
    scorer, truth = matched(annotations, detections, kind="bbox", lvis=lvis)
    answers = scorer.image_diagnostics(iou_thr=OVERLAP)
    return Outcome(
        truth=truth,
        right={number - 1: status == "tp" for number, status in answers["dt_status"].items() if status in ("tp", "fp")},
        finder={number: place - 1 for number, place in answers["gt_match"].items()},
        objects=sum(status in ("matched", "fn") for status in answers["gt_status"].values()),
    )


def best_threshold(outcome: Outcome, detections: Sequence[Detection]) -> Working:
    """The score at which F1 over all images is highest, the highest one of several; 0 without detections."""
    scores = sorted(((detections[place]["score"], right) for place, right in outcome.right.items()), reverse=True)
    best, hits = (0.0, Working(0.0, 0.0, 0.0)), 0
    for count, (score, right) in enumerate(scores, start=1):
        hits += right
        if count < len(scores) and scores[count][0] == score:
            continue
        f1 = 2 * hits / (count + outcome.objects)
        if f1 > best[0]:
            best = (f1, Working(score, hits / count, hits / outcome.objects))
    return best[1]


def _chosen(outcome: Outcome, table: ObjectTable, by_image: Mapping[int, Sequence[int]]) -> list[tuple[int, bool]]:
    """Rows of images to show, and whether each was drawn at random."""
    key = keyed_random.key(0, "pictures of detections")
    rows = sorted(range(len(table.paths)), key=lambda row: keyed_random.mix(key, table.image_ids[row]))
    drawn, rest = rows[:DRAWN], rows[DRAWN:]

    def errors(row: int) -> int:
        places = by_image.get(table.image_ids[row], ())
        hits = sum(outcome.right[place] for place in places)
        return len(places) - hits + len(_objects(outcome, table.image_ids[row])) - hits

    return [(row, True) for row in drawn] + [(row, False) for row in sorted(rest, key=errors, reverse=True)[:WORST]]


def _objects(outcome: Outcome, image: int) -> list[tuple[int, int, list[float]]]:
    """Id, category and box of the objects of an image, without crowds."""
    annotations = outcome.truth.load_anns(outcome.truth.get_ann_ids(img_ids=[image]))
    return [(each["id"], each["category_id"], list(each["bbox"])) for each in annotations if not each.get("iscrowd")]


def _shown(detection: Detection, names: Mapping[int, str], *, right: bool) -> DetectionEntry:
    return {
        "box": detection["bbox"],
        "label": names[detection["category_id"]],
        "score": detection["score"],
        "right": right,
    }


def _picture(path: Path) -> bytes:
    """A small JPEG of an image, b"" where it cannot be read."""
    try:
        return small_jpeg(path.read_bytes(), SIDE)
    except (BadImage, OSError):
        return b""
