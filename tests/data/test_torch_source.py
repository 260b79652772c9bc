"""Datasets of torch.utils.data as sources: the images, classes and tags of their items, in training and evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from support.small_runs import mae_run, make_images
from underpaint.data.images import decode
from underpaint.data.open_source import open_source
from underpaint.data.torch_source import torch_source
from underpaint.run import execute
from underpaint.verbs import evaluate


class Items(Dataset[Any]):
    def __init__(self, items: list[Any], classes: tuple[str, ...] = ()) -> None:
        self.items, self.classes = items, classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def class_folders(folder: Path) -> Path:
    """Three classes of 20 pictures."""
    made = sorted(make_images(folder / "made", count=60).rglob("*.png"))
    for number, path in enumerate(made):
        target = folder / "sorted" / ("cat", "dog", "owl")[number % 3] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return folder / "sorted"


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def test_an_image_folder_keeps_its_pixels_and_classes(tmp_path: Path) -> None:
    folder = class_folders(tmp_path)
    for transform in (None, ToTensor()):
        dataset = ImageFolder(str(folder), transform=transform)
        source = torch_source("mine:drawings", dataset)
        assert source.label == tuple(dataset.classes[target] for target in dataset.targets)
        assert {split for splits in source.splits for split in splits} >= {"pretrain", "train", "test"}
        for path, (file, _) in list(zip(source.path, dataset.samples, strict=True))[::7]:
            again = decode(source.files.read(path), channels=3, value_range=(0, 255))
            expected = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
            assert torch.equal(again, expected)
        hashes = {torch_source("mine:drawings", ImageFolder(str(folder), transform=transform)).content_hash}
        assert hashes == {source.content_hash}


def test_what_stands_beside_an_image_is_a_class_or_tags() -> None:
    beside = [1, torch.tensor(7), "owl", ["a", "b", "a"]]
    items = [pixels(0), *((pixels(number), about) for number, about in enumerate(beside, start=1))]
    source = torch_source("x:y", Items(items))
    assert source.label == ("", "1", "7", "owl", "")
    assert source.tags == ((), (), (), (), ("a", "b"))
    named = torch_source("x:y", Items([(pixels(1), 1), (pixels(2), 0)], classes=("cat", "dog")))
    assert named.label == ("dog", "cat")
    with pytest.raises(ValueError, match=r"x:y\[0\] has a dict beside its image"):
        torch_source("x:y", Items([(pixels(0), {"boxes": []})]))


def test_equal_images_are_one_family_and_bad_ones_are_problems(tmp_path: Path) -> None:
    source = torch_source("x:y", Items([(pixels(0), 0), (pixels(0), 0), (str(tmp_path / "absent.png"), 0), (3, 0)]))
    assert source.family[0] == source.family[1]
    assert [problem.key for problem in source.problems] == ["x:y[2]", "x:y[3]"]
    assert "type int is not an image" in source.problems[1].reason
    with pytest.raises(ValueError, match=r"dataset without images; x:y\[0\]: floats from 200"):
        torch_source("x:y", Items([torch.full((3, 8, 8), 200.0)]))


def test_runs_and_evaluations_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = class_folders(tmp_path)
    (tmp_path / "lab_of_folders.py").write_text(
        "from torchvision.datasets import ImageFolder\n\n\ndef drawings():\n    return ImageFolder('sorted')\n\n\n"
        "def nothing():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    name = "lab_of_folders:drawings"
    run = mae_run(folder, steps=2)
    execute(replace(run, data=replace(run.data, source=name, labels="", workers=1)), tmp_path / "mae")
    (row,) = evaluate("knn", tmp_path / "mae", {"dataset": name})
    assert row["dataset"] == name
    assert row["n_test"] == len(open_source(name).rows("test")) > 10
    with pytest.raises(ValueError, match="returns int, neither a Source nor a dataset"):
        open_source("lab_of_folders:nothing")
