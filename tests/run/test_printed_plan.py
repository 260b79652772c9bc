"""A printed plan is read back unchanged as the same run, and with other values as another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.small_runs import mae_run
from underpaint import recipes
from underpaint.cli.main import main
from underpaint.one_run import plan_run
from underpaint.printed_plan import read_plan
from underpaint.run import execute


def write_plan(folder: Path, recipe: str, *overrides: str, **values: Any) -> Path:
    """The file of a plan, with other values for dotted fields (``optim__base_lr``)."""
    plan: Any = plan_run(recipe, overrides)
    for name, value in values.items():
        *groups, last = name.split("__")
        group = plan["run"]
        for each in groups:
            group = group[each]
        group[last] = value
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    return file


@pytest.mark.parametrize("recipe", [recipes.published_name(name) for name in recipes.__all__])
def test_every_recipe_comes_back(recipe: str, tmp_path: Path) -> None:
    assert read_plan(write_plan(tmp_path, recipe)) == (recipe, [])


OVERRIDES = [
    "objective.encoder.size=64,64",
    "spike_factor=3",
    "optim.clip=inf",
    "cadence.save_at=640,1280",
    "data=./some, photos",
    "data.lanes.count=4",
    "schedule.kind=wsd",
    "budget.epochs=2",
]


def test_a_plan_as_it_is_printed_gives_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mae_smoke", *OVERRIDES, "--plan"]) == 0
    (tmp_path / "plan.json").write_text(printed := capsys.readouterr().out)
    assert main(["train", "--config", str(tmp_path / "plan.json"), "--plan"]) == 0
    assert capsys.readouterr().out == printed
    assert main(["train", "--config", str(tmp_path / "plan.json"), "seed=3", "--plan", "threads=2"]) == 0
    changed = json.loads(capsys.readouterr().out)["run"]
    assert (changed["seed"], changed["threads"], changed["budget"]["epochs"]) == (3, 2, 2)


def test_a_changed_value_and_a_field_that_is_left_out(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, "mae_smoke", "data.views=2", optim__base_lr=0.5)
    content = json.loads(plan.read_text())
    del content["run"]["data"]["views"], content["run"]["seed"], content["run"]["cadence"]
    plan.write_text(json.dumps(content))
    assert read_plan(plan) == ("mae_smoke", ["optim.base_lr=0.5"])


def test_the_shape_of_a_start_is_no_change(images: Path, tmp_path: Path) -> None:
    execute(mae_run(images, steps=2), tmp_path / "mae")
    start = f"init_from={tmp_path / 'mae'}"
    plan = write_plan(tmp_path, "finetune_in1k_vit_b16", start)
    assert read_plan(plan) == ("finetune_in1k_vit_b16", [start])
    plan = write_plan(tmp_path, "finetune_in1k_vit_b16", start, objective__encoder__width=48)
    assert read_plan(plan) == ("finetune_in1k_vit_b16", [start]), "what the start brings, its shape too, is the start's"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim__base_lr": "fast"}, "optim.base_lr='fast' is not a number"),
        ({"optim__base_rate": 1.0}, "unknown field 'optim.base_rate'"),
        ({"schedule__cooldown": 0.5}, "schedule.cooldown=0.5 does nothing"),
        ({"seed": {"a": 1}}, "seed={'a': 1} must be a text, a number"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_the_file(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"plan\.json: ") as error:
        read_plan(write_plan(tmp_path, "mae_smoke", **values))
    assert message in str(error.value)


def test_what_is_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in ("[]", "{}", json.dumps({"recipe": "mae_smoke"})):
        (tmp_path / "plan.json").write_text(content)
        with pytest.raises(ValueError, match="has no recipe and run; print such a file with"):
            read_plan(tmp_path / "plan.json")
    with pytest.raises(ValueError, match="is not a file"):
        read_plan(tmp_path)
    for words in ([], ["mae_smoke", "--config", "plan.json"]):
        assert main(["train", *words]) == 2
        assert "train needs a RECIPE, or a --config FILE that --plan printed" in capsys.readouterr().err
