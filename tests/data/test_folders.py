"""Folders of one's own: what is found, tags, classes, splits."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from underpaint.core import ImageInput
from underpaint.data import cache
from underpaint.data.folders.folder import open_folder
from underpaint.data.folders.folder_dataset import open_folder_dataset
from underpaint.data.image_options import ImageOptions
from underpaint.data.open_source import join, open_source
from underpaint.data.quarantine import TooManyBadRecords
from underpaint.data.source import SPLITS, Problem, Source
from underpaint.data.stream import Batching
from underpaint.evals.features import transfer_classes


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path_factory.mktemp("cache")))


def paint(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)).save(file)


def folder(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        paint(root / name, seed)
    return root


def opened(root: Path, **files: str) -> Source:
    """With the words of the tags as they are written."""
    return open_source(str(root), tag_rules="words", **files)


def test_finds_image_files_by_extension_in_nested_folders(tmp_path: Path) -> None:
    folder(tmp_path, "b.png", "a/deep/er.jpg", "a/z.JPEG", ".hidden.png", ".trash/x.png", "a/._z.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "c.png").mkdir()
    source = opened(tmp_path)
    assert source.path == ("a/deep/er.jpg", "a/z.JPEG", "b.png")
    assert source.problems == ()
    assert source.name == tmp_path.name
    assert set(source.label) == {""}
    assert source.rows("pretrain") + source.rows("heldout") == [0, 1, 2]


def test_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no images.*\.png"):
        opened(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        opened(tmp_path / "absent")


def test_links_out_of_the_folder_are_skipped(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", "a.png", "sub/b.png")
    outside = folder(tmp_path / "outside", "secret.png")
    (root / "out.png").symlink_to(outside / "secret.png")
    (root / "relative.png").symlink_to("../outside/secret.png")
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "loop.png").symlink_to("loop.png")
    (root / "tree").symlink_to(outside)
    (root / "inside.png").symlink_to("sub/b.png")
    source = opened(root)
    assert source.path == ("a.png", "inside.png", "sub/b.png")
    assert [link.key for link in source.skipped] == ["gone.png", "loop.png", "out.png", "relative.png", "tree"]
    assert source.problems == ()
    joined = join([source, opened(folder(tmp_path / "second", "c.png"))])
    assert joined.skipped == source.skipped


def test_links_out_of_the_folder_do_not_count_as_bad_records(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", *(f"{number}.png" for number in range(20)))
    inputs = {"image": ImageInput(size=(8, 8), channels=3, value_range=(0, 1), mean=(0.0,) * 3, std=(1.0,) * 3)}

    def stream_of(folder: Path) -> None:
        data = open_folder_dataset(ImageOptions(source=str(folder), max_bad=0.0, workers=0))
        data.stream(inputs, Batching(batch_size=4, microbatch=4, workers=0), seed=0, quarantine=tmp_path / "bad.jsonl")

    (root / "gone.png").symlink_to("/nowhere.png")
    stream_of(root)
    (root / "tags.csv").write_text("path,tags\n1.png,x\n30.png,y\n")  # a row about no image is a bad record
    with pytest.raises(TooManyBadRecords, match="1 bad records among 20 images"):
        stream_of(root)


def test_paths_of_a_tags_file_that_leave_the_folder_are_problems(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", "a.png")
    paint(tmp_path / "b.png", 1)
    rows = f"path,tags\na.png,x\n../b.png,y\n{tmp_path}/b.png,y\nsub/../a.png,z\n"
    (root / "tags.csv").write_text(rows)
    source = opened(root)
    assert source.tags == (("x",),)
    assert [problem.reason for problem in source.problems] == ["the path leaves the folder"] * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,tags\na.png,Red Sky  red\n", ("red", "sky")),
        ("path,tags\na.png,Red Sky ; #Sea;;sea\n", ("red sky", "sea")),
        ("path,tags\na.png,red sky\nb.png,one;two\n", ("red sky",)),  # a semicolon anywhere decides for all
        ("\ufefftags,extra,path\n#a #B,1,./a.png\n", ("a", "b")),
        ('path,tags\n"a.png","x, y"\n', ("x", "y")),
        ("path,tags\r\na.png,x\r\n a.png ,y x\r\n", ("x", "y")),  # rows of one image are merged
        ("path,tags\na.png\nb.png,x\n", ()),
        ("path,tags\na.png,猫 été\n", ("猫", "été")),
    ],
)
def test_the_rules_of_tags_csv(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    folder(tmp_path, "a.png", "b.png")
    (tmp_path / "tags.csv").write_bytes(text.encode())
    source = opened(tmp_path)
    assert source.tags[0] == expected
    assert source.problems == ()


@pytest.mark.parametrize("lists", [True, False])
def test_tags_parquet_holds_lists_or_strings(tmp_path: Path, lists: bool) -> None:
    folder(tmp_path, "a.png", "b.png", "c.png")
    values = [["Red Sky", "#sea", None], [], None] if lists else ["Red Sky;#sea", "", None]
    table = pyarrow.table({"path": ["a.png", "b.png", "c.png"], "tags": values})
    pyarrow.parquet.write_table(table, tmp_path / "tags.parquet")
    assert opened(tmp_path).tags == (("red sky", "sea"), (), ())


def test_rows_without_an_image_are_named(tmp_path: Path) -> None:
    folder(tmp_path, "a.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "tags.csv").write_text("path,tags\na.png,x\ngone.png,y\nnotes.txt,z\n")
    assert opened(tmp_path).problems == (
        Problem(key="gone.png", reason="missing file"),
        Problem(key="notes.txt", reason="not an image file that is read"),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"picture,tags\na.png,x\n", "has the columns 'picture', 'tags', and none of a usual name for path"),
        (b"path,words\na.png,x\n", "none of a usual name for tags"),
        (b"", "has the columns none"),
        (b"path,tags\nb.png,x\n", "names no existing image"),
        (b"path,tags\n\xff\xfe,x\n", "UTF-8"),
        (b'path,tags\na.png,"' + b"x" * 200_000 + b'"\n', "is not CSV"),
    ],
)
def test_a_useless_tags_file_ends_it_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    folder(tmp_path, "a.png")
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        opened(tmp_path, tags=str(tmp_path / "mine.csv"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="does not exist"):
        opened(tmp_path, tags=str(tmp_path / "absent.csv"))


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    folder(tmp_path, "a.png")
    (tmp_path / "tags.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"cannot be read as a table: .*is it a Parquet file, and whole"):
        opened(tmp_path)


def test_class_folders_are_the_classes(tmp_path: Path) -> None:
    folder(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)))
    source = opened(tmp_path)
    assert source.label == ("cat",) * 10 + ("dog",) * 10
    assert sorted(source.label[row] for row in source.rows("test")) == ["cat"] * 3 + ["dog"] * 3


def test_one_folder_loose_images_or_tags_make_no_classes(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", "images/a.png", "images/b.png")
    loose = folder(tmp_path / "loose", "cat/a.png", "dog/b.png", "c.png")
    tagged = folder(tmp_path / "tagged", "2024/a.png", "2025/b.png")
    (tagged / "tags.csv").write_text("path,tags\n2024/a.png,x\n")
    for root in (one, loose, tagged):
        assert set(opened(root).label) == {""}


def test_class_folders_beside_a_table_of_tags_where_they_are_asked_for(tmp_path: Path) -> None:
    root = folder(tmp_path / "own", *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)))
    (root / "tags.csv").write_text("path,tags\ncat/1.png,kitten\n")
    source = opened(root, labels="folders")
    assert source.label == ("cat",) * 10 + ("dog",) * 10
    assert [tags for tags in source.tags if tags] == [("kitten",)]
    assert len(source.rows("test")) == 6
    loose = folder(tmp_path / "loose", "cat/a.png", "dog/b.png", "c.png")
    with pytest.raises(ValueError, match=r"labels=folders: .*loose has no class folders; every image must lie in one"):
        opened(loose, labels="folders")


def labelled(root: Path, classes: dict[str, str], **copies: str) -> Source:
    """A folder with a labels file; ``copies`` maps a new file (without suffix) to the file it repeats."""
    folder(root, *classes)
    for name, original in copies.items():
        (root / f"{name}.png").write_bytes((root / original).read_bytes())
    rows = "".join(f"{path},{name}\n" for path, name in classes.items() if name)
    (root / "labels.csv").write_text("path,class\n" + rows)
    return opened(root, labels=str(root / "labels.csv"))


def test_a_labels_file_is_the_transfer_task(tmp_path: Path) -> None:
    classes = {f"{number:02}.png": "ab"[number % 2] if number < 40 else "" for number in range(60)}
    source = labelled(tmp_path, classes)
    train, test = set(source.rows("train")), set(source.rows("test"))
    seen = set(source.rows("pretrain")) | set(source.rows("heldout"))
    assert train | test == {row for row in range(60) if source.label[row]}
    assert not train & test
    assert not test & seen
    assert train < seen  # their pixels and tags may be learnt from
    assert seen == set(range(60)) - test
    for name in "ab":
        assert sum(source.label[row] == name for row in test) == 6


def test_copies_never_cross_a_split(tmp_path: Path) -> None:
    classes = {f"{number:02}.png": "ab"[number % 2] for number in range(30)}
    copies = {f"copy{number:02}": f"{number:02}.png" for number in range(30)}
    source = labelled(tmp_path, classes, **copies)
    for row in source.rows("test"):
        twin = source.path.index(f"copy{source.path[row]}")
        assert source.family[twin] == source.family[row]
        assert source.splits[twin] == ()  # an unlabelled copy of a test image is in nothing
    for family in set(source.family):
        members = [set(splits) for splits, name in zip(source.splits, source.family, strict=True) if name == family]
        assert ("test" in set().union(*members)) == all(member <= {"test"} for member in members)
    assert len(source.rows("test")) == 2 * round(0.3 * 15)


def test_every_class_of_two_families_is_tested(tmp_path: Path) -> None:
    classes = {"a1.png": "a", "a2.png": "a", "b1.png": "b", **{f"c{i}.png": "c" for i in range(5)}}
    source = labelled(tmp_path, classes)
    assert {source.label[row] for row in source.rows("test")} == {"a", "c"}
    assert {source.label[row] for row in source.rows("train")} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,class\na.png,x\nb.png,y\n\n./a.png,y\n",
            r"lists 'a.png' twice: line 2 says class 'x', line 5 says class 'y'; delete one of the two",
        ),
        (
            'path,class,split,title\nb.png,y,test,"two\nlines"\na.png,x,test,\na.png,x,train,\n',
            r"'a.png' twice: line 4 says class 'x' and split 'test', line 5 says class 'x' and split 'train'; delete",
        ),
        ("path\tclass\ra.png\tx\rb.png\ty\ra.png\tz\r", r"line 2 says class 'x', line 4 says class 'z'"),
    ],
)
def test_an_image_of_which_two_rows_say_different_things_is_refused(tmp_path: Path, text: str, message: str) -> None:
    folder(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_bytes(text.encode())
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, labels=str(tmp_path / "labels.csv"))


def test_rows_of_parquet_are_named_by_their_number(tmp_path: Path) -> None:
    folder(tmp_path, "a.png", "b.png")
    table = pyarrow.table({"path": ["a.png", "b.png", "a.png"], "class": ["x", "y", "y"]})
    pyarrow.parquet.write_table(table, tmp_path / "l.parquet")
    with pytest.raises(ValueError, match=r"'a.png' twice: row 1 says class 'x', row 3 says class 'y'"):
        opened(tmp_path, labels=str(tmp_path / "l.parquet"))


def test_equal_rows_and_rows_without_an_image_are_told(tmp_path: Path) -> None:
    folder(tmp_path, "a.png", "b.png")
    rows = ["a.png,x,train", "a.png,x,training", "b.png,y,val", "c.png,y,val", "../d.png,y,val"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,class,split", *rows]) + "\n")
    source = opened(tmp_path, labels=str(tmp_path / "labels.csv"))
    assert source.label == ("x", "y")
    assert [problem.key for problem in source.problems] == ["c.png", "../d.png"]
    assert source.notes[:2] == (
        "1 row of labels.csv repeats an earlier one",
        "2 rows of labels.csv name no image, such as 'c.png' (missing file)",
    )


def test_splits_do_not_depend_on_where_or_under_which_names_the_images_lie(tmp_path: Path) -> None:
    here = folder(tmp_path / "here", *(f"{number:03}.png" for number in range(120)))
    there = folder(tmp_path / "there", *(f"x/{number:03}.png" for number in range(120)))
    one, two = opened(here), opened(there)
    assert one.splits == two.splits
    assert len(one.rows("heldout")) >= 8
    assert one.content_hash != two.content_hash


def test_the_identity_follows_the_content(tmp_path: Path) -> None:
    folder(tmp_path, "a.png", "b.png")
    before = opened(tmp_path).content_hash
    assert opened(tmp_path).content_hash == before
    (tmp_path / "tags.csv").write_text("path,tags\na.png,x\n")
    tagged = opened(tmp_path).content_hash
    paint(tmp_path / "a.png", 9)
    assert len({before, tagged, opened(tmp_path).content_hash}) == 3


def test_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, "a.png", "b.png")
    first = opened(tmp_path)
    read: list[Path] = []
    opens = Path.open
    monkeypatch.setattr(Path, "open", lambda file, *args, **kwargs: read.append(file) or opens(file, *args, **kwargs))
    assert opened(tmp_path).family == first.family
    assert not [file for file in read if file.suffix == ".png"]
    read.clear()
    paint(tmp_path / "b.png", 5)
    os.utime(tmp_path / "b.png", ns=(1, 1))
    assert opened(tmp_path).family[1] != first.family[1]
    assert [file.name for file in read if file.suffix == ".png"] == ["b.png"]


def test_a_damaged_cache_of_hashes_is_an_empty_one(tmp_path: Path) -> None:
    folder(tmp_path, "a.png")
    family = opened(tmp_path).family
    for store in (cache.cache_folder() / "hashes").iterdir():
        store.write_text("{")
    assert opened(tmp_path).family == family


def test_a_cache_that_cannot_be_written_is_said_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "images", "a.png")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "file" / "cache"))
    assert opened(tmp_path / "images").path == ("a.png",)
    assert "not kept" in capsys.readouterr().err


def test_unknown_collections_get_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'openmoji'.*\./openmoij"):
        open_source("openmoij")
    with pytest.raises(ValueError, match="brings its own tags"):
        open_source("openmoji", tags="tags.csv")


def test_a_tags_file_that_would_lose_tags_is_refused(tmp_path: Path) -> None:
    """Tags between commas, a quote that never ends, a column twice, no tag at all: told, not half read."""
    root = folder(tmp_path / "images", "a.png", "b.png")
    for content, message in (
        ("path,tags\na.png,red,green\n", "line 2 has more fields than the header"),
        ('path,tags\na.png,"red\nb.png,green\n', "begins in line 2 is not CSV: a quote is opened and never closed"),
        ("path,tags,tags\na.png,red,green\n", "has the column 'tags' twice"),
        ("path,tags\na.png,\nb.png,\n", "no row of .* has a tag"),
    ):
        (tmp_path / "tags.csv").write_text(content)
        with pytest.raises(ValueError, match=message):
            opened(root, tags=str(tmp_path / "tags.csv"))
    with pytest.raises(ValueError, match="is a folder, not a file"):
        opened(root, tags=str(root))


def test_a_path_too_long_is_a_missing_file(tmp_path: Path) -> None:
    root = folder(tmp_path / "images", "a.png", "b.png")
    (tmp_path / "tags.csv").write_text(f"path,tags\na.png,red\nb.png,green\n{'a/' * 3000}c.png,blue\n")
    (problem,) = opened(root, tags=str(tmp_path / "tags.csv")).problems
    assert problem.reason == "missing file"


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("tags", [{"a": 1}, {"a": 2}], "'tags' of type struct"),
        ("tags", [[{"a": 1}], [{"a": 2}]], "'tags' of type list<"),
        ("tags", [b"red", b"blue"], "'tags' of type binary"),
        ("path", [["a.png"], ["b.png"]], "lists in the column 'path'"),
    ],
)
def test_a_parquet_column_of_another_type_is_refused_by_name(
    tmp_path: Path, column: str, values: list[object], message: str
) -> None:
    folder(tmp_path, "a.png", "b.png")
    columns = {"path": ["a.png", "b.png"], "tags": ["red", "blue"], column: values}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "odd.parquet")
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, tags=str(tmp_path / "odd.parquet"))


@pytest.mark.parametrize("kind", [pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())])
def test_text_may_be_stored_in_any_way_that_arrow_has_for_it(tmp_path: Path, kind: pyarrow.DataType) -> None:
    folder(tmp_path, "a.png", "b.png")
    table = pyarrow.table({"path": ["a.png", "b.png"], "tags": pyarrow.array(["red", "blue"]).cast(kind)})
    pyarrow.parquet.write_table(table, tmp_path / "text.parquet")
    assert opened(tmp_path, tags=str(tmp_path / "text.parquet")).tags == (("red",), ("blue",))


def test_the_line_of_a_row_that_is_not_csv_is_told(tmp_path: Path) -> None:
    folder(tmp_path, "a.png", "b.png")
    (tmp_path / "odd.csv").write_text('path,tags\na.png,red\n"b.png"x,blue\n')
    with pytest.raises(ValueError, match="the row that begins in line 3 is not CSV"):
        opened(tmp_path, tags=str(tmp_path / "odd.csv"))


def split_root(root: Path, counts: dict[str, int]) -> Path:
    """Folders like ``train/cat`` with so many different images each."""
    for number, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(np.full((8, 8, 3), 7 * index + 40 * number, dtype=np.uint8)).save(
                root / folder / f"{index}.png"
            )
    return root


def splits_of(source: Source) -> dict[str, set[str]]:
    """The top folders of each split."""
    return {split: {source.path[row].partition("/")[0] for row in source.rows(split)} for split in SPLITS}


@pytest.mark.parametrize("name", ["val", "test", "valid", "validation"])
def test_train_and_val_are_splits_and_no_classes(tmp_path: Path, name: str) -> None:
    """ImageNet's layout."""
    counts = {"train/cat": 5, "train/dog": 5, f"{name}/cat": 3, f"{name}/dog": 3}
    source = open_folder(split_root(tmp_path / "inet", counts), tags="", labels="")
    assert set(source.label) == {"cat", "dog"}
    assert splits_of(source) == {"pretrain": {"train"}, "heldout": set(), "train": {"train"}, "test": {name}}
    assert len(source.rows("train")) == 10
    assert len(source.rows("test")) == 6
    assert source.notes == (f"the folders say what is trained and tested on: train/ and {name}/",)


def test_class_folders_in_test_alone_are_tested_on_and_train_nothing(tmp_path: Path) -> None:
    source = open_folder(split_root(tmp_path / "v2", {"test/cat": 3, "test/dog": 2}), tags="", labels="")
    assert splits_of(source) == {"pretrain": set(), "heldout": set(), "train": set(), "test": {"test"}}
    assert set(source.label) == {"cat", "dog"}
    assert len(source.rows("test")) == 5
    assert source.notes == ("all images lie in test/: models of its classes are tested on them, and none is trained",)


@pytest.mark.parametrize("counts", [{"val/cat": 3, "val/dog": 3}, {"test": 4}])
def test_val_alone_and_test_without_classes_are_ordinary_folders(tmp_path: Path, counts: dict[str, int]) -> None:
    """A person trains on what a folder has, whatever it is called."""
    source = open_folder(split_root(tmp_path / "pile", counts), tags="", labels="")
    assert source.rows("pretrain")


def test_the_test_folder_without_classes_is_left_out_and_val_tested_on(tmp_path: Path) -> None:
    """As ImageNet is unpacked: the test images are there, their classes nowhere."""
    root = split_root(tmp_path / "inet", {"train/cat": 4, "train/dog": 4, "val/cat": 2, "val/dog": 2, "test": 3})
    source = open_folder(root, tags="", labels="")
    assert splits_of(source)["test"] == {"val"}
    assert [source.splits[row] for row, path in enumerate(source.path) if path.startswith("test/")] == [()] * 3
    assert source.notes[1:] == ("3 images of test/ left out",)


def test_both_test_and_val_with_classes_leave_val_out(tmp_path: Path) -> None:
    counts = {f"{split}/{name}": 3 for split in ("train", "val", "test") for name in ("cat", "dog")}
    source = open_folder(split_root(tmp_path / "inet", counts), tags="", labels="")
    assert splits_of(source)["test"] == {"test"}
    assert source.notes[1:] == ("6 images of val/ left out",)


def test_a_copy_of_a_tested_image_is_not_trained_on(tmp_path: Path) -> None:
    root = split_root(tmp_path / "inet", {"train/cat": 4, "train/dog": 4, "val/cat": 2, "val/dog": 2})
    shutil.copy(root / "val" / "cat" / "0.png", root / "train" / "cat" / "copy.png")
    source = open_folder(root, tags="", labels="")
    assert source.splits[source.path.index("train/cat/copy.png")] == ()
    assert source.notes[1:] == ("1 image of train/ left out as exact copies of test images",)


def test_a_labels_file_names_the_classes_and_the_folders_the_splits(tmp_path: Path) -> None:
    root = split_root(tmp_path / "flat", {"train": 4, "val": 4})
    rows = [f"{split}/{index}.png,{'ab'[index % 2]}" for split in ("train", "val") for index in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,class", *rows]) + "\n")
    source = open_folder(root, tags="", labels=str(tmp_path / "labels.csv"))
    assert set(source.label) == {"a", "b"}
    assert splits_of(source)["test"] == {"val"}


@pytest.mark.parametrize(
    ("train", "test", "beside", "reason"),
    [
        ("Training", "Testing", "", "folders of classes are looked for in train/ and val/ or test/"),
        ("Train", "val", "", "folders of classes are looked for in train/ and val/ or test/"),
        ("train", "test", "unlabeled/0.png", "unlabeled/ lies beside them"),
        ("train", "val", "logo.png", "logo.png lies beside them"),
    ],
)
def test_halves_that_are_not_read_as_such_are_no_classes(
    tmp_path: Path, train: str, test: str, beside: str, reason: str
) -> None:
    """Else the classes would be training and testing, and their accuracy a number that looks like a score."""
    root = split_root(tmp_path / "set", {f"{half}/{name}": 3 for half in (train, test) for name in ("cat", "dog")})
    if beside:
        paint(root / beside, 99)
    source = open_folder(root, tags="", labels="")
    assert set(source.label) == {""}
    assert len(source.rows("pretrain")) + len(source.rows("heldout")) == len(source.path), "MAE needs no classes"
    fix = f"train={root / train},val={root / test}"
    advice = rf"0 classes among .*: {train}/ and {test}/ may be .*{reason}; name the two as {fix}, or"
    with pytest.raises(ValueError, match=advice):
        transfer_classes(source)
    with pytest.raises(ValueError, match=reason):
        open_folder_dataset(ImageOptions(source=str(root), split="train", targets="class"))
    named = open_source(fix)
    assert (set(named.label), len(named.rows("train")), len(named.rows("test"))) == ({"cat", "dog"}, 6, 6)


def test_one_folder_of_classes_is_named(tmp_path: Path) -> None:
    source = open_folder(split_root(tmp_path / "set", {"train/cat": 3, "val/cat": 2}), tags="", labels="")
    with pytest.raises(ValueError, match="it has one folder of classes, 'cat', and needs two or more"):
        transfer_classes(source)


def test_images_without_a_class_are_told(tmp_path: Path) -> None:
    root = split_root(tmp_path / "set", {"train/cat": 3, "train/dog": 3, "val/cat": 3, "val/dog": 3})
    paint(root / "val" / "stray.png", 98)
    paint(root / "train" / "stray.png", 99)
    assert open_folder(root, tags="", labels="").notes[1:] == (
        "1 image of val/ left out for want of a class",
        "1 image of train/ without a class, 'train/stray.png' left out of the transfer task",
    )
    rows = [f"{half}/{name}/{number}.png,{name * (half == 'train')},{half}" for half in ("train", "val")
            for name in ("cat", "dog") for number in range(3)]  # fmt: skip
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,class,split", *rows[:-3], *(row.replace(",,", ",dog,") for row in rows[-3:])]))
    notes = open_folder(root, tags="", labels=str(table)).notes
    assert notes[1:] == (
        f"3 images of {table} without a class, such as 'val/cat/0.png', left out of the transfer task",
    )


def test_copies_with_another_class_are_named(tmp_path: Path) -> None:
    """One of the two is a wrong label, and a test image that no model can get right."""
    root = split_root(tmp_path / "set", {"train/cat": 3, "train/dog": 3, "val/cat": 3, "val/dog": 3})
    assert len(open_folder(root, tags="", labels="").notes) == 1
    shutil.copy(root / "val" / "cat" / "0.png", root / "val" / "dog" / "same.png")
    said = (
        "1 image has an exact copy in another class, such as val/cat/0.png and val/dog/same.png, of which one class "
        "is wrong: delete the image there"
    )
    assert open_folder(root, tags="", labels="").notes[1:] == (said,)
    assert open_source(f"train={root / 'train'},val={root / 'val'}").notes == (said,)


def test_a_class_called_train_beside_others_is_a_class(tmp_path: Path) -> None:
    source = open_folder(split_root(tmp_path / "toys", {"train": 4, "car": 4, "boat": 4}), tags="", labels="")
    assert set(source.label) == {"train", "car", "boat"}
    assert source.notes == (
        "30% of each class are drawn to be tested on, by a hash: there are no folders train/ and val/",
    )
