"""Average precision against pycocotools, and detections in pixels of their images."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.detection_examples import DETECTOR, ENCODER, detect_run, make_objects
from support.lvis_examples import make_lvis
from underpaint.__main__ import main
from underpaint.core import ImageInput
from underpaint.data.detection.annotations import read_annotations
from underpaint.evals.detection import detections as detections_module
from underpaint.evals.detection.average_precision import Detection, average_precision
from underpaint.evals.detection.detections import Detecting, detect_all, run_lengths
from underpaint.models.detector.targets import Detections
from underpaint.objectives.detection_network import Detect
from underpaint.results.run import read_evaluations
from underpaint.run.outputs import load_model

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
HOW = Detecting(device=torch.device("cpu"))


@pytest.fixture(scope="module", name="annotations")
def make_annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def pycocotools_scores(tree: Any, detections: Any, kind: str) -> list[float]:
    """COCO's twelve numbers."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools asks numpy for arrays the old way
        truth = COCO()
        truth.dataset = copy.deepcopy(tree)
        truth.createIndex()
        scorer = COCOeval(truth, truth.loadRes([dict(each) for each in detections]), kind)  # pyright: ignore
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return list(scorer.stats)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_average_precision_is_that_of_pycocotools(annotations: Path, kind: Any) -> None:
    detections = jittered(annotations, masks=kind == "segm")
    ours = average_precision(annotations, detections, kind=kind)
    assert 0.1 < ours.metrics["AP"] < 0.9
    for name, theirs in zip(
        NAMES, pycocotools_scores(json.loads(annotations.read_text()), detections, kind), strict=True
    ):
        assert ours.metrics[name] == pytest.approx(theirs, abs=1e-9), name
    assert set(ours.by_class) == {"red", "blue"}
    assert ours.error_shares["Cls"] > 0


def test_it_prints_nothing(annotations: Path, capfd: pytest.CaptureFixture[str]) -> None:
    average_precision(annotations, jittered(annotations, masks=False))
    assert capfd.readouterr() == ("", "")


def test_no_detections_have_a_score_of_zero(annotations: Path, tmp_path: Path) -> None:
    assert average_precision(annotations, []).metrics["AP"] == 0
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be scored"):
        average_precision(tmp_path / "bad.json", jittered(annotations, masks=False))


class Clairvoyant(torch.nn.Module):
    """A detector that knows the objects of the images in the order in which they come."""

    labels: tuple[str, ...] = ("red", "blue")
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
    found = detect_all(Clairvoyant(annotations), read_annotations(annotations), annotations.parent, how=HOW)
    assert not found.unread
    assert average_precision(annotations, found.detections).metrics["AP"] == pytest.approx(1)
    assert average_precision(annotations, found.detections, kind="segm").metrics["AP75"] == pytest.approx(1)


def test_unreadable_images_are_named_and_have_no_detections(tmp_path: Path) -> None:
    annotations = make_objects(tmp_path / "objects", 4)
    (annotations.parent / "002.png").write_bytes(b"")
    (annotations.parent / "003.png").unlink()
    found = detect_all(Clairvoyant(annotations), read_annotations(annotations), annotations.parent, how=HOW)
    assert found.unread == ["002.png", "003.png"]
    assert {each["image_id"] for each in found.detections} == {7, 10}


def test_other_classes_are_refused(annotations: Path) -> None:
    model = Clairvoyant(annotations)
    model.labels = ("red", "green")
    with pytest.raises(ValueError, match="class 2 by ascending id is 'blue' there and 'green' in the model"):
        detect_all(model, read_annotations(annotations), annotations.parent, how=HOW)


def test_a_trained_detector_can_be_evaluated(annotations: Path) -> None:
    from underpaint.core import DataInfo
    from underpaint.objectives.detect import DetectConfig

    config = DetectConfig(encoder=ENCODER, detector=DETECTOR)
    model = config.build(DataInfo(seed=0, labels=("red", "blue"), label_count=(1, 1)))
    assert isinstance(model.image_input, ImageInput)
    found = detect_all(model.eval(), read_annotations(annotations), annotations.parent, how=HOW)
    for each in found.detections:
        x, y, width, height = each["bbox"]
        assert x + width <= 72.01
        assert y + height <= 60.01
        assert each.get("segmentation", {}).get("size") == [60, 72]


@pytest.fixture(scope="module")
def run(annotations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one step."""
    from underpaint.run import execute

    folder = tmp_path_factory.mktemp("run") / "detector"
    execute(detect_run(annotations, steps=1), folder)
    return folder


def with_thresholds(run: Path, threshold: float) -> Path:
    """The run, whose model now gives every detection above so low a score."""
    config = json.loads((run / "model" / "config.json").read_text())
    config["config"]["detector"]["score_threshold"] = threshold
    (run / "model" / "config.json").write_text(json.dumps(config))
    return run


def test_the_command_scores_a_run(
    run: Path, annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows are those of the kept detections by pycocotools, whose order of equal scores is another."""
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    with_thresholds(run, 0.0)
    command = ["eval", "detection", str(run), f"dataset={annotations.parent}", "resamples=20"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "objects detection box: AP " in out
    assert "95% interval" in out
    rows = read_evaluations(run)
    assert {row["split"] for row in rows} == {"box", "mask"}
    assert {row["metric"] for row in rows} == {"AP", "AP50", "AP75", "APs"}
    assert {row["n_test"] for row in rows} == {12}
    (kept,) = (run / "evals").glob("*.detections/detections.json")
    detections = json.loads(kept.read_text())
    for kind, split in (("bbox", "box"), ("segm", "mask")):
        expected = average_precision(annotations, detections, kind=kind).metrics  # pyright: ignore[reportArgumentType]
        for row in rows:
            if row["split"] == split:
                assert row["value"] == expected[row["metric"]]
    assert len(list((tmp_path / "cache" / "detections").glob("*/*.json"))) == 1


def test_predict_writes_detections_as_annotations(
    run: Path, annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pycocotools reads the file; a broken image is named in it, and objects are those of the evaluation."""
    from pycocotools.coco import COCO

    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    model = with_thresholds(run, 0.0)
    photos = Path(shutil.copytree(annotations.parent, tmp_path / "photos"))
    (photos / "003.png").write_bytes(b"broken")
    assert main(["predict", str(model), str(photos), "--json", str(tmp_path / "out.json")]) == 0
    with contextlib.redirect_stdout(io.StringIO()):
        read: Any = COCO(str(tmp_path / "out.json"))
    assert [each["name"] for each in read.loadCats(read.getCatIds())] == ["red", "blue"]
    assert len(read.getImgIds()) == 11
    assert [Path(each["file_name"]).name for each in read.dataset["problems"]] == ["003.png"]
    answers = detect_all(load_model(model), read_annotations(annotations), annotations.parent, how=HOW)  # pyright: ignore
    first = [each for each in answers.detections if each["image_id"] == 7]
    assert first
    ours = read.loadAnns(read.getAnnIds(imgIds=[1]))
    assert [each["bbox"] for each in ours] == [pytest.approx(each["bbox"], abs=1e-3) for each in first]
    assert [each["category_id"] for each in ours] == [{4: 1, 9: 2}[each["category_id"]] for each in first]
    assert ours[0]["segmentation"]["size"] == [60, 72]
    capsys.readouterr()
    assert main(["predict", str(model), str(photos / "000.png"), "--top", "1"]) == 0
    assert re.fullmatch(r".*000\.png: (red|blue) [\d.]+%\n", capsys.readouterr().out)


def test_a_second_call_reads_the_kept_detections(
    run: Path, annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the parts of a killed call the rest alone is computed; all together they are those of one call."""
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(detections_module, "PART_IMAGES", 5)
    model = load_model(with_thresholds(run, 0.0))
    assert isinstance(model, Detect)
    how = Detecting(device=torch.device("cpu"), cached=True, batch_size=3)
    table = read_annotations(annotations)
    whole = detect_all(model, table, annotations.parent, how=how)
    parts = sorted((tmp_path / "cache" / "detections").glob("*/*.json"))
    assert [part.name for part in parts] == ["000000000.json", "000000005.json", "000000010.json"]
    parts[1].unlink()
    seen = list[int]()
    find = model.find
    monkeypatch.setattr(model, "find", lambda image, extent: (seen.append(len(image)), find(image, extent))[1])
    again = detect_all(model, table, annotations.parent, how=how)
    assert sum(seen) == 7
    assert len(again.detections) == len(whole.detections)
    for mine, theirs in zip(again.detections, whole.detections, strict=True):
        assert mine["bbox"] == pytest.approx(theirs["bbox"], abs=1e-3)


def test_the_command_refuses_what_does_not_fit(
    run: Path, annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*words: str) -> str:
        assert main(["eval", "detection", *words]) == 2
        return capsys.readouterr().err

    tree = json.loads(annotations.read_text())
    (tmp_path / "empty").mkdir()
    (tmp_path / "elsewhere.json").write_text(json.dumps(tree))
    tree["categories"][1]["name"] = "green"
    (tmp_path / "green.json").write_text(json.dumps(tree))
    assert "none of the 12 images" in refusal(str(run), f"dataset={tmp_path / 'elsewhere.json'}")
    named = refusal(str(run), f"dataset={tmp_path / 'green.json'}", f"images={annotations.parent}")
    assert "class 2 by ascending id is 'green' there and 'blue' in the model" in named
    assert "no JSON file" in refusal(str(run), f"dataset={tmp_path / 'empty'}")
    assert "is not a file of annotations" in refusal(str(run), "dataset=nowhere.json")


@pytest.mark.slow
def test_intervals_are_those_of_repeated_images(annotations: Path) -> None:
    """The spread of AP over files in which each image stands as often as it was drawn, under new ids."""
    detections = jittered(annotations, masks=False)
    ours = average_precision(annotations, detections, resamples=1000).intervals["AP50"]
    tree = json.loads(annotations.read_text())
    rng, values = np.random.default_rng(0), []
    for _ in range(200):
        images, objects, answers = [], [], []
        for place, number in enumerate(rng.integers(0, len(tree["images"]), len(tree["images"])).tolist()):
            image = tree["images"][number]["id"]
            images.append({**tree["images"][number], "id": place + 1})
            for each in tree["annotations"]:
                if each["image_id"] == image:
                    objects.append({**each, "image_id": place + 1, "id": len(objects) + 1})
            answers += [{**each, "image_id": place + 1} for each in detections if each["image_id"] == image]
        values.append(pycocotools_scores({**tree, "images": images, "annotations": objects}, answers, "bbox")[1])
    low, high = np.quantile(values, [0.025, 0.975])
    assert ours.low == pytest.approx(low, abs=0.04)
    assert ours.high == pytest.approx(high, abs=0.04)
    assert ours.low < ours.mean < ours.high


def test_lvis_annotations_are_scored_by_their_rules(tmp_path: Path) -> None:
    """The format is known by its lists of classes that are not in an image; frequencies have their own AP."""
    tree = {
        "images": [
            {
                "id": n,
                "file_name": f"{n}.png",
                "height": 60,
                "width": 72,
                "neg_category_ids": [2],
                "not_exhaustive_category_ids": [],
            }
            for n in (1, 2)
        ],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [4, 4, 30, 30], "area": 900, "segmentation": []}
            for n in (1, 2)
        ],
        "categories": [{"id": 1, "name": "common", "frequency": "c"}, {"id": 2, "name": "rare", "frequency": "r"}],
    }
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(tree))
    table = read_annotations(path)
    assert table.federated
    detections: list[Detection] = [
        {"image_id": n, "category_id": k, "bbox": [4.0, 4.0, 30.0, 30.0], "score": 0.9} for n in (1, 2) for k in (1, 2)
    ]
    metrics = average_precision(path, detections, lvis=True, resamples=10).metrics
    assert metrics["APc"] == pytest.approx(1)
    assert metrics["APr"] == -1


def test_lvis_precision_is_that_of_its_own_tool(tmp_path: Path) -> None:
    """Classes of three frequencies, some annotated in part, some known to be missing, most of them not looked for.

    The values are those of lvis 0.5.3 (numpy 1.23.5) on these two files: ``LVISEval(annotations, results, "bbox")``.
    """
    expected = {
        "AP": 0.2157883428853046,
        "AP50": 0.3806366827588636,
        "AP75": 0.21477338147717176,
        "APr": 0.2564161143005057,
        "APc": 0.1789716201473627,
        "APf": 0.21293005637736023,
        "APs": 0.15248438458765526,
        "APm": 0.2550930385574195,
        "APl": 0.36159830268741155,
        "AR@300": 0.34999923949923956,
    }
    detections = make_lvis(tmp_path / "lvis.json")
    metrics = average_precision(tmp_path / "lvis.json", detections, lvis=True).metrics
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    table = read_annotations(tmp_path / "lvis.json")
    assert table.federated
    assert not table.problems
    coco = average_precision(tmp_path / "lvis.json", detections).metrics
    assert coco["AP"] < metrics["AP"] - 0.01, "what was not looked for would count as wrong"
