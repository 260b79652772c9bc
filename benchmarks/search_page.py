"""How near a search page comes to the full text tower, in several languages, and what it weighs and takes.

    python benchmarks/search_page.py runs/lit openmoji --languages en,de,fr,es,ru
    python benchmarks/search_page.py --synthetic 100000 --out /tmp/page

The first prints recall@10: the share of the ten best images of a text, by both towers in full, that are among the ten
best by the page's bytes. A single word is stored; a phrase is read by the text tower in eight bits, or, in a page that
has no room for it, the mean of its words. Phrases are captions of two to five words, whose words the page has, read as
if it stored none as a whole. Nothing is fitted, so that no phrase is held out. The second writes a page of random
vectors and measures its size, and in headless Chromium (package playwright) the time to the first result.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from underpaint.data.collections.words import words
from underpaint.evals.text_features import Towers
from underpaint.messages import duration
from underpaint.run.towers import load_towers
from underpaint.search.page import PageVectors, about_words, mean_vectors, page_vectors, shared_best
from underpaint.search.page_data import size_of, write_about, write_images, write_page_files, write_words
from underpaint.search.page_tower import page_tower
from underpaint.search.pictures import Pictures, embed_pictures, open_pictures
from underpaint.search.words import WordChoice, choose_words

T = TypeVar("T")
BEST = 10
QUERIES = 300
MEASURED = ("single words", "phrases by the tower", "phrases by their words")
CHROMIUM = "/usr/bin/chromium"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="run of LiT")
    parser.add_argument("images", nargs="?", help="folder or collection with captions")
    parser.add_argument("--languages", default="en,de,fr,es,ru")
    parser.add_argument("--synthetic", type=int, default=0, metavar="IMAGES")
    parser.add_argument("--out", type=Path, help="new folder of the synthetic page")
    options = parser.parse_args()
    if options.synthetic:
        synthetic(options.synthetic, options.out)
    else:
        recall(options.run, options.images, options.languages.split(","))


def recall(run: str, images: str, languages: Sequence[str]) -> None:
    towers, source = load_towers(run), open_pictures(images)
    pictures = embed_pictures(towers, source)
    choice = choose_words(source, images, run, languages=languages)
    print(f"{len(pictures.rows):,} images, {len(choice.entries):,} entries\n")
    vectors = page_vectors(pictures.embedding, towers.embed_texts(choice.entries))
    tower = page_tower(towers, vectors.axes)
    print(f"| language | {' | '.join(f'{kind}, recall@{BEST}' for kind in MEASURED)} | words | phrases |")
    print(f"|---|{'---|' * len(MEASURED)}---|---|")
    row = {entry: number for number, entry in enumerate(choice.entries)}
    for language in languages:
        single, several = single_words(pictures, choice, language), phrases(pictures, choice, language)
        texts = [text for text, *_ in several]
        stored = vectors.words.vectors()[[row[word] for word in single]]
        means = mean_vectors([[row[word] for word in parts] for _, *parts in several], vectors.words)
        page = [(single, stored), (texts, tower.embed(texts) if tower else None), (texts, means)]
        shares = [shared(towers, pictures, vectors, *each) for each in page]
        cells = [language, *(f"{share:.3f}" for share in shares), f"{len(single)}", f"{len(several)}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def single_words(pictures: Pictures, choice: WordChoice, language: str) -> list[str]:
    entries = set(choice.entries)
    parts = (part for text in captions(pictures, language) for part in words([text], marks=True))
    return evenly(list(dict.fromkeys(part for part in parts if part in entries)))


def phrases(pictures: Pictures, choice: WordChoice, language: str) -> list[list[str]]:
    """Each phrase, and the words that the page makes it of."""
    entries, ignored = set(choice.entries), set(choice.ignored)
    kept: list[list[str]] = []
    for text in dict.fromkeys(captions(pictures, language)):
        parts = [part for part in words([text], marks=True) if part not in ignored]
        if 2 <= len(text.split()) <= 5 and len(parts) >= 2 and all(part in entries for part in parts):
            kept.append([text, *parts])
    return evenly(kept)


def captions(pictures: Pictures, language: str) -> Iterator[str]:
    texts = (pictures.source.captions[row] for row in pictures.rows)
    return (text for several in texts for text, spoken in several if spoken == language)


def evenly(queries: list[T]) -> list[T]:
    return [queries[int(place)] for place in np.linspace(0, len(queries) - 1, min(QUERIES, len(queries)))]


def shared(
    towers: Towers, pictures: Pictures, vectors: PageVectors, texts: list[str], page: np.ndarray | None
) -> float:
    """Recall of the page, which has the vectors ``page`` for some texts; nan where it has none."""
    if page is None or not texts:
        return float("nan")
    full = (towers.embed_texts(texts) @ pictures.embedding.T).numpy()
    return shared_best(full, page @ vectors.images.vectors().T, BEST)


def synthetic(count: int, out: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda rows: torch.nn.functional.normalize(torch.randn(rows, 512, generator=generator), dim=1)  # noqa: E731
    choice = WordChoice(entries=tuple(f"word{number}" for number in range(30_000)), ignored=(), counts={})
    start = time.perf_counter()
    vectors = page_vectors(draw(count), draw(30_000))
    out.mkdir()
    paths = [f"holiday/2024-06-{row % 28 + 1:02d}/IMG_{row:06d}.jpg" for row in range(count)]
    write_page_files(out)
    write_images(out, paths, vectors.images)
    write_words(out, choice.entries, vectors.words)
    about = {"title": "synthetic", "images": count, "attribution": "", "unreadable": 0, "tower": None}
    write_about(out, about | about_words(vectors, choice, None))
    size = size_of(out)
    print(f"{count:,} images, 30,000 words, {vectors.images.value.shape[1]} numbers: {size / 1e6:.1f} MB without")
    print(f"thumbnails, written in {duration(time.perf_counter() - start)}")
    browser_times(out)


def browser_times(folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        start = time.perf_counter()
        page.goto((folder.resolve() / "index.html").as_uri(), wait_until="commit")
        page.wait_for_function("() => document.querySelectorAll('#grid li').length > 0", timeout=120_000)
        first = time.perf_counter() - start
        page.wait_for_selector("html[data-ready=yes]", timeout=120_000, state="attached")
        ready = time.perf_counter() - start
        script = """() => {
            const box = document.getElementById('query'), start = performance.now();
            return new Promise((done) => {
                new MutationObserver(() => done(performance.now() - start))
                    .observe(document.getElementById('grid'), {childList: true});
                box.value = 'word17 word4'; box.dispatchEvent(new Event('input'));
            });
        }"""
        typed = sorted(page.evaluate(script) for _ in range(5))[2] / 1000
        print(f"Chromium: first images after {duration(first)}, all read after {duration(ready)}, ", end="")
        print(f"results of a phrase {1000 * typed:.0f} ms after the key (median of 5)")
        browser.close()


if __name__ == "__main__":
    main()
