"""Videos through the one training loop: starts, resumes, several processes, placeholders, and outputs."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support.ranks import finish, losses, start
from support.small_runs import SendSignal, assert_same_bits, log_lines
from support.video_examples import BATCH, ENCODER, STEPS, make_videos, video_run
from underpaint import core
from underpaint.data.augment.options import Augment
from underpaint.data.quarantine import TooManyBadRecords
from underpaint.data.stream import Batching
from underpaint.data.video.dataset import VideoData
from underpaint.models.init import initialise_encoder
from underpaint.models.vit import ViT
from underpaint.models.weights import save_encoder
from underpaint.objectives.classify_clips import ClassifyClips, ClassifyClipsConfig
from underpaint.run import Run, execute
from underpaint.run.idle_fields import override_run
from underpaint.run.outputs import load_model
from underpaint.training.signals import Interrupted

AUGMENT = Augment(rand="rand-m7-n4-mstd0.5-inc1", erase=0.5, mixup=0.8, cutmix=1.0, mix_group=2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("videos"))


def data_of(run: Run) -> VideoData:
    assert isinstance(run.data, VideoData)
    return run.data


@pytest.mark.slow
def test_a_run_resumes_to_the_same_bits(videos: Path, tmp_path: Path) -> None:
    """With all augmentations, two views of each clip, dropout and drop path."""
    run = video_run(videos)
    run = replace(run, data=replace(data_of(run), augment=AUGMENT, views=2))
    result = execute(run, tmp_path / "whole")
    stop = replace(run, evals=(SendSignal(number=signal.SIGTERM),))
    with pytest.raises(Interrupted):
        execute(stop, tmp_path / "stopped")
    execute(run, tmp_path / "stopped")
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")
    assert result["stage"] == "finetune"
    assert "heldout_loss" in result["metrics"]
    assert not (tmp_path / "whole" / "encoder").exists()
    model = load_model(tmp_path / "whole")
    assert isinstance(model, ClassifyClips)
    assert model.labels == tuple(sorted(STEPS))
    assert model.logits(torch.randn(2, 3, 4, 16, 16)).shape == (2, 2)


def test_a_run_starts_from_an_encoder_of_images(videos: Path, tmp_path: Path) -> None:
    """Its width and depth come from it; a step at no rate leaves the inflated weights."""
    plain = ViT(replace(ENCODER, size=(32, 32), width=32, depth=1, final_norm=True))
    initialise_encoder(plain, scheme="swag", seed=5)
    save_encoder(tmp_path / "start", plain)
    run = replace(video_run(videos, steps=1), init_from=str(tmp_path / "start"))
    run = replace(run, optim=replace(run.optim, base_lr=1e-9), objective=replace(run.objective, shape_from_start=True))
    execute(run, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert isinstance(model, ClassifyClips)
    kernel = model.encoder.patch_embed.proj.weight
    torch.testing.assert_close(kernel.sum(dim=2), plain.patch_embed.proj.weight)
    torch.testing.assert_close(model.encoder.blocks[0].mlp.fc1.weight, plain.blocks[0].mlp.fc1.weight)  # pyright: ignore


@pytest.mark.slow
def test_batches_are_the_same_with_workers_and_after_a_jump(videos: Path, tmp_path: Path) -> None:
    """All augmentations; the second stream begins in the middle."""
    config = replace(data_of(video_run(videos)), augment=AUGMENT, views=2)
    inputs = video_run(videos).objective.inputs
    batches = []
    for workers, position in ((0, 0), (2, 8)):
        opened = replace(config, workers=workers).open()
        stream = opened.stream(inputs, Batching(batch_size=8, microbatch=4), seed=3, quarantine=tmp_path / "bad")
        stream.position = position
        batches.append([batch for batch, _ in zip(stream, range(4), strict=False)])
    for mine, theirs in zip(batches[0][2:], batches[1], strict=False):
        assert mine.keys() == theirs.keys() == {"clip", "labels", "share", "position", "weight"}
        for name, value in mine.items():
            assert torch.equal(value, theirs[name]), name
    shown = batches[0][0]["clip"]
    assert shown.shape == (4, 3, 4, 16, 16)
    assert not torch.equal(shown[0], shown[1])


def test_all_frames_of_a_clip_are_augmented_alike(videos: Path, tmp_path: Path) -> None:
    """The ground behind the square stands still, so in a clip without noise all frames are equal there."""
    augment = Augment(rand="rand-m9-n4-p1-inc1")
    config = replace(data_of(video_run(videos)), augment=augment)
    stream = config.open().stream(
        video_run(videos).objective.inputs, Batching(batch_size=4, microbatch=4), seed=3, quarantine=tmp_path / "bad"
    )
    batch = next(iter(stream))
    steps = batch["clip"].diff(dim=2).abs()
    still = steps.amax(dim=(1, 2)) < 0.35  # compression leaves a little
    assert still.float().mean() > 0.2


def test_bad_videos_are_placeholders_that_are_named(videos: Path, tmp_path: Path) -> None:
    folder = make_videos(tmp_path / "videos")
    (folder / "train_3.mp4").write_bytes(b"broken")
    (folder / "train_5.mp4").unlink()
    run = video_run(folder)
    with pytest.raises(TooManyBadRecords, match=r"data\.max_bad"):
        execute(run, tmp_path / "strict")
    result = execute(replace(run, data=replace(data_of(run), max_bad=0.5)), tmp_path / "run")
    assert result["bad_records"] == 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "bad_records.jsonl").read_text().splitlines()]
    reasons = {line["key"]: line["reason"] for line in lines}
    assert reasons["train_5.mp4"] == "the file is missing"
    assert reasons["train_3.mp4"].startswith("cannot be decoded")
    assert all(line.get("loss", 0) < 10 for line in log_lines(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["ddp", "fsdp"])
def test_two_processes_do_what_one_does(videos: Path, tmp_path: Path, layout: str) -> None:
    """Losses and weights after three steps of plain SGD, from an encoder of images."""
    plain = ViT(replace(ENCODER, final_norm=True))
    initialise_encoder(plain, scheme="swag", seed=5)
    save_encoder(tmp_path / "start", plain)
    code = (
        "import sys; from pathlib import Path; from underpaint import config; from underpaint.run import execute\n"
        "from support.video_examples import video_run\n"
        "execute(config.override(video_run(Path(sys.argv[1]), steps=3), sys.argv[3:]), Path(sys.argv[2]))"
    )
    common = ["optim.name=sgd", "optim.clip=inf", "optim.base_lr=0.5", f"init_from={tmp_path / 'start'}"]
    for world in (1, 2):
        out = tmp_path / str(world)
        given = [*common, f"parallel.layout={layout}"] if world == 2 else common
        for status, err in finish(start(world, ["-c", code, str(videos), str(out), *given])):
            assert status == 0, err[-3000:]
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-4)
    mine, theirs = (load_model(tmp_path / name).state_dict() for name in "21")
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
def test_it_learns_the_direction_of_a_motion(videos: Path, tmp_path: Path) -> None:
    run = video_run(videos, steps=120)
    run = replace(run, optim=replace(run.optim, base_lr=0.3, layer_decay=1.0))
    result = execute(run, tmp_path / "run")
    loss = result["metrics"]["heldout_loss"]
    assert isinstance(loss, float)
    assert loss < 0.5


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        (["objective.encoder.view=crop"], "objective.encoder.view"),
        (["objective.clip.sampling=uniform", "objective.clip.stride=3"], "objective.clip.stride"),
    ],
)
def test_fields_that_do_nothing_are_refused(videos: Path, overrides: list[str], field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}=.* does nothing"):
        override_run(video_run(videos), overrides)


def test_what_cannot_be_is_refused(videos: Path, tmp_path: Path) -> None:
    run = video_run(videos)
    with pytest.raises(ValueError, match="dropout=1"):
        ClassifyClipsConfig(dropout=1)
    with pytest.raises(ValueError, match=r"batch_size=64 is more than the 12 videos"):
        execute(replace(run, budget=replace(run.budget, samples=64, batch_size=64)), tmp_path / "a")
    with pytest.raises(ValueError, match=r"data\.views=3 must divide the microbatch 2"):
        execute(replace(run, data=replace(data_of(run), views=3)), tmp_path / "b")
    grey = replace(ENCODER, channels=1, mean=(0.5,), std=(0.5,), final_norm=False)
    with pytest.raises(ValueError, match="the encoder takes channels=1"):
        execute(replace(run, objective=replace(run.objective, encoder=grey)), tmp_path / "c")
    (tmp_path / "val.csv").write_text("val_0.mp4,sideways\n")
    data = replace(data_of(run), heldout_annotations=str(tmp_path / "val.csv"), heldout_videos=str(videos))
    with pytest.raises(ValueError, match="val has the class 'sideways', which none of the training videos has"):
        data.open()
    with pytest.raises(ValueError, match=r"none of the 12 videos of .* lies in"):
        replace(data, videos=str(tmp_path)).open()


def test_placeholders_add_nothing_to_the_loss(videos: Path) -> None:
    run = video_run(videos)
    network = run.objective.build(core.DataInfo(seed=0, labels=("a", "b"), label_count=(3, 1))).train()
    batch = core.example_batch(run.objective.inputs, BATCH)
    both = network(batch).loss
    batch["weight"][1:] = 0
    alone = network({name: value[:1] for name, value in batch.items()}).loss
    torch.testing.assert_close(network(batch).loss, alone / BATCH)
    assert both > alone / BATCH
