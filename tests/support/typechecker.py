"""The type checker of the tests: beartype, with an int wherever a float is asked for, as PEP 484 has it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments checked, by code that is made at the first call.

    A test calls few of the thousands of functions that it imports, and making that code is most of an import.
    """
    checked: Callable[..., Any] | None = None

    @functools.wraps(function)
    def lazy(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if checked is None:
            checked = _beartyped(function)
        return checked(*args, **kwargs)

    return lazy
