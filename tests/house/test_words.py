"""The words of the package: names say what a thing is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "underpaint"

VAGUE = {"found", "told", "one", "own", "other"}
"""Variables that do not say what they hold."""


def vague_names(tree: ast.AST) -> Iterator[str]:
    """Line and name of every variable, parameter and field that has a vague name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE:
            yield f"{node.lineno}: {node.id}"
        elif isinstance(node, ast.arg) and node.arg in VAGUE:
            yield f"{node.lineno}: {node.arg}"
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in VAGUE:
            yield f"{node.lineno}: {node.attr}"


@pytest.mark.parametrize(
    "code",
    [
        "found = 1",
        "def f(own): ...",
        "for one in x: ...",
        "self.told = 1",
        "class C:\n    other: int",
        "[a for other in b]",
    ],
)
def test_the_rule_of_names_sees(code: str) -> None:
    assert list(vague_names(ast.parse(code)))
    assert not list(vague_names(ast.parse("stone = alone.other(found=1)")))


def test_names_say_what_they_hold() -> None:
    complaints = [
        f"{file.relative_to(PACKAGE)}:{name}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for name in vague_names(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert complaints == []
