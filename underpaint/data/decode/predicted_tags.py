"""Tags that ``predict --write`` has put into XMP, told apart from the words of people.

A predicted tag stands in the hierarchical lists, below the keyword BRANCH, which programs show and delete as one, and
again in the property PREDICTED, which programs keep and do not show. Programs that write all keywords as a flat list
repeat the word there, so a flat word counts as predicted, unless people have it in a hierarchical list.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from underpaint.tags.keyword_paths import levels_of

BRANCH = "underpaint"
"""Keyword above all predicted tags: ``underpaint|brown bear``."""
NAMESPACE = "urn:underpaint:xmp:1.0/"
PREDICTED = f"{{{NAMESPACE}}}predicted"
"""List of the predicted tags."""
WRITTEN = f"{{{NAMESPACE}}}written"
"""List of ``NAME=VALUE`` about the writing: the times ``written`` and ``before``, and the ``model``."""

_SECOND = 10**9
_COARSE = 2 * _SECOND
"""Precision of the times of files, in nanoseconds, on the coarsest file systems."""


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The times of a file's last change by this package, and before it, in nanoseconds since 1970."""

    written: int
    before: int
    """0 for a file that did not exist."""

    def changed_by_people(self, changed: int) -> int:
        """The time of the last change that was not this package's, from the file's own time of change."""
        return self.before if abs(changed - self.written) <= _COARSE else changed


def read_writing(values: Sequence[str]) -> Writing | None:
    """The times in the list WRITTEN; None where it lacks them."""
    texts = dict(value.split("=", 1) for value in values if "=" in value)
    times = [texts.get(name, "") for name in ("written", "before")]
    if not all(time.isascii() and time.isdigit() and len(time) < 20 for time in times):
        return None
    return Writing(written=int(times[0]), before=int(times[1]))


def is_predicted_path(tag: str) -> bool:
    """Whether a tag with levels lies below BRANCH."""
    levels = levels_of(tag)
    return len(levels) > 1 and levels[0].casefold() == BRANCH


def without_predicted(flat: Sequence[str], paths: Sequence[str], predicted: Collection[str]) -> tuple[list[str], ...]:
    """The flat keywords and the hierarchical ones that people wrote; ``predicted`` is the list PREDICTED.

    Raises nothing and drops nothing where no tag was predicted, even if people have a keyword BRANCH.
    """
    below = [levels_of(tag)[1:] for tag in (*flat, *paths) if is_predicted_path(tag)]
    words = {word.casefold() for levels in below for word in levels} | {word.casefold() for word in predicted}
    if not words:
        return list(flat), list(paths)
    words.add(BRANCH)
    of_people = [tag for tag in paths if levels_of(tag) and levels_of(tag)[0].casefold() != BRANCH]
    words -= {word.casefold() for tag in of_people for word in levels_of(tag)}
    kept = [tag for tag in flat if not is_predicted_path(tag) and tag.strip().casefold() not in words]
    return kept, of_people
