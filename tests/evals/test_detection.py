"""Average precision against pycocotools, and detections in pixels of their images."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.detection_examples import DETECTOR, ENCODER, make_objects
from underpaint.core import ImageInput
from underpaint.data.detection.annotations import read_annotations
from underpaint.evals.detection.average_precision import Detection, average_precision
from underpaint.evals.detection.detections import detect_all, run_lengths
from underpaint.models.detector.targets import Detections

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of two classes, with a crowd."""
    path = make_objects(tmp_path_factory.mktemp("objects"), 12)
    tree = json.loads(path.read_text())
    tree["annotations"][4]["iscrowd"] = 1
    path.write_text(json.dumps(tree))
    return path


def jittered(annotations: Path, *, masks: bool) -> list[Detection]:
    """Two shifted copies of every object, some of the wrong class, and boxes where nothing is."""
    rng = np.random.default_rng(0)
    detections: list[Detection] = []
    for each in json.loads(annotations.read_text())["annotations"]:
        for _ in range(2):
            x, y, w, h = each["bbox"] + rng.normal(0, 1.5, 4)
            x, y, w, h = max(x, 0.0), max(y, 0.0), max(w, 3.0), max(h, 3.0)
            category = each["category_id"] if rng.random() < 0.8 else 13 - each["category_id"]
            if rng.random() < 0.1:
                x, y = 40.0, 40.0
            detection: Detection = {
                "image_id": each["image_id"],
                "category_id": category,
                "bbox": [x, y, w, h],
                "score": float(rng.random()),
            }
            if masks:
                box = torch.tensor([x, y, x + w, y + h], dtype=torch.float32)
                detection["segmentation"] = run_lengths(torch.ones(28, 28), box, (60, 72))
            detections.append(detection)
    return detections


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_average_precision_is_that_of_pycocotools(annotations: Path, kind: Any) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    detections = jittered(annotations, masks=kind == "segm")
    ours = average_precision(annotations, detections, kind=kind)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools asks numpy for arrays the old way
        truth = COCO(str(annotations))
        scorer = COCOeval(truth, truth.loadRes([dict(each) for each in detections]), kind)  # pyright: ignore
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    assert 0.1 < ours.metrics["AP"] < 0.9
    for name, theirs in zip(NAMES, scorer.stats, strict=True):
        assert ours.metrics[name] == pytest.approx(theirs, abs=1e-9), name
    assert set(ours.by_class) == {"red", "blue"}
    assert ours.error_shares["Cls"] > 0


def test_it_prints_nothing(annotations: Path, capfd: pytest.CaptureFixture[str]) -> None:
    average_precision(annotations, jittered(annotations, masks=False))
    assert capfd.readouterr() == ("", "")


def test_nothing_to_score_is_refused(annotations: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no detections"):
        average_precision(annotations, [])
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be scored"):
        average_precision(tmp_path / "bad.json", jittered(annotations, masks=False))


class Clairvoyant(torch.nn.Module):
    """A detector that knows the objects of the images in the order in which they come."""

    labels = ("red", "blue")
    image_input = ENCODER.image_input

    def __init__(self, annotations: Path) -> None:
        super().__init__()
        self.table = read_annotations(annotations)
        self.row = 0

    def find(self, image: Tensor, extent: Tensor) -> list[Detections]:
        answers = []
        for each in extent:
            objects = self.table.objects_of(self.row)
            scale = each / self.table.sizes[self.row]
            boxes = self.table.boxes[objects] * scale.flip(0).repeat(2)
            masks = torch.ones(len(boxes), 28, 28)
            answers.append(Detections(boxes, torch.ones(len(boxes)), self.table.classes[objects], masks))
            self.row += 1
        return answers


def test_perfect_detections_have_a_perfect_score(annotations: Path) -> None:
    """Boxes go from the image to the input and back; masks of rectangles lose part of a pixel at their border."""
    found = detect_all(Clairvoyant(annotations), read_annotations(annotations), annotations.parent, device=CPU)
    assert not found.unread
    assert average_precision(annotations, found.detections).metrics["AP"] == pytest.approx(1)
    assert average_precision(annotations, found.detections, kind="segm").metrics["AP75"] == pytest.approx(1)


def test_unreadable_images_are_named_and_have_no_detections(tmp_path: Path) -> None:
    annotations = make_objects(tmp_path / "objects", 4)
    (annotations.parent / "002.png").write_bytes(b"")
    (annotations.parent / "003.png").unlink()
    found = detect_all(Clairvoyant(annotations), read_annotations(annotations), annotations.parent, device=CPU)
    assert found.unread == ["002.png", "003.png"]
    assert {each["image_id"] for each in found.detections} == {7, 10}


def test_other_classes_are_refused(annotations: Path) -> None:
    model = Clairvoyant(annotations)
    model.labels = ("red", "green")
    with pytest.raises(ValueError, match="has the classes red, blue"):
        detect_all(model, read_annotations(annotations), annotations.parent, device=CPU)


def test_a_trained_detector_can_be_evaluated(annotations: Path) -> None:
    from underpaint.core import DataInfo
    from underpaint.objectives.detect import DetectConfig

    config = DetectConfig(encoder=ENCODER, detector=DETECTOR)
    model = config.build(DataInfo(seed=0, labels=("red", "blue"), label_count=(1, 1)))
    assert isinstance(model.image_input, ImageInput)
    found = detect_all(model.eval(), read_annotations(annotations), annotations.parent, device=CPU)
    for each in found.detections:
        x, y, width, height = each["bbox"]
        assert x + width <= 72.01
        assert y + height <= 60.01
        assert each.get("segmentation", {}).get("size") == [60, 72]
