"""Two sets of scenes, to train and to test a detector on, in COCO's format: ``train.json`` and ``val.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import xxhash
from jaxtyping import Bool
from PIL import Image

from underpaint import files, keyed_random
from underpaint.data.decode.image import preview
from underpaint.data.decode.limits import BadImage
from underpaint.data.open_source import open_source
from underpaint.data.source import Source, Split
from underpaint.messages import counted
from underpaint.preparation.inputs import require_apart
from underpaint.preparation.scenes.composing import Scene, compose
from underpaint.preparation.scenes.cutouts import CutOut, CutOuts
from underpaint.progress import progress

RECORD = "scenes.json"
FORMAT = 1
SETS: dict[str, Split] = {"train": "train", "val": "test"}
"""The split of the objects of each set."""
VAL_SCENES = 0.2
"""Scenes of ``val.json``, as a share of those of ``train.json``."""
VAL_BACKGROUNDS = 0.3
"""Share of the photographs that ``val.json`` has for itself."""
LEAST = 32
"""Pixels to which a JPEG is decoded at least where it is only looked at."""


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    objects: str
    """Source of pictures with classes: drawings or photographs on white, or with transparent parts."""
    backgrounds: str
    """Folder, or other source, of photographs."""
    scenes: int
    """Number of scenes of ``train.json``."""
    side: int = 128
    """Height and width of a scene in pixels."""
    seed: int = 0
    labels: str = ""
    """Table of the classes of a folder of objects."""

    def __post_init__(self) -> None:
        if not 1 <= self.scenes <= 1_000_000:
            raise ValueError(f"scenes={self.scenes} must lie between 1 and 1,000,000")
        if not 32 <= self.side <= 4096:
            raise ValueError(f"side={self.side} must lie between 32 and 4,096 pixels")


class SceneRecord(TypedDict):
    """``scenes.json``: of what a folder of scenes was made."""

    format: int
    objects: dict[str, str]  # name, content_hash, licence and attribution of the source
    backgrounds: dict[str, str]
    classes: list[str]
    scenes: dict[str, int]  # by set
    annotations: dict[str, int]
    side: int
    seed: int
    left_out: int  # pictures that cannot be cut out, and photographs that cannot be read
    pretrained: int  # objects of train.json that are in their source's split pretrain as well


def prepare_scenes(options: SceneOptions, out: Path) -> SceneRecord:
    """Compose scenes into the new folder ``out``; it appears whole. The same options give the same pixels.

    The objects of ``train.json`` are those of the source's split ``train``, those of ``val.json`` of its split
    ``test``. Photographs are divided by a hash of their bytes, so that no copy of one is on both sides.

    Raises:
        ValueError: if ``out`` exists, or there are too few objects or photographs for both sets.
    """
    if out.exists():
        raise ValueError(f"{out} exists already; scenes are made anew as a whole: choose another --out, or delete it")
    require_apart([source for source in (options.objects, options.backgrounds) if Path(source).is_dir()], out)
    objects = open_source(options.objects, labels=options.labels)
    backgrounds = open_source(options.backgrounds)
    cutouts = CutOuts(objects.files, side=options.side)
    rows, uncut = _objects(objects, cutouts)
    classes = sorted({objects.label[row] for row in rows["train"]} & {objects.label[row] for row in rows["val"]})
    if not classes:
        raise ValueError(
            f"'{objects.name}' has no class with pictures to train and to test on that can be cut out; give classes "
            f"(--labels FILE, or class folders), and pictures on white or with transparent parts"
        )
    photographs, unread = _divided(backgrounds)
    scenes = {"train": options.scenes, "val": max(1, round(VAL_SCENES * options.scenes))}
    annotations: dict[str, int] = {}
    with files.new_folder(out) as part:
        for name in SETS:
            chosen = [[row for row in rows[name] if objects.label[row] == label] for label in classes]
            makings = _Set(name, objects, chosen, cutouts, backgrounds, photographs[name], options)
            content = _annotated(makings, part / name, count=scenes[name], classes=classes)
            annotations[name] = len(content["annotations"])
            files.write_json(part / f"{name}.json", content)
        record: SceneRecord = {
            "format": FORMAT,
            "objects": _origin(objects),
            "backgrounds": _origin(backgrounds),
            "classes": classes,
            "scenes": scenes,
            "annotations": annotations,
            "side": options.side,
            "seed": options.seed,
            "left_out": uncut + unread,
            "pretrained": sum("pretrain" in objects.splits[row] for row in rows["train"]),
        }
        files.write_json(part / RECORD, record)
    return record


def summary(record: SceneRecord, out: Path) -> str:
    """Sentences about finished scenes, for the terminal."""
    scenes, annotations = record["scenes"], record["annotations"]
    lines = [
        f"{out}: {counted(scenes['train'], 'scene')} with {counted(annotations['train'], 'object')} to train on, "
        f"{counted(scenes['val'], 'scene')} with {counted(annotations['val'], 'object')} to test on, "
        f"{len(record['classes'])} classes"
    ]
    if record["left_out"]:
        lines.append(f"{counted(record['left_out'], 'picture')} left out, which cannot be cut out or read")
    if record["pretrained"]:
        lines.append(
            f"{counted(record['pretrained'], 'object')} to train on may have been pretrained on as well; those to test "
            f"on were not"
        )
    lines.append(f"train: underpaint train detect_laptop data={out}/train.json data.images={out}/train")
    return "\n".join(lines)


class _Set(NamedTuple):
    """The makings of one set of scenes."""

    name: str
    objects: Source
    chosen: Sequence[Sequence[int]]
    """Rows of the objects of each class."""
    cutouts: CutOuts
    backgrounds: Source
    photographs: Sequence[int]
    """Rows of the photographs."""
    options: SceneOptions

    def scene(self, number: int) -> Scene:
        key = keyed_random.key(self.options.seed, "scene", self.name, number)
        place = keyed_random.mix(key, 0) % len(self.photographs)
        path = self.backgrounds.path[self.photographs[place]]
        background = preview(self.backgrounds.files.read(path), least=self.options.side)
        return compose(background, self._choose, side=self.options.side, seed=keyed_random.mix(key, 1))

    def _choose(self, draw: float) -> tuple[int, CutOut, bool]:
        """An object of any class, all classes alike."""
        label, rest = divmod(draw * len(self.chosen), 1.0)
        rows = self.chosen[int(label)]
        row = rows[int(rest * len(rows))]
        return int(label), self.cutouts.read(self.objects.path[row]), self.objects.flip[row]


def _objects(source: Source, cutouts: CutOuts) -> tuple[dict[str, list[int]], int]:
    """Rows of the pictures with a class that can be cut out, by set, and the number of the others."""
    rows: dict[str, list[int]] = {}
    uncut = 0
    for name, split in SETS.items():
        labelled = [row for row in source.rows(split) if source.label[row]]
        rows[name] = []
        for row in progress(labelled, f"Cutting out {split} objects", total=len(labelled), unit="pictures"):
            try:
                cutouts.read(source.path[row])
            except (BadImage, OSError):
                uncut += 1
            else:
                rows[name].append(row)
    return rows, uncut


def _divided(source: Source) -> tuple[dict[str, list[int]], int]:
    """Rows of the photographs of each set by a hash of their bytes, and the number of those that cannot be read.

    Raises:
        ValueError: if one of the sets has none.
    """
    rows: dict[str, list[int]] = {name: [] for name in SETS}
    unread = 0
    for row, path in progress(
        enumerate(source.path), "Reading photographs", total=len(source.path), unit="photographs"
    ):
        try:
            data = source.files.read(path)
            preview(data, least=LEAST)
        except (BadImage, OSError):
            unread += 1
            continue
        share = xxhash.xxh3_64_intdigest(data) / 2**64
        rows["val" if share < VAL_BACKGROUNDS else "train"].append(row)
    if not all(rows.values()):
        counts = " and ".join(f"{len(of_set)} for {name}.json" for name, of_set in rows.items())
        raise ValueError(f"'{source.name}' gives {counts}; give more photographs, which are divided by their bytes")
    return rows, unread


class _Content(TypedDict):
    """An annotation file."""

    images: list[dict[str, object]]
    categories: list[dict[str, object]]
    annotations: list[dict[str, object]]


def _annotated(makings: _Set, folder: Path, *, count: int, classes: Sequence[str]) -> _Content:
    """Write the scenes of a set, and return their annotations."""
    categories: list[dict[str, object]] = [{"id": place, "name": name} for place, name in enumerate(classes, start=1)]
    content: _Content = {"images": [], "categories": categories, "annotations": []}
    folder.mkdir()
    for number in progress(range(count), f"Composing {makings.name} scenes", total=count, unit="scenes"):
        scene = makings.scene(number)
        side, image = makings.options.side, number + 1
        file = f"{number:06d}.png"
        Image.fromarray(scene.image).save(folder / file)
        content["images"].append({"id": image, "file_name": file, "height": side, "width": side})
        for each in scene.objects:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image,
                    "category_id": each.label + 1,
                    "bbox": _bounds(each.mask),
                    "area": int(each.mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": [side, side], "counts": run_lengths(each.mask)},
                }
            )
    return content


def _bounds(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Left, top, width and height of the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def run_lengths(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """COCO's run lengths: of pixels outside and inside in turn, column by column, the first run outside."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [len(flat)]])).tolist()
    return [0, *runs] if flat[0] else runs


def _origin(source: Source) -> dict[str, str]:
    names = ("name", "content_hash", "licence", "attribution")
    return {name: str(getattr(source, name)) for name in names}
