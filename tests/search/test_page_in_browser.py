"""The search page in headless Chromium, from a disk: the text tower, order of results, keys, phone width, requests."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.search_examples import WORDS, save_lit
from support.small_runs import make_images
from underpaint.models.image_text import TextPooling
from underpaint.run.towers import load_towers
from underpaint.search import page as search_page
from underpaint.search.page import write_search_page
from underpaint.search.page_data import write_page_files, write_tower
from underpaint.search.page_pieces import page_pieces
from underpaint.search.page_tower import PageTower, page_tower
from underpaint.texts.tokenizer import JsonTokenizer

HOSTILE = "<img src=x onerror=document.title='hacked'>.png"
STRANGE = (
    *(
        "",
        " ",
        "zzyzx",
        "🦊🦊 dog 🦊",
        "ﬁne ① ½ ㎏ ﷺ",
        "~～ Ａｂｃ",
        "a\u200bb\u00adc",
        "▁red_box",
        "e\u0301 ÉCOLE naïve",
    ),
    *(
        "Straße ΣΑΣ İSPARTA",
        "don't well-known e.g. 3.5 “so” – (why?)",
        "日本の家 犬猫",
        "한국어 강아지",
        "ภาษาไทย",
        "हिन्दी कुत्ता",
    ),
    *("ｶﾞ ｱﾊﾟｰﾄ", "tab\there\u3000and\u2028there", "x" * 120, "red " * 60, "\u0007bell", "a\ue000b\ufffdc"),
)
"""Texts that tokenizers normalise, part or do not know."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a page with the text tower and of one without."""
    root = tmp_path_factory.mktemp("browser")
    images = make_images(root / "photos", count=150)
    (images / HOSTILE).write_bytes((images / "a" / "001.png").read_bytes())
    (images / "captions.csv").write_text("path,caption\na/001.png,green box\n")
    run, words = save_lit(root / "lit"), 8  # no more than there are in tags and captions, as others take long to read
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERPAINT_CACHE", str(root / "cache"))
        patch.setattr(search_page, "LEAST_COMPARED", 1)
        assert write_search_page(run, images, root / "page", words=words).has_tower
        patch.setattr(search_page, "MOST_BYTES", 0)
        assert not write_search_page(run, images, root / "means", words=words).has_tower
    return root


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "page"


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
    """Images by the mean of stored words."""
    known, words = stored(folder, "words")
    query = np.sum([words[known.index(entry)] for entry in entries], axis=0)
    return ranked(folder, query / np.linalg.norm(query))


def ranked(folder: Path, query: np.ndarray) -> list[str]:
    names, images = stored(folder, "images")
    return [names[row] for row in np.lexsort((np.arange(len(names)), -np.round(images @ query, 9)))]


def by_tower(root: Path, text: str) -> list[str]:
    tower = page_tower(load_towers(root / "lit"), None)
    assert tower is not None
    return ranked(root / "page", tower.embed([text])[0])


def test_phrases_are_read_by_the_text_tower(root: Path, folder: Path, browser: Any) -> None:
    opened = Opened(browser, folder)
    for text, read in (
        ("Blue  WIDE ", "Blue WIDE"),
        ("the tall, black", "the tall, black"),
        ("black tall", "black tall"),
    ):
        opened.type(text)
        assert opened.shown() == by_tower(root, read)[:60]
        assert opened.status() == f"“{read}”."
    assert by_tower(root, "tall black")[:10] != by_tower(root, "black tall")[:10]
    opened.type("red gree")
    assert "Completed to “green”" in opened.status()
    assert opened.shown() == by_tower(root, "red green")[:60]
    opened.type("roxd red")
    assert "Not among the words of this page, and read by parts of words: roxd." in opened.status()
    assert opened.shown() == by_tower(root, "roxd red")[:60]
    opened.type("🦊 ጤና")
    assert opened.status() == "Unknown to this page: ጤና."
    assert opened.shown() == []
    assert not opened.complaints


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_text_tower_is_that_of_python(root: Path, browser: Any, tmp_path: Path, pooling: TextPooling) -> None:
    towers = load_towers(root / "lit")
    config = dataclasses.replace(towers.model.config, text_pooling=pooling, tokens=20)
    towers.model.config = config
    axes = torch.linalg.qr(torch.randn(12, 7, generator=torch.Generator().manual_seed(0))).Q
    tower = page_tower(towers, axes if pooling == "mean" else None)
    assert tower is not None
    texts = [*(f"{a} {b}" for a in WORDS for b in WORDS), *STRANGE]
    page = tower_page(browser, tower, tmp_path)
    ids = page.evaluate("texts => texts.map(text => tower.ids(text))", texts)
    assert ids == [towers.tokenizer([text], context=18)[0].tolist() for text in texts]
    embeddings = page.evaluate("texts => texts.map(text => tower.embed(text)).map(each => each && [...each])", texts)
    exact = tower.embed(texts)
    known = [row for row, embedding in enumerate(embeddings) if embedding is not None]
    assert len(known) > len(WORDS) ** 2
    np.testing.assert_allclose([embeddings[row] for row in known], exact[known], atol=2e-6)


@pytest.mark.parametrize("lowercase", [True, False])
def test_word_pieces_are_those_of_the_library(browser: Any, tmp_path: Path, lowercase: bool) -> None:
    import tokenizers

    texts = [*STRANGE, *(f"{a} {b}, {a}{b}" for a in WORDS for b in WORDS)]
    library = tokenizers.BertWordPieceTokenizer(lowercase=lowercase)
    library.train_from_iterator(texts[5:], vocab_size=300, show_progress=False)
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = JsonTokenizer(tmp_path / "tokenizer.json")
    pieces = page_pieces(tokenizer)
    assert pieces is not None
    page = tower_page(browser, None, tmp_path)
    rule = {"kind": pieces.kind, "lowercase": pieces.lowercase, "strip_accents": pieces.strip_accents}
    page.evaluate("content => { tower.pieces(content); }", {"piece": pieces.piece, **rule})
    ids = page.evaluate("texts => texts.map(text => tower.ids(text))", texts)
    wanted = [tokenizer([text], context=18)[0].tolist() for text in texts]
    assert len({number for row in wanted for number in row}) > 60
    assert any(3 in row for row in wanted)
    assert ids == wanted


def tower_page(browser: Any, tower: PageTower | None, folder: Path) -> Any:
    """A page with a text tower alone, called ``tower``; without weights if there is none."""
    write_page_files(folder)
    form = write_tower(folder, tower) if tower else {"matrices": {}, "scripts": 1, "context": 18}
    page = browser.new_page()
    page.add_script_tag(content=(folder / "tower.js").read_text(encoding="utf-8"))
    page.evaluate("form => { globalThis.tower = globalThis.page = textTower(form); }", form)
    for file in sorted((folder / "data").glob("tower-*.js")):
        page.add_script_tag(content=file.read_text(encoding="ascii"))
    assert page.evaluate("tower.ready()") == (tower is not None)
    return page


def test_results_are_those_of_numpy(root: Path, browser: Any) -> None:
    folder = root / "means"
    opened = Opened(browser, folder)
    for text, entries in (("red", ["red"]), ("Blue  WIDE", ["blue", "wide"]), ("the tall, black", ["tall", "black"])):
        opened.type(text)
        assert opened.shown() == expected(folder, *entries)[:60]
        assert ("estimated from its words: " + " + ".join(entries) in opened.status()) == (len(entries) > 1)
    about = (folder / "data" / "about.js").read_text(encoding="ascii")
    kept = json.loads(about[about.index("{") : -3])["kept_phrases"]
    opened.type("red wide")
    assert f"; about {kept * 10:.0f} of the ten best images are those of the full text tower" in opened.status()
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


def test_it_fits_a_phone(root: Path, folder: Path, browser: Any) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    opened = Opened(browser, folder, **phone)
    opened.type("red wide")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    opened.page.tap("#grid button")
    best = by_tower(root, "red wide")[0]
    assert opened.page.inner_text("#detail-name") == best
    box = opened.page.locator("#detail").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    opened.page.tap("#more")
    opened.wait_for_answer(f"like {best}")
    assert "Images like" in opened.status()


def test_a_missing_file_is_told(folder: Path, browser: Any, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "page")
    (damaged / "data" / "words-0.js").unlink()
    opened = Opened(browser, damaged)
    assert "Files of data/ are missing" in opened.status()
    assert len(opened.shown()) == 60
    damaged = shutil.copytree(folder, tmp_path / "without")
    (damaged / "data" / "tower-2.js").unlink()
    opened = Opened(browser, damaged)
    opened.type("red wide")
    assert "estimated from its words: red + wide Files of data/ are missing" in opened.status()
    assert opened.shown() == expected(folder, "red", "wide")[:60]
