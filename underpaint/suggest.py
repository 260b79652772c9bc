"""A hint for a name that is not known: the one that was probably meant, or all that are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LIKENESS = 0.5
"""Share of letters in common, in order, from which a name is taken for a slip of the keyboard."""


def hint(name: str, known: Iterable[str], *, form: str = "{}", otherwise: str = "") -> str:
    """``did you mean NAME?``, or ``known are NAME, NAME``.

    ``form`` is how a name is written where it is used (``optim.{}``); ``otherwise`` replaces the list of all names.
    """
    names = list(known)
    if close := nearest(name, names):
        return f"did you mean {form.format(close)}?"
    return otherwise or f"known are {', '.join(names)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, by its letters or as a part of it (``vpt``: ``lowshot_vpt``); or ""."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=LIKENESS)
    parts = [each for each in names if name in each.split("_")]
    return next(iter(close or parts), "")
