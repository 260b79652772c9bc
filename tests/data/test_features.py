"""Cached image features: the batches of the stream of images, the store's files, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from support.small_runs import make_images
from underpaint.core import FeatureInput, ImageInput, Inputs, TextInput
from underpaint.data.captions.caption_data import CaptionData, OpenCaptions
from underpaint.data.feature_store import FeatureMaker
from underpaint.data.stream import Batching

IMAGE = ImageInput(size=(8, 8), channels=3, value_range=(0, 255), mean=(0.5,) * 3, std=(0.5,) * 3)
TEXT = TextInput(tokens=12, vocabulary=60)
INPUTS: Inputs = {"feature": FeatureInput(width=3, image=IMAGE), "text": TEXT}


class Counted:
    """An encoder that gives the mean of each channel, and counts its images."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        self.images += len(image)
        return image.mean(dim=(2, 3))

    def maker(self, encoder_hash: str = "first") -> FeatureMaker:
        return FeatureMaker(encode=self, encoder_hash=encoder_hash, image=IMAGE, width=3)


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenCaptions:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    images = make_images(tmp_path / "images", count=40)
    for name in ("a/001.png", "a/002.png", "a/004.png", "a/005.png"):
        (images / name).write_bytes(b"broken " + name.encode())
    data = CaptionData(source=str(images), max_bad=0.5)
    return data.open().for_inputs(INPUTS)


def first_batches(pairs: OpenCaptions, inputs: Inputs, folder: Path, count: int = 6) -> list[dict[str, Any]]:
    stream = pairs.stream(inputs, Batching(batch_size=8, microbatch=4), seed=3, quarantine=folder / "bad.jsonl")
    iterator: Any = iter(stream)
    return [dict(next(iterator)) for _ in range(count)]


def test_the_stream_is_that_of_images(pairs: OpenCaptions, tmp_path: Path) -> None:
    """With crops of the whole area, whose channels have almost the same mean, mirrored or not."""
    encoder = Counted()
    cached = first_batches(pairs.with_features(encoder.maker()), INPUTS, tmp_path, count=12)
    whole = replace(pairs, dataset=replace(pairs.dataset, config=replace(pairs.dataset.config, scale=(1.0, 1.0))))
    plain = first_batches(whole, {"image": IMAGE, "text": TEXT}, tmp_path, count=12)
    bad = 0
    for mine, theirs in zip(cached, plain, strict=True):
        for name in ("text", "position", "weight"):
            assert torch.equal(mine[name], theirs[name]), name
        expected = theirs["image"].mean(dim=(2, 3)) * theirs["weight"][:, None]
        # a random crop of the whole area may still have another shape
        assert (mine["feature"] - expected).abs().max() < 0.25
        bad += int((mine["weight"] == 0).sum())
    assert bad, "the broken image is drawn, with weight 0"
    assert "a/00" in (tmp_path / "bad.jsonl").read_text()


def test_features_are_those_of_the_evaluation_view(pairs: OpenCaptions) -> None:
    ready = pairs.with_features(Counted().maker())
    assert ready.features is not None
    held = list(ready.heldout(INPUTS, batch_size=4))
    plain = list(pairs.heldout({"image": IMAGE, "text": TEXT}, batch_size=4))
    assert held
    for mine, theirs in zip(held, plain, strict=True):
        assert mine["text"].equal(theirs["text"])
        torch.testing.assert_close(mine["feature"], theirs["image"].mean(dim=(2, 3)) * theirs["weight"][:, None])


def test_an_image_is_encoded_once(pairs: OpenCaptions, tmp_path: Path) -> None:
    first, second, third = Counted(), Counted(), Counted()
    before = pairs.with_features(first.maker())
    assert first.images == 40
    again = pairs.with_features(second.maker())
    assert second.images == 0
    assert before.features is not None
    assert again.features is not None
    assert torch.equal(before.features[0].features.x, again.features[0].features.x)
    for file in sorted((tmp_path / "cache" / "features").rglob("*.safetensors"))[:1]:
        file.unlink()
    pairs.with_features(third.maker())
    assert 0 < third.images < 40, "only the images of the lost file"


def test_features_of_another_encoder_are_refused(pairs: OpenCaptions, tmp_path: Path) -> None:
    maker, other_maker = Counted().maker(), Counted().maker("second")
    pairs.with_features(maker)
    shutil.copytree(maker.folder, other_maker.folder)
    with pytest.raises(ValueError, match="holds features of the encoder first, this one is second; delete the file"):
        pairs.with_features(other_maker)
    file = min(maker.folder.glob("*.safetensors"))
    content = file.read_bytes()
    for damaged in (content[:50], content[:-1], content[:-50] + bytes([content[-50] ^ 1]) + content[-49:], b""):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged; delete it, and its images are encoded again"):
            pairs.with_features(maker)
    views = replace(pairs, dataset=replace(pairs.dataset, config=replace(pairs.dataset.config, views=2)))
    with pytest.raises(ValueError, match=r"data\.views=2: cached features have one view of each image"):
        views.with_features(Counted().maker())


def test_an_image_with_a_space_in_its_name_that_cannot_be_read_leaves_a_sound_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its features are kept by its place, and names are divided by spaces in the files of the store."""
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    images = make_images(tmp_path / "images", count=40)
    for path in sorted((images / "a").iterdir()):
        path.rename(path.with_name(f"one {path.name}"))
    table = images / "tags.csv"
    table.write_text(table.read_text().replace("a/", "a/one "))
    data = CaptionData(source=str(images), max_bad=0.5).open().for_inputs(INPUTS)
    for path in (images / "a").iterdir():
        path.touch()  # so that it is read again for its hash
    real = Path.read_bytes

    def fails(path: Path) -> bytes:
        if path.name.startswith("one "):
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    for encoder in (Counted(), second := Counted()):
        ready = data.with_features(encoder.maker())
        assert ready.features is not None
        assert 0 < int(ready.features[0].features.kept.sum()) < len(ready.features[0].features.kept)
    assert second.images == 0
    monkeypatch.undo()
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    again = data.with_features(Counted().maker())
    assert again.features is not None
    assert again.features[0].features.kept.all(), "read again once the disk is well"


def test_a_full_disk_is_an_error_of_the_machine_and_leaves_no_part(
    pairs: OpenCaptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"a part")
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    maker = Counted().maker()
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        pairs.with_features(maker)
    assert not list(maker.folder.iterdir())
