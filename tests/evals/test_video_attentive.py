"""Attentive probe of a frozen encoder on videos: tokens against a plain loop, and a motion that it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support.video_examples import ENCODER, make_videos
from underpaint import verbs
from underpaint.data.video.decoding import open_video
from underpaint.data.video.sampling import crop_of, evaluation_frames
from underpaint.evals.engine import Engine
from underpaint.evals.token_probe import Answers, TokenProbe, Tokens
from underpaint.evals.video_attentive import VideoAttentive
from underpaint.models.attentive_pooling import ClipPooling
from underpaint.models.init import initialise_encoder
from underpaint.models.vit import ViT
from underpaint.models.weights import save_encoder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("videos"), count=20)


@pytest.fixture(scope="module")
def encoder() -> ViT:
    vit = ViT(ENCODER)
    initialise_encoder(vit, scheme="mae", seed=0)
    return vit.eval()


def probe_of(folder: Path, **changed: Any) -> VideoAttentive:
    plain = VideoAttentive(dataset=str(folder / "train.csv"), frames=4, queries=4, blocks=1)
    return replace(plain, **({"test": str(folder / "val.csv")} | changed))


def test_tokens_are_those_of_each_frame(folder: Path, encoder: ViT, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame by frame by hand; a video that cannot be read is wrong, and named."""
    listed = folder / "listed.csv"
    listed.write_text((folder / "val.csv").read_text() + "train.csv,left\ngone.mp4,right\n")
    seen: dict[str, Tokens] = {}

    def answers(self: TokenProbe, train: Tokens, test: Tokens, **how: object) -> Answers:
        seen.update(train=train._replace(x=train.x.clone()), test=test._replace(x=test.x.clone()))
        return Answers(torch.zeros(len(test.x), dtype=torch.int64), self.candidates[0], {})

    monkeypatch.setattr(TokenProbe, "answers", answers)
    probe = probe_of(folder, test=str(listed), videos=str(folder))
    (score,) = probe.measure(encoder, source=probe.sources()[0], engine=Engine(device=CPU), seed=0)
    assert score.image[-2:] == ("train.csv", "gone.mp4")
    assert score.correct == (1.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    assert score.remarks == ("2 of 6 test videos could not be read and count as wrong: 'train.csv', 'gone.mp4'",)
    assert seen["train"].x.shape == (20, 4 * 4, 16)
    form = probe.clip.input_of(ENCODER.image_input)
    for place in (0, 3):
        with open_video(folder / f"val_{place}.mp4") as video, torch.no_grad():
            frames = video.read(evaluation_frames(form, video.frames, clip=0, clips=1), short_side=32)
            pixels = crop_of(frames, (16, 16), crop=0, crops=1).mul(255).round() / 255
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (ENCODER.mean, ENCODER.std))
            tokens = torch.cat([encoder(frame[None])[0, 1:] for frame in (pixels - mean) / std])
        torch.testing.assert_close(seen["test"].x[place].float(), tokens, rtol=1e-3, atol=1e-3)


def test_pooling_is_attention_over_all_frames() -> None:
    """Against softmax over all tokens of a clip, query by query; other frames, or their order, change it."""
    pooling = ClipPooling(ENCODER, frames=3, blocks=0, queries=2, seed=0)
    tokens = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    placed = tokens + pooling.time_pos_embed.repeat_interleave(2, dim=0).flatten(0, 1)
    query, value = pooling.pooling.query, pooling.pooling.value.weight
    expected = []
    for clip in placed:
        for number in range(2):
            shares = torch.softmax(clip @ query[number] / math.sqrt(16), dim=0)
            expected.append((shares[:, None] * (clip @ value.T)).sum(dim=0)[8 * number : 8 * number + 8])
    torch.testing.assert_close(pooling(tokens), torch.stack(expected).view(2, 16))
    deep = ClipPooling(ENCODER, frames=3, blocks=1, queries=2, seed=0)
    reversed_ = tokens.unflatten(1, (3, 2)).flip(1).flatten(1, 2)
    assert not torch.allclose(deep(tokens), deep(reversed_))
    with pytest.raises(ValueError, match="queries=3 must divide"):
        ClipPooling(ENCODER, frames=3, blocks=1, queries=3, seed=0)


@pytest.mark.slow
def test_direction_of_motion_is_learnt(folder: Path, encoder: ViT, tmp_path: Path) -> None:
    """By the verb, with a choice of the rate."""
    save_encoder(tmp_path / "run" / "encoder", encoder)
    given = [f"dataset={folder}/train.csv", f"test={folder}/val.csv", "frames=4", "queries=4", "blocks=1"]
    (row,) = verbs.evaluate("video_attentive", tmp_path / "run", [*given, "base_lr=1e-2,1e-1", "epochs=30"], workers=0)
    assert row["value"] == 1.0
    assert row.get("view") == "4 frames@16"
    assert row.get("settings", {})["tuning_top1"] > 0.5


def test_what_does_not_fit_is_refused(folder: Path, encoder: ViT, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train_0.mp4 is in the list to train on and in the list to test by"):
        probe_of(folder, test=str(folder / "train.csv")).sources()
    with pytest.raises(ValueError, match="test is empty"):
        probe_of(folder, test="").sources()
    grey = ViT(replace(ENCODER, channels=1, mean=(0.5,), std=(0.2,)))
    probe = probe_of(folder)
    (source,) = probe.sources()
    with pytest.raises(ValueError, match="frames of videos have 3 channels"):
        probe.measure(grey, source=source, engine=Engine(device=CPU), seed=0)
    with pytest.raises(ValueError, match="queries=5 must divide"):
        replace(probe, queries=5).measure(encoder, source=source, engine=Engine(device=CPU), seed=0)
    for name, value in {"queries": 0, "blocks": -1, "base_lr": (), "tuning_share": 1.0, "frames": 0}.items():
        with pytest.raises(ValueError, match=name):
            probe_of(folder, **{name: value})
    save_encoder(tmp_path / "encoder", encoder)
    with pytest.raises(ValueError, match="leave out --labels"):
        verbs.evaluate("video_attentive", tmp_path, ["dataset=x.csv", "test=y.csv"], labels="z.csv")
