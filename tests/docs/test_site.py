"""The documentation site: it is built whole, asks no network for anything, and its reference is that of the package."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import underpaint
from underpaint.cli.parser import parser

ROOT = Path(__file__).resolve().parents[2]
LOADS = {"src", "srcset", "poster", "data"}
"""Attributes whose address a browser loads by itself; a ``link`` loads its ``href`` too."""


class Loaded(HTMLParser):
    """Collects the addresses that opening a page loads, and the names that can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.names.add(values.get("id", ""))
        self.addresses += [values[name] for name in LOADS & set(values)]
        if tag == "link" and values.get("rel") != "canonical":
            self.addresses.append(values["href"])


def read(page: Path) -> Loaded:
    loaded = Loaded()
    loaded.feed(page.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_opening_a_page_loads_files_of_the_site_alone(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        if page.name == "404.html":  # for web servers, with addresses from the root
            continue
        for address in read(page).addresses:
            path = address.partition("#")[0].partition("?")[0]
            assert path.startswith("data:") or (page.parent / path).is_file(), f"{page.name} loads {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", style.read_text(encoding="utf-8")), style


@pytest.mark.slow
def test_the_search_works_from_the_file_system(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "iframe-worker-shim.js" in page
    assert (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index = {")


@pytest.mark.slow
def test_the_reference_has_every_public_name_and_every_verb(site: Path) -> None:
    functions = read(site / "reference" / "functions.html").names
    assert {f"underpaint.{name}" for name in underpaint.__all__} - functions == {
        "underpaint.__version__",
        "underpaint.recipes",  # has a page of its own
    }
    recipes = read(site / "reference" / "recipes.html").names
    written = {name.rpartition(".")[2] for name in recipes}
    assert set(underpaint.recipes.__all__) <= written
    (verbs,) = [action.choices for action in parser()._actions if isinstance(action.choices, dict)]
    assert set(verbs) <= read(site / "reference" / "command_line.html").names


@pytest.mark.slow
def test_comments_at_fields_are_in_the_reference(site: Path) -> None:
    text = (site / "reference" / "runs.html").read_text(encoding="utf-8")
    assert "0 keeps no average." in text
    assert "A run folder, whose hash is part of the identity" in text


def test_the_picture_of_the_contrasts_is_what_the_table_says() -> None:
    drawing = runpy.run_path(str(ROOT / "tools" / "site" / "draw_contrasts.py"))
    contrasts = drawing["contrasts"](drawing["PAGE"].read_text(encoding="utf-8"))
    first = contrasts["`mae_wsp - wsp`"]
    assert (first.mean, first.low, first.high) == (2.3, 0.9, 3.6)
    assert drawing["PICTURE"].read_text(encoding="utf-8") == drawing["draw"](contrasts)
