"""Archives that cannot be read: a shard is read in place at the offset of each image, which a packed file lacks."""

from __future__ import annotations

import os
import re
from pathlib import Path

from underpaint.data.folders.listing import refuse_unreadable
from underpaint.data.source import Problem

TAR = ".tar"
"""Extension of the archives that are read, in any case."""

_PACKED = {
    "gzip": (".tar.gz", ".tgz", ".taz"),
    "bzip2": (".tar.bz2", ".tbz", ".tbz2"),
    "xz": (".tar.xz", ".txz"),
    "lzma": (".tar.lzma", ".tlz"),
    "zstd": (".tar.zst", ".tzst"),
    "lz4": (".tar.lz4",),
    "compress": (".tar.z",),
}
_OTHERS = {".zip": "ZIP", ".cbz": "ZIP", ".7z": "7z", ".rar": "RAR", ".cbr": "RAR"}
_PIECE = re.compile(
    r"\.(?:tar|tgz|zip|7z|rar)(?:\.[a-z0-9]{2,4})?\.(?:\d{2,4}|part\d+|a[a-z])$|\.(?:part\d+\.rar|z\d\d|r\d\d)$"
)
"""Names of the pieces that ``split -d``, 7-Zip, zip and rar make: ``a.tar.001``, ``a.tar.gz.aa``, ``a.z01``."""
_FIRST_BYTES = {
    b"\x1f\x8b": "gzip",
    b"\x1f\x9d": "compress",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "ZIP",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "RAR",
}
_ADVICE = "unpack it, and name the folder or the .tar"


def is_tar(name: str) -> bool:
    """Whether a file of this name is read as a tar."""
    return name.lower().endswith(TAR)


def unread_archive(name: str) -> str:
    """The reason why the archive of this name is not read, with the remedy; "" for a plain tar or another file."""
    lower = name.lower()
    for program, extensions in _PACKED.items():
        if lower.endswith(extensions):
            return f"a tar packed with {program} is not read in place; {_ADVICE}"
    if _PIECE.search(lower):
        return "a piece of a split archive is not read; join the pieces in order (cat NAME.001 NAME.002 > NAME)"
    kind = next((kind for extension, kind in _OTHERS.items() if lower.endswith(extension)), "")
    return f"a {kind} archive is not read; {_ADVICE}" if kind else ""


def packed_with(first_bytes: bytes) -> str:
    """The program that a file was packed with, by its first bytes; "" for an unknown one."""
    return next((kind for start, kind in _FIRST_BYTES.items() if first_bytes.startswith(start)), "")


def unread_archives(root: Path) -> list[Problem]:
    """The archives in a folder and its sub-folders that are not read, sorted, without hidden ones."""
    problems: list[Problem] = []
    for folder, folders, names in os.walk(root, onerror=refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            reason = "" if name.startswith(".") else unread_archive(name)
            if reason:
                problems.append(Problem(key=(Path(folder) / name).relative_to(root).as_posix(), reason=reason))
    return sorted(problems, key=lambda problem: problem.key)
