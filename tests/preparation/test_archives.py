"""Folders of tars and of what lies beside them: everything is read, or told with what to do."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.prepare_examples import TAGS, index_of, picture, pictures, prepared, write_csv, write_files, write_tars
from underpaint.__main__ import main
from underpaint.data.folders.listing import list_folder
from underpaint.data.shards.archives import unread_archive
from underpaint.preparation.inputs import describe


def tar_of(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def dropped_of(out: Path) -> dict[str, str]:
    return {row["key"]: row["reason"] for row in pq.read_table(out / "dropped.parquet").to_pylist()}


def test_tars_of_any_spelling_and_images_beside_them_are_read(tmp_path: Path) -> None:
    files = {
        "a.tar": tar_of({"1.png": picture(1)}),
        "deeper/B.TAR": tar_of({"1.png": picture(2)}),
        "two.Tar": tar_of({"1.png": picture(3)}) + tar_of({"2.bmp": picture(4), "3.PNG": picture(5)}),
        "loose.png": picture(6),
        "deeper/loose.jpg": picture(7, "jpg"),
        ".hidden.tar": tar_of({"1.png": picture(8)}),
    }
    out = prepared(tmp_path / "set", write_files(tmp_path / "mixed", files))
    rows = index_of(out)
    assert len(rows) == 7
    assert not dropped_of(out)
    for row in rows:
        assert (out / row["shard"]).read_bytes()[row["offset"] :].startswith((b"\x89PNG", b"\xff\xd8"))


def test_what_is_not_read_beside_tars_and_images_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("1.png", picture(1))
    files = {
        "b.tar.gz": tar_of({"1.png": picture(2)}, "w:gz"),
        "deeper/c.TGZ": tar_of({"1.png": picture(3)}, "w:gz"),
        "d.tar.bz2": tar_of({"1.png": picture(4)}, "w:bz2"),
        "e.zip": zipped.getvalue(),
        "phone.heic": b"\0\0\0\x18ftypheic",
    }
    wanted = {name: ("packed" if ".t" in name.lower() else "unpack") for name in files if name != "phone.heic"}
    for name, kept in {"tars": {"a.tar": tar_of({"1.png": picture(9)})}, "photos": {"a.png": picture(9)}}.items():
        folder = write_files(tmp_path / name, {**files, **kept})
        assert main(["prepare", str(folder), "--out", str(tmp_path / f"{name}_set")]) == 0
        said = capsys.readouterr().out
        assert "left out 2 times: a tar packed with gzip is not read in place; unpack it" in said
        dropped = dropped_of(tmp_path / f"{name}_set")
        assert all(word in dropped[file] for file, word in wanted.items()), dropped
        assert len(index_of(tmp_path / f"{name}_set")) == 1


def test_a_table_beside_tars_is_told_and_tells_of_the_images_beside_them(tmp_path: Path) -> None:
    tars = write_tars(tmp_path / "tars", pictures(), TAGS)
    write_csv(tars / "tags.csv", {"loose.png": ("owl",)})
    assert dropped_of(prepared(tmp_path / "set1", tars)) == {
        "tags.csv": "a table beside tars is not joined to their images; name it with --tags"
    }
    write_files(tars, {"loose.png": picture(77)})
    out = prepared(tmp_path / "set2", tars)
    assert not dropped_of(out)
    loose = next(row for row in index_of(out) if row["key"] == "loose")
    assert loose["labels"]


def test_a_packed_archive_alone_is_refused_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_files(tmp_path / "packed", {"a.tgz": tar_of({"1.png": picture(1)}, "w:gz")})
    for source in (folder, folder / "a.tgz"):
        assert main(["prepare", str(source), "--out", str(tmp_path / "set")]) == 2
        assert "packed with gzip" in capsys.readouterr().err
    folder = write_files(tmp_path / "misnamed", {"a.tar": tar_of({"1.png": picture(1)}, "w:gz")})
    assert main(["prepare", str(folder), "--out", str(tmp_path / "set2")]) == 2
    assert "not a tar but packed with gzip; unpack it" in capsys.readouterr().err


def test_a_folder_that_is_called_like_a_tar_is_a_folder(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "photos.tar", {"a.png": picture(1)})
    assert len(index_of(prepared(tmp_path / "set", folder))) == 1


def test_a_set_of_two_kinds_is_continued(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "mixed", {"a.tar": tar_of({"1.png": picture(1)}), "b.png": picture(2)})
    assert main(["prepare", str(folder), "--out", str(tmp_path / "set")]) == 0
    write_files(folder, {"c.TAR": tar_of({"1.png": picture(3)})})
    assert main(["prepare", str(folder), "--out", str(tmp_path / "set")]) == 0
    assert len(index_of(tmp_path / "set")) == 3
    assert [source.kind for source in describe([str(folder)])] == ["tars", "folder"]


def test_tables_that_are_packed_are_no_archives() -> None:
    assert unread_archive("posts.csv.gz") == unread_archive("yfcc100m_dataset.bz2") == unread_archive("a.tar") == ""


def test_pieces_of_a_split_archive_are_named_with_the_remedy() -> None:
    pieces = [
        "a.tar.001",
        "a.tar.gz.002",
        "a.tar.gz.aa",
        "a.7z.001",
        "a.zip.003",
        "a.z01",
        "a.part1.rar",
        "A.TAR.part2",
    ]
    assert all("join the pieces" in unread_archive(name) for name in pieces)
    others = ["a.001", "tags.csv.001", "a.tar.json", "b.aa", "photo.r2", "a.jpg.001"]
    assert not [name for name in others if unread_archive(name)]


@pytest.mark.parametrize(
    "extension",
    [
        ".tar",
        ".tar.gz",
        ".tgz",
        ".taz",
        ".tar.bz2",
        ".tbz",
        ".tbz2",
        ".tar.xz",
        ".txz",
        ".tar.lzma",
        ".tlz",
        ".tar.zst",
        ".tzst",
        ".tar.lz4",
        ".tar.z",
        ".zip",
        ".7z",
        ".rar",
    ],
)
def test_a_folder_to_train_on_tells_every_archive_too(tmp_path: Path, extension: str) -> None:
    """The kinds that ``prepare`` knows, and plain tars, of which ``train`` and ``embed`` read none."""
    assert unread_archive(f"a{extension}") or extension == ".tar"
    write_files(tmp_path, {"a.png": b"", f"b{extension}": b"", f"sub/c{extension.upper()}": b"", "tags.csv.gz": b""})
    advice = "an archive: `underpaint prepare` reads tars, unpack others"
    assert list_folder(tmp_path).skipped() == f"skipped 2 files: 2 {extension} ({advice})"
