"""Quarantine of bad records: each is listed once in a file, and too many of them end the run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from underpaint.data.source import Problem


class TooManyBadRecords(ValueError):
    """The share of bad records exceeds the limit."""


class Quarantine:
    """The bad records of one run, kept as ``{"key", "reason"}`` lines in a file, so that a restart goes on counting.

    ``images`` is the number of images of which ``max_bad`` is a share. Raises TooManyBadRecords when more records than
    that share are reported; the file then lists them all.
    """

    def __init__(self, file: Path, *, images: int, max_bad: float) -> None:
        if not 0 <= max_bad <= 1:
            raise ValueError(f"max_bad={max_bad} must be a share between 0 and 1, for example 0.01")
        self.file = file
        self.images = images
        self.max_bad = max_bad
        self._keys = set(_read_keys(file))

    def __len__(self) -> int:
        """The number of distinct bad records so far."""
        return len(self._keys)

    def add(self, problems: Iterable[Problem]) -> None:
        """Append the problems that are not in the file yet; raises TooManyBadRecords beyond the limit."""
        for problem in problems:
            if problem.key not in self._keys:
                self._keys.add(problem.key)
                self._append(problem)
        if len(self._keys) > self.max_bad * self.images:
            raise TooManyBadRecords(
                f"{len(self._keys)} bad records among {self.images} images are more than max_bad={self.max_bad:g} "
                f"allows; they are named in {self.file}; repair or remove them, or raise data.max_bad"
            )

    def _append(self, problem: Problem) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # a name that is no UTF-8 has surrogates in Python; written as JSON's escapes they are read back as they were
        with self.file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps({"key": problem.key, "reason": problem.reason}, ensure_ascii=False) + "\n")


def _read_keys(file: Path) -> Iterable[str]:
    """The keys in the file; an unfinished last line of a killed process is removed.

    Raises ValueError for a damaged file.
    """
    if not file.exists():
        return []
    data = file.read_bytes()
    complete = data[: data.rfind(b"\n") + 1]
    if len(complete) < len(data):
        file.write_bytes(complete)
    try:
        return [json.loads(line)["key"] for line in complete.splitlines()]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged, remove it and its images are tried again: {error}") from error
