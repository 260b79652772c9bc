"""The study ``scaling``: its grid and subsets, laws and trends from planted errors, the prediction, and the whole."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.ablations_example import make_patterns
from support.html_page import Page
from support.report_example import write_json
from underpaint import verbs
from underpaint.data.dataset import ImageData
from underpaint.data.folders.folder_dataset import FolderDataset
from underpaint.evals.score import Score
from underpaint.evals.statistics import summarise
from underpaint.report import scaling_page
from underpaint.results.scaling import ModelEntry
from underpaint.studies import scaling as scaling_study
from underpaint.studies.parts import Study, TrainPart
from underpaint.studies.pretraining_images import study_images
from underpaint.studies.scaling import scaling
from underpaint.studies.scaling_designs import Point, ScalingDesign, halvings, scaling_design_of
from underpaint.studies.scaling_laws import Measured, law_entries
from underpaint.studies.scaling_prediction import keep_prediction, outcome_of, predict, require_prediction
from underpaint.studies.scaling_trends import slope_weights, trend_rows

SHARES = halvings(6)
WIDTHS = (48, 96, 192)
MODELS: list[ModelEntry] = [
    {"model": f"width {width}", "width": width, "depth": 4, "parameters": 100 * width**2} for width in WIDTHS
]
LARGEST = Point(width=192, share=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    make_patterns(root / "images", 400)
    make_patterns(root / "other", 100)
    return root


@pytest.fixture(scope="module")
def opened(folder: Path) -> Any:
    found = study_images(str(folder / "images"), tags="", labels=str(folder / "images" / "labels.csv"), transfer=())
    return lambda *names, **options: found


def built(folder: Path, opened: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Study:
    monkeypatch.setattr(scaling_study, "study_images", opened)
    other = f"other_images={folder / 'other'}"
    return scaling(size="smoke", images=str(folder / "images"), overrides=[other], **options)


def trained(study: Study) -> dict[str, TrainPart]:
    return {part.name: part for part in study.parts if isinstance(part, TrainPart)}


def test_the_grid_has_every_arm_at_every_point(folder: Path, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = built(folder, opened, monkeypatch, seeds=(3, 4))
    whole = built(folder, opened, monkeypatch, seeds=(3, 4), largest=True)
    runs, all_runs = trained(before), trained(whole)
    pretrained = {name for name in all_runs if not name.startswith("finetune-")}
    shares = scaling_design_of("smoke").shares
    wanted = {
        f"{arm}-w{width}-i{share:.6g}-seed{seed}"
        for arm in ("mae", "wsp", "mae_wsp")
        for width in (16, 32)
        for share in shares
        for seed in (3, 4)
    }
    extras = {
        f"{arm}-w16-i1-seed{seed}"
        for arm in ("swapped_mae", "swapped_mae_wsp", "single_wsp", "single_mae_wsp")
        for seed in (3, 4)
    }
    assert pretrained == wanted | extras
    missing = {name for name in all_runs if name not in runs}
    assert {name for name in missing if not name.startswith("finetune-")} == {
        f"{arm}-w32-i1-seed{seed}" for arm in ("mae", "wsp", "mae_wsp") for seed in (3, 4)
    }
    assert all(
        part.init_from == name.replace("mae_wsp", "mae") for name, part in all_runs.items() if name[:7] == "mae_wsp"
    )
    for name, part in runs.items():
        assert part.run.seed == int(name[-1])
        assert part.run.objective.encoder.width == (16 if "-w16-" in name else 32)  # pyright: ignore[reportAttributeAccessIssue]
    samples = {part.run.budget.samples for name, part in all_runs.items() if name in pretrained}
    assert len(samples) == 1


@pytest.mark.slow
def test_subsets_are_nested_within_a_seed_and_keep_families(
    folder: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = trained(built(folder, opened, monkeypatch, seeds=(0, 1)))
    rows: dict[int, list[set[int]]] = {}
    for seed in (0, 1):
        for share in scaling_design_of("smoke").shares[::2]:
            pair = [runs[f"{arm}-w16-i{share:.6g}-seed{seed}"].run.data for arm in ("mae", "wsp")]
            assert all(isinstance(data, ImageData) for data in pair)
            drawn = [replace(data, exclude="").open() for data in pair if isinstance(data, ImageData)]
            assert all(isinstance(dataset, FolderDataset) for dataset in drawn)
            mae, wsp = (dataset for dataset in drawn if isinstance(dataset, FolderDataset))
            assert mae.rows == wsp.rows
            families = {mae.source.family[row] for row in mae.rows}
            assert set(mae.rows) == {row for row in mae.source.rows("pretrain") if mae.source.family[row] in families}
            rows.setdefault(seed, []).append(set(mae.rows))
        assert all(smaller < larger for smaller, larger in zip(rows[seed], rows[seed][1:], strict=False))
    assert rows[0][0] != rows[1][0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mae.data.share=0.5", "the grid sets it; give shares="),
        ("wsp.objective.encoder.width=64", "the grid sets it; give widths="),
        ("widths=32,16", r"widths=\(32, 16\) must ascend"),
        ("widths=20", r"widths=\(20,\) must be multiples of head_width=16"),
        ("shares=0.5,0.25,1", "must ascend from above 0"),
        ("shares=0.25,0.5", "must end with 1"),
        ("images=openmoji", "--images .* is trained on; leave it out"),
    ],
)
def test_what_makes_no_grid_is_refused(
    override: str, message: str, folder: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling_study, "study_images", opened)
    with pytest.raises(ValueError, match=message):
        scaling(size="smoke", images=str(folder / "images"), overrides=[override])


def test_only_this_study_has_a_largest_point(folder: Path) -> None:
    with pytest.raises(
        ValueError, match="--largest runs the predicted point of the study `scaling`; `stages` has none"
    ):
        verbs.build_study("stages", size="smoke", images=str(folder / "images"), largest=True)


def errors(level: Mapping[str, float], *, noise: float = 0.0) -> Measured:
    """Planted laws: the error falls with images and with parameters."""
    rng = np.random.default_rng(0)
    images = {Point(width=width, share=share): 10_000 * share for width in WIDTHS for share in SHARES}
    planted = {
        (arm, "finetune", point): offset + 2 * count**-0.4 + 0.1 * (point.width / 48) ** -0.5 + rng.normal(0, noise)
        for arm, offset in level.items()
        for point, count in images.items()
    }
    flops = {(arm, point): 1e6 * point.width**2 for arm in level for point in images}
    return Measured(errors=planted, images=images, flops=flops, models=MODELS)


def test_laws_recover_planted_curves_and_too_few_models_have_none() -> None:
    entries = law_entries(errors({"mae": 0.3, "wsp": 0.35, "mae_wsp": 0.25}))
    along_images = [entry for entry in entries if entry["against"] == "images"]
    assert [(entry["arm"], entry["model"]) for entry in along_images] == [
        (arm, f"width {width}") for arm in ("mae", "wsp", "mae_wsp") for width in WIDTHS
    ]
    for entry in along_images:
        law = entry["law"]
        assert law is not None
        level = {"mae": 0.3, "wsp": 0.35, "mae_wsp": 0.25}[entry["arm"]]
        width = int(entry["model"].split()[1])
        assert law["offset"] == pytest.approx(level + 0.1 * (width / 48) ** -0.5, abs=1e-3)
        assert law["exponent"] == pytest.approx(0.4, abs=0.01)
        assert len(entry["points"]) == 6
        assert all(point["low"] <= point["value"] <= point["high"] for point in entry["curve"])
    others = [entry for entry in entries if entry["against"] != "images"]
    assert {(entry["against"], entry["arm"]) for entry in others} == {
        (against, arm) for against in ("parameters", "train_flops") for arm in ("mae", "wsp", "mae_wsp")
    }
    assert all(
        entry["law"] is None and not entry["curve"] and "3 different values" in entry["reason"] for entry in others
    )
    assert [point["x"] for point in others[0]["points"]] == [100 * width**2 for width in WIDTHS]


def without_largest(measured: Measured) -> Measured:
    kept = {key: error for key, error in measured.errors.items() if key[2] != LARGEST}
    return replace(measured, errors=kept)


def test_the_largest_point_is_predicted_and_then_compared(tmp_path: Path) -> None:
    measured = errors({"mae": 0.3, "mae_wsp": 0.25}, noise=0.002)
    prediction = predict(without_largest(measured), LARGEST, seeds=(0, 1))
    assert [(entry["arm"], len(entry["points"])) for entry in prediction["predicted"]] == [("mae", 5), ("mae_wsp", 5)]
    assert (prediction["model"], prediction["images"]) == ("width 192", 10_000)
    with pytest.raises(ValueError, match=r"prediction.json is missing: run the study without --largest first"):
        require_prediction(tmp_path, (0, 1))
    keep_prediction(tmp_path, prediction, LARGEST)
    require_prediction(tmp_path, (0, 1))
    with pytest.raises(ValueError, match=r"predicts seeds \[0, 1\] and not \[5\]; run these without --largest first"):
        require_prediction(tmp_path, (1, 5))
    entry = outcome_of(tmp_path, without_largest(measured), LARGEST)
    assert entry is not None
    assert (entry["outcomes"], entry["begun"]) == ([], "")
    planted = dict(measured.errors)
    planted["mae", "finetune", LARGEST] += 0.5
    entry = outcome_of(tmp_path, replace(measured, errors=planted), LARGEST)
    assert entry is not None
    far, near = entry["outcomes"]
    assert not far["inside"]
    assert far["missed"] == pytest.approx(far["measured"] - far["value"])
    assert near["inside"]
    assert abs(near["missed"]) < 0.02
    said = scaling_page.lead({"models": MODELS, "laws": [], "prediction": entry}, [])
    assert "1 of 2 errors lie within the 95% bands" in said
    assert f"the largest miss is {100 * far['missed']:+.1f} points" in said


def test_a_prediction_stays_once_the_point_is_begun(tmp_path: Path) -> None:
    first = predict(without_largest(errors({"mae": 0.3})), LARGEST, seeds=(0,))
    second = predict(without_largest(errors({"mae": 0.4})), LARGEST, seeds=(0,))
    path = tmp_path / "prediction.json"

    def kept() -> Any:
        return json.loads(path.read_text())

    keep_prediction(tmp_path, {**first, "date": "2026-01-01T00:00:00Z"}, LARGEST)
    keep_prediction(tmp_path, first, LARGEST)
    assert kept()["date"] == "2026-01-01T00:00:00Z", "the same prediction keeps its date"
    keep_prediction(tmp_path, second, LARGEST)
    assert kept()["predicted"] == second["predicted"]
    start = {"time": "2026-02-01T00:00:00Z", "command": [], "python": "", "platform": "", "processor": ""}
    start |= {"cores": 1, "gpu": "", "versions": {}}
    lineage = {"init_from": "", "weights": ""}
    content = {"format": 1, "lineage": lineage, "starts": [start]}
    write_json(tmp_path / "mae-w192-i1-seed0" / "env.json", content)
    keep_prediction(tmp_path, first, LARGEST)
    assert kept()["predicted"] == second["predicted"], "one that was begun with does not change"
    entry = outcome_of(tmp_path, errors({"mae": 0.3}), LARGEST)
    assert entry is not None
    assert entry["begun"] == "2026-02-01T00:00:00Z"


def score(protocol: str, drawn: Iterable[float]) -> Score:
    correct = tuple(map(float, drawn))
    names = tuple(map(str, range(len(correct))))
    return Score(dataset="a", protocol=protocol, correct=correct, image=names, family=names, settings={}, remarks=())


def test_trends_are_weighted_sums_of_scores_with_both_noises() -> None:
    rng, both = np.random.default_rng(1), ("finetune", "linear", "lowshot")
    scores = {
        Point(width=width, share=share): {
            arm: [[score(protocol, rng.integers(0, 2, 40)) for protocol in protocols] for _ in range(3)]
            for arm, protocols in {**dict.fromkeys(("wsp", "mae_wsp"), both), "mae": both[:1]}.items()
        }
        for width in WIDTHS
        for share in (0.25, 1.0)
    }
    rows = {(row["trend"], row["protocol"]): row for row in trend_rows(scores, MODELS)}

    def value(width: int, share: float, arm: str, seed: int, protocol: str) -> float:
        return next(s for s in scores[Point(width=width, share=share)][arm][seed] if s.protocol == protocol).value

    def gain(width: int, seed: int) -> float:
        return value(width, 1.0, "mae_wsp", seed, "linear") - value(width, 1.0, "wsp", seed, "linear")

    def more(width: int, seed: int) -> float:
        return value(width, 1.0, "mae", seed, "finetune") - value(width, 0.25, "mae", seed, "finetune")

    x = [math.log2(100 * width**2) for width in WIDTHS]
    slopes = [float(np.polyfit(x, [gain(width, seed) for width in WIDTHS], 1)[0]) for seed in range(3)]
    row = rows["gain_by_size", "linear"]
    assert row["mean"] == pytest.approx(np.mean(slopes))
    assert row["noise"] == ["seeds", "test images"]
    assert row["low"] is not None
    half = 4.3026527 * float(np.std(slopes, ddof=1)) / math.sqrt(3)
    assert row["mean"] - row["low"] >= half - 1e-9, "at least the interval over seeds"
    gains = [[more(width, seed) for width in WIDTHS] for seed in range(3)]
    assert rows["mae_data", "finetune"]["mean"] == pytest.approx(np.mean(gains))
    steeper = np.mean([np.polyfit(x, by_width, 1)[0] for by_width in gains])
    assert rows["mae_data_by_size", "finetune"]["mean"] == pytest.approx(steeper)
    assert slope_weights([0.0, 1.0]) == [-0.5 / 0.5, 0.5 / 0.5]


def test_a_weighted_sum_of_two_arms_is_their_contrast() -> None:
    rng = np.random.default_rng(2)
    sides = {
        arm: [[score(protocol, correct) for protocol in ("linear", "lowshot", "finetune")] for correct in drawn]
        for arm in ("wsp", "mae_wsp")
        for drawn in [[rng.integers(0, 2, 60) for _ in range(2)]]
    }
    scores = {Point(width=width, share=1.0): {**sides, "mae": sides["wsp"]} for width in (16, 32)}
    models: list[ModelEntry] = [
        {"model": f"width {width}", "width": width, "depth": 1, "parameters": width} for width in (16, 32)
    ]
    rows = {(row["trend"], row["protocol"]): row for row in trend_rows(scores, models)}
    row = rows["smaller_after_mae", "linear"]
    expected = summarise([s[0] for s in sides["wsp"]], [s[0] for s in sides["mae_wsp"]], seed=0)
    for field in ("mean", "low", "high", "detectable"):
        assert dict(row)[field] == pytest.approx(dict(expected)[field])


@pytest.mark.parametrize("size", ["smoke", "tiny", "small"])
def test_the_designs_leave_five_points_to_predict_from(size: Any) -> None:
    design: ScalingDesign = scaling_design_of(size)
    assert len(design.shares) >= 6
    assert design.base_width < design.widths[-1]
    assert design.arms_before(design.largest) != design.arms_at(design.largest)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_study_on_own_images(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "study"
    given: dict[str, Any] = {
        "size": "smoke",
        "out": out,
        "images": str(folder / "images"),
        "overrides": [f"other_images={folder / 'other'}"],
    }
    with pytest.raises(ValueError, match=r"prediction.json is missing"):
        verbs.run_study("scaling", largest=True, **given)
    verbs.run_study("scaling", **given)
    results = json.loads((out / "results.json").read_text())
    prediction = json.loads((out / "prediction.json").read_text())
    assert len(prediction["predicted"]) == 7  # MAE finetuned, the other two in three protocols
    assert results["scaling"]["prediction"]["outcomes"] == []
    assert results["trends"] == []
    assert "not run yet" in (out / "report.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    verbs.run_study("scaling", largest=True, **given)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((out / "prediction.json").read_text()) == prediction
    results = json.loads((out / "results.json").read_text())
    entry = results["scaling"]["prediction"]
    assert entry["begun"] >= prediction["date"]
    assert len(entry["outcomes"]) == 7
    laws = [law for law in results["scaling"]["laws"] if law["against"] == "images"]
    assert all(law["law"] and len(law["points"]) == 6 for law in laws)
    assert {row["trend"] for row in results["trends"]} >= {"gain_by_size", "smaller_after_mae", "mae_data"}
    page = Page(out / "report.html")
    values = set(page.values)
    for outcome in entry["outcomes"]:
        assert {repr(outcome[key]) for key in ("value", "low", "high", "measured", "missed")} <= values
    for row in results["trends"]:
        assert {repr(row[key]) for key in ("mean", "low", "high")} <= values
    verbs.run_study("scaling", **given)  # what was run stays
    kept = json.loads((out / "results.json").read_text())
    assert kept["scaling"]["prediction"] == entry
