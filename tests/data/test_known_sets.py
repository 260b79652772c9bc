"""Published datasets as they lie on disk, in small trees: layouts, orders, counts, and what is wrong with them."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm.data
import torch
from PIL import Image
from timm.data.real_labels import RealLabelsImagenet
from torch import Tensor, nn

from underpaint import verbs
from underpaint.core import ImageInput
from underpaint.data.decode.image import decode
from underpaint.data.folders.folder_dataset import open_folder_dataset
from underpaint.data.image_options import ImageOptions
from underpaint.data.known_sets import catalog, imagenet
from underpaint.data.known_sets.class_table import ClassTable, imagenet_classes
from underpaint.data.known_sets.imagenet import objectnet_map, read_imagenet, real_labels
from underpaint.data.known_sets.known_set import KnownSet
from underpaint.data.known_sets.other_sets import CIFAR10, read_annotations, read_caltech, read_cifar, read_inaturalist
from underpaint.data.open_source import open_source
from underpaint.data.source import Source
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.engine import Engine
from underpaint.evals.features import labelled_rows, transfer_classes
from underpaint.evals.predictions import write_predictions
from underpaint.evals.robustness import Robustness
from underpaint.evals.scoring import scored
from underpaint.models.vit import ViTConfig

WNIDS = tuple(f"n{number:08d}" for number in range(100, 112))
TABLE = ClassTable(wnids=WNIDS, names=WNIDS, version=1, xxh3="abc")
CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve classes, and as few images of each set as the tests make."""
    counts: dict[str, dict[str, int]] = {
        "in1k": {"classes": 12, "train": 24, "test": 12},
        "in-v2": {"classes": 12, "test": 12},
        "in-real": {"classes": 3, "test": 4},
        "objectnet": {"classes": 2, "test": 4},
        "inat18": {"classes": 2, "train": 4, "test": 2},
        "food101": {"classes": 2, "train": 4, "test": 2},
    }
    monkeypatch.setattr(imagenet, "imagenet_classes", lambda: TABLE)
    known: list[KnownSet] = [replace(each, **counts.get(each.name, {})) for each in catalog.KNOWN_SETS]
    monkeypatch.setattr(catalog, "KNOWN_SETS", tuple(known))


def image(path: Path, value: int = 0, size: tuple[int, int] = (12, 10)) -> None:
    """A picture whose brightness is its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path, "PNG" if path.suffix == ".png" else "JPEG", quality=100)


def imagenet_tree(root: Path, *, flat: bool = False) -> Path:
    for number, wnid in enumerate(WNIDS):
        for copy in range(2):
            image(root / "train" / wnid / f"{wnid}_{copy}.JPEG", number)
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        image(root / "val" / ("" if flat else wnid) / name, number)
    return root


def solution(root: Path, wnids: tuple[str, ...] = WNIDS) -> None:
    with (root / "LOC_val_solution.csv").open("w", newline="") as out:
        rows = [[f"ILSVRC2012_val_{number + 1:08d}", f"{wnid} 1 2 3 4"] for number, wnid in enumerate(wnids)]
        csv.writer(out).writerows([["ImageId", "PredictionString"], *rows])


def halves(source: Source) -> dict[str, str]:
    return {source.path[row]: source.label[row] for row in source.rows("test")}


def test_the_table_of_classes_is_imagenets() -> None:
    table = imagenet_classes()
    theirs = (Path(timm.data.__file__).parent / "_info" / "imagenet_synsets.txt").read_text().split()
    assert list(table.wnids) == theirs == sorted(theirs)
    assert (table.names[0], table.names[207], table.names[999]) == ("tench", "golden retriever", "toilet tissue")
    assert len(table.xxh3) == 16


@pytest.mark.usefixtures("small")
def test_imagenet_as_it_lies(tmp_path: Path) -> None:
    nested = open_source(f"in1k:{imagenet_tree(tmp_path / 'nested')}")
    assert len(nested.rows("train")) == len(nested.rows("pretrain")) == 24
    assert set(nested.label) == set(WNIDS)
    assert nested.class_table == "abc"
    flat = imagenet_tree(tmp_path / "flat", flat=True)
    with pytest.raises(
        ValueError, match=r"has no class folders, and .*flat no list of its classes: add one of LOC_val"
    ):
        open_source(f"in1k:{flat}")
    solution(flat)
    labels = halves(open_source(f"in1k:{flat}"))
    assert labels == {f"val/ILSVRC2012_val_{n + 1:08d}.JPEG": wnid for n, wnid in enumerate(WNIDS)}
    (flat / "LOC_val_solution.csv").unlink()
    names = [f"ILSVRC2012_val_{number + 1:08d}.JPEG {number}" for number in range(12)]
    (flat / "val.txt").write_text("\n".join(reversed(names)) + "\n")
    assert halves(open_source(f"in1k:{flat}")) == labels
    (flat / "val.txt").unlink()
    (flat / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(WNIDS) + "\n")
    assert halves(open_source(f"in1k:{flat}")) == labels


@pytest.mark.usefixtures("small")
def test_imagenet_with_faults_is_refused_before_anything_else(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path / "imagenet", flat=True)
    solution(root, WNIDS[:11])
    with pytest.raises(
        ValueError, match=r"LOC_val_solution.csv has 11 lines for 12 images of val/; it is another list"
    ):
        open_source(f"in1k:{root}")
    solution(root, (*WNIDS[:11], "n99999999"))
    with pytest.raises(ValueError, match=r"12 classes: 1 missing \(n00000111\) and 1 unknown \(n99999999\)"):
        open_source(f"in1k:{root}")
    (root / "LOC_val_solution.csv").unlink()
    twice = ["ILSVRC2012_val_00000001.JPEG 0"] * 12
    (root / "val.txt").write_text("\n".join(twice))
    with pytest.raises(ValueError, match=r"val.txt has ILSVRC2012_val_00000001.JPEG twice; delete one of the lines"):
        open_source(f"in1k:{root}")
    (root / "val.txt").write_text("\n".join(f"ILSVRC2012_val_{n + 1:08d}.JPEG {n + 1}" for n in range(12)))
    with pytest.raises(ValueError, match=r"has the class 12; its numbers go from 0 to 11"):
        open_source(f"in1k:{root}")
    (root / "train" / WNIDS[3]).rename(root / "train" / "n5")
    with pytest.raises(ValueError, match=r"train must have 12 classes: 1 missing \(n00000103\) and 1 unknown \(n5\)"):
        open_source(f"in1k:{root}")
    with pytest.raises(ValueError, match=r"is not a folder; ImageNet-1k lies in one with train/WNID"):
        open_source(f"in1k:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match="has its own classes: give no file"):
        open_source(f"in1k:{root}", labels="labels.csv")


@pytest.mark.usefixtures("small")
def test_lists_of_a_flat_val_in_other_forms(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path / "imagenet", flat=True)
    names = [f"ILSVRC2012_val_{number + 1:08d}" for number in range(12)]
    right = {f"val/{name}.JPEG": wnid for name, wnid in zip(names, WNIDS, strict=True)}
    file = root / "val.txt"
    file.write_text("\r\n".join(f"{name}.JPEG {number}" for number, name in enumerate(names)), encoding="utf-8-sig")
    assert halves(open_source(f"in1k:{root}")) == right
    file.write_text("\n".join(f"{name}.JPEG" for name in names))
    with pytest.raises(
        ValueError, match=r"val.txt has 'ILSVRC2012_val_00000001.JPEG', an image without a class; write"
    ):
        open_source(f"in1k:{root}")
    file.write_text("a.JPEG 0", encoding="utf-16")
    with pytest.raises(ValueError, match=r"val.txt is not UTF-8 text: .*; save it as UTF-8"):
        open_source(f"in1k:{root}")
    file.unlink()
    rows = "\n".join(f"{name},{wnid} 1 2 3 4" for name, wnid in zip(names, WNIDS, strict=True))
    (root / "LOC_val_solution.csv").write_text(rows)
    assert halves(open_source(f"in1k:{root}")) == right, "without its header"


@pytest.mark.parametrize("inner", ["101_ObjectCategories", "images"])
def test_one_folder_around_the_class_folders_is_named(tmp_path: Path, inner: str) -> None:
    for name in ("ant", "bee"):
        for number in range(3):
            image(tmp_path / inner / name / f"{number}.jpg", 10 * number)
    outer = f"all images lie in {tmp_path / inner}; give this folder, if those in it are classes"
    for needed in (transfer_classes, partial(labelled_rows, split="train")):
        with pytest.raises(ValueError, match=f"{outer}, or a set as NAME:FOLDER"):
            needed(open_source(str(tmp_path)))
    with pytest.raises(ValueError, match=f"has no images in its split 'train': {outer}"):
        open_folder_dataset(ImageOptions(source=str(tmp_path), split="train", targets="class"))


@pytest.mark.usefixtures("small")
def test_a_part_of_a_set_is_refused_with_its_counts(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path / "imagenet")
    (root / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").unlink()
    with pytest.raises(ValueError, match=r"is not all of ImageNet-1k: it has 23 training images instead of 24\. C"):
        open_source(f"in1k:{root}")


def v2_tree(root: Path) -> Path:
    for number in range(12):
        image(root / f"{number}" / "a.png", number)
    return root


@pytest.mark.usefixtures("small")
def test_the_folders_of_v2_are_numbers(tmp_path: Path) -> None:
    """As texts 10 and 11 come before 2."""
    source = open_source(f"in-v2:{v2_tree(tmp_path / 'v2')}")
    assert halves(source) == {f"{number}/a.png": WNIDS[number] for number in range(12)}
    (tmp_path / "v2" / "7").rename(tmp_path / "v2" / "seven")
    with pytest.raises(ValueError, match=r"is not ImageNetV2.*1 missing \(7\) and 1 unknown \(seven\)"):
        open_source(f"in-v2:{tmp_path / 'v2'}")


REAL = [[], [3, 5], [0], [], [5], [3, 0]]


def real_tree(root: Path, *, flat: bool = True) -> Path:
    for number in range(len(REAL)):
        image(root / "val" / ("" if flat else WNIDS[number]) / f"ILSVRC2012_val_{number + 1:08d}.JPEG", number)
    (root / "real.json").write_text(json.dumps(REAL))
    return root


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("flat", [True, False])
def test_real_skips_images_without_labels(tmp_path: Path, flat: bool) -> None:
    source = open_source(f"in-real:{real_tree(tmp_path / 'real', flat=flat)}")
    accepted = {Path(source.path[row]).name[15:23]: source.accepted[row] for row in source.rows("test")}
    expected = {f"{number + 1:08d}": tuple(WNIDS[label] for label in row) for number, row in enumerate(REAL) if row}
    assert accepted == expected
    assert source.notes == ("2 of 6 images have no label in ReaL and are not counted",)


@pytest.mark.usefixtures("small")
def test_a_validation_image_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Beside a missing one, the count would be right."""
    real, nested = real_tree(tmp_path / "real"), imagenet_tree(tmp_path / "imagenet")
    image(real / "val" / "ILSVRC2012_val_00000002.png", 1)
    (real / "val" / "ILSVRC2012_val_00000003.JPEG").unlink()
    (nested / "val" / WNIDS[2] / "ILSVRC2012_val_00000003.JPEG").unlink()
    shutil.copytree(nested / "val" / WNIDS[1], nested / "val" / WNIDS[2], dirs_exist_ok=True)
    for name in (f"in-real:{real}", f"in1k:{nested}"):
        with pytest.raises(ValueError, match="val has ILSVRC2012_val_00000002 twice; delete one of the files"):
            open_source(name)


def test_published_real_has_46837_images_with_labels() -> None:
    rows = real_labels(Path(timm.data.__file__).parent / "_info" / "imagenet_real_labels.json")
    assert (len(rows), sum(bool(row) for row in rows)) == (50_000, 46_837)
    assert next(known for known in catalog.KNOWN_SETS if known.name == "in-real").test == 46_837
    assert len({label for row in rows for label in row}) == 1000


def objectnet_tree(root: Path) -> Path:
    """Two classes of ObjectNet that are three of ImageNet, and one that is none; a red border of one pixel."""
    mappings = {
        "folder_to_objectnet_label.json": {"chair": "Chair", "clock": "Clock", "bowl": "Salad bowl"},
        "objectnet_to_imagenet_1k.json": {"Chair": "barber chair; folding chair", "Clock": "analog clock"},
        "pytorch_to_imagenet_2012_id.json": {"5": 0, "2": 1, "9": 2},
    }
    (root / "mappings").mkdir(parents=True)
    for name, content in mappings.items():
        (root / "mappings" / name).write_text(json.dumps(content))
    (root / "mappings" / "imagenet_to_label_2012_v2").write_text("analog clock\nfolding chair\nbarber chair\n")
    for folder, value in (("chair", 2), ("clock", 5), ("bowl", 7)):
        for number in range(2):
            image(root / "images" / folder / f"{number}.png", value)
            path = root / "images" / folder / f"{number}.png"
            pixels = np.array(Image.open(path))
            pixels[[0, 1, -2, -1]] = pixels[:, [0, 1, -2, -1]] = (255, 0, 0)
            Image.fromarray(pixels).save(path)
    return root


@pytest.mark.usefixtures("small")
def test_objectnet_maps_many_classes_to_one_and_loses_its_border(tmp_path: Path) -> None:
    root = objectnet_tree(tmp_path / "objectnet")
    assert objectnet_map(root / "mappings") == {"chair": [9, 2], "clock": [5]}
    source = open_source(f"objectnet:{root}")
    accepted = {source.label[row]: source.accepted[row] for row in source.rows("test")}
    assert accepted == {"chair": (WNIDS[9], WNIDS[2]), "clock": (WNIDS[5],)}
    assert source.notes == ("3 classes of ImageNet are 2 of ObjectNet; the red border of 2 pixels is cut off",)
    pixels = decode(source.files.read("images/chair/0.png"), channels=3, value_range=(0.0, 255.0))
    assert tuple(pixels.shape) == (3, 6, 8)
    assert int(pixels.max()) == 2
    for number in ("5000", "-1", "x"):
        (root / "mappings" / "pytorch_to_imagenet_2012_id.json").write_text(json.dumps({number: 0}))
        with pytest.raises(ValueError, match=f"2012_id.json has the class '{number}'; its numbers go from 0 to 11"):
            open_source(f"objectnet:{root}")
    (root / "mappings" / "pytorch_to_imagenet_2012_id.json").write_text('{"5": 0}')
    with pytest.raises(ValueError, match=r"'Chair' is 'barber chair; folding chair' in one file, and 'barber chair' i"):
        open_source(f"objectnet:{root}")


class ByBrightness(nn.Module):
    """A classifier of WNIDS: the class is the brightness of the picture, but for some mistakes."""

    labels = WNIDS
    image_input: ImageInput = ViTConfig(
        size=(8, 8), patch=4, width=8, heads=1, mean=(0.0,) * 3, std=(1.0,) * 3
    ).image_input

    def __init__(self, mistakes: dict[int, list[int]]) -> None:
        super().__init__()
        self.mistakes = mistakes

    def logits(self, image: Tensor) -> Tensor:
        number = (image.mean(dim=(1, 2, 3)) * 255).round().long().tolist()
        scores = torch.zeros(len(number), len(WNIDS))
        for row, value in enumerate(number):
            for place, answer in enumerate(self.mistakes.get(value, [value])):
                scores[row, answer] = 10 - place
        return scores


@pytest.mark.usefixtures("small")
def test_both_rules_of_objectnet_against_a_naive_count(tmp_path: Path) -> None:
    """Class 5 is taken for 7, which ObjectNet lacks, and then for 9, a chair; class 2 is right."""
    source = open_source(f"objectnet:{objectnet_tree(tmp_path / 'objectnet')}")
    model = ByBrightness({5: [7, 5], 2: [2]})
    unrestricted, restricted = Accuracy(dataset="x")(model, source=source, device=CPU, seed=0)
    assert (unrestricted.split, unrestricted.value) == ("test", 0.5)
    assert (restricted.split, restricted.value) == ("restricted", 1.0)
    assert unrestricted.remarks == ("a prediction outside the dataset's classes counts as wrong",)
    assert restricted.versions == {"classes": "abc"}
    model = ByBrightness({5: [7, 9], 2: [9]})
    unrestricted, restricted = Accuracy(dataset="x")(model, source=source, device=CPU, seed=0)
    assert (unrestricted.value, restricted.value) == (0.5, 0.5), "both chairs are right as the other chair of ImageNet"


@pytest.mark.usefixtures("small")
def test_real_is_scored_as_timm_does(tmp_path: Path) -> None:
    root = real_tree(tmp_path / "real")
    source = open_source(f"in-real:{root}")
    model = ByBrightness({1: [5], 2: [1], 4: [5], 5: [4]})
    (score,) = Accuracy(dataset="x")(model, source=source, device=CPU, seed=0)
    names = sorted(path.name for path in (root / "val").iterdir())
    theirs = RealLabelsImagenet(names, real_json=str(root / "real.json"), topk=(1,))
    predicted = [model.mistakes.get(number, [number])[0] for number in range(6)]
    theirs.add_result(torch.nn.functional.one_hot(torch.tensor(predicted), 12).float().repeat(1, 1))
    assert theirs.get_accuracy(1) == pytest.approx(100 * score.value)
    assert (len(score.correct), score.value) == (4, 0.5)


@pytest.mark.usefixtures("small")
def test_robustness_scores_all_sets_that_are_there(tmp_path: Path) -> None:
    v2_tree(tmp_path / "all" / "v2")
    real_tree(tmp_path / "all" / "real")
    objectnet_tree(tmp_path / "all" / "objectnet")
    (tmp_path / "all" / "notes").mkdir()
    sources = Robustness(dataset=str(tmp_path / "all")).sources()
    assert [source.name for source in sources] == ["objectnet (objectnet)", "in-real (real)", "in-v2 (v2)"]
    assert [source.name for source in Robustness(dataset=str(tmp_path / "all" / "v2")).sources()] == ["in-v2 (v2)"]
    model = ByBrightness({})
    scores = [s for source in sources for s in Robustness(dataset="x")(model, source=source, device=CPU, seed=0)]
    values = {(score.dataset.split()[0], score.split): score.value for score in scores}
    assert values == {
        ("objectnet", "test"): 1,
        ("objectnet", "restricted"): 1,
        ("in-real", "test"): 0.0,
        ("in-v2", "test"): 1,
    }
    with pytest.raises(ValueError, match=r"notes has neither ImageNetV2 \(folders 0 to 999\) nor ReaL"):
        Robustness(dataset=str(tmp_path / "all" / "notes")).sources()
    few = ByBrightness({})
    few.labels = WNIDS[:3]
    with pytest.raises(ValueError, match=r"the classifier has no class 'n00000103' \(9 classes of 'in-v2 \(v2\)' are"):
        Accuracy(dataset="x")(few, source=sources[-1], device=CPU, seed=0)
    assert "robustness" in verbs.EVALUATIONS


@pytest.mark.usefixtures("small")
def test_an_unreadable_test_image_counts_as_wrong(tmp_path: Path) -> None:
    root = v2_tree(tmp_path / "v2")
    (root / "3" / "a.png").write_bytes(b"broken")
    (score,) = Accuracy(dataset="x")(ByBrightness({}), source=open_source(f"in-v2:{root}"), device=CPU, seed=0)
    assert (len(score.correct), score.value) == (12, pytest.approx(11 / 12))
    assert score.remarks == ("1 of 12 test images could not be read and count as wrong: '3/a.png'",)


def inaturalist(root: Path) -> Path:
    for half, count in (("train", 4), ("val", 2)):
        images, rows = [], []
        for number in range(count):
            path = f"train_val2018/Aves/{number % 2}/{half}{number}.jpg"
            image(root / path)
            images.append({"id": number + 100, "file_name": path})
            rows.append({"id": number, "image_id": number + 100, "category_id": number % 2})
        content = {
            "images": images,
            "annotations": rows,
            "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
        }
        (root / f"{half}2018.json").write_text(json.dumps(content))
    return root


def changed(file: Path, change: Any) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.usefixtures("small")
def test_inaturalist_is_read_from_its_annotations(tmp_path: Path) -> None:
    root = inaturalist(tmp_path / "inat")
    source = open_source(f"inat18:{root}")
    assert halves(source) == {"train_val2018/Aves/0/val0.jpg": "a", "train_val2018/Aves/1/val1.jpg": "b"}
    assert [source.label[row] for row in source.rows("train")] == ["a", "a", "b", "b"]
    file = root / "train2018.json"
    changed(file, lambda c: c["images"][1].update(file_name=c["images"][0]["file_name"]))
    with pytest.raises(ValueError, match=r"train2018.json has train_val2018/Aves/0/train0.jpg twice"):
        read_annotations(file)
    changed(file, lambda c: c["images"][1].update(file_name="../../etc/passwd"))
    with pytest.raises(ValueError, match=r"the path '../../etc/passwd' leaves the folder"):
        read_annotations(file)
    changed(file, lambda c: c["images"][1].update(file_name="train_val2018/none.jpg"))
    with pytest.raises(ValueError, match=r"lists 1 images that .*inat lacks \(train_val2018/none.jpg\); add them"):
        read_inaturalist(root)
    changed(file, lambda c: c["annotations"].pop())
    with pytest.raises(ValueError, match=r"has 1 images without an annotation"):
        read_annotations(file)
    changed(file, lambda c: c.pop("categories"))
    with pytest.raises(ValueError, match=r"is not a file of annotations: it must be an object with the list 'categor"):
        read_annotations(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: [], "it must be an object with the list 'images'"),
        (
            lambda c: c | {"images": ["a.jpg"]},
            "entry 0 of 'images' must be an object with the numbers or texts 'id' and",
        ),
        (lambda c: c | {"categories": [{"id": [0], "name": "a"}]}, "entry 0 of 'categories' must be"),
        (lambda c: c | {"annotations": [{"image_id": 100}]}, "entry 0 of 'annotations' must be .*'category_id'"),
        (
            lambda c: c | {"categories": c["categories"][:1]},
            "an annotation has the category 1, which is not among its category ids",
        ),
        (
            lambda c: c | {"images": c["images"][1:]},
            "an annotation has the image 100, which is not among its image ids",
        ),
    ],
)
def test_annotations_of_another_shape_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    file = inaturalist(tmp_path / "inat") / "train2018.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(ValueError, match=f"train2018.json.*{message}"):
        read_annotations(file)


@pytest.mark.usefixtures("small")
def test_food_caltech_and_cifar(tmp_path: Path) -> None:
    food = tmp_path / "food"
    (food / "meta").mkdir(parents=True)
    lists = {"train": ["pie/1", "pie/2", "soup/1", "soup/2"], "test": ["pie/3", "soup/3"]}
    for half, names in lists.items():
        (food / "meta" / f"{half}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            image(food / "images" / f"{name}.jpg")
    assert halves(open_source(f"food101:{food}")) == {"images/pie/3.jpg": "pie", "images/soup/3.jpg": "soup"}
    (food / "meta" / "test.txt").write_text("pie/3\n../../etc/passwd\n")
    with pytest.raises(ValueError, match=r"test.txt must hold CLASS/IMAGE without extension in each line"):
        open_source(f"food101:{food}")
    for name, count in (("BACKGROUND_Google", 2), ("ant", 33), ("Faces", 31)):
        for number in range(count):
            image(tmp_path / "caltech" / "101_ObjectCategories" / name / f"{number}.jpg")
    records = read_caltech(tmp_path / "caltech").records
    tested = [each.label for each in records if "test" in each.splits]
    assert sorted(tested) == ["Faces", "ant", "ant", "ant"]
    assert len(records) == 64
    assert read_caltech(tmp_path / "caltech").records == records
    part = tmp_path / "caltech" / "101_ObjectCategories"
    with pytest.raises(ValueError, match=rf"name the folder alone \(data={part}\) to use the part that is there"):
        open_source(f"caltech101:{tmp_path / 'caltech'}")
    for half in ("train", "test"):
        for name in CIFAR10:
            image(tmp_path / "cifar" / half / name / "1.png")
    assert len(read_cifar(tmp_path / "cifar").records) == 20
    (tmp_path / "cifar" / "cifar-10-batches-py").mkdir()
    with pytest.raises(ValueError, match="pickles, which are not read, since they can run code"):
        read_cifar(tmp_path / "cifar")


def test_every_entry_says_what_it_must_hold() -> None:
    for known in catalog.KNOWN_SETS:
        assert known.licence
        assert known.layout
        assert known.classes > 1
        assert known.test > 0
    counts = {known.name: (known.classes, known.train, known.test) for known in catalog.KNOWN_SETS}
    assert counts["in1k"] == (1000, 1_281_167, 50_000)
    assert counts["inat18"] == (8142, 437_513, 24_426)
    assert counts["food101"] == (101, 75_750, 25_250)


def test_imagenet_is_not_read_from_a_plain_folder(tmp_path: Path) -> None:
    """train/ and val/ are one dataset with an official split, not two classes, by the folder's name as well."""
    for half in ("train", "val"):
        for name in ("a", "b"):
            for number in range(2):
                image(tmp_path / "images" / half / name / f"{half}{name}{number}.png", number * 50 + (half == "val"))
    source = open_source(str(tmp_path / "images"))
    assert {source.label[row] for row in range(len(source.path))} == {"a", "b"}
    assert all(path.startswith("val/") for path in halves(source))
    with pytest.raises(ValueError, match="must have 1,000 classes: 1,000 missing"):
        read_imagenet(tmp_path / "images")


def two_folders(root: Path) -> str:
    for half in ("a/train", "b/heldout"):
        for number in range(6):
            image(root / half / f"class {number % 2}" / f"{number}.png", 10 * number + (half[0] == "b"))
    return f"train={root / 'a/train'},val={root / 'b/heldout'}"


def test_training_and_test_images_in_two_folders(tmp_path: Path) -> None:
    name = two_folders(tmp_path)
    source = open_source(name)
    assert halves(source) == {
        f"b/heldout/class {number % 2}/{number}.png": f"class {number % 2}" for number in range(6)
    }
    assert len(source.rows("train")) == 6
    copy = tmp_path / "a/train/class 0/copy.png"
    copy.write_bytes((tmp_path / "b/heldout/class 0/2.png").read_bytes())
    assert len(open_source(name).rows("train")) == 6, "an exact copy of a test image is not trained on"
    with pytest.raises(ValueError, match=r"must name two folders, as train=DIR,val=DIR"):
        open_source(f"train={tmp_path}")
    with pytest.raises(ValueError, match=r"nowhere is not a folder"):
        open_source(f"train={tmp_path / 'a/train'},val={tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match=r"the folders lie in each other"):
        open_source(f"train={tmp_path / 'a'},val={tmp_path / 'a/train'}")
    with pytest.raises(ValueError, match=r"give no file of tags or classes with it"):
        open_source(name, labels="labels.csv")
    image(tmp_path / "b/heldout/class 9/1.png", 99)
    with pytest.raises(
        ValueError, match=r"heldout has 1 class that .*train lacks, such as 'class 9'; make the folders"
    ):
        open_source(name)
    image(tmp_path / "b/heldout/1.png", 99)
    with pytest.raises(ValueError, match=r"heldout must hold class folders, with all images in them"):
        open_source(name)


def test_classes_that_differ_between_train_and_val_are_named(tmp_path: Path) -> None:
    for number, folder in enumerate(("train/a", "train/b", "train/c", "val/a", "val/b", "val/d")):
        image(tmp_path / "images" / folder / "1.png", 20 * number)
    notes = open_source(str(tmp_path / "images")).notes
    assert notes[1:] == (
        "val/ has 1 class that train/ lacks, such as 'd'",
        "train/ has 1 class that val/ lacks, such as 'c'",
    )


@pytest.mark.usefixtures("small")
def test_scores_follow_from_the_file_of_predictions(tmp_path: Path) -> None:
    """Naively, from its columns alone."""
    v2_tree(tmp_path / "all" / "v2")
    (tmp_path / "all" / "v2" / "4" / "a.png").write_bytes(b"broken")
    objectnet_tree(tmp_path / "all" / "objectnet")
    evaluation, model = Robustness(dataset=str(tmp_path / "all")), ByBrightness({5: [7, 5], 2: [9], 1: [3]})
    scores, predictions = scored(evaluation, model, evaluation.sources(), engine=Engine(device=CPU), seed=0)
    write_predictions(tmp_path / "p.parquet", predictions)
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert len(rows) == 12 + 4
    for score in scores:
        column = "restricted" if score.split == "restricted" else "predicted"
        chosen = [row for row in rows if row["dataset"] == score.dataset]
        assert [row["path"] for row in chosen] == list(score.image)
        assert [float(row[column] in row["accepted"]) for row in chosen] == list(score.correct)
        assert {row["view"] for row in chosen} == {score.view}
    values = {(score.dataset, score.split): score.value for score in scores}
    objectnet = "objectnet (objectnet)"
    assert values == {(objectnet, "test"): 0.5, (objectnet, "restricted"): 1.0, ("in-v2 (v2)", "test"): 8 / 12}


@pytest.mark.usefixtures("small")
def test_robustness_refuses_a_set_without_its_last_class(tmp_path: Path) -> None:
    """Passed over, it would be missing among the scores without a word."""
    objectnet_tree(tmp_path / "objectnet")
    v2 = v2_tree(tmp_path / "v2")
    shutil.rmtree(v2 / "11")
    with pytest.raises(ValueError, match=r"v2 must have .* classes: 1 missing"):
        Robustness(dataset=str(tmp_path)).sources()


@pytest.mark.usefixtures("small")
def test_images_outside_the_folders_of_v2_are_named(tmp_path: Path) -> None:
    image(v2_tree(tmp_path / "v2") / "stray.png", 9)
    with pytest.raises(ValueError, match=r"1 unknown \(images outside the folders\)"):
        open_source(f"in-v2:{tmp_path / 'v2'}")


def test_robustness_of_a_folder_of_ones_own_names_the_evaluation_that_scores_it(tmp_path: Path) -> None:
    (tmp_path / "test" / "blue").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"neither ImageNetV2 .*`underpaint eval accuracy RUN dataset={tmp_path}`"):
        Robustness(dataset=str(tmp_path)).sources()


def test_copies_of_test_images_are_told_and_refused_where_nothing_else_is_left(tmp_path: Path) -> None:
    name = two_folders(tmp_path)
    train, test = tmp_path / "a/train", tmp_path / "b/heldout"
    assert open_source(name).name == f"{tmp_path.name}-a_train+b_heldout"
    (train / "class 0/copy.png").write_bytes((test / "class 0/2.png").read_bytes())
    assert open_source(name).notes == ("1 training image left out as exact copies of test images",)
    for path in train.rglob("*.png"):
        path.write_bytes((test / "class 0/2.png").read_bytes())
    refused = (
        r"all 7 training images are exact copies of test images, such as a/train/class 0/0.png of b/heldout/class 0/2"
    )
    with pytest.raises(ValueError, match=refused):
        open_source(name)
    image(train / "class 1/9.png", 90)
    with pytest.raises(ValueError, match=r"has 1 class among its .*: 7 images with a class left out, as exact copies"):
        transfer_classes(open_source(name))
    with pytest.raises(
        ValueError, match="names one folder twice; name one with training images and one with test images"
    ):
        open_source(f"train={train},val={train}/")
