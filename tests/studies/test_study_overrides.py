"""Every field that `study stages` takes: it changes the parts of the study, or it is refused with the reason."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.other_values import alternatives, fields_of, make_odd_images, shrunk
from underpaint.data.open_source import open_source
from underpaint.run import Run, encoder_of, record
from underpaint.studies import stages as module
from underpaint.studies.designs import Design, Size, design_of
from underpaint.studies.overrides import RECIPES, SET_BY_THE_STUDY
from underpaint.studies.parts import TrainPart, claim
from underpaint.studies.pretraining_images import StudyImages, study_images
from underpaint.studies.stages import stages

NOT_ALONE = {"objective.stage", "objective.encoder.channels"}
"""A stage is what its recipe is for; the recipes see the same channels."""
NOT_OF_DIGITS = {"data.split", "data.targets", "data.resample"}
"""Digits have no tags, and no images for another stage."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_odd_images(tmp_path_factory.mktemp("study") / "images")


@pytest.fixture
def small(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes that every other value fits, and images that are opened once."""

    def measured(run: Run, *_: object) -> dict[str, tuple[float, ...]]:
        channels = encoder_of(run).channels
        return {"mean": (0.5,) * channels, "std": (0.25,) * channels}

    def small_design(size: Size, **given: bool) -> Design:
        design = design_of(size, **given)
        changed: dict[str, Any] = {name: shrunk(getattr(design, name), images) for name in RECIPES}
        return replace(design, **changed)

    monkeypatch.setattr(module, "design_of", small_design)
    monkeypatch.setattr(module, "normalised_encoder", measured)
    monkeypatch.setattr(module, "study_images", cache(study_images))


def parts_of(images: Path, overrides: Sequence[str] = (), **given: Any) -> list[Any] | str:
    """What the parts of the study do, or why there is none."""
    labels = str(images / "labels.csv")
    try:
        study = stages(size="smoke", images=str(images), labels=labels, overrides=overrides, **given)
    except ValueError as error:
        return str(error)
    return [
        [part.name, record.identity(replace(part.run, init_from=part.init_from), data="", init_from="")]
        if isinstance(part, TrainPart)
        else [part.name, part.settings]
        for part in study.parts
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_field_of_a_recipe_changes_the_parts_or_is_refused(recipe: str, images: Path) -> None:
    before, refused = parts_of(images), set[str]()
    run = getattr(module.design_of("smoke"), recipe)
    for name, kind, is_operational in fields_of(run):
        if is_operational or name in NOT_ALONE or (recipe == "finetune" and name in NOT_OF_DIGITS):
            continue
        for overrides in alternatives(run, name, kind):
            after = parts_of(images, [f"{recipe}.{override}" for override in overrides])
            if isinstance(after, str):
                assert after.startswith(f"{recipe}.{overrides[0]} does nothing: ")
                refused.add(name)
            else:
                assert after != before, f"{recipe}.{name} does nothing and is not refused"
    untouched = {name for name, _, is_operational in fields_of(run) if is_operational}
    assert refused >= {*SET_BY_THE_STUDY} - untouched - {"data"}
    starts = {"mae": {"reset_final_norm"}, "wsp": set[str](), "finetune": {"objective.init"}}
    assert refused & {"reset_final_norm", "objective.init"} == starts[recipe]
    for name in SET_BY_THE_STUDY:
        override = f"{recipe}.{name}={'1' if name == 'seed' else '1,1,1'}"
        assert re.match(rf"{override} does nothing: .*;", str(parts_of(images, [override])))


@pytest.mark.usefixtures("small")
def test_the_fields_of_the_design(images: Path) -> None:
    before = parts_of(images)
    assert parts_of(images, ["shots=1,2"]) != before
    grey = ("channels=1", "mean=0.5", "std=0.5")
    in_grey = parts_of(images, [f"{recipe}.objective.encoder.{override}" for recipe in RECIPES for override in grey])
    assert isinstance(in_grey, list)
    assert in_grey != before
    assert parts_of(images, ["seeds=1,2"]) == parts_of(images, seeds=(1, 2)) != before
    for override, given, reason in (
        ("seeds=1,2", {"seeds": (3,)}, "--seeds 3 is given"),
        ("images=openmoji", {}, "--images .* is trained on"),
        ("transfer=digits", {}, "--images .* is measured on its own classes"),
        ("mae_seconds=0.1", {}, "no arm of this size is as long as another in time"),
    ):
        assert re.match(f"{override} does nothing: {reason}", str(parts_of(images, [override], **given)))
    assert "needs 100,000: " in str(parts_of(images, ["fewest_images=100_000"]))
    tried = {*RECIPES, "images", "transfer", "arms", "shots", "seeds", "mae_seconds", "fewest_images"}
    assert {field.name for field in dataclasses.fields(Design)} == tried


def test_the_whole_study_has_the_words_of_the_tags_where_wsp_has_them(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[StudyImages] = []

    def keep(*names: str, **given: Any) -> StudyImages:
        opened.append(study_images(*names, **given))
        return opened[-1]

    monkeypatch.setattr(module, "study_images", keep)
    study = stages(size="smoke", images=str(images), overrides=["wsp.data.tag_rules=words"])
    (wsp,) = [part for part in study.parts if part.name == "wsp-seed0"]
    assert isinstance(wsp, TrainPart)
    words = {tag for tags in open_source(str(images), tag_rules="words").tags for tag in tags}
    assert set(wsp.data_info.labels) <= words
    assert {tag for tags in opened[0].source.tags for tag in tags} == words
    assert words != {tag for tags in open_source(str(images)).tags for tag in tags}
    with pytest.raises(ValueError, match=r"'openmoji' is a collection, whose labels are made already"):
        stages(size="smoke", overrides=["wsp.data.tag_rules=words"])


def test_wsp_of_images_without_tags(images: Path, tmp_path: Path) -> None:
    untagged = Path(shutil.copytree(images, tmp_path / "untagged"))
    (untagged / "tags.csv").unlink()
    with pytest.raises(ValueError, match=r"wsp\.optim\.clip=1 does nothing: the images have no tags"):
        stages(size="smoke", images=str(untagged), overrides=["wsp.optim.clip=1"])


def test_a_study_goes_on_where_its_images_have_moved_to(images: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(images, tmp_path / "mount" / "images"))
    for number, source in enumerate((images, moved)):
        study = stages(size="smoke", images=str(source))
        claim(study, tmp_path / "study")
        assert str(images) not in (tmp_path / "study" / "study.json").read_text(), number
    written = tmp_path / "study" / "study.json"
    older = json.loads(written.read_text())
    older["settings"]["images"] = str(images)  # as older releases wrote it
    written.write_text(json.dumps(older))
    claim(stages(size="smoke", images=str(moved)), tmp_path / "study")
    (moved / "000.jpg").unlink()
    with pytest.raises(ValueError, match="holds a study with data="):
        claim(stages(size="smoke", images=str(moved)), tmp_path / "study")
    with pytest.raises(ValueError, match="holds a study with images='images', not 'renamed'"):
        claim(stages(size="smoke", images=str(images.rename(images.with_name("renamed")))), tmp_path / "study")
