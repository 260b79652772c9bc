"""Frozen dataclasses as the configuration: overrides from the command line, and their record in JSON.

A field with ``metadata=OPERATIONAL`` may change when a run is resumed (paths, workers, cadences); every other field is
part of the run's identity. A field with ``metadata=LATER`` came after the first records were written: one without it
means the default, and none is written for it, so that records and identities of older releases stay what they are.
A field with ``metadata=formerly(NAME)`` was called so; overrides and records may still say it.
The field with ``metadata=SHORT`` is what its group is set by as a whole: ``data=DIR`` is ``data.source=DIR``.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from underpaint.suggest import hint, nearest

T = TypeVar("T")

OPERATIONAL = {"operational": True}
LATER = {"later": True}
SHORT = {"short": True}

Changes = dict[str, object]
"""New values by the name of their field, and those of a group of fields as a dict of the same form."""


Overrides = str | Sequence[str] | Mapping[str, object]
"""One ``field=value``, several, or values by the name of their field: ``{"optim.base_lr": 1e-3}``."""


def assignments(overrides: Overrides) -> tuple[str, ...]:
    """The overrides as they stand on the command line.

    Raises:
        ValueError: for a value that no field can have.
    """
    if isinstance(overrides, str):
        return (overrides,)
    if isinstance(overrides, Mapping):
        return tuple(f"{name}={written(value, name)}" for name, value in overrides.items())
    return tuple(overrides)


def written(value: object, name: str) -> str:
    """The value of a field as it stands on the command line.

    Raises:
        ValueError: for a value that no field can have.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float, Path)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return ",".join(written(each, name) for each in value)
    raise ValueError(f"{name}={value!r} must be a text, a number, true or false, a path, or a list of these")


def formerly(name: str) -> dict[str, str]:
    """Metadata of a field that had another name, which overrides and records may still use."""
    return {"formerly": name}


def override(config: T, assignments: Sequence[str]) -> T:
    """Apply ``a.b=value`` assignments, all at once, so that values which only fit together may come in any order.

    Raises:
        ValueError: for an unknown name (with a suggestion), a value of the wrong type (with the accepted form), or
            values that the configuration itself refuses.
    """
    changes: Changes = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name:
            raise ValueError(f"{assignment!r} is not an override; write field=value, for example optim.base_lr=1e-3")
        _note(changes, config, path=name.split("."), text=text, full_name=name)
    return _replaced(config, changes)


def _note(changes: Changes, config: object, *, path: list[str], text: str, full_name: str) -> None:
    """Put the parsed value into ``changes``, a tree like the configuration; the last of a name counts."""
    fields = dataclasses.fields(config) if dataclasses.is_dataclass(config) else ()
    names = [field.name for field in fields]
    path = [_name_of_today(config, path[0]), *path[1:]]
    if path[0] not in names:
        raise ValueError(_unknown(full_name, path, names))
    value = getattr(config, path[0])
    if len(path) > 1:
        _note(_group(changes, path[0]), value, path=path[1:], text=text, full_name=full_name)
    elif dataclasses.is_dataclass(value):
        short = next((field.name for field in dataclasses.fields(value) if field.metadata.get("short")), None)
        if short is None:
            inside = ", ".join(f"{full_name}.{field.name}" for field in dataclasses.fields(value))
            raise ValueError(f"{full_name} is a group of fields; set one of them: {inside}")
        _note(_group(changes, path[0]), value, path=[short], text=text, full_name=f"{full_name}.{short}")
    else:
        changes[path[0]] = parse(text, typing.get_type_hints(type(config))[path[0]], name=full_name)


def name_of_today(config: object, name: str) -> str:
    """The dotted name of a field as it is called now, where an override may use a former one."""
    first, dot, rest = name.partition(".")
    first = _name_of_today(config, first)
    return f"{first}.{name_of_today(getattr(config, first, None), rest)}" if dot else first


def _name_of_today(config: object, name: str) -> str:
    fields = dataclasses.fields(config) if dataclasses.is_dataclass(config) else ()
    return next((field.name for field in fields if field.metadata.get("formerly") == name), name)


def _group(changes: Changes, name: str) -> Changes:
    """The changes inside a group of fields."""
    inside = changes.setdefault(name, {})
    assert isinstance(inside, dict)
    return inside


def _replaced(config: T, changes: Changes) -> T:
    values = {
        name: _replaced(getattr(config, name), change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    return dataclasses.replace(config, **values)  # pyright: ignore[reportArgumentType]


def _unknown(full_name: str, path: list[str], names: list[str]) -> str:
    if not names:
        parent = ".".join(full_name.split(".")[: -len(path)])
        return f"unknown field {full_name!r}: {parent} is a single value and has no fields"
    whole = ".".join([*full_name.split(".")[: -len(path)], "{}", *path[1:]])
    return f"unknown field {full_name!r}; {hint(path[0], names, form=whole)}"


def parse(text: str, kind: object, *, name: str) -> object:
    """One value from the command line, as the type its field declares."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return _parse_word(text, arguments, name=name)
    if _is_words(kind):
        return _parse_tuple(text, arguments, name=name)  # the error names the wrong word alone
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int:
            return _whole(text)
        if kind is float and not math.isnan(float(text)):
            return float(text)
        if kind is str:
            return text
        if kind is Path:
            return Path(text)
        if origin is tuple:
            return _parse_tuple(text, arguments, name=name)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}={text!r} is not {describe(kind)}") from error
    raise ValueError(f"{name}={text!r} is not {describe(kind)}")


def _parse_word(text: str, known: tuple[str, ...], *, name: str) -> str:
    if text in known:
        return text
    close = nearest(text, map(str, known))
    meant = f"; did you mean {close}?" if close else ""
    raise ValueError(f"{name}={text!r} is not one of {', '.join(map(str, known))}{meant}")


def _is_words(kind: object) -> bool:
    """Whether a type is a tuple of any number of words out of a list."""
    arguments = typing.get_args(kind)
    return arguments[1:] == (Ellipsis,) and typing.get_origin(arguments[0]) is Literal


def _whole(text: str) -> int:
    """Whole numbers, also as 1_000_000 and 5e9."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise
        return int(value)


def _parse_tuple(text: str, arguments: tuple[object, ...], *, name: str) -> tuple[object, ...]:
    parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(parts)
    if len(parts) != len(arguments):
        raise ValueError(text)
    return tuple(parse(part, kind, name=name) for part, kind in zip(parts, arguments, strict=True))


def describe(kind: object) -> str:
    """The accepted form of a type, for people."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    if kind in plain:
        return plain[kind]
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if _is_words(kind):
        return f"some of {', '.join(map(str, typing.get_args(arguments[0])))}, with commas"
    if origin is tuple and plain.keys() >= set(arguments) - {Ellipsis}:
        inner = [describe(a) for a in arguments if a is not Ellipsis]
        return f"a list such as 1,2 ({', '.join(inner)}{', ...' if Ellipsis in arguments else ''})"
    return f"settable from the command line ({getattr(kind, '__name__', kind)}); write a recipe for it"


def record(value: Any, *, identity_only: bool = False) -> Any:
    """A configuration as plain JSON values; infinities become strings, since JSON has none.

    Raises:
        ValueError: for a value that is neither plain nor a dataclass, such as a user's evaluation.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = [
            f
            for f in dataclasses.fields(value)
            if not (identity_only and f.metadata.get("operational"))
            and not (f.metadata.get("later") and getattr(value, f.name) == f.default)
        ]
        return {
            "type": type(value).__name__,
            **{f.name: record(getattr(value, f.name), identity_only=identity_only) for f in kept},
        }
    if isinstance(value, (tuple, list)):
        return [record(item, identity_only=identity_only) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{value!r} cannot be recorded in run.json; make it a frozen dataclass of plain values")


def from_record(kind: type[T], value: object, *, where: str) -> T:
    """A dataclass of known type from its record: every field present, LATER ones aside, and of the declared type.

    Raises:
        ValueError: naming ``where`` and the field that is missing, unknown or of the wrong type.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {kind.__name__} is not a group of fields but {value!r:.40}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    now = {str(field.metadata["formerly"]): name for name, field in fields.items() if "formerly" in field.metadata}
    value = {now.get(str(name), str(name)): each for name, each in value.items()}
    given = set(value) - {"type"}
    wrong = sorted(name for name in given ^ fields.keys() if name in given or not fields[name].metadata.get("later"))
    if wrong:
        raise ValueError(f"{where}: {kind.__name__} has missing or unknown fields: {', '.join(wrong)}")
    return kind(**{name: _from_json(hints[name], value[name], where=f"{where}: {name}") for name in given})


def _from_json(kind: object, value: object, *, where: str) -> object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, dict):
        named = [each for each in arguments if getattr(each, "__name__", "") == value.get("type")]
        kind = named[0] if named else kind
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return from_record(kind, value, where=where)
    if origin is tuple and isinstance(value, list):
        inner = (arguments[0],) * len(value) if Ellipsis in arguments else arguments
        if len(inner) == len(value):
            return tuple(_from_json(k, v, where=where) for k, v in zip(inner, value, strict=True))
    elif origin is Literal and value in arguments:
        return value
    elif kind is float and type(value) in (int, float):
        return float(value)  # pyright: ignore[reportArgumentType]
    elif kind is float and value in ("inf", "-inf"):
        return float(str(value))
    elif kind in (int, str, bool) and type(value) is kind:
        return value
    raise ValueError(f"{where}={value!r} is not {describe(kind)}")


def differences(old: object, new: object, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """The leaves in which two records differ: (name, old value, new value)."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from differences(old.get(name), new.get(name), f"{prefix}.{name}" if prefix else name)
    elif old != new:
        yield prefix, old, new
