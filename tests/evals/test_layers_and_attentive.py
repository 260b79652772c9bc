"""Probes of every layer, and of patch tokens by attention, from images on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.colour_images import BROKEN
from underpaint.data.loader import read_images
from underpaint.data.source import Source
from underpaint.evals.attentive import Attentive
from underpaint.evals.engine import Engine
from underpaint.evals.features import TaskFeatures, extract_task
from underpaint.evals.layers import AllLayers, Layers, layers_of
from underpaint.evals.linear import Linear
from underpaint.evals.linear_sgd import LinearSGD
from underpaint.evals.lowshot_linear import LowShotLinear
from underpaint.evals.lowshot_vpt import LowShotVPT
from underpaint.evals.view import evaluation_input
from underpaint.models.vit import ViT

CPU = torch.device("cpu")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_features_of_each_layer_are_what_its_block_gives(source: Source, encoder: ViT, pooling: str) -> None:
    given: list[Tensor] = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda module, inputs, output: given.append(output))
    format = evaluation_input(encoder.config.image_input, "published")
    rows = [row for row in source.rows("train") if source.path[row] != BROKEN[1]]
    image, _ = read_images(source, rows, format=format)
    with torch.no_grad():
        encoder(image)
        expected = [encoder.norm(tokens) for tokens in given]
    features = [tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1) for tokens in expected]
    wide = extract_task(
        AllLayers(encoder),
        source,
        pooling=pooling,
        view="published",
        batch_size=64,
        engine=Engine(device=CPU),  # type: ignore[arg-type]
    )
    layers = layers_of(wide, 2)
    assert len(layers) == 2
    for layer, feature in zip(layers, features, strict=True):
        torch.testing.assert_close(layer.train.x, feature, rtol=1e-4, atol=1e-5)
    last = extract_task(encoder, source, pooling=pooling, view="published", batch_size=64, engine=Engine(device=CPU))  # type: ignore[arg-type]
    torch.testing.assert_close(layers[-1].test.x, last.test.x)


def test_the_layer_is_chosen_by_held_out_training_images(source: Source, encoder: ViT) -> None:
    wide = extract_task(
        AllLayers(encoder), source, pooling="cls", view="published", batch_size=64, engine=Engine(device=CPU)
    )
    noise = torch.Generator().manual_seed(0)

    def blurred(task: TaskFeatures, *, test: bool) -> TaskFeatures:
        half = task.test if test else task.train
        half = replace(half, x=torch.randn(half.x.shape, generator=noise))
        return replace(task, test=half) if test else replace(task, train=half)

    first, last = layers_of(wide, 2)
    for bad, layer in ((0, 2.0), (1, 1.0)):
        parts = [blurred(first, test=False), last] if bad == 0 else [first, blurred(last, test=False)]
        assert Layers(dataset="colours").best(parts, seed=0).settings["layer"] == layer
    misled = Layers(dataset="colours").best([first, blurred(last, test=True)], seed=0)
    clean = Layers(dataset="colours").best([first, last], seed=0)
    assert misled.settings["layer"] == clean.settings["layer"], "test images chose the layer"
    (score,) = Layers(dataset="colours")(encoder, source=source, device=CPU, seed=0)
    chosen = layers_of(wide, 2)[int(score.settings["layer"]) - 1]
    (alone,) = Linear(dataset="colours").score(chosen, seed=0)
    assert score.correct == alone.correct
    assert score.protocol == "layers"
    assert score.view == "crop@8/9"
    tuned = [score.settings[f"tuning_top1 of layer {layer}"] for layer in (1, 2)]
    assert score.settings["tuning_top1"] == max(tuned)


CHOOSING: list[Any] = [
    Linear(dataset="colours"),
    Layers(dataset="colours"),
    LinearSGD(dataset="colours", epochs=2),
    Attentive(dataset="colours", epochs=2, queries=4),
    LowShotLinear(dataset="colours", shots=3, splits=1, epochs=2, base_lr=(0.1, 1.0, 10.0)),
    LowShotVPT(dataset="colours", shots=3, splits=1, epochs=1, base_lr=(0.01, 0.1)),
]


@pytest.mark.parametrize("probe", CHOOSING, ids=lambda probe: type(probe).__name__)
def test_wrong_classes_of_test_images_change_no_choice(source: Source, encoder: ViT, probe: Any) -> None:
    after = {"blue": "green", "green": "red", "red": "blue"}
    tested = set(source.rows("test"))
    label = tuple(after[name] if row in tested else name for row, name in enumerate(source.label))
    right, wrong = (
        probe(encoder, source=each, device=CPU, seed=0)[0] for each in (source, replace(source, label=label))
    )
    of_training = {name: value for name, value in right.settings.items() if name != "selection_bonus"}
    assert of_training.keys() & {"l2", "base_lr"}
    assert {name: wrong.settings[name] for name in of_training} == of_training
    assert wrong.training == right.training


@pytest.mark.parametrize("probe", CHOOSING[:4], ids=lambda probe: type(probe).__name__)
def test_one_image_a_class_is_refused_before_any_is_read(source: Source, probe: Any) -> None:
    kept = {source.label.index(name) for name in set(source.label)}
    splits = tuple(each if row in kept or each == ("test",) else () for row, each in enumerate(source.splits))
    few = replace(source, splits=splits)
    assert len(few.rows("train")) == 3
    with pytest.raises(ValueError, match="3 unrelated images in 3 classes are too few to spare any: label two or more"):
        probe.check(few)
    probe.check(source)
    for one_rate in (LinearSGD(dataset="x", base_lr=(1.0,)), Attentive(dataset="x", base_lr=(1.0,))):
        assert one_rate.check(few) == []


@pytest.mark.slow
def test_the_attentive_probe_reads_patch_tokens_alone(source: Source, encoder: ViT, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    probe = Attentive(dataset="colours", queries=4, epochs=90, base_lr=(30.0, 100.0), scratch=str(scratch))
    (score,) = probe(encoder, source=source, device=CPU, seed=0)
    tested = tuple(source.path[row] for row in source.rows("test"))
    assert score.image == tested
    assert score.correct[tested.index(BROKEN[0])] == 0
    assert score.value > 0.6
    assert score.remarks == (
        f"1 of 24 train images could not be read: '{BROKEN[1]}'",
        f"1 of 12 test images could not be read and count as wrong: '{BROKEN[0]}'",
    )
    assert not list(scratch.iterdir()), "the tokens were not deleted"

    class OtherCls(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit, self.config = encoder, encoder.config

        def forward(self, image: Tensor) -> Tensor:
            tokens = self.vit(image)
            return torch.cat([torch.full_like(tokens[:, :1], 1000.0), tokens[:, 1:]], dim=1)

    assert probe(OtherCls(), source=source, device=CPU, seed=0) == [score]


def test_tokens_that_do_not_fit_the_disk_are_refused(
    source: Source, encoder: ViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=r"patch tokens of 36 images need .* GiB of disk.*scratch=DIR"):
        Attentive(dataset="colours", queries=4)(encoder, source=source, device=CPU, seed=0)


def test_tokens_too_large_for_float16_are_refused(source: Source, encoder: ViT) -> None:
    with torch.no_grad():
        encoder.norm.weight.mul_(1e6)
    with pytest.raises(ValueError, match="too large for float16"):
        Attentive(dataset="colours", queries=4)(encoder, source=source, device=CPU, seed=0)


def test_a_task_too_large_for_the_exact_solver_is_refused_before_anything_is_computed(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("underpaint.evals.linear.LARGEST", 71)
    with pytest.raises(ValueError, match="24 training images of 3 classes; take linear_sgd"):
        Linear(dataset="colours").check(source)
    with pytest.raises(ValueError, match="take linear_sgd"):
        Layers(dataset="colours").check(source)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Attentive, {"queries": 0}, "queries=0"),
        (Attentive, {"base_lr": ()}, "base_lr is empty"),
        (Attentive, {"tuning_share": 0.0}, "tuning_share=0.0"),
        (Layers, {"l2": ()}, "from the strongest"),
    ],
)
def test_wrong_values_are_named(kind: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(dataset="colours", **options)
