"""The commands that the pages and the help show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from underpaint.cli.parser import VERBS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^ *(?:[A-Z_]+=\S+ |torchrun [^\n]*-m )?(underpaint [^\n`]+)$", re.MULTILINE)
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(underpaint (?:{}) [^`\n]+)`".format("|".join(VERBS)))
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\.\.\.|field=value|tags \w+$")
"""Words that stand for a name of the reader's, in commands within a sentence."""


def commands_of(page: Path, *, longer_only: bool = False) -> list[str]:
    """The commands of a page in their order: lines of blocks, and complete commands within sentences.

    ``longer_only`` leaves out blocks that do not begin with ``# longer``, which are run as they stand.
    """
    text = page.read_text(encoding="utf-8")
    blocks = [block for block in FENCED.finditer(text) if not longer_only or block[2].startswith("# longer")]
    found = [(block.start(), command) for block in blocks for command in COMMAND.findall(block[2])]
    if "results" not in page.relative_to(ROOT).parts:  # they name commands of the past
        found += [(match.start(), match[1]) for match in INLINE.finditer(text) if not PLACEHOLDER.search(match[1])]
    return [command for _, command in sorted(found, key=lambda each: each[0])]


def all_commands() -> Iterator[tuple[str, str]]:
    """Every command, with the page or the verb whose help shows it."""
    for page in PAGES:
        yield from ((str(page.relative_to(ROOT)), command) for command in commands_of(page))
    for name, verb in VERBS.items():
        yield from ((name, command) for command in COMMAND.findall(verb.examples))


def shell(page: Path) -> str:
    """The text of all blocks of commands of a page."""
    return "\n".join(code for language, code in FENCED.findall(page.read_text(encoding="utf-8")) if language == "sh")
