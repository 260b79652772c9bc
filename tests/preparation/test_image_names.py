"""Rows of a table that may be about several images: counted and named, and applied to none."""

from __future__ import annotations

from pathlib import Path

import pytest

import underpaint
from support.prepare_examples import names_of, pictures, prepared
from support.prepared_example import write_tar
from underpaint.preparation.image_names import ImageNames


def shards(folder: Path, *numbers: tuple[int, ...]) -> Path:
    """Shards of samples with these numbers as their keys, all of other pictures."""
    contents = iter(pictures().values())
    folder.mkdir()
    for shard, numbers_of_shard in enumerate(numbers):
        members = [(f"{number:09d}.png", next(contents)) for number in numbers_of_shard]
        write_tar(folder / f"{shard:05d}.tar", members)
    return folder


@pytest.mark.parametrize("form", ["/x/{:09d}.png", "{:09d}.png", "{:09d}"])
def test_a_key_that_several_shards_use_labels_no_sample(tmp_path: Path, form: str) -> None:
    """The key 7 is that of one sample, and so its row is clear; those of 0 and 1 are not."""
    tars = shards(tmp_path / "tars", (0, 1, 2), (0, 1, 7))
    column = "path" if "png" in form else "key"
    rows = "".join(f"{form.format(number)},{tag}\n" for number, tag in ((0, "dog"), (1, "oak"), (7, "fern")))
    (tmp_path / "t.csv").write_text(f"{column},tags\n{rows}")
    example = "'000000000' may be 00000.tar/000000000 or 00001.tar/000000000"
    with pytest.raises(ValueError, match=f"2 of 3 rows of .*; 2 rows may be about several images, such as: {example}"):
        underpaint.prepare([tars], tmp_path / "set", tags=str(tmp_path / "t.csv"))
    record = underpaint.prepare([tars], tmp_path / "set", tags=str(tmp_path / "t.csv"), max_unmatched=0.7)
    (fit,) = record.get("tables", [])
    assert fit.startswith("t.csv: 1 of 3 rows fit an image")
    assert f"; 2 rows may be about several images, such as: {example}" in fit
    assert sorted(map(len, names_of(tmp_path / "set").values())) == [0, 0, 0, 0, 0, 1]


def test_a_shard_that_is_added_makes_its_keys_ambiguous(tmp_path: Path) -> None:
    first, second = sorted(shards(tmp_path / "tars", (0, 1, 2), (0, 1, 2)).glob("*.tar"))
    rows = "".join(f"{number:09d},dog\n" for number in range(3))
    (tmp_path / "t.csv").write_text(f"key,tags\n{rows}")
    names = names_of(prepared(tmp_path / "set", first, tags=str(tmp_path / "t.csv")))
    assert list(names.values()) == [{"dog"}] * 3
    with pytest.raises(ValueError, match="3 rows may be about several images"):
        prepared(tmp_path / "set", first, second, tags=str(tmp_path / "t.csv"))


def test_names_that_several_images_have_equal_a_count_by_hand(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("x/1.png", b""), ("2.png", b""), ("2.json", b""), ("c/3.txt", b"")])
    write_tar(tmp_path / "b.tar", [("y/1.png", b""), ("x/1.jpg", b""), ("3.png", b"")])
    images = ImageNames(
        tars=[tmp_path / "a.tar", tmp_path / "b.tar", tmp_path / "a.tar"],
        loose=["p/5.png", "q/5.png", "2.png", "2.png"],
    )
    asked = {"1", "x/1", "/x/1.png", "y/1", "2", "/2.png", "3", "5", "/p/5.png", "7"}
    assert images.repeated(asked) == {
        "1": "'1' may be a.tar/x/1 or b.tar/y/1",
        "x/1": "'x/1' may be a.tar/x/1 or b.tar/x/1",
        "5": "'5' may be p/5.png or q/5.png",
    }
