"""The ``data`` field of a detection run: annotation files of COCO or LVIS, and the images that they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from underpaint import files
from underpaint.config import OPERATIONAL, SHORT
from underpaint.core import Inputs, ObjectBatch
from underpaint.data.decode.limits import BadImage
from underpaint.data.detection.annotations import ObjectTable, read_annotations
from underpaint.data.detection.samples import Jitter, Sample, SampleMaker, collate, normalise, sample_maker
from underpaint.data.detection.stream import ObjectStream
from underpaint.data.image_options import MAX_WORKERS
from underpaint.data.open_dataset import HELDOUT_IMAGES
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.source import Folder, Problem, Source
from underpaint.data.stream import Batching
from underpaint.messages import counted
from underpaint.tags.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class DetectionData:
    """Options for images with annotated objects."""

    annotations: str = field(metadata=SHORT | OPERATIONAL)  # a JSON file in the format of COCO or LVIS
    images: str = field(default="", metadata=OPERATIONAL)  # folder of its images; "" is that of the file
    # The same of images that are not trained on, for the held-out loss; "" measures none.
    heldout_annotations: str = field(default="", metadata=OPERATIONAL)
    heldout_images: str = field(default="", metadata=OPERATIONAL)
    scale: tuple[float, float] = (0.1, 2.0)  # large-scale jitter: range of the factor of the image's size
    flip: bool = True  # mirror every second view
    repeat_threshold: float = 0.0  # share of the images below which a class is repeated (LVIS: 0.001); 0 repeats none
    keep_empty: bool = False  # train on images without objects too
    max_bad: float = 0.01  # largest share of bad images, and of bad annotations
    workers: int = field(default=0, metadata=OPERATIONAL)  # number of processes that read and decode

    def __post_init__(self) -> None:
        if not self.annotations:
            raise ValueError("data.annotations is empty; name a JSON file in the format of COCO or LVIS")
        if not 0 < self.scale[0] <= self.scale[1] <= 100:
            raise ValueError(f"data.scale={self.scale} must be (low, high) with 0 < low <= high <= 100")
        if not 0 <= self.repeat_threshold <= 1:
            raise ValueError(f"data.repeat_threshold={self.repeat_threshold} must be a share between 0 and 1")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"data.max_bad={self.max_bad} must be a share between 0 and 1, for example 0.01")
        if not 0 <= self.workers <= MAX_WORKERS:
            raise ValueError(f"data.workers={self.workers} must lie between 0 and {MAX_WORKERS}; each is a process")

    def open(self) -> AnnotatedDataset:
        """Read and check the annotations, and look for every image.

        Raises:
            ValueError: if a file is missing or unusable, or too many of its annotations or images are bad.
        """
        training = open_annotated(self.annotations, self.images, max_bad=self.max_bad)
        heldout = None
        if self.heldout_annotations:
            heldout = open_annotated(self.heldout_annotations, self.heldout_images, max_bad=self.max_bad)
            if heldout.table.class_names != training.table.class_names:
                raise ValueError(f"data.heldout_annotations={self.heldout_annotations} has other classes than training")
        return AnnotatedDataset(config=self, training=training, heldout_images=heldout)


@dataclass(frozen=True, kw_only=True)
class AnnotatedImages:
    """A table of annotations with the images that are there."""

    annotations: Path
    """The file of the table."""
    table: ObjectTable
    root: Path
    rows: tuple[int, ...]
    """Images with objects that are trained on."""
    empty: tuple[int, ...]
    """Images without."""
    problems: tuple[Problem, ...]
    """Images that are missing."""
    content_hash: str


@dataclass(frozen=True, kw_only=True)
class AnnotatedDataset:
    """The annotated images of one run."""

    config: DetectionData
    training: AnnotatedImages
    heldout_images: AnnotatedImages | None

    @property
    def name(self) -> str:
        return self.training.table.name

    @property
    def content_hash(self) -> str:
        return self.training.content_hash

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Images that training draws from."""
        kept = self.training.rows + (self.training.empty if self.config.keep_empty else ())
        if not kept:
            raise ValueError(f"{self.config.annotations} has no image with an object to train on")
        return tuple(sorted(kept))

    @property
    def vocabulary(self) -> Vocabulary:
        """Classes by ascending id of the file, with the number of images that each is in."""
        return self._counted

    @cached_property
    def _counted(self) -> Vocabulary:
        names = self.training.table.class_names
        count = np.zeros(len(names), dtype=np.int64)
        for row in self.training.rows:
            count[np.unique(self._classes(row))] += 1
        return Vocabulary(labels=names, count=tuple(count.tolist()))

    @property
    def images(self) -> int:
        return len(self.rows)

    @property
    def unlabelled(self) -> int:
        """0: ``notes`` tell of images without objects."""
        return 0

    @property
    def notes(self) -> tuple[str, ...]:
        table, empty = self.training.table, len(self.training.empty)
        notes = []
        if empty and not self.config.keep_empty:
            notes.append(f"{counted(empty, 'image')} without objects left out (data.keep_empty=true trains on them)")
        if table.bad:
            first = table.problems[0]
            notes.append(f"{counted(table.bad, 'bad annotation')} left out; the first, {first.key}: {first.reason}")
        if table.clipped:
            notes.append(f"{counted(table.clipped, 'object')} cut off at the border of their image")
        return tuple(notes)

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> ObjectStream:
        config, training = self.config, self.training
        jitter = Jitter(scale=config.scale, flip=config.flip, seed=seed)
        maker = sample_maker(training.table, inputs, jitter=jitter)
        items = SourceSampleIndex(
            _source(training),
            self.rows,
            targets=(),
            batch_size=batching.batch_size,
            seed=seed,
            factors=self.repeat_factors(),
        )
        bad = Quarantine(quarantine, images=len(training.table.paths), max_bad=config.max_bad)
        batching = replace(batching, workers=config.workers)
        return ObjectStream(items, maker, batching=batching, quarantine=bad)

    def repeat_factors(self) -> tuple[float, ...]:
        """How often each image stands in an epoch: ``max(1, sqrt(t / f))`` of its rarest class (LVIS, Gupta et al.).

        ``f`` is the share of the images that a class is in; () where every image stands once.
        """
        if not self.config.repeat_threshold:
            return ()
        share = np.maximum(np.array(self.vocabulary.count), 1) / len(self.rows)
        of_class = np.sqrt(self.config.repeat_threshold / share).clip(min=1)
        return tuple(float(of_class[self._classes(row)].max(initial=1.0)) for row in self.rows)

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[ObjectBatch]:
        if self.heldout_images is None:
            return
        images = self.heldout_images
        maker = sample_maker(images.table, inputs, jitter=None)
        rows = sorted(images.rows + images.empty)[:HELDOUT_IMAGES]
        for start in range(0, len(rows), batch_size):
            chunk = rows[start : start + batch_size]
            batch = collate([_whole(maker, images, row) for row in chunk], range(start, start + len(chunk)), maker)
            normalise(batch, maker.image)
            yield batch

    def _classes(self, row: int) -> np.ndarray:
        """Classes of the objects of an image that are trained on."""
        table = self.training.table
        objects = table.objects_of(row)
        return table.classes[objects][~table.crowd[objects]].numpy()


def open_annotated(annotations: str, folder: str, *, max_bad: float) -> AnnotatedImages:
    """Read and check annotations, and look for their images in ``folder``; "" is that of the file.

    Raises:
        ValueError: if the file is not usable, a larger share than ``max_bad`` of its annotations is bad, or none of
            its images is there.
    """
    path = Path(annotations).expanduser()
    table = read_annotations(path)
    root = Path(folder).expanduser() if folder else path.parent
    total = len(table.boxes) + table.bad
    if table.bad > max_bad * total:
        first = table.problems[0]
        raise ValueError(
            f"{path}: {table.bad:,} of {total:,} annotations are bad, more than data.max_bad={max_bad:g} allows; the "
            f"first, {first.key}: {first.reason}"
        )
    digest = xxhash.xxh3_128(files.xxh3(path).encode())
    rows, empty, problems = [], [], []
    for row, name in enumerate(table.paths):
        file = root / name
        size = file.stat().st_size if file.is_file() else -1
        digest.update(size.to_bytes(8, "little", signed=True))
        if size < 0:
            problems.append(Problem(key=name, reason="the file is missing"))
            continue
        objects = table.objects_of(row)
        (empty if bool(table.crowd[objects].all()) else rows).append(row)
    if not rows and not empty:
        raise ValueError(
            f"none of the {len(table.paths)} images of {path} lies in {root}; name their folder, images=DIR"
        )
    return AnnotatedImages(
        annotations=path,
        table=table,
        root=root,
        rows=tuple(rows),
        empty=tuple(empty),
        problems=tuple(problems),
        content_hash=digest.hexdigest(),
    )


def _source(images: AnnotatedImages) -> Source:
    """The images as the order of samples takes them."""
    none = ((),) * len(images.table.paths)
    return Source(
        name=images.table.name,
        root=images.root,
        path=images.table.paths,
        tags=none,
        label=("",) * len(none),
        family=images.table.paths,
        splits=none,
        flip=(True,) * len(none),
        licence="",
        attribution="",
        problems=images.problems,
        content_hash=images.content_hash,
        files=Folder(root=images.root),
    )


def _whole(maker: SampleMaker, images: AnnotatedImages, row: int) -> Sample | None:
    try:
        return maker.make(row, (images.root / images.table.paths[row]).read_bytes(), position=0)
    except (BadImage, OSError):
        return None
