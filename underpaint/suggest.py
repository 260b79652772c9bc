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
    close = difflib.get_close_matches(name, names, n=1, cutoff=LIKENESS)
    if close:
        return f"did you mean {form.format(close[0])}?"
    return otherwise or f"known are {', '.join(names)}"
