"""Values measured from files, from one call to the next: after changes, kills, damage, and with odd names."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from underpaint.data import cache
from underpaint.data.cache import measure_files
from underpaint.data.source import Folder, Problem

COUNT = 12


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files ``0`` to ``11`` that hold their names, and a cache of their own; three files are compared at once."""
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "AT_ONCE", 3)
    root = tmp_path / "files"
    root.mkdir()
    for number in range(COUNT):
        (root / str(number)).write_text(str(number))
    return root


def measured(
    root: Path, names: list[str], measure: Callable[[str], str] | None = None
) -> tuple[dict[str, str], list[Problem], list[str]]:
    """What is found, and the names that were measured for it."""
    read: list[str] = []

    def content(name: str) -> str:
        read.append(name)
        return measure(name) if measure else (root / name).read_text()

    values, problems = measure_files(
        Folder(root=root), names, kind="texts", store=str(root), measure=content, description="Reading"
    )
    return values, problems, sorted(read)


def names_of(root: Path) -> list[str]:
    return sorted((path.name for path in root.iterdir()), key=int, reverse=True)


def store_of(root: Path) -> Path:
    (file,) = (root.parent / "cache" / "texts").glob("*.sqlite")
    return file


def test_only_what_changed_is_measured_again(folder: Path) -> None:
    names = names_of(folder)
    values, problems, read = measured(folder, names)
    assert list(values.items()) == [(name, name) for name in names], "in the order of the names that were given"
    assert (problems, read) == ([], sorted(names))
    assert measured(folder, names) == (values, [], [])

    (folder / "3").write_text("three")  # another size
    os.utime(folder / "4", ns=(0, 1))  # another time alone
    (folder / "5").unlink()
    values, problems, read = measured(folder, [*names, "12"])
    assert read == ["3", "4"]
    assert values["3"] == "three"
    assert [problem.key for problem in problems] == ["5", "12"]
    assert "No such file" in problems[0].reason
    assert set(values) == set(names) - {"5"}


def test_a_change_of_content_alone_is_seen(folder: Path) -> None:
    """Of as many bytes, with the time of change put back, as programs that edit pictures do on request."""
    names = names_of(folder)
    measured(folder, names)
    status = (folder / "3").stat()
    (folder / "3").write_text("x")
    os.utime(folder / "3", ns=(status.st_atime_ns, status.st_mtime_ns))
    values, _, read = measured(folder, names)
    assert read == ["3"]
    assert values["3"] == "x"


def test_work_that_ends_early_keeps_what_it_has_measured(folder: Path) -> None:
    names = sorted(names_of(folder), key=int)

    def fails_at_seven(name: str) -> str:
        if name == "7":
            raise KeyboardInterrupt
        return name

    with pytest.raises(KeyboardInterrupt):
        measured(folder, names, fails_at_seven)
    assert "0" not in (read := measured(folder, names)[2])
    assert {"7", "8", "11"} <= set(read)


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00" + bytes(200)])
def test_a_damaged_store_is_made_anew(folder: Path, content: bytes) -> None:
    names = names_of(folder)
    measured(folder, names)
    store_of(folder).write_bytes(content)
    assert measured(folder, names)[2] == sorted(names)
    assert measured(folder, names)[2] == []


def test_damage_that_is_found_late_costs_one_call(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(COUNT, 600):
        (folder / str(number)).write_text(str(number))
    names = names_of(folder)
    measured(folder, names)
    content = store_of(folder).read_bytes()
    assert len(content) > 16_384
    half = len(content) // 2  # the first rows are read when the file is opened
    store_of(folder).write_bytes(content[:half] + b"\xff" * (len(content) - half))
    for read_again in (True, True, False):
        values, _, read = measured(folder, names)
        assert values == {name: name for name in names}
        assert bool(read) == read_again
    assert "are not kept in" in capsys.readouterr().err


def test_a_store_of_a_later_release_is_made_anew(folder: Path) -> None:
    names = names_of(folder)
    measured(folder, names)
    database = sqlite3.connect(store_of(folder))
    database.executescript("PRAGMA user_version = 9; DROP TABLE files; CREATE TABLE files (path)")
    database.close()
    assert measured(folder, names)[2] == sorted(names)
    assert measured(folder, names)[2] == []


def test_a_store_that_cannot_be_written_only_costs_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.parent / "cache").mkdir()
    (folder.parent / "cache" / "texts").write_text("a file where the folder would be")
    names = names_of(folder)
    for _ in range(2):
        assert measured(folder, names)[0] == {name: name for name in names}
    assert "are not kept in" in capsys.readouterr().err


def test_names_that_are_not_utf_8_and_texts_as_stamps(folder: Path) -> None:
    odd = os.fsdecode(b"\xff\xfe.png")
    (folder / odd).write_text("odd")
    assert measured(folder, [odd, "1"])[0] == {odd: "odd", "1": "1"}
    assert measured(folder, [odd, "1"])[2] == []
