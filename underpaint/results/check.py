"""Hold a parsed JSON value against a TypedDict; the first field that does not fit is named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Literal, NotRequired, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")

SHOWN_LETTERS = 40
WORDS: dict[object, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    NoneType: "null",
}


def checked(kind: type[T], value: object, *, where: str) -> T:
    """The value as an instance of the TypedDict ``kind``; fields that the class does not name are left alone.

    Raises:
        ValueError: for a field that is missing or holds something else; the message begins with ``where`` and names it.
    """
    problem = next(_problems(kind, value, ""), None)
    if problem is not None:
        raise ValueError(f"{where}: {problem}; the file is damaged or was not written by this package")
    return value  # pyright: ignore[reportReturnType]


def _problems(kind: object, value: object, path: str) -> Iterator[str]:
    origin = get_origin(kind)
    if is_typeddict(kind):
        yield from _problems_of_fields(kind, value, path)
    elif origin is list:
        if not isinstance(value, list):
            yield _mismatch(path, "a list", value)
            return
        for index, entry in enumerate(value):
            yield from _problems(get_args(kind)[0], entry, f"{path}[{index}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield _mismatch(path, "an object", value)
            return
        for name, entry in value.items():
            yield from _problems(get_args(kind)[1], entry, _joined(path, name))
    elif not _fits(kind, value):
        yield _mismatch(path, _in_words(kind), value)


def _problems_of_fields(kind: object, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _mismatch(path, "an object", value)
        return
    for name, (field, required) in _fields(kind).items():
        if name in value:
            yield from _problems(field, value[name], _joined(path, name))
        elif required:
            yield f"{path or 'it'} has no {name!r}"


@cache
def _fields(kind: object) -> dict[str, tuple[object, bool]]:
    """The type of each field of a TypedDict, and whether the field must be there."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: (get_args(hint)[0], False) if get_origin(hint) is NotRequired else (hint, True)
        for name, hint in hints.items()
    }


def _fits(kind: object, value: object) -> bool:
    """Whether a value without parts is of a type; true and false are not numbers, a whole number is a float."""
    origin = get_origin(kind)
    if kind is object:
        return True
    if origin is Literal:
        return value in get_args(kind) and not isinstance(value, bool)
    if origin in (Union, UnionType):
        return any(next(_problems(option, value, ""), None) is None for option in get_args(kind))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)  # pyright: ignore[reportArgumentType]


def _in_words(kind: object) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(repr(option) for option in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_in_words(option) for option in get_args(kind))
    return WORDS.get(kind, str(kind))


def _mismatch(path: str, expected: str, value: object) -> str:
    text = repr(value)
    shown = text if len(text) <= SHOWN_LETTERS else text[: SHOWN_LETTERS - 1] + "…"
    return f"{path or 'it'} is {shown}, expected {expected}"


def _joined(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)
