"""Packages of Debian and npm with images, downloaded with ``apt-get`` and ``npm`` and never installed.

The one place of the package that starts programs: with lists of arguments, never through a shell, and with a time
limit. The clients verify what they download (signatures of the archive, checksums of the registry) and work in private
folders, so that nothing of the machine's own packages changes and no rights are needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from underpaint.messages import say

UPDATE_SECONDS = 300
DOWNLOAD_SECONDS = 1800
UNPACK_SECONDS = 600

MAX_MEMBERS = 50_000
MAX_MEMBER_BYTES = 128 * 1024**2
MAX_TOTAL_BYTES = 1024**3

_ELSEWHERE = "or copy the prepared collection from the cache of a machine that has it"
_APT_OPTIONS = {
    "APT::Sandbox::User": "",  # as root, apt would download as a user who may not write here
    "Acquire::Languages": "none",
    "Acquire::Retries": "2",
    "Acquire::http::Timeout": "60",
    "Acquire::https::Timeout": "60",
    "Dir::State::status": os.devnull,
}


def get_debian(packages: Sequence[str], folder: Path) -> str:
    """Unpack Debian packages, each into a sub-folder of its name; returns the names with their versions as a text.

    They come from the archives that the machine is set up for (Debian or Ubuntu).

    Raises:
        ValueError: where apt-get or dpkg-deb is missing, has no network, or the archive has no such package.
    """
    what = f"the Debian package{'s' * (len(packages) > 1)} {' and '.join(packages)}"
    say(f"Getting {what} with apt-get, into a folder of its own")
    state, cache, files = (folder / name for name in ("apt-state", "apt-cache", "deb"))
    for needed in (state / "lists" / "partial", cache / "archives" / "partial", files):
        needed.mkdir(parents=True)
    options = [f"--option={name}={value}" for name, value in _APT_OPTIONS.items()]
    apt = ["apt-get", "--quiet", *options, f"--option=Dir::State={state}", f"--option=Dir::Cache={cache}"]
    remedy = f"use Debian or Ubuntu (a container will do), {_ELSEWHERE}"
    _run([*apt, "update"], what, remedy, folder=files, seconds=UPDATE_SECONDS)
    _run([*apt, "download", *packages], what, remedy, folder=files, seconds=DOWNLOAD_SECONDS)
    versions: list[str] = []
    for package in packages:
        (file,) = files.glob(f"{package}_*.deb")
        say(f"Unpacking {package} ({file.stat().st_size / 1e6:.0f} MB)")
        _run(
            ["dpkg-deb", "--extract", str(file), str(folder / package)],
            what,
            remedy,
            folder=files,
            seconds=UNPACK_SECONDS,
        )
        versions.append(f"{package} {unquote(file.stem.split('_')[1])}")
        file.unlink()
    return ", ".join(versions)


def get_npm(packages: Sequence[str], folder: Path, *, wanted: Sequence[str]) -> str:
    """Unpack npm packages ``name@version``, each into a sub-folder of its name; returns the packages as a text.

    Only members whose path starts with one of ``wanted``, such as ``img/google/64/``, are unpacked; no code is run.

    Raises:
        ValueError: where npm is missing, has no network, or the registry has no such package.
    """
    what = f"the npm package{'s' * (len(packages) > 1)} {' and '.join(packages)}"
    say(f"Getting {what} with npm, into a folder of its own")
    files = folder / "npm"
    files.mkdir(parents=True)
    npm = ["npm", "pack", "--json", "--ignore-scripts", f"--cache={folder / 'npm-cache'}", *packages]
    remedy = f"install npm (it comes with Node.js), {_ELSEWHERE}"
    answer = _run(npm, what, remedy, folder=files, seconds=DOWNLOAD_SECONDS)
    try:
        names = {entry["name"]: PurePosixPath(entry["filename"]).name for entry in json.loads(answer)}
        for package in packages:
            name = package.rpartition("@")[0]
            say(f"Unpacking {name} ({(files / names[name]).stat().st_size / 1e6:.0f} MB)")
            unpack(files / names[name], folder / name, wanted=wanted)
    except (json.JSONDecodeError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"npm did not hand over {what} ({error!r}); {remedy}") from error
    return ", ".join(packages)


def unpack(archive: Path, folder: Path, *, wanted: Sequence[str]) -> None:
    """Write the wanted regular files of a tar archive under ``folder``, without their first folder (``package/``).

    Links, devices and other members are passed over.

    Raises:
        ValueError: for a path that leads out of the folder, and beyond the limits of number and size.
    """
    total = 0
    try:
        with tarfile.open(archive, mode="r|*") as tar:
            for number, member in enumerate(tar):
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
                    raise ValueError(f"{archive.name} has a member outside its folder: {member.name!r}")
                total += member.size
                if number >= MAX_MEMBERS or member.size > MAX_MEMBER_BYTES or total > MAX_TOTAL_BYTES:
                    raise ValueError(f"{archive.name} is larger than any package of images, at {member.name!r}")
                inner = "/".join(path.parts[1:])
                opened = tar.extractfile(member) if member.isreg() and inner.startswith(tuple(wanted)) else None
                if opened is not None and inner:
                    file = folder / inner
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(opened.read())
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive.name} is not a whole tar archive: {error}") from error


def _run(command: list[str], what: str, remedy: str, *, folder: Path, seconds: float) -> str:
    """The standard output of a program; raises ValueError where it fails."""
    program = command[0]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise ValueError(f"{program} is not on this machine, but {what} is downloaded with it; {remedy}") from error
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{program} did not get {what} within {seconds:.0f} s; try again, {_ELSEWHERE}") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"]
        message = next((line for line in lines if line.startswith(("E:", "npm error", "npm ERR!"))), lines[-1])
        raise ValueError(
            f"{program} could not get {what} ({message.strip()[:200]}); check that its sources can be reached from "
            f"here, {_ELSEWHERE}"
        )
    return done.stdout.decode(errors="replace")
