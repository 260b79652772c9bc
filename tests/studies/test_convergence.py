"""The study ``convergence``: its grid of trunks and branches, its numbers by hand, its page, and the whole of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from support.html_page import Page
from underpaint import verbs
from underpaint.core import DataInfo
from underpaint.evals.score import Score
from underpaint.report.convergence_page import lead, verdict
from underpaint.results.study import BoundedEntry, ConvergenceEntry, Side, WorthEntry
from underpaint.run.branches import shared_steps
from underpaint.studies import convergence
from underpaint.studies.convergence_designs import convergence_design_of, ends_of
from underpaint.studies.convergence_results import contrasts_of, converge
from underpaint.studies.designs import Size
from underpaint.studies.parts import Study, TrainPart, needs_of
from underpaint.studies.pretraining_images import Recipe, study_images

_OPENED = cache(study_images)


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Study]:
    monkeypatch.setattr(convergence, "study_images", _OPENED)
    return convergence.convergence


def trained(study: Study) -> dict[str, TrainPart]:
    return {part.name: part for part in study.parts if isinstance(part, TrainPart)}


@pytest.mark.slow
def test_the_grid_is_trunks_and_branches(build: Callable[..., Study]) -> None:
    """Counted by hand: MAE at four lengths, WSP alone at five, WSP after each MAE at three."""
    study = build(size="tiny", images="openmoji", seeds=(3,))
    parts = trained(study)
    assert len(parts) == 4 + 5 + 4 * 3
    trunks = {name.removesuffix("-seed3") for name, part in parts.items() if not part.branch_from}
    assert trunks == {"mae2", "wsp4", "mae0.1_wsp4", "mae0.25_wsp4", "mae1_wsp4", "mae2_wsp4"}
    assert parts["mae0.1_wsp0.25-seed3"].branch_from == "mae0.1_wsp4-seed3"
    assert parts["mae0.1_wsp0.25-seed3"].init_from == "mae0.1-seed3"
    assert parts["wsp1-seed3"].init_from == ""
    order = [part.name for part in study.parts]
    assert all(order.index(need) < order.index(part.name) for part in study.parts for need in needs_of(part))


@pytest.mark.slow
def test_branches_leave_their_trunk_where_it_is_saved_and_their_rates_part(build: Callable[..., Study]) -> None:
    parts = trained(build(size="tiny", images="openmoji"))
    for part in parts.values():
        if part.branch_from:
            trunk = parts[part.branch_from].run
            assert part.branch_at in trunk.cadence.save_at
            shared = shared_steps(trunk.lr_schedule(), part.run) * part.run.budget.batch_size
            assert part.branch_at <= shared <= part.branch_at + part.run.budget.batch_size, part.name
            assert part.branch_at == pytest.approx(0.8 * part.run.budget.samples, abs=part.run.budget.batch_size)
            assert replace(trunk, name="any", budget=part.run.budget, cadence=part.run.cadence) == replace(
                part.run, name="any"
            )
    assert parts["wsp4-seed0"].run.budget.samples == 4 * 5_120
    assert parts["mae0.1-seed0"].run.budget.samples == 1_024


@pytest.mark.parametrize("size", ["smoke", "tiny", "small"])
def test_every_length_after_mae_is_compared_with_the_same_wsp_alone(size: Size) -> None:
    ends = ends_of(convergence_design_of(size))
    names = [end.arm.name for end in ends]
    contrasts = [contrast.name for contrast in contrasts_of(ends)]
    assert len(set(names)) == len(names)
    assert all(f"{name} - wsp{name.partition('_wsp')[2]}" in contrasts for name in names if "_wsp" in name)
    assert "mae1_wsp0.25 - wsp1" in contrasts
    assert {"mae", "wsp", "treatment", "untrained"} <= {end.arm.role for end in ends}
    assert len({end.arm.role for end in ends if end.arm.role == "treatment"}) == 1


def test_overrides_that_the_study_decides_are_refused(build: Callable[..., Study]) -> None:
    for override, message in (
        ("wsp.schedule.kind=cosine", "shorter budgets are branches"),
        ("mae.cadence.save_at=64", "saved where branches leave them"),
        ("wsp.branch_from=x", "what branches from what"),
        ("finetune.budget.samples=64", "set is_finetuned=true"),
        ("mae.seed=1", "give --seeds N"),
    ):
        with pytest.raises(ValueError, match=rf"{override} does nothing: .*{message}"):
            build(size="smoke", overrides=[override])
    with pytest.raises(ValueError, match=r"wsp_budgets=\(0\.3, 1\.0\), with which each is compared"):
        build(size="smoke", overrides=["wsp_budgets=0.3,1"])
    with pytest.raises(ValueError, match=r"--baseline x: .* `stages` does"):
        build(size="smoke", baselines=["x"])


# Numbers on planted results

HIDDEN = 600
"""Test images; images of one number stand for one drawing."""


def score(accuracy: float) -> Score:
    right = round(accuracy * HIDDEN)
    names = tuple(f"digits/{number}" for number in range(HIDDEN))
    return Score(
        dataset="all",
        protocol="mean",
        correct=tuple(float(number < right) for number in range(HIDDEN)),
        image=names,
        family=names,
        settings={},
        remarks=(),
    )


@cache
def planted(worth: float) -> ConvergenceEntry:
    """WSP alone gains 3 points with each doubling; MAE of a budget b is worth as much as ``worth`` * b of WSP."""
    design = convergence_design_of("tiny")
    facts = DataInfo(seed=0, images=1_000, labels=("a", "b"))
    mae, wsp = (Recipe(run=run, data_info=facts) for run in (design.mae, design.wsp))
    ends = ends_of(design)
    by_seed = [
        {end.arm.name: score(0.4 + 0.03 * math.log2(max(0.25, end.wsp + worth * end.mae)) + shift) for end in ends}
        for shift in np.linspace(-0.01, 0.01, 3)
    ]
    return converge(ends, by_seed, budgets=(mae, wsp))


def test_a_planted_worth_is_found_and_bounded() -> None:
    """Seeds move all ends alike here, so nothing but rounding to whole images is between the plan and the answer."""
    grid = planted(1.0)
    worths = {entry["arm"]: entry for entry in grid["worths"]}
    asked = worths[grid["asked"]]
    assert grid["asked"] == "mae1_wsp1"
    assert asked["worth"]["value"] == pytest.approx(5_120, rel=0.1)
    assert asked["low"]["value"] < 5_120 < asked["high"]["value"]
    assert worths["mae0.25_wsp1"]["equals"]["value"] == pytest.approx(1.25 * 5_120, rel=0.1)
    assert worths["mae2_wsp4"]["worth"] == {"value": 0.0, "side": "above"}, "nothing is known beyond four budgets"
    per_sample = {entry["arm"]: entry["train_flops"] for entry in grid["ends"]}
    assert asked["cost"] == pytest.approx(per_sample["mae1"] / per_sample["wsp1"] * 5_120)


def test_frontiers_compare_equal_compute() -> None:
    """Against the planted curves at the same FLOPs; with worth 1 and a MAE that costs less, MAE first must win."""
    grid = planted(1.0)
    flops = {end["arm"]: end["train_flops"] for end in grid["ends"]}
    one_wsp, one_mae = flops["wsp1"], flops["mae1"]
    first, last = grid["frontier"][0]["train_flops"], grid["frontier"][-1]["train_flops"]
    assert first == pytest.approx(0.25 * one_wsp + 0.1 * one_mae, rel=1e-6)
    assert last == pytest.approx(min(10 * first, 4 * one_wsp))
    for entry in grid["frontier"]:
        alone = 0.4 + 0.03 * math.log2(entry["train_flops"] / one_wsp)
        assert entry["wsp"] == pytest.approx(alone, abs=1 / HIDDEN + 1e-9)
        assert entry["mae_wsp"] - entry["wsp"] == pytest.approx(entry["difference"]["mean"])
    assert all(entry["difference"]["mean"] > 0 for entry in grid["frontier"][1:])
    harmful = planted(-0.05)["frontier"]
    assert all(entry["difference"]["mean"] < 0 for entry in harmful)
    assert {budget for entry in harmful[:2] for budget in entry["mae"]} == {0.1}, "the least MAE does the least harm"


def bound(value: float, side: Side = "within") -> BoundedEntry:
    return {"value": value, "side": side}


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (bound(300), bound(900), "worth more than it costs"),
        (bound(300), bound(900, "above"), "worth more than it costs"),
        (bound(50), bound(900), "saves steps of WSP; whether it saves compute is not decided"),
        (bound(-50, "below"), bound(900, "above"), "not decided whether it saves steps"),
        (bound(-50), bound(150), "worth less than it costs; whether it saves steps"),
        (bound(-500, "below"), bound(-50), "costs steps of WSP instead"),
    ],
)
def test_a_verdict_says_what_the_interval_decides(low: BoundedEntry, high: BoundedEntry, words: str) -> None:
    worth: WorthEntry = {
        "arm": "mae1_wsp1",
        "equals": bound(500),
        "worth": bound(400),
        "low": low,
        "high": high,
        "cost": 200.0,
        "n_seeds": 3,
    }
    assert words in verdict(worth)


def test_the_lead_gives_the_number_its_interval_and_its_cost() -> None:
    text = lead(planted(8.0))
    assert "worth more than 15,360 samples of WSP (more than 3.00 budgets)" in text
    assert "So it is worth more than it costs." in text


@pytest.mark.slow
def test_the_study_as_a_whole(tmp_path: Path) -> None:
    """A smaller grid than that of ``smoke``, on one task: what is there is run and reported in the same way."""
    smaller = ["mae_budgets=1", "wsp_alone_budgets=0.25,1", "transfer=digits"]
    folder = verbs.run_study("convergence", size="smoke", out=tmp_path / "study", jobs=1, overrides=smaller)
    results = json.loads((folder / "results.json").read_text())
    grid = results["convergence"]
    page = Page(folder / "report.html")
    text = " ".join(page.text.split())
    assert lead(grid) in text
    for end in grid["ends"]:
        samples = sum(stage["samples"] for stage in results["stages"] if stage["arm"] == end["arm"])
        compute = sum(stage["train_flops"] for stage in results["stages"] if stage["arm"] == end["arm"])
        assert samples == end["mae_samples"] + end["wsp_samples"]
        assert compute == end["train_flops"]
    branch = json.loads((folder / "wsp0.25-seed0" / "run.json").read_text())
    assert branch["run"]["branch_from"].endswith("wsp1-seed0")
