"""The comments at the fields of a configuration, read from the source, where a reader of the code wants them.

``underpaint list --fields`` prints them, and the site's reference shows the same words.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Field(NamedTuple):
    """A field that can be set on the command line."""

    name: str
    """With those of the groups that it lies in: ``optim.base_lr``."""
    value: object
    comment: str


def fields_of(configuration: object, prefix: str = "") -> Iterator[Field]:
    """The fields of a dataclass and of the groups in it, in the order of the source."""
    assert dataclasses.is_dataclass(configuration)
    comments = comments_of(type(configuration))
    for field in dataclasses.fields(configuration):
        value = getattr(configuration, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from fields_of(value, f"{prefix}{field.name}.")
        else:
            yield Field(f"{prefix}{field.name}", value, comments.get(field.name, ""))


@cache
def comments_of(kind: type) -> dict[str, str]:
    """The docstring or the comments of each field of a class, its bases included; none where there is no source."""
    comments: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        try:
            file = inspect.getsourcefile(base)
        except TypeError:  # a built-in class
            continue
        if file and Path(file).is_file() and dataclasses.is_dataclass(base):
            comments |= _comments_in_class(Path(file), base.__qualname__)
    return comments


def _comments_in_class(file: Path, qualified_name: str) -> dict[str, str]:
    body: list[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
    for name in qualified_name.split("."):
        body = next((node.body for node in body if isinstance(node, ast.ClassDef) and node.name == name), [])
    comments: dict[str, str] = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            comments[node.target.id] = " ".join(after.value.value.split())
        else:
            comments[node.target.id] = comment_at(file, node.lineno, node.end_lineno or node.lineno)
    return comments


def comment_at(file: Path, first: int, last: int) -> str:
    """The comment lines directly above line ``first`` and the comment behind line ``last``, as one text."""
    alone, behind = _comments(file)
    above: list[str] = []
    line = first - 1
    while line in alone:
        above.insert(0, alone[line])
        line -= 1
    words = " ".join([*above, behind.get(last, "")]).strip()
    if words.partition(" ")[0].isalpha():  # a field or a value keeps its case
        words = words[0].upper() + words[1:]
    return words + ("" if not words or words[-1] in ".:;?!" else ".")


@cache
def _comments(file: Path) -> tuple[dict[int, str], dict[int, str]]:
    """By line: comments that stand alone, and comments behind code; without those for tools (``# noqa``)."""
    alone, behind = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline):
        text = token.string.removeprefix("#").strip()
        if token.type == tokenize.COMMENT and not text.startswith(("noqa", "type:", "pyright:")):
            (alone if token.line.lstrip().startswith("#") else behind)[token.start[0]] = text
    return alone, behind
