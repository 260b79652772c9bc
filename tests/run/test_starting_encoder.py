"""An encoder that does not fit is refused before data is opened or a folder is made, and wherever a run is planned."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support.small_runs import mae_run, make_images, wsp_run
from underpaint import verbs
from underpaint.data.open_dataset import OpenDataset
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import FORM, save_encoder, save_module
from underpaint.plan import make_plan
from underpaint.run import Run, execute

SMOKE = ViTConfig(size=(32, 32), patch=8, width=32, depth=2, heads=2)
CHANGES: dict[str, Any] = {
    "patch": 4,
    "channels": 1,
    "width": 64,
    "depth": 3,
    "heads": 4,
    "mlp_ratio": 2,
    "norm_eps": 1e-5,
}


@dataclass(frozen=True, kw_only=True)
class Unopened:
    """Data that must not be looked at."""

    def open(self) -> OpenDataset:
        raise AssertionError("the data was opened before the encoder was looked at")


def encoder(folder: Path, **changes: Any) -> Path:
    if "channels" in changes:
        changes |= {"mean": (0.5,), "std": (0.5,)}
    with torch.random.fork_rng():
        save_encoder(folder / "encoder", ViT(replace(SMOKE, **changes)))
    return folder


def unopened(run: Run, start: Path) -> Run:
    return replace(run, data=Unopened(), init_from=str(start))


def test_the_changes_are_those_that_count() -> None:
    assert CHANGES.keys() == set(FORM)


@pytest.mark.parametrize("name", CHANGES)
def test_another_form_is_refused_before_anything_runs(tmp_path: Path, name: str) -> None:
    start = encoder(tmp_path / "start", **{name: CHANGES[name]})
    message = rf"init_from={start} has {name}={CHANGES[name]}, this run has {name}=\S+; make them equal"
    run = replace(wsp_run(tmp_path), objective=replace(wsp_run(tmp_path).objective, encoder=SMOKE))
    with pytest.raises(ValueError, match=message):
        execute(unopened(run, start), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    given = [f"init_from={start}"]
    for plan in (lambda: verbs.plan_run("wsp_smoke", given), lambda: make_plan("wsp_smoke", given, device="a100")):
        with pytest.raises(ValueError, match=message):
            plan()


def test_another_image_size_fits(tmp_path: Path) -> None:
    """Its positions are resized, so a plan takes it, and a run goes on to its data."""
    start = encoder(tmp_path / "start", size=(48, 48))
    assert verbs.plan_run("wsp_smoke", [f"init_from={start}"])["run"]["init_from"] == str(start)
    run = replace(wsp_run(tmp_path), objective=replace(wsp_run(tmp_path).objective, encoder=SMOKE))
    with pytest.raises(AssertionError, match="the data was opened"):
        execute(unopened(run, start), tmp_path / "run")


def test_what_is_no_fitting_encoder_is_refused_too(tmp_path: Path) -> None:
    start = encoder(tmp_path / "start")
    other = ViT(replace(SMOKE, width=64))
    record = json.loads((start / "encoder" / "config.json").read_text())["config"]
    save_module(tmp_path / "lies" / "encoder", other, {"type": "vit", "config": record})
    save_module(tmp_path / "text" / "encoder", other, {"type": "Text", "config": record})
    for name, message in (
        ("lies", r"has shape \(.*64.*\), expected \(.*32.*\)"),
        ("text", "holds a 'Text', not an encoder"),
        ("nowhere", "holds no encoder"),
    ):
        with pytest.raises(ValueError, match=message):
            execute(unopened(wsp_run(tmp_path), tmp_path / name), tmp_path / "run")
        if name != "nowhere":
            with pytest.raises(ValueError, match=message):
                verbs.plan_run("wsp_smoke", [f"init_from={tmp_path / name}"])
    assert not (tmp_path / "run").exists()


def test_a_plan_may_start_from_what_is_not_there_yet(tmp_path: Path) -> None:
    """From a folder of another machine, and from a run that trains still."""
    execute(mae_run(make_images(tmp_path / "images"), steps=2), tmp_path / "unfinished")
    shutil.rmtree(tmp_path / "unfinished" / "encoder")
    for start in (tmp_path / "elsewhere", tmp_path / "unfinished"):
        assert verbs.plan_run("wsp_smoke", [f"init_from={start}"])["run"]["init_from"] == str(start)
