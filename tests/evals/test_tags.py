"""Recall of tags by frequency, against a count by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from underpaint.data.source import Record, Source, make_source
from underpaint.evals.average_precision import TagPrecision
from underpaint.evals.tags import BINS, TagRecall, frequency_bins
from underpaint.models.vit import ViTConfig

TAGS = {"sky": 12, "sea": 6, "boat": 3, "gull": 2, "buoy": 1}
"""Tags and how many of the twelve training images carry each."""


GREYS = {"h0.png": 0, "h1.png": 60, "h2.png": 255, "h3.png": 0, "h4.png": 200}
ENCODER = ViTConfig(size=(4, 4), patch=4, width=8, depth=1, heads=1, mean=(0.0,) * 3, std=(1.0,) * 3)
CPU = torch.device("cpu")


class Grey(nn.Module):
    """Scores the labels by how near the image's grey is to that of each label."""

    labels = tuple(TAGS)

    def __init__(self) -> None:
        super().__init__()
        self.image_input = ENCODER.image_input
        self.levels = nn.Parameter(torch.linspace(0, 1, len(TAGS)))

    def logits(self, image: Tensor) -> Tensor:
        return -(image.mean(dim=(1, 2, 3))[:, None] - self.levels).abs()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    records = []
    for index in range(12):
        tags = tuple(tag for tag, count in TAGS.items() if index < count)
        records.append(("pretrain", f"p{index}.png", tags, 0))
    held = [(("sky", "unheard"), 0), (("sea", "sky"), 60), (("buoy",), 255), (("unheard",), 0), (("gull", "buoy"), 200)]
    records += [("heldout", f"h{index}.png", tags, grey) for index, (tags, grey) in enumerate(held)]
    for _, name, _, grey in records:
        Image.new("RGB", (8, 8), (grey,) * 3).save(tmp_path / name)
    return make_source(
        "coast",
        tmp_path,
        records=[
            Record(path=name, tags=tags, label="", family=name, splits=(split,), flip=False)  # pyright: ignore
            for split, name, tags, _ in records
        ],
        problems=(),
        licence="",
        attribution="",
    )


def test_recall_equals_a_count_by_hand(source: Source) -> None:
    scores = TagRecall(dataset="coast", top=2)(Grey(), source=source, device=CPU, seed=0)
    found = {score.split: dict(zip(score.image, score.correct, strict=True)) for score in scores}
    # 24 occurrences: sky (12) begins at 0, sea at 12, boat at 18, gull at 21, buoy at 23; thirds begin at 8 and 16
    assert set(found) == {"head", "middle", "tail"}
    # grey 0 and 60/255 are nearest to sky and sea; 255 and 200/255 to buoy and gull
    assert found["head"] == {"h0.png": 1.0, "h1.png": 1.0}
    assert found["middle"] == {"h1.png": 1.0}
    assert found["tail"] == {"h2.png": 1.0, "h4.png": 1.0}
    one = TagRecall(dataset="coast", top=1)(Grey(), source=source, device=CPU, seed=0)
    values = {score.split: score.value for score in one}
    assert values == {"head": 1 / 2, "middle": 1.0, "tail": 2 / 3}  # of h4's two tags only gull is nearest
    assert {score.metric for score in one} == {"recall@1"}


def test_the_tags_of_an_unreadable_image_are_missed(source: Source) -> None:
    (source.root / "h2.png").write_bytes(b"no image")
    scores = TagRecall(dataset="coast", top=2)(Grey(), source=source, device=CPU, seed=0)
    tail = next(score for score in scores if score.split == "tail")
    assert dict(zip(tail.image, tail.correct, strict=True)) == {"h2.png": 0.0, "h4.png": 1.0}
    told = "1 of 4 held-out images could not be read and count as wrong: 'h2.png'"
    assert {score.remarks for score in scores} == {(told,)}
    for name in ("h0.png", "h1.png", "h4.png"):
        (source.root / name).write_bytes(b"no image")
    with pytest.raises(ValueError, match="no readable held-out image of 'coast'"):
        TagRecall(dataset="coast", top=2)(Grey(), source=source, device=CPU, seed=0)


def test_as_many_answers_as_labels_say_nothing_and_it_is_told(source: Source) -> None:
    scores = TagRecall(dataset="coast", top=5)(Grey(), source=source, device=CPU, seed=0)
    assert {score.value for score in scores} == {1.0}
    assert {score.remarks for score in scores} == {
        ("top=5 covers all 5 labels: every tag is found, whatever the model",)
    }
    fewer = TagRecall(dataset="coast", top=4)(Grey(), source=source, device=CPU, seed=0)
    assert {score.remarks for score in fewer} == {()}


@torch.no_grad()
def test_the_mean_average_precision_is_scikit_learns(source: Source) -> None:
    (source.root / "h2.png").write_bytes(b"no image")
    (score,) = TagPrecision(dataset="coast", batch_size=2)(Grey(), source=source, device=CPU, seed=0)
    rows = [row for row in source.rows("heldout") if source.path[row] != "h2.png"]
    images = torch.stack([torch.full((3, 4, 4), GREYS[source.path[row]] / 255) for row in rows])
    scores = Grey().logits(images).numpy()
    expected = {}
    for column, tag in enumerate(TAGS):
        positive = [tag in source.tags[row] for row in rows]
        if any(positive):
            expected[tag] = average_precision_score(positive, scores[:, column])
    assert dict(zip(score.image, score.correct, strict=True)) == pytest.approx(expected)
    assert score.chance == pytest.approx(np.mean([np.mean([t in source.tags[r] for r in rows]) for t in expected]))
    assert score.remarks[1] == "1 of 5 held-out images could not be read: 'h2.png'"
    few = TagPrecision(dataset="coast", min_images=2)(Grey(), source=source, device=CPU, seed=0)[0]
    assert few.image == ("buoy", "sky")
    with pytest.raises(ValueError, match="no tag that the model knows stands on 9 or more held-out images of 'coast'"):
        TagPrecision(dataset="coast", min_images=9)(Grey(), source=source, device=CPU, seed=0)


def test_no_known_tag_is_an_error(source: Source) -> None:
    bare = replace(source, tags=((),) * len(source.path))
    with pytest.raises(ValueError, match="has a tag that the model knows"):
        TagRecall(dataset="coast")(Grey(), source=bare, device=CPU, seed=0)


def test_the_bins_hold_a_third_of_the_occurrences_each() -> None:
    count = np.random.default_rng(0).zipf(1.6, size=3000).clip(max=400)
    bins = frequency_bins(count)
    for number in range(len(BINS)):
        assert count[bins == number].sum() == pytest.approx(count.sum() / 3, abs=float(count.max()))
    assert count[bins == 0].min() >= count[bins == 1].max() >= count[bins == 2].max()
