"""The study ``transfer`` on videos and on annotated images, against the evaluations themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support.detection_examples import make_objects
from support.html_page import Page
from support.video_examples import make_videos
from underpaint import verbs
from underpaint.__main__ import main
from underpaint.data.detection.dataset import DetectionData
from underpaint.data.video.dataset import open_videos
from underpaint.evals.detection.evaluation import DetectionPrecision
from underpaint.evals.engine import Engine
from underpaint.evals.score import Interval, SetScore
from underpaint.evals.video import VideoAccuracy
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import save_encoder
from underpaint.run.outputs import load_model
from underpaint.studies.parts import TrainPart
from underpaint.studies.transfer_designs import transfer_design_of
from underpaint.studies.transfer_inputs import open_sets
from underpaint.studies.transfer_sets import object_halves, video_lists
from underpaint.studies.transfer_values import precision_axis_values, precision_task_values

NARROW = ViTConfig(size=(16, 16), patch=8, width=16, depth=1, heads=2)
WIDE = ViTConfig(size=(24, 24), patch=8, width=32, depth=2, heads=2)
GREY = replace(NARROW, channels=1, mean=(0.5,), std=(0.2,))
SMALL = [
    *("video.objective.clip.frames=4", "video.budget.samples=8", "detect.objective.encoder.size=64,64"),
    *("detect.objective.detector.proposals_per_level=60,40", "detect.objective.detector.proposals=40"),
    *("detect.budget.samples=4", "detect.budget.batch_size=4", "detect.budget.microbatch=4"),
]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clips`` with lists, and ``boxes`` with annotations in the form of COCO."""
    folder = tmp_path_factory.mktemp("data")
    make_videos(folder / "clips", count=8)
    for half, count in (("train", 9), ("val", 4)):
        make_objects(folder / "boxes" / half, count).rename(folder / "boxes" / f"{half}.json")
    return folder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    for name, shape in (("narrow", NARROW), ("wide", WIDE), ("grey", GREY)):
        torch.manual_seed(len(name))
        save_encoder(folder / name / "encoder", ViT(shape))
    return [str(folder / name) for name in ("narrow", "wide", "grey")]


@pytest.mark.slow
def test_encoders_are_measured_on_videos_and_on_boxes(encoders: list[str], data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"size": "smoke", "out": tmp_path / "study", "datasets": [str(data)], "overrides": SMALL}
    out = verbs.run_study("transfer", encoders=encoders[:2], **options)
    results = json.loads((out / "results.json").read_text())
    assert {entry["images"] for entry in results["data"]["collections"].values()} == {8 + 4, 8 + 4}, "one has no object"
    tasks = {(line["arm"], line["task"]): line for line in results["transfer"]["tasks"]}
    kinds = ("clips video", "clips video_attentive", "boxes detection", "boxes detection_mask")
    assert set(tasks) == {(arm, task) for arm in ("narrow", "wide") for task in kinds}
    assert {line["protocol"] for line in results["transfer"]["axes"]} == {
        *("video", "video_attentive", "detection", "detection_mask")
    }
    compared = {"clips video", "clips video_attentive", "mean over tasks"}
    assert {line["task"] for line in results["summary"]} == compared, "AP is not paired"

    model: Any = load_model(out / "video-wide-clips-seed0")
    assert (model.encoder.config.width, model.encoder.config.size) == (32, (24, 24))
    source = open_videos(str(data / "clips" / "val.csv"), "", split="test")
    (accuracy,) = VideoAccuracy(dataset="clips", clips=1, crops=1)(model, source=source, device=CPU, seed=0)
    assert tasks["wide", "clips video"]["mean"] == accuracy.value
    model = load_model(out / "detect-narrow-boxes-seed0")
    assert (model.encoder.config.width, model.encoder.config.size) == (16, (64, 64))
    evaluation = DetectionPrecision(dataset=str(data / "boxes" / "val.json"), images=str(data / "boxes" / "val"))
    scores, _ = evaluation.measure(model, evaluation.open(), engine=Engine(device=CPU))
    rows = [row for row in results["rows"] if (row["arm"], row["protocol"]) == ("narrow", "detection")]
    assert [row["value"] for row in rows] == [score.value for score in scores]
    assert tasks["narrow", "boxes detection"]["mean"] == scores[0].value

    page = Page(out / "report.html")
    assert {row[0][2] for row in page.tables["tasks-table"][1:]} >= {
        "clips video finetuned",
        "clips video attentive",
        "boxes box AP",
        "boxes mask AP",
    }
    assert "Differences of average precision" in page.text
    before = {path: path.stat().st_mtime_ns for path in (out / "evals").iterdir()}
    verbs.run_study("transfer", encoders=encoders[:2], **options)
    assert {path: path.stat().st_mtime_ns for path in (out / "evals").iterdir()} == before


def test_parts_and_what_is_left_out(encoders: list[str], data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Encoders of other shapes have detectors of their own; one of grey images sees no videos."""
    options = {"size": "smoke", "encoders": encoders, "datasets": [str(data / "clips"), str(data / "boxes")]}
    study = verbs.build_study("transfer", **options)
    said = capsys.readouterr()
    assert "left out: video of grey on clips: frames of videos have 3 channels" in said.out + said.err
    assert "boxes: 1 image without objects left out" in said.out + said.err
    runs = {part.name: part.run for part in study.parts if isinstance(part, TrainPart)}
    videos = {f"video-{arm}-clips-seed0" for arm in ("narrow", "wide")}
    assert set(runs) == videos | {f"detect-{arm}-boxes-seed0" for arm in ("narrow", "wide", "grey")}
    wide: Any = runs["detect-wide-boxes-seed0"].objective
    assert (wide.encoder.width, wide.encoder.size, wide.detector.global_blocks) == (32, (128, 128), (0, 1))
    of_wide: Any = runs["video-wide-clips-seed0"].objective
    assert (of_wide.encoder.size, of_wide.encoder.final_norm, of_wide.pooling) == ((24, 24), False, "mean")
    study = verbs.build_study("transfer", **options, overrides=["protocols=detection"])
    assert not [part for part in study.parts if "clips" in part.name]
    said = capsys.readouterr()
    assert "left out: clips: protocols has no video and no video_attentive" in said.out + said.err


def test_sets_are_told_by_their_files(data: Path, tmp_path: Path) -> None:
    assert video_lists(data / "clips") == (data / "clips" / "train.csv", data / "clips" / "val.csv")
    assert object_halves(data / "clips") is None
    assert video_lists(data / "boxes") is None
    halves = object_halves(data / "boxes")
    assert halves is not None
    assert [half.images for half in halves] == [str(data / "boxes" / "train"), str(data / "boxes" / "val")]
    coco, table = tmp_path / "coco", tmp_path / "table"
    (coco / "annotations").mkdir(parents=True)
    for half in ("train", "val"):
        (coco / "annotations" / f"instances_{half}2017.json").write_text(' \n{"images": []}')
        (coco / f"{half}2017").mkdir()
    halves = object_halves(coco)
    assert halves is not None
    assert [Path(half.images).name for half in halves] == ["train2017", "val2017"]
    table.mkdir()
    for half in ("train", "val"):
        (table / f"{half}.csv").write_text("a.png,cat\nb.png,dog\n")
        (table / f"{half}.json").write_text('[{"id": 1, "template": "x"}]')
    (table / "a.png").write_bytes(b"")
    assert video_lists(table) is None, "a table of images"
    assert object_halves(table) is None


def test_what_cannot_be_measured_is_refused(
    encoders: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips, boxes = str(data / "clips"), str(data / "boxes")
    one = tmp_path / "one"
    one.mkdir()
    for half in ("train", "val"):
        (one / f"{half}.csv").write_text(f"{data}/clips/train_0.mp4,left\n")
    for arguments, complaint in (
        (["--data", str(one)], "has videos of one class to train on"),
        (["--data", boxes, "clips=2"], "clips=2 does nothing: no encoder is measured on videos"),
        (["--data", clips, "detect.budget.samples=8"], "no encoder is measured on annotated images"),
        (["--data", clips, "video.data.videos=x"], "the datasets are those of --data"),
        (["--data", clips, "video.objective.encoder.size=8,8"], "the encoders of --from bring it"),
        (["--data", boxes, "detect.objective.detector.global_blocks=0"], "the last block of each quarter"),
        (["--data", boxes, "detect.objective.encoder.patch=2"], "multiple of 4"),
        (["--data", clips, clips], "both called 'clips'"),
    ):
        out = tmp_path / "study"
        given = ["study", "transfer", "--size", "smoke", "--out", str(out), "--from", encoders[0], *arguments]
        assert main(given) == 2, arguments
        assert complaint in " ".join(capsys.readouterr().err.split()), arguments
        assert not out.exists()


def test_sets_open_as_their_runs_do(data: Path) -> None:
    sets = open_sets([str(data)], transfer_design_of("smoke"))
    assert [each.name for each in (*sets.videos, *sets.objects)] == ["clips", "boxes"]
    like = DetectionData(annotations=str(data / "boxes" / "train.json"), images=str(data / "boxes" / "train"))
    assert sets.objects[0].data_info.label_count == like.open().vocabulary.count
    assert sets.objects[0].data.heldout_annotations == ""


def test_precision_of_several_sets_and_seeds() -> None:
    """Two sets of known intervals: their mean has half the root of the sum of squares; one without has none."""

    def score(dataset: str, value: float, half: float | None, split: str = "box") -> SetScore:
        return SetScore(
            dataset=dataset,
            protocol="detection",
            split=split,
            metric="AP",
            view="fit@64",
            value=value,
            n_test=4,
            interval=None if half is None else Interval(value, value - half, value + half),
        )

    one = [score("a", 0.5, 0.03), score("b", 0.3, 0.04), score("a", 0.2, None, "mask")]
    assert [SetScore.from_record(json.loads(json.dumps(each.record()))) for each in one] == one
    boxes, masks = precision_axis_values("x", [one])
    assert (boxes["protocol"], boxes["datasets"], masks["protocol"]) == ("detection", 2, "detection_mask")
    assert boxes["mean"] == pytest.approx(0.4)
    assert boxes["low"] == pytest.approx(0.4 - 0.025)
    assert (masks["mean"], masks["low"]) == (pytest.approx(0.2), None)
    assert [line["task"] for line in precision_task_values("x", [one])] == [
        "a detection",
        "b detection",
        "a detection_mask",
    ]
    # two seeds: Student's interval of (0.5, 0.6) has the half-width 12.706 * 0.05, beside that of the images
    line, *_ = precision_task_values("x", [one, [score("a", 0.6, 0.03), *one[1:]]])
    assert line["mean"] == pytest.approx(0.55)
    assert line["high"] == pytest.approx(0.55 + (0.03**2 + (12.7062 * 0.05) ** 2) ** 0.5, abs=1e-4)
