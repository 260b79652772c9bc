"""The words of the package: names say what a thing is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "underpaint"
GUIDES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for folder in (".", "tutorials", "reference", "results") for page in (ROOT / "docs" / folder).glob("*.md")),
]

SENTENCES = ("underpaint", "tools", "benchmarks", "examples")
"""Folders of code whose sentences are checked."""

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
    assert not [
        f"{file.relative_to(PACKAGE)}:{name}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for name in vague_names(ast.parse(file.read_text(encoding="utf-8")))
    ]


FRAGMENT = re.compile(r"(?:\A|[.!?:;]\**\s+|\n\s*\n|\n\s*[-*]\s|\|)\s*\**((?:Of|What|Where)\s+\S+)")
"""Start of a sentence, of a list item or of a cell with a word that names neither a thing nor an action."""
IS_NO = re.compile(
    r"(?<!there )\b((?:is|are|was|were) no (?!longer\b|more\b|less\b|larger\b|smaller\b)\w+)", re.IGNORECASE
)
"""``is no override``, for which the field writes ``is not an override``."""
CODE = re.compile(r"^ *```.*?^ *```$|`+[^`\n]+`+|^#[^\n]*$", re.MULTILINE | re.DOTALL)
"""Code in Markdown and docstrings, and headings."""


def complaints(text: str) -> list[str]:
    """The first two words of sentences that begin with Of, What or Where, and every "is no X"."""
    prose = CODE.sub("x", text)
    return [" ".join(start.split()) for start in FRAGMENT.findall(prose)] + IS_NO.findall(" ".join(prose.split()))


def complaints_of_code(tree: ast.AST) -> Iterator[str]:
    """Line and words of such sentences in docstrings, in messages and in every other text of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (f"{node.lineno}: {words}" for words in complaints(node.value))


@pytest.mark.parametrize(
    "code",
    [
        '"""What a module does."""',
        'def f():\n    """Of each image."""',
        'class C:\n    """Where it lies."""',
        'class C:\n    side: int\n    """Of a patch, in pixels."""',
        'SIZE = 1\n"""Of one column."""',
        'def f():\n    """The scores. Of two the\n    first."""',
        'def f():\n    """The scores.\n\n    Where none is left, None."""',
        'def f():\n    """The scores:\n\n    * Of the labels.\n    """',
        'raise ValueError(f"{name} is empty. What it holds was not read")',
        'raise ValueError(f"{name} is no folder")',
        'def f():\n    """Whether they are\n    no images."""',
        'add("--out", help="Where the plan goes")',
    ],
)
def test_the_rule_of_sentences_sees(code: str) -> None:
    assert list(complaints_of_code(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        '"""Smallest number of images a label must have."""',
        '"""The answer to "What is it?"; None where there\n    is no answer, or it is no longer known."""',
        '"""The words ``Of mice. What men`` are code."""',
        'WORDS = ("Of", "What", "Where")',
        "found = what.of(where)  # Of no interest",
    ],
)
def test_the_rule_of_sentences_lets_pass(code: str) -> None:
    assert not list(complaints_of_code(ast.parse(code)))


def test_the_rule_of_sentences_reads_markdown() -> None:
    page = "# Title\n\nWhat it does. Code:\n\n```sh\n# What else\n```\n\n- Of these two.\n\n| name | Where it is |\n"
    assert complaints(page) == ["What it", "Of these", "Where it"]
    assert not complaints("# What it does\n\nIt trains.\n\n```sh\n# What else\n```\n\n**What.** A loop.")


def test_sentences_in_code_begin_with_their_subject() -> None:
    files = [file for folder in SENTENCES for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 250
    assert not [
        f"{file.relative_to(ROOT)}:{words}"
        for file in files
        for words in complaints_of_code(ast.parse(file.read_text(encoding="utf-8")))
    ]


def test_sentences_in_guides_begin_with_their_subject() -> None:
    assert len(GUIDES) > 20
    assert not [
        f"{page.relative_to(ROOT)}: {words}"
        for page in GUIDES
        for words in complaints(page.read_text(encoding="utf-8"))
    ]
