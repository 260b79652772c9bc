"""The ``data`` field of a run on videos: lists of them with their classes, and the folder that they lie in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
import xxhash
from jaxtyping import UInt8
from torch import Tensor

from underpaint import files
from underpaint.config import OPERATIONAL, SHORT
from underpaint.core import ClipBatch, ClipInput, Inputs
from underpaint.data.augment.augmenter import Augmenter
from underpaint.data.augment.options import Augment
from underpaint.data.decode.limits import BadImage
from underpaint.data.image_options import MAX_WORKERS
from underpaint.data.open_dataset import HELDOUT_IMAGES
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.source import Folder, Problem, Source, Split
from underpaint.data.stream import Batching
from underpaint.data.video.clips import ClipViews, clip_form, evaluation_clip, normalised
from underpaint.data.video.lists import find_video, ordered_classes, read_video_list
from underpaint.data.video.stream import ClipStream
from underpaint.messages import counted
from underpaint.tags.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class VideoData:
    """Options for videos with classes."""

    annotations: str = field(metadata=SHORT | OPERATIONAL)  # a list in the form of Kinetics (csv, txt) or SSv2 (json)
    videos: str = field(default="", metadata=OPERATIONAL)  # folder of its videos; "" is that of the list
    # The same of videos that are not trained on, for the held-out loss; "" measures none.
    heldout_annotations: str = field(default="", metadata=OPERATIONAL)
    heldout_videos: str = field(default="", metadata=OPERATIONAL)
    scale: tuple[float, float] = (0.08, 1.0)  # range of a random crop's share of the frame's area
    flip: bool = True  # mirror every second clip; false where left and right make classes
    views: int = 1  # views of each clip at consecutive positions, decoded once (repeated augmentation)
    augment: Augment = field(default_factory=Augment)
    max_bad: float = 0.01  # largest share of videos that cannot be read
    workers: int = field(default=0, metadata=OPERATIONAL)  # number of processes that decode

    def __post_init__(self) -> None:
        if not self.annotations:
            raise ValueError("data.annotations is empty; name a list of videos with their classes")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"data.scale={self.scale} must be (low, high) with 0 < low <= high <= 1")
        if not 1 <= self.views <= 64:
            raise ValueError(f"data.views={self.views} must lie between 1 and 64")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"data.max_bad={self.max_bad} must be a share between 0 and 1, for example 0.01")
        if not 0 <= self.workers <= MAX_WORKERS:
            raise ValueError(f"data.workers={self.workers} must lie between 0 and {MAX_WORKERS}; each is a process")

    def open(self) -> VideoDataset:
        """Read the lists and look for every video; none is decoded.

        Raises:
            ValueError: if a list is missing or unusable, none of its videos is there, or a held-out one has a class
                that none to train on has.
        """
        training = open_videos(self.annotations, self.videos, split="train")
        heldout = None
        if self.heldout_annotations:
            heldout = open_videos(self.heldout_annotations, self.heldout_videos, split="test")
            require_classes(heldout, set(training.label))
        return VideoDataset(config=self, training=training, heldout_videos=heldout)


@dataclass(frozen=True, kw_only=True)
class VideoDataset:
    """The videos of one run."""

    config: VideoData
    training: Source
    heldout_videos: Source | None

    @property
    def name(self) -> str:
        return self.training.name

    @property
    def content_hash(self) -> str:
        return self.training.content_hash

    @cached_property
    def rows(self) -> list[int]:
        """Videos that are there."""
        return self.training.rows("train")

    @property
    def vocabulary(self) -> Vocabulary:
        """Classes, numbers in the order of their values, with the number of videos of each."""
        return self._counted

    @cached_property
    def _counted(self) -> Vocabulary:
        labels = [self.training.label[row] for row in self.rows]
        classes = ordered_classes(labels)
        return Vocabulary(labels=classes, count=tuple(labels.count(each) for each in classes))

    @property
    def images(self) -> int:
        return len(self.rows)

    @property
    def unlabelled(self) -> int:
        """0: every line of a list has a class."""
        return 0

    @property
    def notes(self) -> tuple[str, ...]:
        missing = self.training.problems
        if not missing:
            return ()
        return (f"{counted(len(missing), 'video')} of the list missing; the first: {missing[0].key}",)

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> ClipStream:
        config, training, vocabulary = self.config, self.training, self.vocabulary
        form = clip_form(inputs, name=self.name)
        items = SourceSampleIndex(
            training,
            self.rows,
            targets=[vocabulary.ids([training.label[row]]) for row in self.rows],
            batch_size=batching.batch_size,
            seed=seed,
        )
        views = ClipViews(
            form=form,
            scale=config.scale,
            flip=config.flip,
            count=config.views,
            augmenter=Augmenter(config.augment, form.image, seed=seed),
            seed=seed,
        )
        bad = Quarantine(quarantine, images=len(training.path), max_bad=config.max_bad)
        batching = replace(batching, workers=config.workers)
        return ClipStream(items, training.root, views, batching=batching, quarantine=bad)

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[ClipBatch]:
        """Batches of the middle of each held-out clip; a video that cannot be decoded has weight 0."""
        source = self.heldout_videos
        if source is None:
            return
        form, rows = clip_form(inputs, name=source.name), source.rows("test")[:HELDOUT_IMAGES]
        for start in range(0, len(rows), batch_size):
            chunk = rows[start : start + batch_size]
            clips = [_middle(source.root / source.path[row], form) for row in chunk]
            labels = [self.vocabulary.ids([source.label[row]]) for row in chunk]
            yield {
                "clip": normalised(clips, form),
                "labels": torch.tensor(labels, dtype=torch.int64),
                "position": torch.arange(start, start + len(chunk)),
                "weight": torch.tensor([0.0 if clip is None else 1.0 for clip in clips]),
            }


def open_videos(annotations: str, folder: str, *, split: Split) -> Source:
    """The videos of a list as a source, of which those that are there belong to ``split``.

    Raises:
        ValueError: if the list is unusable, or none of its videos is there.
    """
    listed = Path(annotations).expanduser()
    videos = read_video_list(listed)
    root = Path(folder).expanduser() if folder else listed.parent
    paths = tuple(find_video(root, row.path) for row in videos.rows)
    digest = xxhash.xxh3_128(files.xxh3(listed).encode())
    problems: list[Problem] = []
    for path in paths:
        size = (root / path).stat().st_size if (root / path).is_file() else -1
        digest.update(size.to_bytes(8, "little", signed=True))
        if size < 0:
            problems.append(Problem(key=path, reason="the file is missing"))
    missing = {problem.key for problem in problems}
    if len(missing) == len(paths):
        raise ValueError(f"none of the {len(paths)} videos of {listed} lies in {root}; set the folder of the videos")
    none = ((),) * len(paths)
    return Source(
        name=videos.name,
        root=root,
        path=paths,
        tags=none,
        label=tuple(row.label for row in videos.rows),
        family=paths,
        splits=tuple(() if path in missing else (split,) for path in paths),
        flip=(True,) * len(paths),
        licence="",
        attribution="",
        problems=tuple(problems),
        content_hash=digest.hexdigest(),
        files=Folder(root=root),
    )


def joined_videos(train: Source, test: Source) -> Source:
    """Videos to train on and videos to test by as one source, called as the first; missing ones are tested as well.

    Raises:
        ValueError: if a video is in both.
    """
    paths = [tuple(str(each.root / path) for path in each.path) for each in (train, test)]
    if both := set(paths[0]) & set(paths[1]):
        raise ValueError(f"{sorted(both)[0]} is in the list to train on and in the list to test by; take it out of one")
    if train.root == test.root:
        paths = [train.path, test.path]
    every = (*paths[0], *paths[1])
    return replace(
        train,
        path=every,
        tags=((),) * len(every),
        label=train.label + test.label,
        family=every,
        splits=train.splits + (("test",),) * len(test.path),
        flip=train.flip + test.flip,
        problems=train.problems + test.problems,
        content_hash=xxhash.xxh3_128(f"{train.content_hash} {test.content_hash}".encode()).hexdigest(),
    )


def require_classes(source: Source, known: set[str]) -> None:
    """Raise ValueError if a video has a class that is not known."""
    if unknown := sorted(set(source.label) - known):
        raise ValueError(f"{source.name} has the class {unknown[0]!r}, which none of the training videos has")


def _middle(path: Path, form: ClipInput) -> UInt8[Tensor, "t c h w"] | None:
    try:
        return evaluation_clip(path, form, clip=(0, 1))
    except BadImage:
        return None
