"""Keywords with the words above them, and tags out of the names of folders."""

from __future__ import annotations

import pyarrow
import pytest

from underpaint.tags.canonical import TagRules
from underpaint.tags.folder_names import tag_of_folder
from underpaint.tags.keyword_paths import levels_of, words_and_paths
from underpaint.tags.keyword_tree import with_parents
from underpaint.tags.labels import build_label_space


@pytest.mark.parametrize(
    ("tag", "levels"),
    [
        ("Places|Norway|Bergen", ("Places", "Norway", "Bergen")),
        ("Animals > Birds > barn owl", ("Animals", "Birds", "barn owl")),
        ("Animals \u203a Birds", ("Animals", "Birds")),
        ("| Places || Norway |", ("Places", "Norway")),
        ("a>b", ("a>b",)),
        (":|", (":|",)),
        ("input/output", ("input/output",)),
        ("|", ()),
        ("", ()),
    ],
)
def test_levels_are_split(tag: str, levels: tuple[str, ...]) -> None:
    assert levels_of(tag) == levels


def test_words_of_all_levels_count_once() -> None:
    words, paths = words_and_paths(["norway", "owl", "Places|Norway|Bergen", "Places|Norway", "Places|Norway"])
    assert words == ("norway", "owl", "Bergen", "Places")
    assert paths == ("Places|Norway|Bergen", "Places|Norway")


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("barn_owl", "barn owl"),
        ("2019-05-12 Bergen", "Bergen"),
        ("Bergen 2019", "Bergen"),
        ("20190512_Bergen", "Bergen"),
        ("Neue Bilder", ""),
        ("Fotos 2021", ""),
        ("фото Бергена", "Бергена"),
        ("照片", ""),
        ("100CANON", ""),
        ("101_PANA", ""),
        ("DCIM", ""),
        ("2019", ""),
        ("12.05.2019", ""),
        ("n01440764", "n01440764"),
        ("class_12", "class 12"),
        ("Fotos 3", ""),
        ("Session 8", ""),
        ("Output", ""),
        ("WhatsApp Images", ""),
        ("Bergen 2", "Bergen 2"),
        ("7", "7"),
        ("map", "map"),
        ("", ""),
    ],
)
def test_folders_give_their_words_without_dates_and_album_words(name: str, tag: str) -> None:
    assert tag_of_folder(name) == tag


def test_the_vocabulary_has_the_labels_above_each_label() -> None:
    """``Europe`` is rare and no label, so that Bergen hangs on the place above it."""
    counts = {"places": 9, "norway": 9, "bergen": 5, "holidays": 3, "europe": 1}
    space = build_label_space(table_of(counts), TagRules(min_count=2))
    paths = table_of({"Places|Norway|Bergen": 4, "Holidays|Bergen": 3, "Places|Europe|Norway": 1, "Bergen|Bergen": 9})
    table = with_parents(space, paths).table
    names = table["name"].to_pylist()
    parents = [[names[parent] for parent in row] for row in table["parents"].to_pylist()]
    above = dict(zip(names, parents, strict=True))
    norway, bergen, holidays, places = (
        next(row["name"] for row in table.to_pylist() if word in row["tags"])
        for word in ("norway", "bergen", "holidays", "places")
    )
    assert above == {norway: [places], bergen: [norway, holidays], holidays: [], places: []}


def table_of(counts: dict[str, int]) -> pyarrow.Table:
    return pyarrow.table({"tag": list(counts), "count": pyarrow.array(counts.values(), pyarrow.int64())})
