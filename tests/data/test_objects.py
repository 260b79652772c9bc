"""Annotation files and views with objects: hostile files, shapes against pycocotools, views against pixels."""

from __future__ import annotations

import json
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from underpaint.core import (
    PAD_LABEL,
    UNKNOWN_MASK,
    BoxClassInput,
    BoxInput,
    ExtentInput,
    ImageInput,
    Inputs,
    MaskInput,
    ObjectBatch,
)
from underpaint.data.detection.annotations import read_annotations
from underpaint.data.detection.dataset import AnnotatedDataset, DetectionData
from underpaint.data.detection.json_lists import BLOCK, read_lists
from underpaint.data.detection.shapes import NoShape, Runs, mask_over, parse_shape
from underpaint.data.detection.views import jittered, masks_over, moved, show, visible, whole
from underpaint.data.stream import Batching

SIZE = (32, 32)
SIDE = 28


def inputs(most: int = 6) -> Inputs:
    image = ImageInput(size=SIZE, channels=3, value_range=(0, 255), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return {
        "image": image,
        "extent": ExtentInput(size=SIZE),
        "boxes": BoxInput(most=most),
        "classes": BoxClassInput(most=most),
        "masks": MaskInput(most=most, side=SIDE),
    }


def annotation(number: int, image: int, box: list[float], category: int = 3, **more: object) -> dict[str, object]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, **more}


def content() -> dict[str, Any]:
    """Ids with holes, out of order; an image without objects, one with a crowd alone, one with polygon and runs."""
    x, y, w, h = 4, 2, 12, 9
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    runs = np.zeros((30, 40), dtype=np.uint8)
    runs[20:29, 10:30] = 1
    return {
        "info": {"year": 2026, "nested": [1, {"a": "]"}]},
        "annotations": [
            annotation(900, 70, [x, y, w, h], segmentation=[polygon]),
            annotation(5, 70, [10, 20, 20, 9], category=8, segmentation=run_lengths(runs)),
            annotation(6, 12, [30, 10, 40, 8]),
            annotation(7, 41, [1, 1, 9, 9], iscrowd=1),
        ],
        "images": [
            {"id": 70, "file_name": "a/seventy.png", "height": 30, "width": 40},
            {"id": 12, "file_name": "twelve.png", "height": 20, "width": 48},
            {"id": 41, "file_name": "crowd.png", "height": 16, "width": 16},
            {"id": 3, "file_name": "empty.png", "height": 10, "width": 16},
        ],
        "categories": [{"id": 8, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def run_lengths(mask: np.ndarray) -> dict[str, object]:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def write(folder: Path, tree: object, name: str = "objects.json") -> Path:
    path = folder / name
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, content())
    generator = np.random.default_rng(0)
    for image in content()["images"]:
        file = tmp_path / image["file_name"]
        file.parent.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    return tmp_path


def opened(folder: Path, **changes: Any) -> AnnotatedDataset:
    return DetectionData(annotations=str(folder / "objects.json"), **changes).open()


def batches(dataset: AnnotatedDataset, folder: Path, count: int = 3, **changes: Any) -> list[ObjectBatch]:
    batching = Batching(**{"batch_size": 2, "microbatch": 2} | changes)
    stream = dataset.stream(inputs(), batching, seed=1, quarantine=folder / "bad.jsonl")
    return list(islice(iter(stream), count))  # pyright: ignore[reportReturnType]


def test_objects_are_read_with_ids_that_have_holes(folder: Path) -> None:
    table = read_annotations(folder / "objects.json")
    assert table.image_ids == (3, 12, 41, 70)
    assert table.category_ids == (3, 8)
    assert table.class_names == ("cat", "dog")
    assert table.first.tolist() == [0, 0, 1, 2, 4]
    assert table.boxes.tolist() == [[30, 10, 48, 18], [1, 1, 10, 10], [4, 2, 16, 11], [10, 20, 30, 29]]
    assert table.classes.tolist() == [0, 0, 0, 1]
    assert table.crowd.tolist() == [False, True, False, False]
    assert (table.bad, table.clipped) == (0, 1)
    assert table.shapes.shape(0) == ()
    assert isinstance(table.shapes.shape(3), Runs)


def test_vocabulary_counts_images_and_notes_tell_what_is_left_out(folder: Path) -> None:
    dataset = opened(folder)
    assert dataset.vocabulary.labels == ("cat", "dog")
    assert dataset.vocabulary.count == (2, 1)
    assert dataset.images == 2
    assert dataset.notes == (
        "2 images without objects left out (data.keep_empty=true trains on them)",
        "1 object cut off at the border of their image",
    )
    assert opened(folder, keep_empty=True).images == 4


BAD_BOXES = [
    ([0, 0, 0, 5], "no area"),
    ([0, 0, 5, -1], "no area"),
    ([float("nan"), 0, 5, 5], "not finite"),
    ([0, 0, float("inf"), 5], "not finite"),
    ([1e300, 0, 5, 5], "not finite"),
    ([40, 0, 5, 5], "outside"),
    ([-9, 0, 9, 5], "outside"),
    ([0, 0, 5], "four numbers"),
    ("box", "four numbers"),
    ([True, 0, 5, 5], "four numbers"),
    (None, "four numbers"),
]


@pytest.mark.parametrize(("box", "reason"), BAD_BOXES)
def test_bad_boxes_are_left_out_and_counted(tmp_path: Path, box: Any, reason: str) -> None:
    tree = content()
    tree["annotations"].append(annotation(1, 70, box))
    table = read_annotations(write(tmp_path, tree))
    assert table.bad == 1
    assert reason in table.problems[0].reason
    assert len(table.boxes) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": 900}, "stands twice"),
        ({"id": "x"}, "whole number"),
        ({"id": True}, "whole number"),
        ({"image_id": 71}, "not in the file"),
        ({"category_id": 4}, "not in the file"),
        ({"category_id": 3.0}, "whole number"),
        ({"iscrowd": 2}, "iscrowd"),
        ({"segmentation": [[1, 2, 3]]}, "even number"),
        ({"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, "finite"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "other than numbers"),
        ({"segmentation": "polygon"}, "neither"),
        ({"segmentation": {"size": [30, 40], "counts": [1199]}}, "1199 pixels"),
        ({"segmentation": {"size": [30, 40], "counts": [-1, 1201]}}, "between 0"),
        ({"segmentation": {"size": [30, 40], "counts": "~~~~"}}, "compressed"),
        ({"segmentation": {"size": [40, 30], "counts": [1200]}}, "outside"),
        ({"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}}, "size"),
    ],
)
def test_bad_annotations_are_left_out_and_counted(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    tree = content()
    tree["annotations"].append(annotation(1, 70, [1, 1, 5, 5]) | changes)
    table = read_annotations(write(tmp_path, tree))
    assert table.bad == 1
    assert reason in table.problems[0].reason


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("[]", "is not a whole JSON file"),
        ('{"images": [', "is not a whole JSON file"),
        ('{"images": [{]}', "is not a whole JSON file"),
        ('{"images": []} ', "no list named annotations and none named categories"),
        ('{"images": [], "annotations": [], "categories": []}', "0 images and 0 categories"),
        ('{"images": [3]}', "is not an object"),
        ('{"images": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_are_not_annotations_are_refused(tmp_path: Path, tree: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_annotations(write(tmp_path, tree))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"id": 70}, "stands twice in images"),
        ({"id": "seventy"}, "whole number"),
        ({"height": 0}, "height=0"),
        ({"height": 10**6}, "height=1000000"),
        ({"width": "40"}, "width='40'"),
        ({"file_name": "../../etc/passwd"}, "leaves the folder"),
        ({"file_name": "/etc/passwd"}, "leaves the folder"),
        ({"file_name": 7}, "must be a text"),
    ],
)
def test_unusable_images_are_refused(tmp_path: Path, image: dict[str, object], message: str) -> None:
    tree = content()
    tree["images"].append({"id": 1, "file_name": "x.png", "height": 4, "width": 4} | image)
    with pytest.raises(ValueError, match=message):
        read_annotations(write(tmp_path, tree))


def test_lvis_names_its_images_by_url(tmp_path: Path) -> None:
    tree = content()
    del tree["images"][0]["file_name"]
    tree["images"][0]["coco_url"] = "http://images.cocodataset.org/train2017/000000000070.jpg"
    assert read_annotations(write(tmp_path, tree)).paths[3] == "train2017/000000000070.jpg"


def test_too_many_bad_annotations_end_the_run_before_it_starts(folder: Path) -> None:
    tree = content()
    tree["annotations"] += [annotation(1, 70, [0, 0, 0, 0])]
    write(folder, tree)
    with pytest.raises(ValueError, match=r"1 of 5 annotations are bad, .* annotation 1: .* has no area"):
        opened(folder)
    assert opened(folder, max_bad=0.2).training.table.bad == 1


def test_elements_are_read_across_the_borders_of_blocks(tmp_path: Path) -> None:
    texts = ["x" * size for size in (BLOCK - 20, 3, BLOCK // 2, 2 * BLOCK, 7)]
    numbers = list(range(10_000_000, 10_000_400))
    path = write(tmp_path, {"skipped": texts, "wanted": [*texts, *numbers], "number": 12345})
    elements: list[object] = []
    read_lists(path, {"wanted": elements.append})
    assert elements == [*texts, *numbers]


def test_many_boxes_of_one_image_are_read_and_the_largest_shown(tmp_path: Path) -> None:
    count = 4000
    tree = content()
    tree["annotations"] = [annotation(n, 70, [n % 30, 0, 9.5, 20]) for n in range(count)]
    table = read_annotations(write(tmp_path, tree))
    assert len(table.boxes) == count
    boxes = moved(table.boxes, (30, 40), whole(30, 40, size=SIZE))
    kept = visible(boxes, 6)
    assert len(kept) == 6
    assert (table.boxes[kept][:, 2] - table.boxes[kept][:, 0] == 9.5).all()


def random_mask(seed: int, height: int = 23, width: int = 31) -> np.ndarray:
    return (np.random.default_rng(seed).random((height, width)) < 0.4).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    from pycocotools import mask as coco_mask

    mask = random_mask(seed)
    mask[:, 5:9] = seed % 2
    encoded: Any = coco_mask.encode(np.asfortranarray(mask))
    compressed = {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}
    x, y = np.arange(31) + 0.5, np.arange(23) + 0.5
    for segmentation in (compressed, run_lengths(mask)):
        shape = parse_shape(segmentation, height=23, width=31)
        assert np.array_equal(mask_over(shape, x, y), mask.astype(bool))
    beyond = mask_over(shape, np.array([-0.5, 31.5]), y)  # pyright: ignore[reportPossiblyUnbound]
    assert not beyond.any()


def test_polygons_are_filled_by_the_even_odd_rule() -> None:
    """A star, a triangle and their union, point by point."""
    generator = np.random.default_rng(0)
    star = np.array([[15, 0], [24, 29], [1, 11], [29, 11], [6, 29]], dtype=float)
    triangle = generator.random((3, 2)) * 30
    shape = parse_shape([star.ravel().tolist(), triangle.ravel().tolist()], height=30, width=30)
    x, y = np.sort(generator.random(40) * 34 - 2), generator.random(30) * 34 - 2

    def inside(points: np.ndarray, px: float, py: float) -> bool:
        odd = False
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if (y0 <= py) != (y1 <= py) and x0 + (py - y0) / (y1 - y0) * (x1 - x0) <= px:
                odd = not odd
        return odd

    expected = np.array([[inside(star, px, py) or inside(triangle, px, py) for px in x] for py in y])
    assert 0.1 < expected.mean() < 0.9
    assert np.array_equal(mask_over(shape, x, y), expected)
    assert np.array_equal(mask_over(shape, x[::-1], y), expected[:, ::-1])


def test_polygons_agree_with_pycocotools_but_for_their_border() -> None:
    from pycocotools import mask as coco_mask

    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 60 + 20 * np.cos(5 * angle)
    points = np.stack([100 + radius * np.cos(angle), 90 + radius * np.sin(angle)], axis=1)
    polygon = points.ravel().tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools asks numpy for arrays the old way
        theirs = coco_mask.decode(coco_mask.frPyObjects([polygon], 200, 200))[..., 0].astype(bool)
    ours = mask_over(parse_shape([polygon], height=200, width=200), np.arange(200) + 0.5, np.arange(200) + 0.5)
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.985


def test_a_polygon_of_many_points_takes_little_memory() -> None:
    angle = np.linspace(0, 2 * np.pi, 200_000, endpoint=False)
    points = np.stack([50 + 40 * np.cos(angle), 50 + 40 * np.sin(angle)], axis=1)
    inside = mask_over((points,), np.arange(100) + 0.5, np.arange(100) + 0.5)
    assert inside.sum() == pytest.approx(np.pi * 1600, rel=0.01)


def filled(height: int, width: int, box: tuple[int, int, int, int]) -> Tensor:
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    return torch.from_numpy(np.array(image))[None]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_and_masks_move_with_the_pixels(seed: int) -> None:
    """A white rectangle is where its box is moved to, in jittered views of all scales, mirrored or not."""
    height, width, box = 60, 90, (12, 6, 70, 48)
    placement = jittered(height, width, size=(64, 80), scale=(0.4, 2.0), flip=True, seed=seed * 7919)
    view = show(filled(height, width, box), placement)[0] > 127
    assert tuple(view.shape) == placement.extent
    moved_box = moved(torch.tensor([box], dtype=torch.float32), (height, width), placement)
    x0, y0, x1, y1 = moved_box[0].round().int().tolist()
    expected = torch.zeros_like(view)
    expected[y0:y1, x0:x1] = True
    border = 2 * (x1 - x0 + y1 - y0) + 8
    assert (view != expected).sum() <= border
    triangle = parse_shape([[12, 6, 70, 6, 12, 48]], height=height, width=width)
    mask = masks_over([triangle], moved_box, (height, width), placement, 50)[0]
    (top, left), (down, across) = placement.offset, (placement.resized[0] / height, placement.resized[1] / width)
    for row, column in ((3, 7), (40, 9), (11, 44), (30, 30)):
        x = left + float(moved_box[0, 0]) + (column + 0.5) / 50 * float(moved_box[0, 2] - moved_box[0, 0])
        y = top + float(moved_box[0, 1]) + (row + 0.5) / 50 * float(moved_box[0, 3] - moved_box[0, 1])
        x = (placement.resized[1] - x if placement.mirrored else x) / across
        assert bool(mask[row, column]) == ((x - 12) / 58 + (y / down - 6) / 42 < 1)


def test_jitter_has_the_range_of_scales_and_places() -> None:
    placements = [jittered(50, 100, size=(64, 64), scale=(0.1, 2.0), flip=True, seed=seed) for seed in range(400)]
    widths = [placement.resized[1] for placement in placements]
    assert min(widths) < 15
    assert max(widths) > 120
    assert sum(placement.mirrored for placement in placements) == pytest.approx(200, abs=40)
    wide = [placement for placement in placements if placement.resized[1] > 110]
    assert min(placement.offset[1] for placement in wide) < 10
    assert max(placement.offset[1] for placement in wide) > 40
    assert all(p.resized[0] <= 64 or p.offset[0] <= p.resized[0] - 64 for p in placements)
    assert not any(jittered(5, 5, size=(8, 8), scale=(1, 1), flip=False, seed=s).mirrored for s in range(20))


def test_batches_hold_views_with_their_objects(folder: Path) -> None:
    for batch in batches(opened(folder), folder):
        assert batch["image"].shape == (2, 3, *SIZE)
        for row in range(2):
            count = int((batch["classes"][row] != PAD_LABEL).sum())
            high, wide = batch["extent"][row].tolist()
            boxes = batch["boxes"][row]
            assert (boxes[count:] == 0).all()
            assert (boxes[:count, 2:] > boxes[:count, :2]).all()
            assert float(boxes[:, [0, 2]].max()) <= wide
            assert float(boxes[:, [1, 3]].max()) <= high
            assert not batch["image"][row, :, int(high) :].any()
            assert not batch["image"][row, :, :, int(wide) :].any()


def test_objects_without_a_segmentation_have_unknown_masks(folder: Path) -> None:
    batch = next(iter(opened(folder, heldout_annotations=str(folder / "objects.json")).heldout(inputs(), batch_size=4)))
    assert batch["classes"][:, 0].tolist() == [PAD_LABEL, 0, PAD_LABEL, 0]  # ids 3, 12, 41 and 70
    assert (batch["masks"][1, 0] == UNKNOWN_MASK).all()
    assert (batch["masks"][3, :2] == 1).all()
    torch.testing.assert_close(batch["boxes"][3, 0], torch.tensor([4, 2, 16, 11]) * 0.8)
    assert batch["extent"].tolist() == [[20, 32], [13, 32], [32, 32], [24, 32]]


@pytest.mark.parametrize("changes", [{"microbatch": 1}, {"position": 2}])
def test_samples_depend_on_their_position_alone(folder: Path, changes: dict[str, int]) -> None:
    first = batches(opened(folder), folder, 4)
    position = changes.pop("position", 0)
    batching = Batching(**{"batch_size": 2, "microbatch": 2} | changes)
    stream = opened(folder).stream(inputs(), batching, seed=1, quarantine=folder / "bad.jsonl")
    stream.position = position
    again = list(islice(iter(stream), 4))
    whole_one = {name: torch.cat([batch[name] for batch in first])[position:] for name in first[0]}  # pyright: ignore
    for name, value in whole_one.items():
        other = torch.cat([batch[name] for batch in again])
        assert torch.equal(value[: len(other)], other[: len(value)]), name


@pytest.mark.slow
def test_worker_processes_change_nothing(folder: Path) -> None:
    alone = batches(opened(folder), folder, 4)
    for batch, other in zip(alone, batches(opened(folder, workers=2), folder, 4), strict=True):
        for name, value in batch.items():
            assert torch.equal(value, other[name]), name  # pyright: ignore


@pytest.fixture
def damaged(folder: Path) -> Path:
    (folder / "twelve.png").write_bytes(b"not an image")
    Image.new("RGB", (41, 30)).save(folder / "a" / "seventy.png")
    return folder


def test_unusable_images_are_placeholders(damaged: Path) -> None:
    batch = batches(opened(damaged, max_bad=1), damaged, 1)[0]
    assert batch["weight"].tolist() == [0, 0]
    assert not batch["image"].any()
    assert (batch["classes"] == PAD_LABEL).all()
    assert batch["extent"].tolist() == [list(SIZE)] * 2
    lines = [json.loads(line) for line in (damaged / "bad.jsonl").read_text().splitlines()]
    reasons = {line["key"]: line["reason"] for line in lines}
    assert "41 x 30 pixels" in reasons["a/seventy.png"]
    assert "not an image" in reasons["twelve.png"]


def test_missing_images_are_reported_before_the_first_step(folder: Path) -> None:
    (folder / "twelve.png").unlink()
    dataset = opened(folder)
    assert dataset.images == 1
    with pytest.raises(ValueError, match="max_bad"):
        dataset.stream(inputs(), Batching(batch_size=1, microbatch=1), seed=0, quarantine=folder / "bad.jsonl")
    with pytest.raises(ValueError, match="none of the 4 images"):
        opened(folder, images=str(folder / "a"))


def test_repeat_factors_are_those_of_lvis(folder: Path) -> None:
    """One of 2 images has the rare class, so f = 1/2, and with t = 1 its factor is sqrt(2)."""
    factors = opened(folder, repeat_threshold=1.0).repeat_factors()
    assert factors == pytest.approx((1.0, 2**0.5))
    assert opened(folder).repeat_factors() == ()


def test_an_objective_with_further_inputs_is_refused(folder: Path) -> None:
    more = {**inputs(), "text": BoxInput(most=3)}
    with pytest.raises(ValueError, match="the objective asks for"):
        opened(folder).stream(more, Batching(batch_size=1, microbatch=1), seed=0, quarantine=folder / "bad.jsonl")


@pytest.mark.parametrize(
    ("value", "message"),
    [({"size": [2, 2], "counts": [1, 1]}, "2 pixels, the image has 4"), ({"size": [2, 2], "counts": "P"}, "middle")],
)
def test_damaged_run_lengths_are_refused(value: dict[str, object], message: str) -> None:
    with pytest.raises(NoShape, match=message):
        parse_shape(value, height=2, width=2)
