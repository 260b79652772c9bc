"""A page read back with a parser that knows nothing of the templates."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tables as rows of (tag, attributes, text), all start tags, all text; asserts that the tags nest."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: dict[str, list[list[tuple[str, dict[str, str | None], str]]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.values: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self._table: list[list[Any]] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if found.get("data-value") is not None:
            self.values.append(str(found["data-value"]))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = []
            self.tables[found.get("id") or f"table-{len(self.tables)}"] = self._table
        elif tag == "tr":
            self._table.append([])
        elif tag in ("th", "td"):
            self._table[-1].append((tag, found, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            tag, attrs, text = self._table[-1][-1]
            self._table[-1][-1] = (tag, attrs, text + data)
