"""Lists of the training images of low-shot splits: their faults, names of any bytes, and the record of a score."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch

from support.colour_images import colour_source
from underpaint import verbs
from underpaint.data.source import Source
from underpaint.evals.lowshot import LowShot
from underpaint.evals.lowshot_linear import LowShotLinear
from underpaint.evals.lowshot_vpt import LowShotVPT
from underpaint.evals.predictions import Predictions, write_predictions
from underpaint.evals.split_lists import read_split_list, split_lists, write_split_lists
from underpaint.models.vit import ViT
from underpaint.models.weights import save_encoder

CPU = torch.device("cpu")
PROTOCOLS: list[tuple[Any, dict[str, int]]] = [
    (LowShot, {}),
    (LowShotLinear, {"epochs": 1}),
    (LowShotVPT, {"epochs": 1}),
]


def test_lists_whose_images_cannot_be_read_are_named(source: Source, encoder: ViT, tmp_path: Path) -> None:
    (source.root / "blue/blue_00.png").write_bytes(b"no image")
    file = tmp_path / "list.txt"
    file.write_text("green_03.png\nblue_00.png\n")
    for kind, _ in PROTOCOLS:
        protocol = kind(dataset="colours", shots=1, lists=(str(file),))
        with pytest.raises(ValueError, match=r"none of the 2 images of the list .*list.txt could be read; check their"):
            protocol(encoder, source=source, device=CPU, seed=0)


def test_no_image_of_the_same_name_stands_in_for_one_of_a_list_that_cannot_be_read(
    source: Source, encoder: ViT, tmp_path: Path
) -> None:
    """``blue_00.png`` of the root is named, not that of the folder blue."""
    shutil.copy(source.root / "green/green_02.png", source.root / "blue_00.png")
    columns = {"path": "blue_00.png", "tags": (), "label": "green", "family": "x", "splits": ("train",), "flip": True}
    whole = replace(source, **{name: (value, *getattr(source, name)) for name, value in columns.items()})
    file = tmp_path / "list.txt"
    file.write_text("blue_00.png\ngreen_01.png\nred_00.png\n")
    for kind, options in PROTOCOLS:
        protocol = kind(dataset="colours", shots=2, lists=(str(file),), **options)
        training = protocol(encoder, source=whole, device=CPU, seed=0)[0].training
        assert sorted(training) == ["blue_00.png", "green/green_01.png", "red/red_00.png"]
    (source.root / "blue_00.png").write_bytes(b"no image")
    for kind, options in PROTOCOLS:
        protocol = kind(dataset="colours", shots=2, lists=(str(file),), **options)
        training = protocol(encoder, source=whole, device=CPU, seed=0)[0].training
        assert sorted(training) == ["green/green_01.png", "red/red_00.png"]


def test_classes_that_a_list_lacks_are_named_before_and_after(source: Source, encoder: ViT, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("green_03.png\nblue_00.png\nblue_01.png\n")
    for kind, options in PROTOCOLS:
        protocol = kind(dataset="colours", shots=2, lists=(str(file),), **options)
        few = f"the list {file} has no"
        advice = "which a classifier cannot learn from it: add some"
        assert protocol.check(source) == [f"{few} image of 1 of 3 classes, such as 'red', {advice}"]
        remarks = protocol(encoder, source=source, device=CPU, seed=0)[0].remarks
        assert f"{few} readable image of 2 of 3 classes, such as 'green', {advice}" in remarks
    file.write_text("blue_00.png\n")
    with pytest.raises(ValueError, match="has images of one class alone, 'blue': add images of the others"):
        LowShot(dataset="colours", shots=1, lists=(str(file),)).check(source)


def test_a_class_without_a_readable_image_is_named(source: Source, encoder: ViT) -> None:
    for i in range(8):
        (source.root / f"red/red_{i:02d}.png").write_bytes(b"no image")
    for kind, options in PROTOCOLS:
        protocol = kind(dataset="colours", shots=2, splits=1, **options)
        remarks = protocol(encoder, source=source, device=CPU, seed=0)[0].remarks
        few = "1 of 3 classes have fewer than 2 training images (1 of them none), such as 'red'"
        assert f"{few}: lower shots, or label more images of them" in remarks


def test_names_that_are_no_line_of_text_are_written_and_read(tmp_path: Path) -> None:
    names = (
        "a/b.png",
        "a/\udcff.png",
        "a/two\nlines.png",
        "a/u\u2028.png",
        " a.png",
        '"a".png',
        "a/é ü.png",
        "\\udcff",
    )
    write_split_lists(tmp_path, [("names", names)])
    assert tuple(read_split_list(str(tmp_path / "names.txt"))) == names
    (tmp_path / "names.txt").write_text('"a.png\n')
    with pytest.raises(ValueError, match=r"names.txt has '\"a.png', which begins with a quote and is not text in JSON"):
        read_split_list(str(tmp_path / "names.txt"))


def test_names_of_any_bytes_are_scored(encoder: ViT, tmp_path: Path) -> None:
    source = colour_source(tmp_path)
    path = [name.replace("_0", "_\udcff") for name in source.path]
    for old, new in zip(source.path, path, strict=True):
        (tmp_path / old).rename(tmp_path / new)
    renamed = replace(source, path=tuple(path), family=tuple(path))
    scores = LowShot(dataset="colours", shots=2, splits=2)(encoder, source=renamed, device=CPU, seed=1)
    write_split_lists(tmp_path / "lists", split_lists(scores))
    files = tuple(str(tmp_path / "lists" / f"2-shot-{split}.txt") for split in "01")
    read = LowShot(dataset="colours", shots=2, lists=files)(encoder, source=renamed, device=CPU, seed=1)
    assert [score.training for score in read] == [score.training for score in scores]


def test_predictions_on_names_of_any_bytes_are_a_table(tmp_path: Path) -> None:
    name = ("\udcff",)
    answers = Predictions(
        dataset="x",
        view="",
        image=("\udcff/é.png",),
        family=name,
        label=name,
        accepted=(name,),
        predicted=(None,),
        restricted=name,
    )
    write_predictions(tmp_path / "p.parquet", [answers])
    (row,) = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert (row["path"], row["predicted"], row["accepted"]) == (r"\udcff/é.png", None, [r"\udcff"])


def test_an_edited_list_overwrites_no_earlier_score(encoder: ViT, tmp_path: Path) -> None:
    source = colour_source(tmp_path)
    for row, path in enumerate(source.path):
        place = tmp_path / "colours" / source.splits[row][0] / path
        place.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).rename(place)
    save_encoder(tmp_path / "run" / "encoder", encoder, origin={"source": "here", "licence": "CC0"})
    file = tmp_path / "list.txt"
    overrides = [f"dataset={tmp_path}/colours", "shots=1", f"lists={file}"]
    for names in ("red_00.png\nblue_00.png\n", "red_01.png\nblue_00.png\n", "red_01.png\n\nblue_00.png\n"):
        file.write_text(names)
        verbs.evaluate("lowshot", tmp_path / "run", overrides, workers=0)
    records = [json.loads(each.read_text()) for each in (tmp_path / "run" / "evals").glob("*.json")]
    assert len({each["rows"][0]["versions"]["lists"] for each in records}) == len(records) == 2
    for each in records:
        assert each["versions"][0] == each["rows"][0]["versions"]
        assert not {"splits", "seed"} & {*each, *each["evaluation"]}, "neither does anything beside lists"
    with pytest.raises(ValueError, match="LowShot draws nothing, so a seed changes nothing; leave out --seed 4"):
        verbs.evaluate("lowshot", tmp_path / "run", overrides, seed=4, workers=0)


def test_fields_that_lists_leave_idle_are_refused() -> None:
    with pytest.raises(ValueError, match="splits=3 does nothing beside 2 lists, one for each split: leave it out"):
        LowShot(dataset="colours", splits=3, lists=("a.txt", "b.txt"))
    with pytest.raises(ValueError, match=r"lists=a.txt,a.txt names a file twice; each list is a split of its own"):
        LowShot(dataset="colours", lists=("a.txt", "a.txt"))
