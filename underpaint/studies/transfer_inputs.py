"""The inputs of the study ``transfer``: encoders that were trained elsewhere, and datasets as they lie on disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from underpaint.data.detection.dataset import DetectionData
from underpaint.data.folders.advice import layout_advice
from underpaint.data.known_sets.catalog import is_known_set, robustness_sets
from underpaint.data.near_duplicates.removal import without_duplicates
from underpaint.data.open_source import is_folder_name, open_source
from underpaint.data.source import Source
from underpaint.data.splits import TESTED_FOLDERS
from underpaint.data.video.dataset import VideoData
from underpaint.evals.accuracy import needed_classes
from underpaint.evals.features import transfer_classes
from underpaint.files import beginning
from underpaint.models.image_text import ImageTextConfig
from underpaint.models.weights import holds_network, read_description, require_same_form
from underpaint.results.study import CollectionEntry
from underpaint.studies.baselines import Baseline, open_encoder
from underpaint.studies.parts import SEED
from underpaint.studies.results import describe_source
from underpaint.studies.transfer_designs import TransferDesign
from underpaint.studies.transfer_sets import (
    Objects,
    Videos,
    object_halves,
    open_object_set,
    open_video_set,
    video_lists,
)

HALVES = ("train", *TESTED_FOLDERS)
"""Folders that say what a folder is split into."""
PASSED_OVER = (
    "{}: passed over, as it has neither train/ with val/ or test/, nor test/ alone with folders of classes, nor lists "
    "of videos or annotations; if it is a dataset of another form, give it to --data by itself"
)


@dataclass(frozen=True, kw_only=True)
class Tested:
    """An encoder of the study."""

    arm: str
    seed: int | None  # of its training, by the name of its folder; None: the study's seeds all measure it
    baseline: Baseline
    texts: Path | None  # the folder of its model, where that reads texts as well


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset as it is measured on."""

    name: str  # as a run opens it
    source: Source  # called by a name that may stand in names of parts

    @property
    def has_task(self) -> bool:
        """Whether there is something to train on; else it only tests finetuned models."""
        return bool(self.source.rows("train"))

    @property
    def classes(self) -> frozenset[str]:
        return frozenset(transfer_classes(self.source)) if self.has_task else frozenset(needed_classes(self.source))


def open_encoders(folders: Sequence[str]) -> tuple[Tested, ...]:
    """The encoders of runs or imports; folders called NAME-seed0, NAME-seed1 are one arm with several seeds.

    Raises:
        ValueError: for a folder without an encoder, a run that has not finished, one that is named twice, two of one
            name, seeds of one arm with encoders of other shapes, or an encoder that takes neither colours nor greys.
    """
    if not folders:
        raise ValueError("the study `transfer` measures encoders that are there: give --from RUN [RUN ...]")
    tested = [_open_encoder(folder) for folder in folders]
    first: dict[str, Tested] = {}
    names: dict[str, str] = {}
    places: dict[Path, str] = {}
    for encoder, folder in zip(tested, folders, strict=True):
        name, channels = encoder.baseline.name, encoder.baseline.config.channels
        if (place := encoder.baseline.folder.resolve()) in places:
            raise ValueError(f"--from {places[place]} and {folder} are the same encoder; leave one of them out")
        places[place] = folder
        if name in names:
            raise ValueError(f"--from {names[name]} and {folder} are both called {name!r}; rename one")
        names[name] = folder
        if channels not in (1, 3):
            raise ValueError(f"--from {folder} takes images of {channels} channels, and photographs have 3 or 1")
        like = first.setdefault(encoder.arm, encoder)
        if (encoder.seed is None) != (like.seed is None):
            raise ValueError(
                f"--from {folder}: {encoder.arm!r} is named with a seed and without one; rename one of them"
            )
        require_same_form(
            like.baseline.config,
            encoder.baseline.config,
            run=f"{like.baseline.name}, another seed of it,",
            start=folder,
        )
    return tuple(tested)


def _open_encoder(given: str) -> Tested:
    baseline = open_encoder(given)
    outer = baseline.folder.parent if baseline.folder.name == "encoder" else baseline.folder
    model = outer / "model" if (outer / "model").is_dir() else outer
    reads_texts = holds_network(model) and read_description(model).get("type") == ImageTextConfig.__name__
    seed = SEED.search(baseline.name)
    return Tested(
        arm=baseline.name[: seed.start()] if seed else baseline.name,
        seed=int(seed[1]) if seed else None,
        baseline=baseline,
        texts=outer if reads_texts else None,
    )


class Sets(NamedTuple):
    """The sets of ``--data`` by their kind."""

    datasets: tuple[Dataset, ...]
    videos: tuple[Videos, ...]
    objects: tuple[Objects, ...]
    passed_over: tuple[str, ...]
    """A line for each folder beside them that is none."""

    @property
    def hashes(self) -> dict[str, str]:
        """Hash of the content of each by its name."""
        images = {each.source.name: each.source.content_hash for each in self.datasets}
        return images | {each.name: each.content_hash for each in (*self.videos, *self.objects)}

    @property
    def entries(self) -> dict[str, CollectionEntry]:
        """Numbers of each for the report."""
        images = {each.source.name: describe_source(each.source) for each in self.datasets}
        return images | {each.name: each.entry() for each in (*self.videos, *self.objects)}


def open_sets(names: Sequence[str], design: TransferDesign) -> Sets:
    """The sets of ``--data``: each name is one, or a folder with several in it.

    Near duplicates of test images are left out of what is trained on, as in finetuning; videos and annotated images are
    divided as their lists say.

    Raises:
        ValueError: if there is none, one cannot be opened, has no test images, fewer than two classes, or two have one
            name.
    """
    if not names:
        raise ValueError(
            "give the datasets to measure on: --data DIR [DIR ...], folders with train/ and val/ or test/ and a folder "
            "for each class in them, published ones such as in1k:DIR, videos with the lists train.csv and val.csv, or "
            "annotated images with train.json and val.json"
        )
    opened: dict[str, Dataset | Videos | Objects] = {}
    given: dict[str, str] = {}
    inside = [_datasets_in(name) for name in names]
    for name in chain.from_iterable(datasets for datasets, _ in inside):
        called, each = _open_set(name, design)
        if called in opened:
            raise ValueError(f"--data {given[called]} and {name} are both called {called!r}; rename one")
        opened[called], given[called] = each, name
    every = opened.values()
    return Sets(
        tuple(each for each in every if isinstance(each, Dataset)),
        tuple(each for each in every if isinstance(each, Videos)),
        tuple(each for each in every if isinstance(each, Objects)),
        tuple(PASSED_OVER.format(path) for _, others in inside for path in others),
    )


def part_name(kind: str, encoder: Tested, dataset: str, seed: int) -> str:
    """Name of a part of an encoder on a dataset."""
    return f"{kind}-{encoder.arm}-{dataset}-seed{seed}"


def _open_set(name: str, design: TransferDesign) -> tuple[str, Dataset | Videos | Objects]:
    """A set and its name, which may stand in names of parts."""
    folder = Path(name).expanduser()
    if not is_known_set(name) and object_halves(folder):
        called, like = _name_for_parts(folder.resolve().name), design.detect.data
        assert isinstance(like, DetectionData)
        return called, open_object_set(folder, name=called, like=like)
    if not is_known_set(name) and video_lists(folder):
        called, like = _name_for_parts(folder.resolve().name), design.video.data
        assert isinstance(like, VideoData)
        return called, open_video_set(folder, name=called, like=like)
    source, _ = without_duplicates(open_source(name), ())
    called = _name_for_parts(_called(name, source))
    dataset = Dataset(name=name, source=replace(source, name=called))
    _require_measurable(dataset)
    return called, dataset


def _name_for_parts(name: str) -> str:
    return beginning(re.sub(r"[^A-Za-z0-9._+-]+", "_", name)).strip("._-") or "dataset"


def _called(name: str, source: Source) -> str:
    """Variants of one published robustness set are told apart by their folders."""
    known, _, folder = name.partition(":")
    has_task = bool(source.rows("train"))
    return f"{known}-{Path(folder).resolve().name}" if is_known_set(name) and not has_task else source.name


def _datasets_in(name: str) -> tuple[list[str], list[Path]]:
    """The datasets that a name of ``--data`` stands for, itself or those in its folders, and folders passed over."""
    folder = Path(name).expanduser()
    if is_known_set(name) or not folder.is_dir() or _has_lists(folder):
        return [name], []
    if not is_folder_name(name):
        name, folder = f"./{name}", Path(f"./{name}")
    published = _robustness_sets_in(folder)
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    several = [path for path in inner if path.name not in HALVES and (_is_split(path) or _has_lists(path))]
    if not several or _is_split(folder):
        return published or [name], []
    places = [Path(each.partition(":")[2]) for each in published]
    several = [path for path in several if path not in places]
    others = [path for path in inner if path not in (*several, *places)]
    return [*(f"{path.parent}/{path.name}" for path in several), *published], others


def _robustness_sets_in(folder: Path) -> list[str]:
    try:
        return robustness_sets(folder)
    except ValueError:
        return []


def _is_split(folder: Path) -> bool:
    """Whether a folder says what is trained and tested on, or tested on alone."""
    halves = {half for half in HALVES if (folder / half).is_dir()}
    if halves == {"test"}:
        return any(path.is_dir() for path in (folder / "test").iterdir())
    return "train" in halves and len(halves) > 1


def _has_lists(folder: Path) -> bool:
    """Whether files say that: lists of videos, or annotations of objects."""
    return object_halves(folder) is not None or video_lists(folder) is not None


def _require_measurable(dataset: Dataset) -> None:
    source = dataset.source
    if not any(source.label[row] for row in source.rows("test")):
        usual = "its folders must be train/ and val/ or test/, with a folder for each class in both"
        raise ValueError(
            f"--data {dataset.name} has no test images of two classes or more; {layout_advice(source) or usual}"
        )
    if dataset.has_task:
        transfer_classes(source)
