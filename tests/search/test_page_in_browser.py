"""The search page in headless Chromium, from a disk: order of results, keys, phone width, and no request elsewhere."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.search_examples import save_lit
from support.small_runs import make_images
from underpaint.search.page import write_search_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=document.title='hacked'>.png"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    images = make_images(root / "photos", count=150)
    (images / HOSTILE).write_bytes((images / "a" / "001.png").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERPAINT_CACHE", str(root / "cache"))
        write_search_page(save_lit(root / "lit"), images, root / "page", words=3_000)
    return root / "page"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", exc_type=ImportError)
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """The page in a browser, with everything that it asked for and complained about."""

    def __init__(self, browser: Any, folder: Path, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto((folder / "index.html").as_uri())
        self.page.wait_for_selector("html[data-ready=yes]", state="attached")

    def type(self, text: str) -> None:
        self.page.fill("#query", "")
        self.page.type("#query", text)
        self.wait_for_answer(text)

    def wait_for_answer(self, to: str) -> None:
        self.page.wait_for_function("to => document.documentElement.dataset.answered === to", arg=to)

    def status(self) -> str:
        return self.page.inner_text("#status")

    def shown(self) -> list[str]:
        return self.page.eval_on_selector_all("#grid button", "all => all.map(each => each.title)")

    def focused(self) -> str:
        return self.page.evaluate("document.activeElement.title || document.activeElement.id")

    def wait_for_focus(self, title: str) -> None:
        """A dialog tells that it closed in a later task, which moves the focus."""
        self.page.wait_for_function("title => document.activeElement.title === title", arg=title)


def stored(folder: Path, kind: str) -> tuple[list[str], np.ndarray]:
    """Names and vectors as the page's scripts hold them."""
    text = (folder / "data" / f"{kind}-0.js").read_text(encoding="ascii")
    content = json.loads(text[text.index("{") : -3])
    scale = np.frombuffer(base64.b64decode(content["scale"]), "<f4").astype(np.float64)
    value = np.frombuffer(base64.b64decode(content["value"]), np.int8).reshape(len(scale), -1).astype(np.float64)
    return content["name"], value * scale[:, None]


def expected(folder: Path, *entries: str) -> list[str]:
    names, images = stored(folder, "images")
    known, words = stored(folder, "words")
    query = np.sum([words[known.index(entry)] for entry in entries], axis=0)
    scores = images @ (query / np.linalg.norm(query))
    return [names[row] for row in np.lexsort((np.arange(len(names)), -np.round(scores, 9)))]


def test_results_are_those_of_numpy(folder: Path, browser: Any) -> None:
    opened = Opened(browser, folder)
    for text, entries in (("red", ["red"]), ("Blue  WIDE", ["blue", "wide"]), ("the tall, black", ["tall", "black"])):
        opened.type(text)
        assert opened.shown() == expected(folder, *entries)[:60]
        assert ("estimated from its words: " + " + ".join(entries) in opened.status()) == (len(entries) > 1)
    opened.type("gree")
    assert "Completed to “green”" in opened.status()
    assert opened.shown() == expected(folder, "green")[:60]
    opened.type("zzyzx red")
    assert "Unknown to this page: zzyzx." in opened.status()
    assert opened.shown() == expected(folder, "red")[:60]
    opened.type("zzyzx")
    assert opened.shown() == []
    opened.type("red")
    opened.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    opened.page.locator("#grid button").nth(119).wait_for(state="attached")
    assert opened.shown()[:120] == expected(folder, "red")[:120]
    assert opened.page.title() == "Search: photos"  # no name of a file was run
    assert HOSTILE in expected(folder, "red")
    assert {request.partition(":")[0] for request in opened.requests} == {"file"}
    assert not opened.complaints


def test_everything_works_by_keys(folder: Path, browser: Any) -> None:
    opened, best = Opened(browser, folder), expected(folder, "red")
    keys = opened.page.keyboard
    keys.press("/")
    assert opened.focused() == "query"
    keys.type("red")
    opened.wait_for_answer("red")
    keys.press("ArrowDown")
    assert opened.focused() == best[0]
    keys.press("ArrowRight")
    assert opened.focused() == best[1]
    tops = opened.page.eval_on_selector_all("#grid button", "all => all.map(each => each.offsetTop)")
    columns = tops.count(tops[0])
    keys.press("ArrowDown")
    assert opened.focused() == best[1 + columns]
    keys.press("ArrowUp")
    keys.press("Enter")
    assert opened.page.inner_text("#detail-name") == best[1]
    keys.press("ArrowRight")
    assert opened.page.inner_text("#detail-name") == best[2]
    keys.press("Escape")
    opened.wait_for_focus(best[2])
    keys.press("m")
    opened.wait_for_answer(f"like {best[2]}")
    names, images = stored(folder, "images")
    scores = images @ images[names.index(best[2])]
    alike = [names[row] for row in np.lexsort((np.arange(len(names)), -np.round(scores, 9))) if names[row] != best[2]]
    assert opened.shown()[:20] == alike[:20]
    assert f"Images like {best[2]}" in opened.status()
    keys.press("Escape")
    assert opened.focused() == "query"
    assert not opened.complaints


def test_it_fits_a_phone(folder: Path, browser: Any) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    opened = Opened(browser, folder, **phone)
    opened.type("red wide")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    opened.page.tap("#grid button")
    assert opened.page.inner_text("#detail-name") == expected(folder, "red", "wide")[0]
    box = opened.page.locator("#detail").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    opened.page.tap("#more")
    opened.wait_for_answer(f"like {expected(folder, 'red', 'wide')[0]}")
    assert "Images like" in opened.status()


def test_a_missing_file_is_told(folder: Path, browser: Any, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "page")
    (damaged / "data" / "words-0.js").unlink()
    opened = Opened(browser, damaged)
    assert "Files of data/ are missing" in opened.status()
    assert len(opened.shown()) == 60
