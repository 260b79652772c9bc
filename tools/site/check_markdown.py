"""Check the Markdown files: every relative link leads to a file or heading, every Python block compiles.

MkDocs checks the pages of the site; this also reads README.md and the others outside ``docs/``.
Command: ``python tools/site/check_markdown.py`` from anywhere; prints each problem and exits with 1.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {".venv", ".git", ".pytest_cache", "runs", "build", "dist", "node_modules"}
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
INLINE_CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def main() -> int:
    """Check every page of the repository; 0 if all is well."""
    pages = [p for p in sorted(ROOT.rglob("*.md")) if not SKIPPED.intersection(p.relative_to(ROOT).parts)]
    problems = [f"{page.relative_to(ROOT)}:{problem}" for page in pages for problem in check(page)]
    print("\n".join(problems) or f"{len(pages)} pages: links and Python blocks are fine")
    return 1 if problems else 0


def check(page: Path) -> Iterator[str]:
    """``line: what is wrong`` for every problem of one page."""
    text = page.read_text(encoding="utf-8")
    yield from _broken_python(text)
    for line, target in _links(text):
        if problem := _broken_link(page, target):
            yield f"{line}: {problem}"


def anchors(text: str) -> set[str]:
    """The names under which the headings of a page can be linked: lower case, hyphens, no punctuation."""
    prose = FENCE.sub("", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose)}


def _broken_python(text: str) -> Iterator[str]:
    for block in FENCE.finditer(text):
        if block["language"] != "python":
            continue
        line = text.count("\n", 0, block.start()) + 1
        try:
            compile(textwrap.dedent(block["code"]), f"block at line {line}", "exec")
        except SyntaxError as error:
            yield f"{line}: the Python block does not compile: {error.msg} in its line {error.lineno}"


def _links(text: str) -> Iterator[tuple[int, str]]:
    """Line and target of every relative link; code is blanked, so that it keeps its length and is not read."""
    prose = FENCE.sub(_blank, text)
    prose = INLINE_CODE.sub(_blank, prose)
    for link in LINK.finditer(prose):
        if not re.match(r"[a-z]+:", link[1]):
            yield prose.count("\n", 0, link.start()) + 1, link[1]


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _broken_link(page: Path, target: str) -> str:
    """The problem of a link, or an empty string."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return f"the link {target} leads nowhere"
    if anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
        return f"{file.name} has no heading for the link {target}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
