"""The one place where a pickled file is opened, by torch's weights-only loading, which runs nothing it finds there."""

from __future__ import annotations

import argparse
import errno
import mmap
import os
import pickle  # for the name of an error; nothing is loaded with it
import zipfile
from pathlib import Path
from typing import Any

import torch

DAMAGE = (RuntimeError, ValueError, EOFError, LookupError, AttributeError, TypeError, AssertionError, OSError)
"""Exceptions that torch is known to raise on damaged files."""


def load_pickled(path: Path) -> Any:
    """Plain containers and values, with tensors whose values stay in the file until they are used.

    The only class allowed is ``argparse.Namespace``, and for this call alone: MAE's training checkpoints hold one.

    Raises:
        ValueError: for a file that needs anything else, is damaged, or was saved by a torch older than 1.6.
    """
    if not _is_zip(path):
        raise ValueError(f"{path} is damaged or was saved by a torch older than 1.6; load and save it with a newer one")
    try:
        try:
            return _load(path, mmap.MAP_PRIVATE)
        except RuntimeError as error:
            if os.strerror(errno.ENOMEM) not in str(error):
                raise
            return _load(path, mmap.MAP_SHARED)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} needs more than tensors and plain values{_needs(path)}; it is refused, since it could run code"
        ) from error
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged: {(str(error) or repr(error)).splitlines()[0]}") from error


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # its end says that it is one part of several
        return False


def _load(path: Path, mapping: int) -> Any:
    """The file mapped into memory; nothing here writes to a tensor, which in a shared mapping would change the file.

    A private mapping is the safer one, but the kernel refuses one that is larger than the memory of the machine.
    """
    with torch.serialization.safe_globals([argparse.Namespace]), torch.serialization.set_default_mmap_options(mapping):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _needs(path: Path) -> str:
    """The names in a file that weights-only loading refuses, found without loading it."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, *DAMAGE):
        return ""
    return f" ({', '.join(sorted(names)[:5])})" if names else ""
