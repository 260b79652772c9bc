"""Sets of the study ``transfer`` beside images with a class each: videos with classes, and annotated images.

Each is a folder with one file for its training half and one for its test half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from underpaint.core import DataInfo
from underpaint.data.detection.dataset import AnnotatedDataset, AnnotatedImages, DetectionData
from underpaint.data.source import SPLITS, Problem, Source
from underpaint.data.video.dataset import VideoData, VideoDataset, joined_videos
from underpaint.data.video.lists import SUFFIXES, find_video, read_video_list
from underpaint.results.study import CollectionEntry
from underpaint.run import record

LISTS = (".csv", ".txt", ".json")
"""Endings of lists of videos."""
TESTS = ("val", "test")
LOOKED_AT = 100
"""Lines of a list that are looked at for a video."""


class Half(NamedTuple):
    """A file of annotations, and the folder of its images."""

    file: Path
    images: str


def video_lists(folder: Path) -> tuple[Path, Path] | None:
    """``train`` and ``val`` or ``test`` with an ending of a list, if the first one lists videos."""
    train, test = _listed(folder, ("train",)), _listed(folder, TESTS)
    return (train, test) if train is not None and test is not None and _lists_videos(train) else None


def object_halves(folder: Path) -> tuple[Half, Half] | None:
    """Annotations in the form of COCO with their images: ``train.json`` and ``val.json``, or as COCO 2017 lies."""
    layouts = [[(f"{half}.json", half) for half in ("train", test)] for test in TESTS]
    layouts.append([(f"annotations/instances_{half}2017.json", f"{half}2017") for half in ("train", "val")])
    for layout in layouts:
        if all((folder / file).is_file() and _opens(folder / file) == "{" for file, _ in layout):
            train, test = (
                Half(folder / file, str(folder / images if (folder / images).is_dir() else folder))
                for file, images in layout
            )
            return train, test
    return None


@dataclass(frozen=True, kw_only=True)
class Videos:
    """Videos with classes."""

    name: str
    opened: VideoDataset

    @property
    def data(self) -> VideoData:
        """The videos to train on alone."""
        return replace(self.opened.config, heldout_annotations="", heldout_videos="")

    @property
    def data_info(self) -> DataInfo:
        return DataInfo(seed=0, labels=self.opened.vocabulary.labels, images=self.opened.images)

    @property
    def tested(self) -> Source:
        """The test videos."""
        assert self.opened.heldout_videos is not None
        return replace(self.opened.heldout_videos, name=self.name)

    @property
    def both(self) -> Source:
        """The videos to train on and the test videos, for a probe."""
        return joined_videos(replace(self.opened.training, name=self.name), self.tested)

    @property
    def content_hash(self) -> str:
        return record.digest([self.opened.content_hash, self.tested.content_hash])

    def entry(self) -> CollectionEntry:
        """Their numbers for the report."""
        halves = (self.opened.training, self.tested)
        counts = (len(halves[0].rows("train")), len(halves[1].rows("test")))
        return _entry(counts, self.data_info, self.content_hash, [each.problems for each in halves])


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Images with annotated objects."""

    name: str
    opened: AnnotatedDataset

    @property
    def data(self) -> DetectionData:
        """The images to train on alone."""
        return replace(self.opened.config, heldout_annotations="", heldout_images="")

    @property
    def data_info(self) -> DataInfo:
        labels, count = self.opened.vocabulary.labels, self.opened.vocabulary.count
        return DataInfo(seed=0, labels=labels, label_count=count, images=self.opened.images)

    @property
    def tested(self) -> AnnotatedImages:
        """The test images."""
        assert self.opened.heldout_images is not None
        return self.opened.heldout_images

    @property
    def content_hash(self) -> str:
        return record.digest([self.opened.content_hash, self.tested.content_hash])

    def entry(self) -> CollectionEntry:
        """Their numbers for the report."""
        halves = (self.opened.training, self.tested)
        counts = (self.opened.images, len(self.tested.table.paths))
        return _entry(counts, self.data_info, self.content_hash, [each.problems for each in halves])


def open_video_set(folder: Path, *, name: str, like: VideoData) -> Videos:
    """The videos of a folder, read as ``like`` says.

    Raises:
        ValueError: if a list cannot be used, the classes to train on are fewer than two, or a test video has another.
    """
    lists = video_lists(folder)
    assert lists is not None, folder
    train, test = map(str, lists)
    opened = replace(like, annotations=train, videos="", heldout_annotations=test, heldout_videos="").open()
    if len(opened.vocabulary.labels) < 2:
        raise ValueError(f"--data {folder} has videos of one class to train on; a classifier needs two")
    return Videos(name=name, opened=opened)


def open_object_set(folder: Path, *, name: str, like: DetectionData) -> Objects:
    """The annotated images of a folder, read as ``like`` says.

    Raises:
        ValueError: if annotations cannot be used, the two halves have other classes, or none of their images is there.
    """
    halves = object_halves(folder)
    assert halves is not None, folder
    train, test = halves
    opened = replace(
        like,
        annotations=str(train.file),
        images=train.images,
        heldout_annotations=str(test.file),
        heldout_images=test.images,
    ).open()
    return Objects(name=name, opened=opened)


def _listed(folder: Path, halves: Sequence[str]) -> Path | None:
    paths = (folder / f"{half}{ending}" for half in halves for ending in LISTS)
    return next((path for path in paths if path.is_file()), None)


def _lists_videos(path: Path) -> bool:
    """Whether one of the first files of a list is there and is a video; the list may be a table of images as well."""
    if path.suffix == ".json" and _opens(path) != "[":
        return False
    try:
        rows = read_video_list(path).rows
    except ValueError:
        return False
    names = (find_video(path.parent, row.path) for row in islice(rows, LOOKED_AT))
    return any(Path(name).suffix.lower() in SUFFIXES and (path.parent / name).is_file() for name in names)


def _opens(path: Path) -> str:
    """The first sign of a JSON file."""
    with path.open("rb") as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1].decode("latin-1")


def _entry(
    counts: tuple[int, int], data_info: DataInfo, content_hash: str, problems: Sequence[Sequence[Problem]]
) -> CollectionEntry:
    """The entry of a set that is divided into what is trained and what is tested on."""
    train, test = counts
    return {
        "images": train + test,
        "splits": {**dict.fromkeys(SPLITS, 0), "train": train, "test": test},
        "families": train + test,
        "tagged": 0,
        "classes": len(data_info.labels),
        "licence": "",
        "attribution": "",
        "content_hash": content_hash,
        "problems": dict(Counter(problem.reason for several in problems for problem in several)),
    }
