"""Accuracy on videos: every one counted once, views averaged as by hand, and frames shuffled or stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from support.video_examples import make_videos, video_run
from underpaint import verbs
from underpaint.data.feature_store import Staff
from underpaint.data.video.clips import normalised
from underpaint.data.video.decoding import open_video
from underpaint.data.video.sampling import crop_of, evaluation_frames
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.engine import Engine
from underpaint.evals.video import VideoAccuracy
from underpaint.objectives.classify_clips import ClassifyClips
from underpaint.run import execute
from underpaint.run.outputs import load_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos and a run on them, which is hardly trained."""
    folder = make_videos(tmp_path_factory.mktemp("videos"))
    execute(video_run(folder, steps=2), folder / "run")
    return folder


def model_of(folder: Path) -> ClassifyClips:
    model = load_model(folder / "run")
    assert isinstance(model, ClassifyClips)
    return model


def by_hand(model: ClassifyClips, path: Path, clips: int, crops: int) -> str:
    """Views one by one, and the mean of their softmax."""
    form = model.clip_input
    total = torch.zeros(len(model.labels))
    with open_video(path) as video, torch.no_grad():
        for clip in range(clips):
            numbers = evaluation_frames(form, video.frames, clip=clip, clips=clips)
            frames = video.read(numbers, short_side=2 * max(form.image.size))
            for crop in range(crops):
                view = crop_of(frames, form.image.size, crop=crop, crops=crops).mul(255).round().to(torch.uint8)
                total += model.logits(normalised([view], form)).softmax(dim=1)[0]
    return model.labels[int(total.argmax())]


def test_views_are_averaged_and_every_video_is_counted_once(folder: Path) -> None:
    """Three processes of a group and two workers give the answers of one loop over all views."""
    model = model_of(folder)
    evaluation = VideoAccuracy(dataset=str(folder / "train.csv"), clips=2, crops=3, batch_size=4)
    source = evaluation.sources()[0]
    predictions = evaluation.predictions(model, source, Engine(device=CPU, staff=Staff(workers=2)))
    assert predictions.image == tuple(f"train_{index}.mp4" for index in range(12))
    assert list(predictions.predicted) == [by_hand(model, folder / path, 2, 3) for path in predictions.image]
    assert predictions.view == "2x3 clips@16"
    score = evaluation(model, source=source, device=CPU, seed=0)[0]
    hits = [label == answer for label, answer in zip(predictions.label, predictions.predicted, strict=True)]
    assert score.value == sum(hits) / 12


class OneOf:
    """A process of a group whose others have answered."""

    def __init__(self, rank: int, answers: list[list[tuple[str | None, str]]]) -> None:
        self.rank, self.world, self.answers = rank, len(answers), answers

    def exchange(self, value: list[tuple[str | None, str]]) -> list[list[tuple[str | None, str]]]:
        assert value == self.answers[self.rank]
        return self.answers


def test_processes_share_the_videos(folder: Path) -> None:
    model = model_of(folder)
    evaluation = VideoAccuracy(dataset=str(folder / "val.csv"), clips=1, crops=1)
    source = evaluation.sources()[0]
    alone = evaluation.answers(model, source, Engine(device=CPU))
    shares = [[tuple(answer) for answer in alone[rank::3]] for rank in range(3)]
    for rank in range(3):
        engine = Engine(device=CPU, staff=Staff(group=OneOf(rank, shares)))  # pyright: ignore[reportArgumentType]
        assert evaluation.answers(model, source, engine) == alone


def test_videos_that_cannot_be_read_are_wrong_and_named(folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text((folder / "val.csv").read_text() + "gone.mp4,left\nrun/result.json,right\n")
    rows = verbs.evaluate(
        "video", folder / "run", [f"dataset={listed}", f"videos={folder}", "clips=1", "crops=1"], workers=0
    )
    assert rows[0]["n_test"] == 6
    remarks = " ".join(rows[0].get("remarks", ()))
    assert "2 of 6 test videos could not be read and count as wrong: 'gone.mp4', 'run/result.json'" in remarks
    table = pq.read_table(next((folder / "run" / "evals").glob("*.parquet"))).to_pylist()
    assert [row["path"] for row in table if row["predicted"] is None] == ["gone.mp4", "run/result.json"]


def test_frames_are_shuffled_and_stopped() -> None:
    """Frames of one clip are shuffled alike in all crops, those of another clip otherwise."""
    views = torch.arange(8, dtype=torch.uint8)[None, :, None, None, None].repeat(4, 1, 3, 2, 2)
    evaluation = VideoAccuracy(dataset="x.csv", clips=2, crops=2, frames="shuffled")
    shuffled = evaluation.as_asked(views, 5)[:, :, 0, 0, 0].tolist()
    assert sorted(shuffled[0]) == list(range(8)) != shuffled[0]
    assert shuffled[0] == shuffled[1] != shuffled[2] == shuffled[3]
    assert torch.equal(evaluation.as_asked(views, 5)[0, :, 1, 1, 1], torch.tensor(shuffled[0], dtype=torch.uint8))
    one = replace(evaluation, frames="one").as_asked(views, 5)
    assert one.shape == views.shape
    assert one.unique().tolist() == [4]


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    model = model_of(folder)
    (tmp_path / "other.csv").write_text("val_0.mp4,sideways\n")
    evaluation = VideoAccuracy(dataset=str(tmp_path / "other.csv"), videos=str(folder))
    with pytest.raises(ValueError, match="the classifier has no class 'sideways'"):
        evaluation(model, source=evaluation.sources()[0], device=CPU, seed=0)
    (tmp_path / "broken.csv").write_text("run/result.json,left\n")
    evaluation = VideoAccuracy(dataset=str(tmp_path / "broken.csv"), videos=str(folder))
    with pytest.raises(ValueError, match="none of the 1 videos of 'broken' can be read: cannot be decoded"):
        evaluation(model, source=evaluation.sources()[0], device=CPU, seed=0)
    with pytest.raises(ValueError, match="crops=0"):
        VideoAccuracy(dataset="x.csv", crops=0)
    with pytest.raises(ValueError, match="leave out --labels"):
        verbs.evaluate("video", folder / "run", [f"dataset={folder / 'val.csv'}"], labels="x.csv")
    assert not isinstance(model, Accuracy.needs)
