"""Pages of one file with a script, which a person answers in a browser without a network and saves as a file."""

from __future__ import annotations

import json
from pathlib import Path

from underpaint.files import write_bytes

FILES = Path(__file__).with_name("page_files")


def write_page(file: Path, template: str, content: object) -> None:
    """Write a page of ``page_files`` with its data; the script shows texts as texts, so no tag becomes HTML."""
    data = json.dumps(content, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    page = (FILES / template).read_text(encoding="utf-8")
    style = (FILES / "page.css").read_text(encoding="utf-8")
    write_bytes(file, page.replace("/*STYLE*/", style).replace("/*DATA*/", data).encode())
