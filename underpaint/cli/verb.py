"""Definition of a verb of the command line, and helpers for the arguments of several verbs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TABLE = "FILE[:tags=NAME,...]"
"""A table in help texts: a file, and after it the columns without a usual name."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command: how it is called, what its help says, and what it does."""

    name: str
    help: str
    """One sentence in the imperative, without a full stop: the line in the list of verbs, and the head of its page."""
    examples: str
    """Commands that work as they stand, one a line; sentences that they need may follow."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    call: Callable[[argparse.Namespace], None]


def add_overrides(parser: argparse.ArgumentParser, help: str, *, form: str = "field=value") -> None:
    """Take any number of ``field=value``; ``parser.parse`` allows them after the options as well."""
    parser.add_argument("overrides", metavar=form, nargs="*", default=[], help=help)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Take the number of processes that decode images."""
    help = "processes that read and decode images (default: one per core, at most 8, none where they save no time)"
    parser.add_argument("--workers", metavar="N", type=int, help=help)


def old_spelling(
    parser: argparse.ArgumentParser,
    flag: str,
    *,
    of: str,
    type: type[int] | None = None,
    choices: tuple[str, ...] | None = None,
) -> None:
    """Let ``flag`` set the option ``of``, which was called so before; no help shows it."""
    hidden = argparse.SUPPRESS
    parser.add_argument(flag, dest=of, default=hidden, help=hidden, type=type or str, choices=choices)


def require_new(file: str) -> None:
    """Refuse a ``--json FILE`` that exists or has no folder: before the work, not after it.

    Raises:
        ValueError: naming the file and the way out.
    """
    if file and Path(file).exists():
        raise ValueError(f"{file} exists already; choose another --json, or delete it")
    if file and not Path(file).absolute().parent.is_dir():
        raise ValueError(f"--json {file}: the folder does not exist; make it first")
