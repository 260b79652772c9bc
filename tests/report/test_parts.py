"""The words, the numbers as printed, and the geometry of the pictures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.report_example import make_study
from underpaint.report.arms import MARKS, marks
from underpaint.report.curves import MAX_POINTS, smooth, thin
from underpaint.report.folders import RunFolder, count_reasons, merged_log, read_study
from underpaint.report.frame import Scale, Tick, nice_ticks, power_text, tick_texts
from underpaint.report.frontier import GAP, frontier
from underpaint.report.headline import (
    Contrast,
    asked_contrasts,
    below_the_floor,
    caveat,
    counts,
    forgotten,
    lead,
    over_mae,
    points,
    study_contrasts,
)
from underpaint.report.html_tables import arm_totals, flatten, flops, stage_costs
from underpaint.results.format_1 import translated
from underpaint.results.run import read_log
from underpaint.results.study import MEAN_TASK


def line(contrast: str, task: str, *bounds: float | None, n_seeds: int = 1) -> dict[str, Any]:
    mean, low, high = bounds
    method = "paired bootstrap over 90 test images" if n_seeds == 1 else f"paired t over {n_seeds} seeds"
    return {
        "contrast": contrast,
        "task": task,
        "mean": mean,
        "low": low,
        "high": high,
        "n_seeds": n_seeds,
        "method": method,
    }


def read_contrasts(
    lines: Sequence[dict[str, Any]], imported: Sequence[str] = (), *, by_dataset: Sequence[dict[str, Any]] = ()
) -> list[Contrast]:
    """The contrasts of a study that has these lines, with the meaning that their arms' names had in format 1."""
    arms = dict.fromkeys(arm for one in lines for arm in one["contrast"].split(" - "))
    tables = {"summary": list(lines), "dataset_summary": list(by_dataset), "baselines": [{"arm": i} for i in imported]}
    results: Any = translated({"study": "stages", "rows": [{"arm": arm} for arm in arms], **tables})
    return study_contrasts(results)


STEPS, COMPUTE = "mae_wsp - wsp", "mae_wsp - wsp_equal_compute"


def test_headline_says_gain_loss_and_noise() -> None:
    contrasts = read_contrasts(
        [
            line(STEPS, "a", 0.05, 0.01, 0.09),
            line(STEPS, "b", 0.01, -0.01, 0.03),
            line(STEPS, "mean over tasks", 0.03, 0.01, 0.05),
            line(COMPUTE, "a", -0.02, -0.03, -0.01),
            line(COMPUTE, "b", 0.0, 0.0, 0.0),
            line(COMPUTE, "mean over tasks", -0.01, -0.025, 0.005),
        ]
    )
    sentence = lead(contrasts)
    assert sentence.startswith("At equal WSP steps pre-pretraining gained 3.0 points; at equal compute it made no")
    assert "(−1.0)" in sentence
    assert "averaged over 2 tasks" in sentence
    assert counts(contrasts[0]).startswith("Better on 1 of 2 tasks")
    assert "not decided on 1" in counts(contrasts[0])
    assert "worse on 1 " in counts(contrasts[1])
    assert "test images only" in caveat(contrasts)


def test_headline_names_the_collections_that_do_not_share_the_mean() -> None:
    mean = [line(name, "mean over tasks", 0.06, 0.05, 0.07) for name in (STEPS, COMPUTE)]
    tasks = [
        line(name, task, 0.06, 0.05, 0.07) for name in (STEPS, COMPUTE) for task in ("own linear", "digits linear")
    ]
    own = [line(STEPS, "", 0.02, 0.01, 0.03), line(COMPUTE, "", 0.01, -0.01, 0.03)]
    digits = [line(STEPS, "", 0.1, 0.09, 0.11), line(COMPUTE, "", 0.1, 0.09, 0.11)]
    by_dataset = [one | {"dataset": "own"} for one in own] + [one | {"dataset": "digits"} for one in digits]
    contrasts = read_contrasts([*tasks, *mean], by_dataset=by_dataset)
    assert lead(contrasts).endswith(
        "averaged over 2 tasks. On the tasks of own alone no gain or loss can be told from noise at equal compute."
    )
    assert [(one.task, one.mean) for one in contrasts[1].datasets] == [("own", 0.01), ("digits", 0.1)]
    assert "alone" not in lead(read_contrasts([*tasks, *mean], by_dataset=by_dataset[:2])), "one collection is the mean"
    unknown = [one | {"low": None, "high": None} for one in by_dataset]
    assert "alone" not in lead(read_contrasts([*tasks, *mean], by_dataset=unknown)), "nothing was computed"


def test_a_gain_over_what_harmed_is_told_as_such() -> None:
    lines = [line("wsp - random", task, -0.01, -0.02, 0.0) for task in ("own linear", "digits linear", MEAN_TASK)]
    harmed = {**line("wsp - random", "", -0.07, -0.08, -0.06), "dataset": "digits"}
    served = {**line("wsp - random", "", 0.05, 0.04, 0.06), "dataset": "own"}
    told = below_the_floor(read_contrasts(lines, by_dataset=[served, harmed]))
    assert told.startswith("On the tasks of digits (−7.0) WSP alone ends below the untrained encoder.")
    assert not below_the_floor(read_contrasts(lines, by_dataset=[served, served | {"dataset": "digits"}]))
    assert not below_the_floor(read_contrasts([line(STEPS, "a", -0.02, -0.03, -0.01)]))
    alone = [line("wsp - random", task, -0.07, -0.08, -0.06) for task in ("digits linear", MEAN_TASK)]
    assert below_the_floor(read_contrasts(alone)).startswith("On the mean over tasks (−7.0) WSP alone ends below")
    rise = [line("mae_wsp - random", task, 0.03, 0.01, 0.05) for task in ("digits linear", MEAN_TASK)]
    assert below_the_floor(read_contrasts([*alone, *rise])).endswith(
        "MAE then WSP is above the untrained encoder, by 3.0 points on average."
    )
    unclear = [{**each, "low": -0.01} for each in rise]
    assert below_the_floor(read_contrasts([*alone, *unclear])).endswith("that was learned.")


def test_headline_says_loss() -> None:
    contrasts = read_contrasts(
        [line(STEPS, "a", -0.02, -0.03, -0.01), line(STEPS, "mean over tasks", -0.02, -0.03, -0.01)]
    )
    assert "pre-pretraining lost 2.0 points" in lead(contrasts)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((0.031, 0.01, 0.05), "MAE then WSP came out 3.1 points above the imported vit_b16."),
        ((-0.02, -0.03, -0.01), "MAE then WSP came out 2.0 points below the imported vit_b16."),
        ((0.004, -0.01, 0.02), "MAE then WSP cannot be told from the imported vit_b16 (+0.4)."),
    ],
)
def test_headline_says_what_training_brought_over_an_imported_encoder(
    bounds: tuple[float, float, float], said: str
) -> None:
    lines = [
        line(STEPS, "mean over tasks", 0.03, 0.01, 0.05),
        line("mae_wsp - random", "mean over tasks", 0.2, 0.1, 0.3),
        line("mae_wsp - vit_b16", "mean over tasks", *bounds),
        line("mae - vit_b16", "mean over tasks", -0.2, -0.3, -0.1),
    ]
    contrasts = read_contrasts(lines, ["vit_b16"])
    sentence = lead(contrasts)
    assert sentence.startswith("At equal WSP steps pre-pretraining gained 3.0 points.")
    assert sentence.endswith(f"Trained on these images, {said}")
    assert [one.name for one in asked_contrasts(contrasts)] == [STEPS, "mae_wsp - vit_b16"]
    assert [one.name for one in asked_contrasts(read_contrasts(lines[1:], ["vit_b16"]))] == [
        "mae_wsp - random",
        "mae_wsp - vit_b16",
    ]


def test_several_seeds_are_not_called_noise_of_test_images() -> None:
    text = caveat(read_contrasts([line(STEPS, "a", 0.1, 0.05, 0.15, n_seeds=5)]))
    told = "5 seeds: intervals by paired t over seeds, without the noise of the test images."
    assert text == f"{told} Each task is judged on its own."
    both = {**line(STEPS, "a", 0.1, 0.05, 0.15, n_seeds=2), "noise": ["seeds", "test images"]}
    results: Any = translated({"study": "stages", "rows": [{"arm": "wsp"}, {"arm": "mae_wsp"}]})
    contrasts = translated({"study": "stages", "summary": [both]})["contrasts"]
    text = caveat(study_contrasts({**results, "summary": [both], "contrasts": contrasts}))
    assert text.startswith("2 seeds: the intervals cover what a new seed and other test images change.")
    assert "Fewer than 3 seeds" in text


@pytest.mark.parametrize("bounds", [(None, None), (-0.1, None)])
def test_a_difference_without_an_interval_decides_nothing(bounds: tuple[float | None, float | None]) -> None:
    (contrast,) = read_contrasts([line(STEPS, "a", 0.2, *bounds)])
    assert contrast.count("across") == 1
    assert contrast.count("above") == 0


@pytest.mark.parametrize(
    ("value", "text"), [(0.0312, "+3.1"), (-0.0312, "−3.1"), (0.0, "0.0"), (-0.0001, "0.0"), (0.0049, "+0.5")]
)
def test_points(value: float, text: str) -> None:
    assert points(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.412e15, "2.41 PFLOP"), (46.8e12, "46.8 TFLOP"), (999.7e9, "1,000 GFLOP"), (0.0, "0.00 MFLOP")],
)
def test_flops(value: float, text: str) -> None:
    assert flops(value) == text


def test_ticks_enclose_the_range_and_differ_in_print() -> None:
    chance = random.Random(0)
    for _ in range(500):
        low = chance.choice((0.0, chance.uniform(-10, 10))) * 10 ** chance.randint(-5, 7)
        high = low + chance.uniform(1, 10) * 10 ** chance.randint(-5, 7)
        if high - low < 1e-6 * abs(low):
            continue  # no chart of ours shows a millionth of its values
        ticks = nice_ticks(low, high)
        step = ticks[1] - ticks[0]
        assert ticks[0] <= low + 1e-6 * step
        assert ticks[-1] >= high - 1e-6 * step
        assert 3 <= len(ticks) <= 7
        inside = [tick for tick in ticks if low <= tick <= high]
        assert len(inside) >= 2  # a chart shows those inside


@pytest.mark.parametrize(
    ("ticks", "texts"),
    [
        ([0.0, 50_000.0, 100_000.0], ["0", "50k", "100k"]),
        ([0.8, 1.0, 1.2], ["0.8", "1.0", "1.2"]),
        ([0.0, 2.5, 5.0], ["0", "2.5", "5.0"]),
        ([0.0, 500.0, 1000.0], ["0", "500", "1000"]),
        ([0.0, 1e-5, 2e-5], ["0", "1e−05", "2e−05"]),
        ([-5.0, 0.0, 5.0], ["−5", "0", "5"]),
    ],
)
def test_tick_texts(ticks: list[float], texts: list[str]) -> None:
    assert tick_texts(ticks) == texts


def test_scale() -> None:
    assert [Scale(0, 10, 100, 0)(x) for x in (0, 5, 10)] == [100, 50, 0]
    assert Scale(3, 3, 7, 9)(3) == 7
    assert [tick.text for tick in Scale(0.5, 9.5, 0, 90).ticks()] == ["2.5", "5.0", "7.5"], "inside the range alone"


def test_a_logarithmic_scale_gives_every_power_of_ten_the_same_room() -> None:
    place = Scale(1, 1000, 0, 300, logarithmic=True)
    assert [place(value) for value in (1, 10, 100, 1000)] == [0, 100, 200, 300]
    assert place(2) == pytest.approx(30.1)
    assert [(tick.at, tick.text) for tick in place.ticks()] == [(0, "1"), (100, "10"), (200, "100"), (300, "1k")]
    assert [tick.text for tick in Scale(3, 400, 0, 1, logarithmic=True).ticks()] == ["10", "100"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.01, "0.01"), (1, "1"), (100, "100"), (1e3, "1k"), (1e5, "100k"), (1e6, "1M"), (1e10, "10G")]
)
def test_power_text(value: float, text: str) -> None:
    assert power_text(value) == text


def test_smoothing_is_a_running_mean() -> None:
    chance = random.Random(1)
    line_ = [(float(x), chance.random()) for x in range(200)]
    smoothed = smooth(line_)
    assert [x for x, _ in smoothed] == [x for x, _ in line_]
    assert smoothed[0] == line_[0]
    for index in (3, 50, 120, 198, 199):
        reach = min(5, index)
        window = [y for _, y in line_[index - reach : index + reach + 1]]
        assert smoothed[index][1] == pytest.approx(sum(window) / len(window))


def test_thinning_keeps_the_ends() -> None:
    line_ = [(float(x), 0.0) for x in range(10_007)]
    thinned = thin(line_)
    assert len(thinned) == MAX_POINTS
    assert thinned[0] == line_[0]
    assert thinned[-1] == line_[-1]
    assert thin(line_[:10]) == line_[:10]


def test_arms_differ_in_shape_and_keep_their_marks() -> None:
    names = ["random", "mae", "wsp", "mae_wsp", "wsp_equal_compute", "wsp_equal_time", "x", "y", "z"]
    arms = translated({"rows": [{"arm": arm} for arm in names]})["arms"]
    given = marks(arms)
    assert len(set(given.values())) == len(given) == len(names)
    assert len({mark.shape for mark in MARKS.values()}) == len({mark.colour for mark in MARKS.values()}) == len(MARKS)
    assert len({(mark.shape, mark.colour) for mark in given.values()}) == len(names)
    assert marks([arms[-1], arms[3]])["mae_wsp"] == replace(MARKS["treatment"], label="MAE then WSP")
    twice = marks([arms[3], {**arms[3], "arm": "again"}]).values()
    assert len({(mark.shape, mark.colour) for mark in twice}) == 2, "two arms of one role"


def test_flatten() -> None:
    value = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": "x"}], "f": None}
    assert list(flatten(value)) == [("a.b", "1"), ("a.c", "1, 2"), ("d[0].e", "x"), ("f", "")]


def test_log_keeps_the_later_line_and_merges_evaluations(tmp_path: Any) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"step": 2, "samples": 4, "loss": 3.0}\n'
        '{"step": 1, "samples": 2, "loss": 5.0}\n'
        '{"step": 2, "samples": 4, "eval": {"a": 1}}\n'
        '{"step": 2, "samples": 4, "eval": {"b": 2}}\n'
        '{"step": 2, "samples": 4, "loss": 2.5}\n'
        '{"step": 3, "samples": 6, "loss": null}\n'
    )
    log, evals = merged_log(read_log(tmp_path))
    assert [(one["step"], one.get("loss")) for one in log] == [(1, 5.0), (2, 2.5)]
    assert [one.get("eval") for one in evals] == [{"a": 1, "b": 2}]


def test_a_bad_image_of_several_runs_counts_once(tmp_path: Any) -> None:
    record: Any = {}

    def run(*bad: tuple[str, str]) -> RunFolder:
        return RunFolder(
            path=tmp_path,
            record=record,
            environment=None,
            result=None,
            log=(),
            evals=(),
            scores=(),
            bad_records=frozenset(bad),
        )

    runs = [run(("a", "torn"), ("b", "torn")), run(("a", "torn"), ("c", "no image"))]
    assert count_reasons(runs) == [("torn", 2), ("no image", 1)]


def test_what_wsp_gains_and_forgets_is_told_for_every_way_of_it() -> None:
    contrasts = read_contrasts(
        [
            line("wsp - mae", "a", 0.02, 0.01, 0.03),
            line("mae_wsp - mae", "a", 0.02, 0.01, 0.03),
            line("mae_wsp - mae", "b", -0.02, -0.03, -0.01),
            line("mae_wsp - mae", "c", 0.0, -0.01, 0.01),
            line("mae_wsp - mae", "mean over tasks", 0.01, 0.0, 0.02),
            line("mae_wsp_low_rate - mae", "a", 0.0, -0.01, 0.01),
        ]
    )
    told = [(one.first, forgotten(one)) for one in over_mae(contrasts)]
    assert told == [
        ("mae_wsp", "gains on 1 task (a) and forgets on 1 task (b), +1.0 points on average"),
        ("mae_wsp_low_rate", "gains on no task and forgets on no task"),
    ]


def test_the_frontier_places_arms_by_compute_and_mean(tmp_path: Path) -> None:
    """Read back from the drawing: its scales are linear, and ticks say where they lie."""
    study = read_study(make_study(tmp_path / "study", seeds=(0, 1)))
    totals = arm_totals(stage_costs(study), "wsp")
    drawn = frontier(study, totals, marks(study.meaning.values()))
    assert drawn is not None
    compute = {"random": 0.0, **{total.arm: total.train_flops.value for total in totals}}

    def value(at: float, ticks: Sequence[Tick]) -> float:
        (a, first), (b, last) = ((tick.at, float(tick.text)) for tick in (ticks[0], ticks[-1]))
        return first + (last - first) * (at - a) / (b - a)

    unit = max(compute.values()) / value(max(one.x for one in drawn.dots), drawn.x_ticks)
    for mean, one in zip(study.results["arm_means"], drawn.dots, strict=True):
        reach = [100 * mean[end] for end in ("mean", "low", "high")]
        assert one.low is not None
        assert one.high is not None
        assert [value(at, drawn.y_ticks) for at in (one.y, one.low, one.high)] == pytest.approx(reach, abs=0.1)
        tolerance = 1.5 * GAP * abs(value(1, drawn.x_ticks) - value(0, drawn.x_ticks))
        assert value(one.x, drawn.x_ticks) == pytest.approx(compute[mean["arm"]] / unit, abs=tolerance)
    assert len({one.x for one in drawn.dots}) == len(drawn.dots), "equal compute stands side by side"
    assert [line.path.count("L") for line in drawn.lines] == [2, 1], "random, wsp, longer wsp; mae, mae_wsp"
    assert (
        frontier(replace(study, results={**study.results, "arm_means": []}), totals, marks(study.meaning.values()))
        is None
    )
