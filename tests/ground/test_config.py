"""Overrides from the command line and the record of a configuration."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from underpaint import config, recipes
from underpaint.config import OPERATIONAL
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.classify_clips import ClassifyClipsConfig
from underpaint.objectives.detect import DetectConfig
from underpaint.objectives.lit import LitConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.studies.transfer_designs import PROTOCOLS, transfer_design_of
from underpaint.training.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    names: tuple[str, ...] = ()
    low: int = 0
    high: int = 10

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "x"
    count: int = 1
    on: bool = False
    kind: Literal["cosine", "wsd"] = "cosine"
    folder: Path = Path("a")
    inner: Inner = field(default_factory=Inner)
    workers: int = field(default=0, metadata=OPERATIONAL)


@pytest.mark.parametrize(
    ("assignment", "name", "expected"),
    [
        ("name=a=b", "name", "a=b"),
        ("name=", "name", ""),
        ("count=-3", "count", -3),
        ("count=5e9", "count", 5_000_000_000),
        ("count=1_000_000", "count", 1_000_000),
        ("on=true", "on", True),
        ("on=False", "on", False),
        ("kind=wsd", "kind", "wsd"),
        ("folder=/data/images", "folder", Path("/data/images")),
        ("inner.rate=1e-3", "inner.rate", 0.001),
        ("inner.rate=inf", "inner.rate", math.inf),
        ("inner.betas=0.9,0.999", "inner.betas", (0.9, 0.999)),
        ("inner.betas=(0.9, 0.999)", "inner.betas", (0.9, 0.999)),
        ("inner.names=a", "inner.names", ("a",)),
        ("inner.names=a,b , c", "inner.names", ("a", "b", "c")),
        ("inner.names=", "inner.names", ()),
    ],
)
def test_override_takes_every_type(assignment: str, name: str, expected: Any) -> None:
    start = Outer()
    value: Any = config.override(start, [assignment])
    for part in name.split("."):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)
    assert start == Outer(), "the original is never touched"


def test_overrides_apply_all_at_once() -> None:
    changed = config.override(Outer(), ["inner.low=20", "count=2", "inner.high=30", "count=3"])
    assert changed == Outer(count=3, inner=Inner(low=20, high=30))
    with pytest.raises(ValueError, match="low=20 must be below high=10"):
        config.override(Outer(), ["inner.low=20"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("cuont=3", r"unknown field 'cuont'; did you mean count\?"),
        ("inner.rte=3", r"unknown field 'inner\.rte'; did you mean inner\.rate\?"),
        ("iner.rate=3", r"unknown field 'iner\.rate'; did you mean inner\.rate\?"),
        ("zzzzzz=3", r"unknown field 'zzzzzz'; known are name, count, on, kind, folder, inner, workers"),
        ("count.x=3", r"unknown field 'count\.x': count is a single value"),
        ("inner=3", r"inner is a group of fields; set one of them: inner\.rate, inner\.betas, inner\.names"),
        ("count=2.5", r"count='2\.5' is not a whole number"),
        ("count=many", r"count='many' is not a whole number"),
        ("count=inf", r"count='inf' is not a whole number"),
        ("on=1", r"on='1' is not true or false"),
        ("kind=linear", r"kind='linear' is not one of cosine, wsd"),
        ("inner.rate=fast", r"inner\.rate='fast' is not a number"),
        ("inner.rate=nan", r"inner\.rate='nan' is not a number"),
        ("inner.betas=0.9", r"inner\.betas='0\.9' is not a list such as 1,2 \(a number, a number\)"),
        ("inner.betas=0.9,x", r"inner\.betas='0\.9,x' is not a list"),
        ("count", r"'count' is not an override; write field=value"),
        ("=3", r"'=3' is not an override"),
    ],
)
def test_override_refuses_with_a_hint(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.override(Outer(), [assignment])


@pytest.mark.parametrize(
    ("word", "meant"),
    [("vpt", r"; did you mean lowshot_vpt\?"), ("kn", r"; did you mean knn\?"), ("zzz", "$")],
)
def test_a_wrong_word_of_a_list_is_named_with_the_nearest_and_the_valid_ones(word: str, meant: str) -> None:
    design = transfer_design_of("smoke")
    assert config.override(design, ["protocols=linear,knn"]).protocols == ("linear", "knn")
    with pytest.raises(ValueError, match=rf"^protocols='{word}' is not one of {', '.join(PROTOCOLS)}{meant}"):
        config.override(design, [f"protocols=linear,{word}"])


def test_a_field_that_no_text_can_fill_says_so() -> None:
    with pytest.raises(ValueError, match="evals='x' is not settable from the command line"):
        config.override(recipes.mae_smoke(), ["evals=x"])


@pytest.mark.parametrize("name", recipes.__all__)
def test_the_record_of_every_recipe_is_json_and_gives_the_objective_back(name: str) -> None:
    run = recipes.find_recipe(recipes.published_name(name))()
    recorded = json.loads(json.dumps(config.record(run), allow_nan=False))
    kinds = {kind.__name__: kind for kind in (MAEConfig, ClassifyConfig, ClassifyClipsConfig, LitConfig, DetectConfig)}
    kind = kinds[recorded["objective"]["type"]]
    assert config.from_record(kind, recorded["objective"], where="run.json") == run.objective
    assert config.from_record(OptimConfig, recorded["optim"], where="run.json") == run.optim


def test_identity_leaves_operation_out() -> None:
    start = Outer()
    assert config.record(start, identity_only=True) == config.record(replace(start, workers=8), identity_only=True)
    assert "workers" in config.record(start)
    assert config.record(start, identity_only=True) != config.record(replace(start, on=True), identity_only=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": None}, r"here: ViTConfig has missing or unknown fields: width"),
        ({"more": 1}, r"here: ViTConfig has missing or unknown fields: more"),
        ({"width": "768"}, r"here: width='768' is not a whole number"),
        ({"width": 768.0}, r"here: width=768\.0 is not a whole number"),
        ({"width": True}, r"here: width=True is not a whole number"),
        ({"size": [224]}, r"here: size=\[224\] is not a list"),
        ({"size": 224}, r"here: size=224 is not a list"),
        ({"size": [224, "224"]}, r"here: size='224' is not a whole number"),
        ({"positions": "rope"}, r"here: positions='rope' is not one of sincos"),
        ({"mean": [0.5, 0.5, "half"]}, r"here: mean='half' is not a number"),
        ({"final_norm": 1}, r"here: final_norm=1 is not true or false"),
        ({"patch": 15}, r"is not divisible by patch=15"),
    ],
)
def test_from_record_names_what_is_wrong(change: dict[str, Any], message: str) -> None:
    recorded = {**config.record(ViTConfig()), **change}
    recorded = {name: value for name, value in recorded.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        config.from_record(ViTConfig, recorded, where="here")


def test_infinities_survive_the_record() -> None:
    value = Inner(rate=math.inf)
    text = json.dumps(config.record(value), allow_nan=False)
    assert config.from_record(Inner, json.loads(text), where="x") == value


def test_differences_names_leaves() -> None:
    old, new = config.record(Outer()), config.record(Outer(count=2, inner=Inner(betas=(0.9, 0.999))))
    assert list(config.differences(old, new)) == [("count", 1, 2), ("inner.betas", [0.9, 0.95], [0.9, 0.999])]
    assert list(config.differences(old, old)) == []
    assert list(config.differences({"a": 1}, {"b": 2})) == [("a", 1, None), ("b", None, 2)]


@dataclass(frozen=True, kw_only=True)
class Images:
    source: str = field(metadata=config.SHORT)
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class WithImages:
    data: Images
    inner: Inner = field(default_factory=Inner)


def test_a_group_may_be_set_by_its_short_field() -> None:
    before = WithImages(data=Images(source="a"))
    both = config.override(before, ["data=./set", "data.share=0.5"])
    assert both.data == Images(source="./set", share=0.5)
    with pytest.raises(ValueError, match="inner is a group of fields"):
        config.override(before, ["inner=./set"])


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        ("optim.base_lr=1e-3", ("optim.base_lr=1e-3",)),
        (["a=1", "b=2"], ("a=1", "b=2")),
        ({"optim.base_lr": 1e-3, "data": Path("photos")}, ("optim.base_lr=0.001", "data=photos")),
        ({"size": (48, 32), "on": True, "name": "x"}, ("size=48,32", "on=true", "name=x")),
        ({}, ()),
    ],
)
def test_overrides_in_python_are_those_of_the_command_line(written: Any, texts: tuple[str, ...]) -> None:
    assert config.assignments(written) == texts


def test_an_override_that_no_field_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optim=\{'base_lr': 1\} must be a text, a number"):
        config.assignments({"optim": {"base_lr": 1}})
