"""Files are whole or absent, also when the process dies in the middle of writing them."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import xxhash
from safetensors.torch import load_file

from support.small_runs import python
from underpaint import files

# Replaces one file and one folder, both telling the round they are from, until it is killed.
WRITER = """
import sys
from pathlib import Path
from underpaint import files
root, content = Path(sys.argv[1]), b"x" * 400_000
for number in range(10**9):
    files.write_bytes(root / "file", b"%d" % number + content + b"%d" % number)
    with files.new_folder(root / "folder") as part:
        for name in "ab":
            (part / name).write_bytes(b"%d" % number + content)
    if number == 0:
        print("written", flush=True)
"""


def test_write_bytes_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"", b"new" * 1000):
        files.write_bytes(path, content)
        assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    monkeypatch.undo()
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_part_of_another_writer_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may begin as soon as the first writer has renamed its own."""
    part, rename = tmp_path / "a.part", os.replace

    def and_another_begins(source: Path, target: Path) -> None:
        rename(source, target)
        part.write_bytes(b"half")

    monkeypatch.setattr(os, "replace", and_another_begins)
    files.write_bytes(tmp_path / "a", b"first")
    assert part.read_bytes() == b"half"
    assert (tmp_path / "a").read_bytes() == b"first"


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_in_the_place_of_the_part_is_not_followed(link: Callable[[Path, Path], None], tmp_path: Path) -> None:
    """A folder from somebody else may have such a link to any file of the user."""
    diary = tmp_path / "diary"
    diary.write_bytes(b"mine")
    link(tmp_path / "a.xmp.part", diary)
    files.write_bytes(tmp_path / "a.xmp", b"tags")
    assert diary.read_bytes() == b"mine"
    assert (tmp_path / "a.xmp").read_bytes() == b"tags"
    assert not (tmp_path / "a.xmp").is_symlink()


def test_contents_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a new name with old or no content would be the worst of both."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(descriptor: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def logged_replace(source: Path, target: Path) -> None:
        events.append(f"rename {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    files.write_bytes(tmp_path / "file", b"content")
    assert events == ["sync file.part", "rename file", f"sync {tmp_path.name}"]
    events.clear()
    with files.new_folder(tmp_path / "folder") as part:
        (part / "inner").mkdir()
        (part / "inner" / "a").write_bytes(b"a")
    renamed = events.index("rename folder")
    assert {"sync a", "sync inner", "sync folder.part"} <= set(events[:renamed])
    assert f"sync {tmp_path.name}" in events[renamed:]


def test_new_folder_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with files.new_folder(path) as part:
        (part / "one").write_text("1")
        assert not path.exists()
    with files.new_folder(path) as part:
        (part / "two").write_text("2")
        assert [p.name for p in path.iterdir()] == ["one"]
    assert [p.name for p in path.iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_an_exception_inside_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with files.new_folder(path) as part:
        (part / "one").write_text("1")

    def fail() -> None:
        with files.new_folder(path) as part:
            (part / "two").write_text("2")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert [p.name for p in path.iterdir()] == ["one"]
    with files.new_folder(path) as part:  # what the failed one left is no part of the next
        (part / "three").write_text("3")
    assert [p.name for p in path.iterdir()] == ["three"]


def test_kill_9_leaves_old_or_new(tmp_path: Path) -> None:
    for attempt in range(4):
        process = python(WRITER, tmp_path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.037 * attempt)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        content = (tmp_path / "file").read_bytes()
        assert len(content) > 400_000
        assert content.rstrip(b"0123456789").lstrip(b"0123456789") == b"x" * 400_000
        number = content[: content.index(b"x")]
        assert content.endswith(b"x" + number)
        # between the two renames of a folder the old one stands under NAME.old and a complete new one under NAME.part
        folder = next(p for p in (tmp_path / "folder", tmp_path / "folder.old") if p.is_dir())
        first, second = (folder / "a").read_bytes(), (folder / "b").read_bytes()
        assert first == second
        assert first.endswith(b"x" * 400_000)


def test_tensors_come_back(tmp_path: Path) -> None:
    tensors = {"turned": torch.arange(6.0).view(2, 3).T, "trained": torch.nn.Parameter(torch.ones(2))}
    files.write_tensors(tmp_path / "file", tensors)
    loaded = load_file(tmp_path / "file")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(value, tensors[name]) for name, value in loaded.items())


def test_tensors_may_be_read_by_whom_the_folder_may(tmp_path: Path) -> None:
    for mode, expected in ((0o755, 0o644), (0o775, 0o664), (0o700, 0o600)):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        files.write_tensors(folder / "file", {"weight": torch.ones(2)})
        assert (folder / "file").stat().st_mode & 0o777 == expected


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    value = {"text": '日本語 "quoted"', "number": 1e-300, "list": [1, None, True], "none": {}}
    files.write_json(path, value)
    assert files.read_json(path) == value
    assert json.loads(path.read_text(encoding="utf-8")) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"loss": float("nan")})
    assert files.read_json(path) == value


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b'{"a": 1,}', b"[" * 100_000],
    ids=["empty", "cut", "bytes", "comma", "deep"],
)
def test_bad_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json is not valid JSON"):
        files.read_json(path)


def test_huge_json_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(files.MAX_JSON_BYTES + 1)  # sparse
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=r"huge\.json has \d+ bytes"):
        files.read_json(path)


def test_xxh3_is_the_checksum_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"a", os.urandom((1 << 20) + 17)):
        path.write_bytes(content)
        assert files.xxh3(path) == xxhash.xxh3_64_hexdigest(content)


def test_a_lock_keeps_out_another_holder_until_it_is_let_go(tmp_path: Path) -> None:
    with files.locked(tmp_path / "lock"), pytest.raises(BlockingIOError), files.locked(tmp_path / "lock", wait=False):
        pass
    with files.locked(tmp_path / "lock", wait=False):
        pass


def test_a_lock_waits_for_a_process_and_is_freed_when_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from underpaint.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), files.locked(tmp_path / "lock", wait=False):
            pass
        threading.Timer(0.2, holder.kill).start()
        with files.locked(tmp_path / "lock"):
            assert holder.wait() == -signal.SIGKILL


def test_a_lock_leaves_files_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("somebody's")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with files.locked(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "somebody's"
    with pytest.raises(OSError, match="link"), files.locked(tmp_path / "link"):
        pass


def test_the_beginning_of_a_name_fits_with_all_that_is_added_to_it() -> None:
    for name in ("short", "é" * 50, "\udcff.png"):
        assert files.beginning(name) == name
    for long in ("x" * 250, "é" * 99, "\U0001f600" * 60, "a" + "é" * 99):
        kept = files.beginning(long)
        assert long.startswith(kept)
        assert 97 <= len(kept.encode()) <= 100
