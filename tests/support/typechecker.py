"""The type checker of the tests: beartype, with an int wherever a float is asked for, as PEP 484 has it.

jaxtyping has beartype check each call twice, and binds its arguments to the names of shapes: 50 times as long as the
check alone. Here it does so where a signature names shapes, and beartype alone checks the other functions.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
_with_shapes = jaxtyping.jaxtyped


def install(package: str) -> None:
    """Check every annotated argument and result of a package that is imported after this call."""
    jaxtyping.install_import_hook(package, "support.typechecker.check")
    jaxtyping.jaxtyped = lambda *, typechecker: typechecker  # what the hook puts around each function and class


def check(given: Any) -> Any:
    """The function with its arguments and result checked; the dataclass with those of its ``__init__``."""
    if not inspect.isclass(given):
        return _lazy(given)
    if dataclasses.is_dataclass(given) and not hasattr(given.__init__, "__wrapped__"):
        given.__init__ = _lazy(given.__init__)
    return given


def _lazy(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function checked by code that is made at the first call.

    A test calls few of the thousands of functions that it imports, and making that code is most of an import.
    """
    checked: Callable[..., Any] | None = None

    @functools.wraps(function)
    def lazy(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        if checked is None:
            checked = _checked(function)
        return checked(*args, **kwargs)

    return lazy


def _checked(function: Any) -> Callable[..., Any]:
    hints = {name: _resolved(hint, function.__globals__) for name, hint in function.__annotations__.items()}
    if any(_names_shape(hint) for hint in hints.values()):
        return _with_shapes(function, typechecker=_beartyped)
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, hints
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return _beartyped(copy)


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """The type that an annotation means; Any where its names are known to type checkers alone."""
    holder = FunctionType((lambda: None).__code__, names)
    holder.__annotations__ = {"hint": hint}
    try:
        return typing.get_type_hints(holder, include_extras=True)["hint"]
    except Exception:  # noqa: BLE001 - as jaxtyping does
        return Any


def _names_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(_names_shape(part) for part in typing.get_args(hint))
