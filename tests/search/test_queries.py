"""Queries on the command line, against embeddings computed by hand; the cache of features; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.search_examples import CONFIG, save_lit
from support.small_runs import make_images
from underpaint.cli.main import main
from underpaint.data import view_batches
from underpaint.data.decode.transforms import eval_view
from underpaint.models.image_text import ImageText
from underpaint.models.weights import load_tokenizer
from underpaint.run.outputs import load_model
from underpaint.search.queries import search_images


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lit(tmp_path_factory.mktemp("search") / "lit")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    folder = make_images(tmp_path / "photos", count=24)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def cosines(run: Path, images: Path, query: str) -> dict[str, float]:
    """Every readable image's cosine with a query, image by image, read with Pillow."""
    model, tokenize = load_model(run), load_tokenizer(run)
    assert isinstance(model, ImageText)
    mean, std = (torch.tensor(value)[:, None, None] for value in (CONFIG.encoder.mean, CONFIG.encoder.std))
    scores = {}
    with torch.no_grad():
        text = model.embed_text(tokenize([query]))[0]
        for path in sorted(images.rglob("0*.png")):
            pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255
            view = (eval_view(pixels, size=CONFIG.encoder.size) - mean) / std
            scores[path.relative_to(images).as_posix()] = float(model.embed_image(view[None])[0] @ text)
    return scores


def test_the_best_images_come_first(run: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = cosines(run, images, "red box")
    best = sorted(expected, key=lambda path: -expected[path])
    matches = search_images(run, images, "  red \n box", top=5)
    assert [match.path for match in matches] == best[:5]
    assert [match.score for match in matches] == pytest.approx([expected[path] for path in best[:5]], abs=1e-5)
    assert len(search_images(run, images, "red box", top=1000)) == 24
    assert "1 image left out, such as 'broken.png'" in capsys.readouterr().err


def test_the_second_query_encodes_no_image_again(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, encoded = view_batches.read_encoded, list[int]()

    def counting(reads: list[object], **how: object) -> object:
        encoded.append(len(reads))
        return real(reads, **how)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(view_batches, "read_encoded", counting)
    first = search_images(run, images, "chien")
    assert sum(encoded) == 25
    assert search_images(run, images, "chien") == first
    assert sum(encoded) == 25
    (images / "new.png").write_bytes((images / "a" / "001.png").read_bytes())
    assert len(search_images(run, images, "犬", top=99)) == 25
    assert sum(encoded) == 25  # a copy has the features of the image it is a copy of
    search_images(save_lit(tmp_path / "another", seed=1), images, "chien")
    assert sum(encoded) == 25 + 25


def test_the_command_prints_a_table_or_writes_json(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", str(run), str(images), "blue", "--top", "3"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    matches = search_images(run, images, "blue", top=3)
    assert lines == [f"{rank}  {match.score:6.3f}  {match.path}" for rank, match in enumerate(matches, 1)]
    assert main([*words, "--json", str(tmp_path / "found.json")]) == 0
    content = json.loads((tmp_path / "found.json").read_text())
    assert content == {"format": 1, "query": "blue", "matches": [match._asdict() for match in matches]}
    assert main([*words, "--json", str(tmp_path / "found.json")]) == 2


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "the query is empty"),
        (" \n\t", "the query is empty"),
        ("a" * 10_001, "the query has 10,001 letters; at most 10,000 are read"),
        ("dog \udcff", "is not UTF-8 text"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(
    query: str, message: str, run: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(run), str(images), query]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_folder_or_a_run_that_cannot_be_searched_is_refused(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of the 1 image can be read; the first, a\.png: "):
        search_images(run, tmp_path / "bad", "dog")
    with pytest.raises(ValueError, match="top=0 must be 1 or more"):
        search_images(run, images, "dog", top=0)
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        search_images(run, tmp_path / "nowhere", "dog")
    monkeypatch.chdir(tmp_path)
    assert len(search_images(run, "photos", "dog")) == 10  # a bare word that is a folder


@pytest.mark.parametrize("query", ["ξψ", "\u200b", "\u200b \ufeff"])
def test_letters_that_the_tokenizer_lacks_are_named(
    query: str, run: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search_images(run, images, query)
    assert f"knows no part of {query!r}" in capsys.readouterr().err
