"""Packages of Debian and npm: archives read safely, clients that are missing or refuse, and what is asked of them."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from underpaint.data.collections import registries
from underpaint.data.collections.registries import get_debian, get_npm, unpack

Members = dict[str, bytes | tarfile.TarInfo]


def archive(folder: Path, members: Members) -> Path:
    file = folder / "package.tgz"
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                content.name = name
                tar.addfile(content)
    return file


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def test_wanted_regular_files_are_unpacked_without_their_first_folder(tmp_path: Path) -> None:
    members: Members = {
        "package/img/a.png": b"a",
        "package/img/b/c.png": b"c",
        "package/other.js": b"no",
        "x.json": b"",
    }
    unpack(archive(tmp_path, members), tmp_path / "out", wanted=("img/", "x.json"))
    found = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert found == {"img/a.png", "img/b/c.png"}
    assert (tmp_path / "out" / "img" / "b" / "c.png").read_bytes() == b"c"


@pytest.mark.parametrize("name", ["../evil.png", "package/../../evil.png", "/evil.png", "package\\..\\evil.png"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="outside its folder"):
        unpack(archive(tmp_path, {name: b"x"}), tmp_path / "out", wanted=("",))
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    "member",
    [special(tarfile.SYMTYPE, "/etc/passwd"), special(tarfile.LNKTYPE, "../x"), special(tarfile.FIFOTYPE)],
    ids=["symlink", "hard link", "pipe"],
)
def test_links_and_devices_are_passed_over(tmp_path: Path, member: tarfile.TarInfo) -> None:
    unpack(archive(tmp_path, {"package/a": member, "package/b": b"b"}), tmp_path / "out", wanted=("",))
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["b"]


def test_limits_of_size_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = archive(tmp_path, {f"package/{number}": b"12345" for number in range(4)})
    for limit, value in (("MAX_MEMBERS", 3), ("MAX_MEMBER_BYTES", 4), ("MAX_TOTAL_BYTES", 19)):
        with monkeypatch.context() as patch:
            patch.setattr(registries, limit, value)
            with pytest.raises(ValueError, match="larger than any package"):
                unpack(file, tmp_path / limit, wanted=("",))
    unpack(file, tmp_path / "out", wanted=("",))


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    whole = archive(tmp_path, {"package/a": os.urandom(5000)})
    for content in (b"no archive", whole.read_bytes()[:2000], gzip.compress(b"x" * 600)):
        file = tmp_path / "broken.tgz"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken.tgz is not a whole tar archive"):
            unpack(file, tmp_path / "out", wanted=("",))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put programs, written as shell scripts, in the place of the machine's own."""
    own = tmp_path / "bin"
    own.mkdir()
    for needed in ("sh", "cat", "touch", "mkdir", "cp", "sleep"):
        path = next(Path(folder) / needed for folder in ("/bin", "/usr/bin") if (Path(folder) / needed).exists())
        (own / needed).symlink_to(path)
    monkeypatch.setenv("PATH", str(own))

    def add(name: str, script: str) -> None:
        file = own / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    return add


Program = Callable[[str, str], None]


def test_a_missing_client_is_named_with_its_remedy(tmp_path: Path, program: Program) -> None:
    with pytest.raises(ValueError, match=r"apt-get is not on this machine, but the Debian package some .* use Debian"):
        get_debian(["some"], tmp_path / "one")
    with pytest.raises(ValueError, match=r"npm is not on this machine, but the npm packages a@1 and b@2 .*install npm"):
        get_npm(["a@1", "b@2"], tmp_path / "two", wanted=("",))
    program("apt-get", 'case "$*" in *download*) touch some_1%3a2-3_all.deb;; esac')
    with pytest.raises(ValueError, match="dpkg-deb is not on this machine"):
        get_debian(["some"], tmp_path / "three")


def test_what_a_client_says_is_passed_on(tmp_path: Path, program: Program) -> None:
    program("apt-get", 'echo W: slow >&2; echo "E: Unable to locate package some" >&2; echo later >&2; exit 100')
    with pytest.raises(
        ValueError, match=r"apt-get could not get the Debian package some \(E: Unable to locate"
    ) as told:
        get_debian(["some"], tmp_path / "one")
    assert "\n" not in str(told.value)
    program("npm", 'echo "npm error code ENOTFOUND" >&2; exit 1')
    with pytest.raises(ValueError, match=r"npm could not get the npm package a@1 \(npm error code ENOTFOUND\)"):
        get_npm(["a@1"], tmp_path / "two", wanted=("",))
    program("npm", "echo nonsense")
    with pytest.raises(ValueError, match="npm did not hand over the npm package a@1"):
        get_npm(["a@1"], tmp_path / "three", wanted=("",))


def test_a_client_that_hangs_is_stopped(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "UPDATE_SECONDS", 0.2)
    program("apt-get", "exec sleep 60")
    with pytest.raises(ValueError, match="apt-get did not get the Debian package some within"):
        get_debian(["some"], tmp_path / "one")


def test_debian_packages_lie_in_folders_of_their_names(tmp_path: Path, program: Program) -> None:
    program("apt-get", f'echo "$*" >> {tmp_path}/asked; case "$*" in *download*) touch some_1%3a2-3_all.deb;; esac')
    program("dpkg-deb", 'mkdir -p "$3/usr"; cp "$2" "$3/usr/content"')
    folder = tmp_path / "here"
    assert get_debian(["some"], folder) == "some 1:2-3"
    assert (folder / "some" / "usr" / "content").is_file()
    update, download = (tmp_path / "asked").read_text().splitlines()
    for line in (update, download):  # nothing of the machine's own state is touched
        assert f"Dir::State={folder}" in line
        assert f"Dir::Cache={folder}" in line
    assert update.endswith(" update")
    assert download.endswith(" download some")


def test_npm_packages_lie_in_folders_of_their_names(tmp_path: Path, program: Program) -> None:
    file = archive(tmp_path, {"package/emoji.json": b"[]", "package/run.js": b"evil"})
    answer = json.dumps([{"name": "some-set", "filename": "../some-set-1.0.0.tgz"}])
    program("npm", f"echo \"$*\" > {tmp_path}/asked; cp {file} some-set-1.0.0.tgz; echo '{answer}'")
    assert get_npm(["some-set@1.0.0"], tmp_path / "here", wanted=("emoji.json",)) == "some-set@1.0.0"
    assert [found.name for found in (tmp_path / "here" / "some-set").iterdir()] == ["emoji.json"]
    assert "--ignore-scripts" in (tmp_path / "asked").read_text()
