"""The study ``ablations``: points and runs, shares of images, results by hand, its page, and the whole of it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from support.ablations_example import make_ablations, make_patterns
from support.html_page import Page
from support.report_example import bare_data, write_json
from underpaint import config, verbs
from underpaint.data.dataset import ImageData
from underpaint.data.near_duplicates.removal import Report
from underpaint.data.open_source import open_source
from underpaint.evals.score import Score
from underpaint.report import write_report
from underpaint.report.arms import title_of
from underpaint.studies.ablations import Plan, plan_points
from underpaint.studies.ablations_designs import ablations_design_of
from underpaint.studies.ablations_results import Point, collect, transfer_name
from underpaint.studies.designs import Size
from underpaint.studies.parts import output_of
from underpaint.studies.pretraining_images import StudyImages

SEED_QUANTILE = 12.7062047
"""97.5% quantile of Student's t with one degree of freedom: tan(0.475 * pi)."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_patterns(tmp_path_factory.mktemp("own") / "images", 320)


@pytest.fixture(scope="module")
def opened(images: Path) -> StudyImages:
    """Without a search for near duplicates, which has its own tests."""
    data = {"source": str(images), "tags": "", "labels": str(images / "labels.csv")}
    source = open_source(data["source"], labels=data["labels"])
    return StudyImages(
        source=source, tasks=(source,), data=data, leakage=Report(source=source.name, tests=(), removed={}, pairs=())
    )


def plan_of(size: Size, opened: StudyImages) -> Plan:
    return plan_points(ablations_design_of(size), opened)


@pytest.mark.parametrize(("size", "count"), [("smoke", 23), ("tiny", 55)])
def test_a_run_that_several_points_need_is_one(opened: StudyImages, size: Size, count: int) -> None:
    plan = plan_of(size, opened)
    distinct = {(replace(one.run, name="any"), one.start) for one in plan.runs.values()}
    assert len(distinct) == len(plan.runs) == count  # counted by hand, axis by axis
    used = Counter(name for point in plan.points for name in set(point.runs.values()))
    assert used.keys() == plan.runs.keys()
    axes = {point.axis for point in plan.points}
    assert len(axes) == (7 if size == "smoke" else 8)
    assert used["base-mae"] >= len(axes)
    order = list(plan.runs)
    assert all(order.index(one.start) < order.index(name) for name, one in plan.runs.items() if one.start)
    assert order[:4] == ["base-mae", "base-mae_wsp", "base-wsp", "base-wsp_equal_compute"]
    assert all(re.fullmatch(r"[a-z_]+[\w.-]*-(mae|wsp|mae_wsp|wsp_equal_compute)", name) for name in order)


def test_arms_share_runs_where_nothing_differs(opened: StudyImages) -> None:
    runs = {(point.axis, point.value): point.runs for point in plan_of("tiny", opened).points}
    assert runs["wsp_rate", "0.25"]["mae"] == "base-mae"
    assert runs["decoder", "96x4"]["wsp"] == runs["mask_ratio", "0.9"]["wsp"] == "base-wsp"
    assert runs["images", "0.25"]["wsp"] == "tagged_0.25-wsp"
    assert runs["images", "0.25"]["mae_wsp"] != runs["tagged", "0.25"]["mae_wsp"]
    assert set(runs["mae_share", "0"].values()) == {"base-wsp_equal_compute"}
    assert runs["mae_share", "1"] == {
        "mae": "mae_share_1-mae",
        "mae_wsp": "mae_share_1-mae",
        "wsp_equal_compute": "base-wsp_equal_compute",
    }
    assert runs["pixels", "48/6"]["mae"] == "pixels_48-6-mae"
    values = {axis: [value for found, value in runs if found == axis] for axis, _ in runs}
    assert values["mae_share"] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert values["wsp_rate"] == ["0.25", "1", "4"]
    assert values["mask_ratio"] == ["0.5", "0.75", "0.9"]


@pytest.mark.parametrize("size", ["smoke", "small"])
def test_equal_compute_at_every_point(opened: StudyImages, size: Size) -> None:
    """To half a batch of WSP; along ``mae_share`` both are that near to the compute of the base point."""
    plan = plan_of(size, opened)

    def flops(name: str) -> float:
        one = plan.runs[name]
        before = flops(one.start) if one.start else 0.0
        return before + one.run.budget.samples * one.run.objective.flops_per_sample(one.data_info)

    base = flops("base-mae_wsp")
    for point in plan.points:
        equal = plan.runs[point.runs["wsp_equal_compute"]]
        half = equal.run.budget.batch_size * equal.run.objective.flops_per_sample(equal.data_info) / 2 * 1.0001
        wanted = base if point.axis == "mae_share" else flops(point.runs["mae_wsp"])
        assert flops(point.runs["wsp_equal_compute"]) == pytest.approx(wanted, abs=half)
        assert flops(point.runs["mae_wsp"]) == pytest.approx(wanted, abs=half)
        if point.axis == "mae_share" and point.value not in ("0", "1"):
            mae = flops(point.runs["mae"])
            assert mae == pytest.approx(float(point.value) * base, rel=0.1 if size == "smoke" else 0.01)
    for one in plan.runs.values():
        assert one.run.budget.warmup == pytest.approx(one.run.budget.samples / 10, abs=1)


def test_values_change_what_they_say_and_nothing_else(opened: StudyImages) -> None:
    plan = plan_of("tiny", opened)

    def changed(name: str, base: str) -> dict[str, Any]:
        records = [config.record(plan.runs[one].run) for one in (base, name)]
        return {field.removeprefix("run."): new for field, _, new in config.differences(*records)}

    assert changed("mask_ratio_0.9-mae", "base-mae") == {"objective.mask_ratio": 0.9}
    assert changed("decoder_96x4-mae", "base-mae") == {"objective.decoder.width": 96, "objective.decoder.depth": 4}
    assert changed("wsp_rate_4-wsp", "base-wsp") == {"optim.base_lr": pytest.approx(8e-3)}
    for arm in ("wsp", "mae_wsp", "wsp_equal_compute"):  # from scratch as well
        assert changed(f"layer_decay_0.65-{arm}", f"base-{arm}") == {"optim.layer_decay": 0.65}
    assert changed("tagged_0.25-wsp", "base-wsp") == {"data.share": 0.25}
    assert changed("images_0.5-mae", "base-mae") == {"data.share": 0.5}
    assert changed("pixels_48-6-wsp", "base-wsp") == {"objective.encoder.patch": 6}


def test_values_that_leave_too_few_images_are_named(opened: StudyImages) -> None:
    plan = plan_of("tiny", opened)
    assert len(plan.left_out) == 1
    assert re.fullmatch(r"tagged 0.05: \d+ images are fewer than one batch of 64", plan.left_out[0])
    assert ("tagged", "0.05") not in {(point.axis, point.value) for point in plan.points}


def test_images_without_tags_are_refused(images: Path, opened: StudyImages, tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("path,tags\n")
    bare = replace(opened, data={**opened.data, "tags": str(tmp_path / "tags.csv")})
    with pytest.raises(ValueError, match="tags"):
        plan_of("smoke", bare)


def test_smaller_shares_lie_within_larger_ones(opened: StudyImages) -> None:
    rows, whole = {}, ImageData(source=opened.data["source"], labels=opened.data["labels"])
    for share in (0.1, 0.3, 0.7, 1.0):
        found = replace(whole, share=share).open()
        rows[share] = set(found.rows)
        families = {opened.source.family[row] for row in rows[share]}
        everyone = opened.source.rows("pretrain")
        assert rows[share] == {row for row in everyone if opened.source.family[row] in families}  # whole families
        n = len(everyone)
        assert abs(len(families) / n - share) <= 4 * math.sqrt(share * (1 - share) / n)
        tagged = replace(whole, share=share, targets="tags").open()
        assert set(tagged.rows) == rows[share]  # the same images for both stages
    assert rows[0.1] < rows[0.3] < rows[0.7] < rows[1.0]
    assert rows[1.0] == set(opened.source.rows("pretrain"))


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, math.nan])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"data.share=.* must lie in \(0, 1\]"):
        ImageData(source="openmoji", share=share)


def test_a_share_is_part_of_the_identity() -> None:
    """And all images are what they were before there were shares."""
    whole, half = (config.record(ImageData(source="openmoji", share=share), identity_only=True) for share in (1.0, 0.5))
    assert half == {**whole, "share": 0.5}
    assert "share" not in whole


def score(dataset: str, protocol: str, correct: tuple[float, ...], *, split: str = "test") -> Score:
    names = tuple(f"{number}.png" for number in range(len(correct)))
    return Score(
        dataset=dataset,
        protocol=protocol,
        shots=5 if protocol == "lowshot" else 0,
        split=split,
        correct=correct,
        image=names,
        family=names,
        settings={},
        remarks=("remark on all",),
    )


def write_run(folder: Path, run: str, seed: int, tasks: dict[str, tuple[float, ...]]) -> None:
    scores = [score("a", "linear", tasks["linear"]), score("a", "lowshot", (1.0, 0.0, 0.0, 0.0), split="0")]
    scores.append(score("a", "lowshot", tasks["lowshot"], split="mean"))
    content = {"format": 1, "made_from": "", "output": [score.record() for score in scores]}
    write_json(output_of(transfer_name(run, "a", seed), folder), content)
    cost = {
        "format": 1,
        "seed": seed,
        "steps": 1,
        "bad_records": 0,
        "metrics": {},
        "samples": 64,
        "train_flops": 1e9 + seed,
        "wall_seconds": 2.0,
        "images_per_second": 32.0,
    }
    stage = "mae" if run.endswith("-mae") else "wsp"
    write_json(folder / f"{run}-seed{seed}" / "result.json", {"stage": stage, "name": run, **cost})


def test_results_from_small_outputs_equal_those_by_hand(tmp_path: Path) -> None:
    tables = {  # by run and seed: linear, 5-shot; four test images
        ("base-wsp", 0): ((1, 0, 0, 0), (0.5, 0.5, 0, 0)),
        ("base-wsp", 1): ((1, 1, 0, 0), (0.5, 0.5, 0, 0)),
        ("base-mae", 0): ((1, 0, 0, 0), (0, 0, 0, 0)),
        ("base-mae", 1): ((0, 0, 0, 0), (0, 0, 0, 0)),
        ("base-mae_wsp", 0): ((1, 1, 1, 0), (1, 0.5, 0, 0)),
        ("base-mae_wsp", 1): ((1, 1, 1, 1), (1, 0.5, 0, 0)),
    }
    for (run, seed), (linear, lowshot) in tables.items():
        write_run(tmp_path, run, seed, {"linear": linear, "lowshot": lowshot})
    runs = {"mae": "base-mae", "wsp": "base-wsp", "mae_wsp": "base-mae_wsp"}
    points = [
        Point(axis="tagged", value="1", x=0.0, runs=runs),
        Point(axis="images", value="1", x=0.0, runs={**runs, "wsp_equal_compute": "base-mae_wsp"}),
    ]
    found = collect(tmp_path, points=points, seeds=(0, 1), datasets=["a"], data={**bare_data(), "pretraining": "b"})
    assert (found["format"], found["study"], found["page"]) == (2, "ablations", "axes")
    assert found["data"] == {
        **bare_data(),
        "pretraining": "b",
        "remarks": ["a 5-shot: remark on all", "a linear: remark on all"],
    }

    def difference(axis: str, contrast: str, task: str) -> dict[str, Any]:
        lines = [one for one in found["summary"] if (one["axis"], one["contrast"]) == (axis, contrast)]
        return next(one for one in lines if one["task"] == task)

    line = difference("tagged", "mae_wsp - wsp", "a linear")
    assert (line["at"], line["x"], line["n_seeds"]) == ("1", 0.0, 2)
    assert line["mean"] == pytest.approx(0.5)  # both seeds differ by half of the images
    assert (line["low"], line["high"]) == (pytest.approx(line["test_low"]), pytest.approx(line["test_high"]))
    assert line["low"] < 0.5 < line["high"], "no spread over seeds: the noise of the test images remains"
    line = difference("tagged", "mae_wsp - mae", "mean over tasks")
    per_seed = [((0.75 - 0.25) + (0.375 - 0)) / 2, ((1.0 - 0.0) + (0.375 - 0)) / 2]
    half = SEED_QUANTILE * abs(per_seed[0] - per_seed[1]) / 2  # deviation of two values over the root of two
    assert line["mean"] == pytest.approx(fmean(per_seed))
    images = line["test_high"] - line["mean"], line["mean"] - line["test_low"]
    assert line["high"] - line["mean"] == pytest.approx(math.hypot(half, images[0]))
    assert line["mean"] - line["low"] == pytest.approx(math.hypot(half, images[1]))
    same = [{k: v for k, v in one.items() if k != "axis"} for one in found["summary"]]
    assert same[: len(same) // 2] == same[len(same) // 2 :]  # the base point on both axes
    assert not [one for one in found["summary"] if "equal_compute" in one["contrast"]]  # one run for both arms

    rows = [one for one in found["rows"] if (one["axis"], one["arm"], one["seed"]) == ("tagged", "wsp", 1)]
    assert [(one["protocol"], one["split"], one["value"], one["n_test"]) for one in rows] == [
        ("linear", "test", 0.5, 4),
        ("lowshot", "0", 0.25, 4),
        ("lowshot", "mean", 0.25, 4),
    ]
    stages = [one for one in found["stages"] if (one["axis"], one["arm"], one["seed"]) == ("tagged", "mae_wsp", 1)]
    assert [(one["stage"], one["run"], one["train_flops"]) for one in stages] == [
        ("mae", "base-mae-seed1", 1e9 + 1),
        ("wsp", "base-mae_wsp-seed1", 1e9 + 1),
    ]


@pytest.fixture(scope="module", params=[(0,), (0, 1, 2)], ids=["one seed", "three seeds"])
def made_up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ablations(tmp_path_factory.mktemp("ablations"), seeds=request.param)


def test_the_page_has_the_numbers_of_the_results(made_up: Path) -> None:
    page = Page(write_report(made_up))
    results = json.loads((made_up / "results.json").read_text())
    values = Counter(page.values)
    for line in results["summary"]:
        assert {repr(line[key]) for key in ("mean", "low", "high")} <= values.keys()
    means: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    tasks: dict[tuple[str, str, str, str, str], list[float]] = {}
    for row in results["rows"]:
        if row["split"] in ("test", "mean"):
            place = row["axis"], row["at"], row["arm"]
            means.setdefault(place, {}).setdefault(row["seed"], []).append(row["value"])
            tasks.setdefault((*place, row["dataset"], row["protocol"]), []).append(row["value"])
    for found in tasks.values():
        assert repr(fmean(found)) in values
    labels = {entry["arm"]: title_of(entry) for entry in results["arms"]}
    for (axis, at, arm), by_seed in means.items():
        header, *rows = page.tables[f"table-{axis}"]
        column = [text.strip() for _, _, text in header].index(labels[arm])
        row = next(row for row in rows if row[0][2].split()[0] == at)
        mean = fmean(fmean(values) for values in by_seed.values())
        assert float(str(row[column][1]["data-value"])) == pytest.approx(mean, abs=1e-12)
        assert row[column][2].split()[0] == f"{100 * mean:.1f}"
    assert "0.123456789" not in values


def test_the_sentences_say_what_the_numbers_say(made_up: Path) -> None:
    page = re.sub(r"\s+", " ", write_report(made_up).read_text())
    summary = json.loads((made_up / "results.json").read_text())["summary"]
    asked = [
        line
        for line in summary
        if (line["contrast"], line["task"]) == ("mae_wsp - wsp_equal_compute", "mean over tasks")
    ]
    verdicts: dict[tuple[str, str], str] = {}
    for line in asked:
        verdict = "above" if line["low"] > 0 else "below" if line["high"] < 0 else "across"
        base = line["at"] == {"mae_share": "0.4", "tagged": "1", "pixels": "48/8"}[line["axis"]]
        verdicts["" if base else line["axis"], "base" if base else line["at"]] = verdict
    count = Counter(verdicts.values())
    assert f"better at {count['above']} of {len(verdicts)} points, worse at {count['below']}" in page
    assert f"told from noise at {count['across']}." in page
    for axis in ("mae_share", "tagged", "pixels"):
        lines = [line for line in asked if line["axis"] == axis]
        for line in (lines[0], lines[-1]):
            numbers = [f"{100 * line[key]:+.1f}".replace("-", "−") for key in ("mean", "low", "high")]
            said = f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
            assert re.search(rf"by {re.escape(said)} (points )?at {re.escape(line['at'])}", page), said


def test_the_page_needs_only_results(made_up: Path, tmp_path: Path) -> None:
    """No runs, no axes in words, no contrasts; and what strangers wrote is escaped."""
    results = json.loads((made_up / "results.json").read_text())
    results["data"], results["summary"] = bare_data(), []
    for line in results["rows"] + results["stages"]:
        line["at"] = line["at"].replace("0.2", "<script>")
    write_json(tmp_path / "results.json", results)
    text = write_report(tmp_path).read_text()
    assert "compared no point" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_study_on_own_images(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "study"
    given: dict[str, Any] = {"size": "smoke", "out": out, "images": str(images), "labels": str(images / "labels.csv")}
    assert verbs.run_study("ablations", **given) == out
    results = json.loads((out / "results.json").read_text())
    assert {row["axis"] for row in results["rows"]} == {axis["axis"] for axis in results["data"]["axes"]}
    assert {row["protocol"] for row in results["rows"]} == {"linear", "lowshot", "knn"}
    assert all({"axis", "at", "x", "contrast", "task", "low"} <= line.keys() for line in results["summary"])
    assert all({"axis", "at", "x", "arm", "train_flops", "run"} <= line.keys() for line in results["stages"])
    assert all((out / line["run"] / "result.json").is_file() for line in results["stages"])
    base = {axis["axis"]: axis["base"] for axis in results["data"]["axes"]}
    at_base = [
        [
            (one["contrast"], one["task"], one["mean"])
            for one in results["summary"]
            if (one["axis"], one["at"]) == (axis, at)
        ]
        for axis, at in base.items()
    ]
    assert all(lines == at_base[0] for lines in at_base)
    assert (out / "report.html").stat().st_size > 50_000
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    verbs.run_study("ablations", **given)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
