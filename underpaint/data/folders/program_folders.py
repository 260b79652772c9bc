"""Folders that photo programs and systems keep inside a user's folder: thumbnails, caches, deleted files.

Sources: the products' own folders, as they are on disk (Synology DSM, QNAP QTS, Lightroom Classic, Apple Photos,
Capture One, Windows, macOS). Those whose name begins with a dot are hidden and passed over like all hidden ones.
"""

from __future__ import annotations

import os
from pathlib import Path

_NAMES = frozenset(
    {
        "@eadir",  # Synology: thumbnails of each picture
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "$recycle.bin",  # Windows
        "system volume information",
        "lost+found",
        "__macosx",  # archives of macOS
        "ipod photo cache",
    }
)
_SUFFIXES = (".lrdata", ".lrcat-data", ".cocatalogdb", ".aplibrary")
"""Previews of Lightroom, databases of Capture One and Aperture."""
_APPLE_LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary")
_APPLE_ORIGINALS = frozenset({"originals", "masters"})
"""The folders of Apple's libraries that hold the user's own files; the others hold smaller copies of them."""


def is_kept_by_a_program(folder: Path) -> bool:
    """Whether a folder holds a program's own files, judged by its name and that of the folder it lies in."""
    name = folder.name.lower()
    if folder.parent.name.lower().endswith(_APPLE_LIBRARIES):
        return name not in _APPLE_ORIGINALS
    return name in _NAMES or name.endswith(_SUFFIXES)


def files_below(folder: Path) -> int:
    """Number of files in a folder and its sub-folders; folders that may not be read count as empty."""
    return sum(len(files) for _, _, files in os.walk(folder))
