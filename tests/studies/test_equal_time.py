"""The arm of equal wall time is as long as this machine's own speed says, and stays so in its folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from underpaint import verbs
from underpaint.core import DataInfo
from underpaint.recipes import mae_smoke
from underpaint.run import Run
from underpaint.studies import cost, parts, stages
from underpaint.studies.cost import relative_seconds
from underpaint.studies.designs import EQUAL_TIME, MAE, MAE_WSP, RANDOM, WSP, Design, Size, design_of
from underpaint.studies.parts import Study, TrainPart

pytestmark = pytest.mark.usefixtures("images_opened_once")


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoke study with the arm, on a machine where a sample of MAE takes three quarters of one of WSP."""

    def design(size: Size, **given: bool) -> Design:
        return replace(design_of(size, **given), arms=(RANDOM, MAE, WSP, MAE_WSP, EQUAL_TIME))

    def measure(run: Run, data_info: DataInfo) -> tuple[float, int]:
        return (0.75 if run.objective.stage == "mae" else 1.0), 1

    monkeypatch.setattr(stages, "design_of", design)
    monkeypatch.setattr(cost, "measure", measure)


def samples_of(study: Study, part: str) -> int:
    (run,) = [each.run for each in study.parts if each.name == part and isinstance(each, TrainPart)]
    return run.budget.samples


def build(images: Path, **given: object) -> Study:
    return verbs.build_study("stages", size="smoke", images=str(images), **given)  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("timed")
def test_it_has_the_samples_that_the_time_of_both_stages_pays_for(images: Path) -> None:
    study = build(images)
    wsp, mae = (samples_of(study, f"{arm}-seed0") for arm in ("wsp", "mae"))
    assert samples_of(study, "wsp_equal_time-seed0") == pytest.approx(wsp + 0.75 * mae, abs=32)
    longer = build(images, overrides=["mae_seconds=2"])
    assert samples_of(longer, "wsp_equal_time-seed0") == pytest.approx(wsp + 2 * mae, abs=32)


@pytest.mark.usefixtures("timed")
def test_a_folder_keeps_what_was_measured_first(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    verbs.run_study("stages", size="smoke", images=str(images), out=out, only=["random-*"])
    assert json.loads((out / "study.json").read_text())["measured"] == {"mae_seconds": 0.75}
    monkeypatch.setattr(cost, "measure", lambda run, info: pytest.fail("it was measured again"))
    verbs.run_study("stages", size="smoke", images=str(images), out=out, only=["random-*"])


def test_a_folder_of_another_study_is_refused_and_lends_no_times(images: Path, tmp_path: Path) -> None:
    settings = {"format": 1, "settings": {"study": "stages"}, "measured": {"mae_seconds": 0.7}}
    (tmp_path / "study.json").write_text(json.dumps(settings))
    assert parts.settled_earlier(tmp_path, "ablations") == ({}, None)
    with pytest.raises(ValueError, match="holds a study with study='stages', not 'ablations'"):
        verbs.run_study("ablations", size="smoke", images=str(images), out=tmp_path, jobs=1)


def test_a_folder_of_before_has_the_constant_that_it_was_started_with(tmp_path: Path) -> None:
    assert parts.settled_earlier(tmp_path, "stages") == ({}, None)
    (tmp_path / "study.json").write_text(json.dumps({"format": 1, "settings": {"study": "stages"}}))
    assert parts.settled_earlier(tmp_path, "stages") == ({"mae_seconds": 0.5}, None)
    assert parts.settled_earlier(tmp_path, "ablations") == ({}, None)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"format": 1, "settings": 3}', "{", '{"measured": "x"}'])
def test_a_damaged_record_is_named(text: str, images: Path, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ValueError, match=r"study\.json"):
        verbs.run_study("stages", size="smoke", images=str(images), out=tmp_path)


@pytest.mark.slow
def test_a_deeper_decoder_takes_longer() -> None:
    mae = mae_smoke()
    deep = replace(mae, objective=replace(mae.objective, decoder=replace(mae.objective.decoder, depth=12)))
    facts = DataInfo(seed=0)
    assert relative_seconds((deep, facts), (mae, facts)) > 1.3
