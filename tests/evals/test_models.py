"""Evaluations from images on: features, transfer, accuracy of a classifier, held-out loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from underpaint.core import Evaluator, Step, weighted_mean
from underpaint.data.loader import read_images
from underpaint.data.source import Record, Source, make_source
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.engine import Engine
from underpaint.evals.features import Features, extract
from underpaint.evals.heldout import HeldoutLoss
from underpaint.evals.knn import Knn
from underpaint.evals.linear import Linear
from underpaint.evals.lowshot import LowShot
from underpaint.evals.transfer import transfer
from underpaint.models.vit import ViTConfig

CPU = torch.device("cpu")
CONFIG = ViTConfig(size=(8, 8), patch=4, width=8, depth=1, heads=1)
COLOURS = {"blue": (30, 40, 220), "green": (30, 220, 40), "red": (220, 30, 40)}


class PatchMeans(nn.Module):
    """Tokens are the mean colour of each patch, after a cls token with that of the image; dropout tells the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.config = CONFIG
        self.frozen = nn.Dropout(0.5).eval()
        self.dropout = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(()))
        self.images = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        self.images += len(image)
        patches = nn.functional.avg_pool2d(image, 4).flatten(2).transpose(1, 2)
        return self.dropout(self.scale * torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1))


class ColourClassifier(nn.Module):
    labels = ("red", "green", "blue")  # another order than the sorted one of the data
    image_input = CONFIG.image_input

    def __init__(self) -> None:
        super().__init__()
        self.encoder = PatchMeans()

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        return self.encoder(image)[:, 0]


def make_images(folder: Path) -> Source:
    """Twelve noisy images of each of three colours, 7 to train on and 5 to test; one test image is broken."""
    records = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        for i in range(12):
            noise = torch.randint(-25, 26, (8, 8, 3), generator=torch.Generator().manual_seed(100 * number + i))
            pixels = (torch.tensor(colour) + noise).clamp(0, 255).to(torch.uint8).numpy()
            path = f"{name}-{i:02d}.png"
            Image.fromarray(pixels).save(folder / path)
            split = "train" if i < 7 else "test"
            records.append(Record(path=path, tags=(), label=name, family=path, splits=(split,), flip=True))
    (folder / "green-11.png").write_bytes(b"no image")
    return make_source("colours", folder, records=records, problems=(), licence="", attribution="")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return make_images(tmp_path)


def features_of(encoder: PatchMeans, source: Source, rows: Sequence[int], pooling: str = "cls") -> Features:
    how: dict[str, Any] = {"format": CONFIG.image_input, "pooling": pooling, "batch_size": 4}
    return extract(encoder, source, rows, **how, engine=Engine(device=CPU))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_features_are_the_pooled_tokens_and_the_modes_come_back(source: Source, pooling: str) -> None:
    encoder = PatchMeans()
    rows = source.rows("test")
    image, weight = read_images(source, rows, format=CONFIG.image_input)
    features = features_of(encoder, source, rows, pooling=pooling)
    expected = image.mean(dim=(2, 3))[weight > 0]
    torch.testing.assert_close(features.x, expected)
    assert torch.equal(features.kept, weight > 0)
    assert int((~features.kept).sum()) == 1
    assert features.x.dtype == torch.float32
    assert not features.x.requires_grad
    assert encoder.training
    assert encoder.dropout.training
    assert not encoder.frozen.training


class NotANumber(PatchMeans):
    """An encoder that has diverged."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) * torch.nan


def test_the_mode_comes_back_after_an_error(source: Source) -> None:
    encoder = NotANumber()
    with pytest.raises(ValueError, match="not finite for 35 of 36 images"):
        features_of(encoder, source, source.rows("train") + source.rows("test"))
    assert encoder.training


def test_no_readable_image_is_an_error(source: Source) -> None:
    broken = source.path.index("green-11.png")
    with pytest.raises(ValueError, match="none of the images"):
        features_of(PatchMeans(), source, [broken])


def test_transfer_reads_each_image_once_and_counts_bad_ones_as_wrong(source: Source) -> None:
    encoder = PatchMeans()
    protocols = [Linear(dataset="colours"), LowShot(dataset="colours", splits=2), Knn(dataset="colours", k=5)]
    scores = transfer(encoder, source, protocols=protocols, seed=0, device=CPU)
    assert encoder.images == 36
    assert [(s.protocol, s.split) for s in scores] == [
        ("linear", "test"),
        ("lowshot", "0"),
        ("lowshot", "1"),
        ("lowshot", "mean"),
        ("knn", "test"),
    ]
    tested = tuple(source.path[row] for row in source.rows("test"))
    for score in scores:
        assert score.image == tested
        assert score.row()["n_test"] == 15
        assert score.correct == tuple(float(path != "green-11.png") for path in tested)
        assert score.dataset == "colours"
        assert score.remarks == ("1 of 15 test images could not be read and count as wrong: 'green-11.png'",)


def test_an_evaluation_called_alone_equals_transfer(source: Source) -> None:
    for protocol in (Linear(dataset="colours"), LowShot(dataset="colours"), Knn(dataset="colours", pooling="mean")):
        alone = protocol(PatchMeans(), source=source, device=CPU, seed=4)
        assert alone == transfer(PatchMeans(), source, protocols=[protocol], seed=4, device=CPU)


def test_the_batch_size_does_not_change_the_verdict(source: Source) -> None:
    first, second = (
        Knn(dataset="colours", k=5, batch_size=size)(PatchMeans(), source=source, device=CPU, seed=0)
        for size in (1, 64)
    )
    assert first == second


def test_a_source_without_classes_is_an_error(source: Source) -> None:
    bare = replace(source, label=("",) * len(source.label))
    with pytest.raises(ValueError, match="labels file"):
        Knn(dataset="colours")(PatchMeans(), source=bare, device=CPU, seed=0)


def test_an_unlabelled_test_image_is_an_error(source: Source) -> None:
    row = source.rows("test")[0]
    label = tuple("" if i == row else name for i, name in enumerate(source.label))
    with pytest.raises(ValueError, match=f"{source.path[row]}.*without a class"):
        Knn(dataset="colours")(PatchMeans(), source=replace(source, label=label), device=CPU, seed=0)


def test_accuracy_matches_classes_by_name(source: Source) -> None:
    classifier = ColourClassifier()
    (score,) = Accuracy(dataset="colours", batch_size=4)(classifier, source=source, device=CPU, seed=0)
    assert score.correct == tuple(float(path != "green-11.png") for path in score.image)
    assert score.row()["protocol"] == "finetune"
    assert score.row()["n_test"] == 15
    assert classifier.encoder.training
    swapped = ColourClassifier()
    swapped.labels = ("green", "red", "blue")
    (score,) = Accuracy(dataset="colours")(swapped, source=source, device=CPU, seed=0)
    assert {path for path, hit in zip(score.image, score.correct, strict=True) if hit} == {
        path for path in score.image if path.startswith("blue")
    }


def test_a_class_that_no_training_image_has_counts_as_wrong(source: Source) -> None:
    row = source.rows("test")[0]
    label = tuple("grey" if i == row else name for i, name in enumerate(source.label))
    odd = replace(source, label=label)
    for evaluation, model, lacks in (
        (Knn(dataset="colours"), PatchMeans(), "no training image has"),
        (Accuracy(dataset="colours"), ColourClassifier(), "the model does not have"),
    ):
        (score,) = evaluation(model, source=odd, device=CPU, seed=0)
        assert score.correct[0] == 0
        assert sum(score.correct) == 13
        assert score.remarks[0] == (
            f"1 of 15 test images have a class that {lacks}, and count as wrong: 'grey' (1 image); correct the labels, "
            f"or train on such images"
        )
    assert Accuracy(dataset="colours").check(odd)[0].startswith("1 of 15 test images have a class that no training")


def test_a_classifier_of_other_classes_is_refused(source: Source) -> None:
    classifier = ColourClassifier()
    classifier.labels = ("cat", "dog", "blue")
    with pytest.raises(ValueError, match=r"no class 'green'.*2 classes of 'colours'"):
        Accuracy(dataset="colours")(classifier, source=source, device=CPU, seed=0)


class Brightness(nn.Module):
    """An objective whose loss of an image is its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(()))

    def blocks(self) -> list[nn.Module]:
        return []

    def layer_of(self, name: str) -> int:
        return 0

    def forward(self, batch: dict[str, torch.Tensor]) -> Step:
        per_image = self.encoder(batch["image"] * self.scale).mean(dim=(1, 2, 3))
        return Step(weighted_mean(per_image, batch["weight"]), {})


def test_heldout_loss_is_the_mean_over_real_images() -> None:
    image = torch.rand(7, 3, 8, 8)
    weight = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    batches = [
        {"image": image[rows], "weight": weight[rows], "position": torch.arange(7)[rows], "labels": torch.zeros(7, 0)}
        for rows in (slice(0, 4), slice(4, 7))
    ]
    evaluator: Evaluator = HeldoutLoss(batches)
    objective = Brightness()
    value = evaluator(objective)
    assert value["heldout_loss"] == pytest.approx(float(image.mean(dim=(1, 2, 3))[weight > 0].mean()), rel=1e-6)
    assert value == evaluator(objective)
    assert objective.training
    assert objective.encoder.training
    assert objective.scale.grad is None


def test_heldout_loss_needs_a_readable_image() -> None:
    with pytest.raises(ValueError, match="held-out"):
        HeldoutLoss([{"image": torch.zeros(1, 3, 8, 8), "weight": torch.zeros(1), "position": torch.zeros(1)}])
