"""What an evaluation shows of each image, against torchvision; and that every score names it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from support.image_files import noise
from underpaint.core import EvaluationView, ImageInput
from underpaint.data.decode.transforms import eval_view
from underpaint.data.source import Record, Source, Split, make_source
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.engine import Engine
from underpaint.evals.features import extract_task
from underpaint.evals.knn import Knn
from underpaint.evals.linear import Linear
from underpaint.evals.lowshot import LowShot
from underpaint.evals.score import Score
from underpaint.evals.tags import TagRecall
from underpaint.evals.transfer import transfer
from underpaint.evals.view import ViewSetting, evaluation_input
from underpaint.models.vit import ViTConfig

CPU = torch.device("cpu")
CONFIG = ViTConfig(
    size=(28, 28), patch=4, width=12, depth=1, heads=1, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), view="stretch"
)
OBLONG, SQUARE = (50, 80), (60, 60)


class Pixels(nn.Module):
    """The cls token is the image itself, flat: features say what was shown."""

    def __init__(self, config: ViTConfig = CONFIG) -> None:
        super().__init__()
        self.config = config

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1)[:, None]


class Brightness(nn.Module):
    """A classifier of the classes and tags of ``make_images``."""

    labels = ("0", "1", "2")

    def __init__(self, format: ImageInput = CONFIG.image_input) -> None:
        super().__init__()
        self.image_input = format

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(dim=(2, 3))


def make_images(folder: Path, size: tuple[int, int]) -> Source:
    folder.mkdir()
    records: list[Record] = []
    for number in range(30):
        name, splits = f"{number:02d}.png", (["train", "test", "heldout"][number % 3],)
        label: list[Split] = list(splits)  # pyright: ignore[reportAssignmentType]
        Image.fromarray(noise(number, size)).save(folder / name)
        kind = str(number // 3 % 3)
        records.append(Record(path=name, tags=(kind,), label=kind, family=name, splits=tuple(label), flip=True))
    return make_source("noise", folder, records=records, problems=(), licence="", attribution="")


def published(pixels: torch.Tensor) -> torch.Tensor:
    """Resize the short side to 256/224 of the size, cut out the centre, as the code of MAE, MSN and DINO does."""
    crop = v2.Compose([v2.Resize(32, interpolation=v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(28)])
    return crop(pixels.float() / 255).clamp(0, 1)


def pixels_of(source: Source, row: int) -> torch.Tensor:
    return torch.from_numpy(noise(int(source.path[row][:2]), OBLONG)).permute(2, 0, 1)


@pytest.mark.parametrize("view", ["crop", "crop_oblong"])
def test_oblong_images_are_seen_as_the_published_protocols_see_them(tmp_path: Path, view: ViewSetting) -> None:
    source = make_images(tmp_path / "images", OBLONG)
    task = extract_task(Pixels(), source, pooling="cls", view=view, batch_size=4, engine=Engine(device=CPU))
    expected = torch.stack([published(pixels_of(source, row)).flatten() for row in source.rows("test")])
    torch.testing.assert_close(task.test.x, expected, atol=2e-6, rtol=0)
    assert task.view == f"{view}@28/32"


@pytest.mark.parametrize(("shape", "size"), [(SQUARE, (28, 28)), ((30, 45), (16, 24))])
def test_images_of_the_encoders_shape_are_seen_whole(shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = torch.from_numpy(noise(1, shape)).permute(2, 0, 1)
    assert torch.equal(eval_view(image, size=size, view="crop_oblong", crop_share=0.875), eval_view(image, size=size))
    assert not torch.equal(eval_view(image, size=size, view="crop", crop_share=0.875), eval_view(image, size=size))


def test_scores_on_square_images_are_what_they_were(tmp_path: Path) -> None:
    """Before the view was a setting every encoder of one's own saw stretched images."""
    source = make_images(tmp_path / "square", SQUARE)
    for protocol in (Linear(dataset="noise"), LowShot(dataset="noise", shots=2), Knn(dataset="noise")):
        before = transfer(Pixels(), source, protocols=[replace(protocol, view="stretch")], seed=0, device=CPU)
        now = transfer(Pixels(), source, protocols=[replace(protocol, view="crop_oblong")], seed=0, device=CPU)
        assert {score.view for score in now} == {"crop_oblong@28/32"}
        assert [replace(score, view="stretch@28") for score in now] == before


@pytest.mark.parametrize(("thin", "kept"), [((2, 60_000), (2, 400)), ((60_000, 3), (600, 3))])
def test_a_very_thin_image_takes_little_memory(thin: tuple[int, int], kept: tuple[int, int]) -> None:
    """Enlarged whole to 256 by 7.7 million pixels it would take 23 GB; its middle is the same view."""
    image = torch.from_numpy(noise(1, thin)).permute(2, 0, 1)
    top, left = ((side - middle) // 2 for side, middle in zip(thin, kept, strict=True))
    middle = image[:, top : top + kept[0], left : left + kept[1]]
    seen = eval_view(image, size=(224, 224), view="crop_oblong", crop_share=0.875)
    torch.testing.assert_close(seen, eval_view(middle, size=(224, 224), view="crop", crop_share=0.875))
    assert float(seen.std()) > 0.1


@pytest.mark.parametrize(
    ("encoder", "setting", "view", "share"),
    [
        ({}, "crop_oblong", "crop_oblong", 0.875),
        ({}, "crop", "crop", 0.875),
        ({}, "stretch", "stretch", 1.0),
        ({}, "encoder", "stretch", 1.0),
        ({"view": "crop", "crop_share": 0.9}, "crop_oblong", "crop", 0.9),  # as it was made for
        ({"view": "crop", "crop_share": 0.9}, "encoder", "crop", 0.9),
        ({"view": "crop", "crop_share": 0.9}, "crop", "crop", 0.875),
        ({"view": "crop", "crop_share": 0.9}, "stretch", "stretch", 1.0),
        ({"size": (256, 256)}, "crop_oblong", "crop_oblong", 1.0),  # MAE's code above 224
        ({"size": (224, 224)}, "crop", "crop", 0.875),
    ],
)
def test_the_view_of_an_encoder(
    encoder: dict[str, object], setting: ViewSetting, view: EvaluationView, share: float
) -> None:
    format = replace(CONFIG.image_input, **encoder)
    assert evaluation_input(format, setting) == replace(format, view=view, crop_share=share)


def test_every_score_names_its_view(tmp_path: Path) -> None:
    source = make_images(tmp_path / "images", OBLONG)
    views: dict[str, set[str]] = {}
    for protocol in (Linear(dataset="noise"), LowShot(dataset="noise", shots=2), Knn(dataset="noise", view="stretch")):
        for score in protocol(Pixels(), source=source, device=CPU, seed=0):
            views.setdefault(score.protocol, set()).add(score.row().get("view", ""))
    cropped = Brightness(evaluation_input(CONFIG.image_input, "crop"))
    for classifier, evaluation in (
        (Brightness(), Accuracy(dataset="noise")),
        (cropped, TagRecall(dataset="noise", top=1)),
    ):
        for score in evaluation(classifier, source=source, device=CPU, seed=0):
            views.setdefault(score.protocol, set()).add(score.row().get("view", ""))
    assert views == {
        "linear": {"crop@28/32"},
        "lowshot": {"crop@28/32"},
        "knn": {"stretch@28"},
        "finetune": {"stretch@28"},
        "tags": {"crop@28/32"},
    }


def test_a_classifier_is_shown_the_view_that_is_asked_for(tmp_path: Path) -> None:
    source = make_images(tmp_path / "images", OBLONG)
    pixels = [published(pixels_of(source, row)) for row in source.rows("test")]
    expected = [
        float(image.mean(dim=(1, 2)).argmax()) == int(source.label[row])
        for image, row in zip(pixels, source.rows("test"), strict=True)
    ]
    (score,) = Accuracy(dataset="noise", view="crop")(Brightness(), source=source, device=CPU, seed=0)
    assert score.correct == tuple(map(float, expected))


def test_a_score_of_an_older_release_has_no_view() -> None:
    score = Score(dataset="d", protocol="knn", correct=(1.0,), image=("a",), family=("a",), settings={}, remarks=())
    older = {name: value for name, value in score.record().items() if name != "view"}
    assert Score.from_record(older) == score
    assert score.row().get("view") == ""
