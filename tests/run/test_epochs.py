"""Budgets in epochs: they become samples when the data are opened, and are the same run as those samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from support.small_runs import mae_run
from underpaint import verbs
from underpaint.one_run import plan_run
from underpaint.plan import make_plan
from underpaint.run import Budget, execute
from underpaint.run.idle_fields import override_run


def test_epochs_become_samples_and_the_warm_up_keeps_its_share() -> None:
    budget = Budget(samples=1_000, batch_size=10, microbatch=10, warmup=100, epochs=2.5)
    assert budget.for_images(2_000) == Budget(samples=5_000, batch_size=10, microbatch=10, warmup=500)
    plain = replace(budget, epochs=0.0)
    assert plain.for_images(7) is plain
    with pytest.raises(ValueError, match=r"budget\.epochs=2\.5 of 3 images are less than one batch of 10"):
        budget.for_images(3)
    with pytest.raises(ValueError, match=r"budget\.epochs=-1"):
        replace(budget, epochs=-1.0)


def test_a_run_in_epochs_is_that_in_samples(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = override_run(mae_run(images), ["budget.epochs=1"])
    result = execute(run, tmp_path / "run", overrides=["budget.epochs=1"])
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())
    count = recorded["derived"]["images"]
    assert (recorded["run"]["budget"]["samples"], recorded["derived"]["epochs"]) == (count, 1)
    assert recorded["overrides"] == ["budget.epochs=1"]
    assert result["steps"] == count // run.budget.batch_size
    in_samples = replace(run.budget, samples=count, warmup=run.budget.warmup * count // run.budget.samples, epochs=0.0)
    assert execute(replace(run, budget=in_samples), tmp_path / "run") == result
    assert execute(run, tmp_path / "run") == result
    assert capsys.readouterr().err.count("finished already") == 2


@pytest.mark.parametrize("other", ["budget.samples=320", "budget.warmup=32"])
def test_two_lengths_are_refused(other: str, images: Path) -> None:
    with pytest.raises(ValueError, match=rf"budget\.epochs=2 and {other} exclude each other"):
        override_run(mae_run(images), ["budget.epochs=2", other])


def test_where_no_data_are_read_epochs_say_so(images: Path) -> None:
    planned = plan_run(mae_run(images), ["budget.epochs=2"])
    assert planned["derived"] == {"peak_lr": pytest.approx(2e-2 * 16 / 256)}
    with pytest.raises(
        ValueError,
        match=r"budget\.epochs=2: a plan counts the images of a folder .* set data\.source=FOLDER, or budget\.samples",
    ):
        make_plan("mae_smoke", ["budget.epochs=2"])
    with pytest.raises(ValueError, match=r"wsp\.budget\.epochs=2: a study .* set wsp\.budget\.samples"):
        verbs.build_study("stages", overrides=["wsp.budget.epochs=2"])
