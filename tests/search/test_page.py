"""The search page: bytes of its vectors, words by their rules, files as a browser reads them, refusals."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.search_examples import save_lit
from support.small_runs import make_images
from underpaint.cli.main import main
from underpaint.data.source import Caption, Folder
from underpaint.run.towers import load_towers
from underpaint.search import page as search_page
from underpaint.search import words as search_words
from underpaint.search.page import mean_vectors, page_phrases, page_vectors, shared_best, write_search_page
from underpaint.search.page_data import size_of
from underpaint.search.page_pieces import page_pieces
from underpaint.search.page_tower import page_tower
from underpaint.search.pictures import open_pictures
from underpaint.search.quantise import image_axes, quantise, shortened
from underpaint.search.thumbnails import SIDE, write_thumbnails
from underpaint.search.words import WordChoice, choose_words
from underpaint.texts.tokenizer import JSON, SENTENCEPIECE, JsonTokenizer, Tokenizer

HOSTILE = "<script>alert(1)</script>'\"&\u2028.png".replace("/", "\u2215")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lit(tmp_path_factory.mktemp("search") / "lit")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    folder = make_images(tmp_path / "photos", count=24)
    (folder / HOSTILE).write_bytes((folder / "a" / "001.png").read_bytes())
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes((folder / "a" / "002.png").read_bytes())
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "captions.csv").write_text("path,caption,language\na/001.png,ein roter Kasten,de\na/002.png,red box,en\n")
    return folder


def calls(script: Path) -> list[Any]:
    """The arguments of the one call that a script of ``data/`` is."""
    text = script.read_text(encoding="ascii")
    call, _, arguments = text.partition("(")
    assert call.partition(".")[0] == "page"
    assert text.endswith(");\n")
    return json.loads(f"[{arguments[:-3]}]")


def stored(script: Path) -> np.ndarray:
    return restored(calls(script)[-1])


def restored(content: dict[str, str]) -> np.ndarray:
    scale = np.frombuffer(base64.b64decode(content["scale"]), "<f4").astype(np.float64)
    value = np.frombuffer(base64.b64decode(content["value"]), np.int8).reshape(len(scale), -1)
    return value * scale[:, None]


def test_a_row_of_bytes_is_off_by_half_a_step_at_most() -> None:
    x = torch.randn(50, 33, generator=torch.Generator().manual_seed(0))
    x[7] = 0
    stored = quantise(x)
    assert stored.value.min() >= -127
    assert (np.abs(stored.value).max(axis=1)[:7] == 127).all()
    error = np.abs(stored.vectors() - x.numpy())
    assert (error.max(axis=1) <= stored.scale / 2 + 1e-6).all()
    assert not stored.vectors()[7].any()


def test_fewer_numbers_keep_what_images_need() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(40, 40, generator=generator)).Q
    images = torch.randn(300, 8, generator=generator) @ basis[:8] + 0.001 * torch.randn(300, 40, generator=generator)
    axes = image_axes(images, most=8)
    assert axes is not None
    text = torch.randn(5, 40, generator=generator)
    exact, short = images @ text.T, shortened(images, axes) @ shortened(text, axes).T
    torch.testing.assert_close(short, exact, atol=0.03, rtol=0)
    assert image_axes(images, most=40) is None
    left, _, _ = np.linalg.svd(images.numpy().T, full_matrices=False)
    torch.testing.assert_close(axes @ axes.T, torch.from_numpy(left[:, :8] @ left[:, :8].T), atol=1e-4, rtol=0)


def test_the_share_of_best_images_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    full, other = rng.normal(size=(6, 40)), rng.normal(size=(6, 40))
    shares = [len({*np.argsort(-a)[:10]} & {*np.argsort(-b)[:10]}) / 10 for a, b in zip(full, other, strict=True)]
    assert shared_best(full, other, 10) == pytest.approx(np.mean(shares))
    assert shared_best(full, full, 10) == 1
    vectors = page_vectors(torch.eye(12), torch.eye(12)[:4])
    assert vectors.kept_best == 1


@pytest.mark.slow
def test_words_are_chosen_by_source_and_language(images: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [Caption(name, language) for language, name in (("zh", "狗"), ("fr", "tête de chien"), ("de", "hund"))]
    monkeypatch.setattr(search_words, "_emoji_names", lambda: names)
    source = open_pictures(images)
    choice = choose_words(source, images, run)
    assert {"red", "green", "blue", "black", "wide", "tall"} == set(choice.entries[:6])
    assert {"ein roter kasten", "roter", "kasten", "red box", "box"} <= set(choice.entries)
    assert {"hund", "dog", "chien", "tête de chien", "狗"} <= set(choice.entries)
    assert len(choice.entries) == len(set(choice.entries)) == sum(choice.counts.values()) > 15_000
    assert not {"the", "of"} & set(choice.entries)
    assert {"the", "of"} <= set(choice.ignored)
    german = choose_words(source, images, run, languages=["de"])
    assert {"red", "kasten", "hund"} <= set(german.entries)
    assert not {"box", "dog", "狗", "ein"} & set(german.entries)
    both = choose_words(source, images, run, languages=["de", "en"])
    assert "hat" in both.entries  # a function word of German, and a thing in English
    assert "hat" not in both.ignored
    few = choose_words(source, images, run, most=7)
    assert few.entries == choice.entries[:7]
    with pytest.raises(ValueError, match=r"no word is known in xx; words here are in de, en, fr, zh"):
        choose_words(source, images, run, languages=["de", "xx"])


def test_languages_are_those_of_the_captions(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    german = save_lit(tmp_path / "lit", languages={"de": 5, "": 2})
    write_search_page(german, images, tmp_path / "page", words=9)
    names = calls(tmp_path / "page" / "data" / "words-0.js")[1]["name"]
    assert {"red", "kasten"} <= set(names)
    assert "box" not in names
    assert "saw no caption" not in capsys.readouterr().err
    write_search_page(german, images, tmp_path / "english", languages=["eng", "DE", "de"], words=9)
    assert "the text tower saw no caption in en; its captions were in de" in capsys.readouterr().err


@pytest.mark.parametrize("record", [{"run": None}, {"run": {"data": None}}, {"run": {"data": {"source": 3}}}, [], None])
def test_a_record_without_a_source_gives_no_words(
    record: object, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slow_to_read in ("_emoji_names", "_english"):
        monkeypatch.setattr(search_words, slow_to_read, list[Caption])
    (tmp_path / "run.json").write_text(json.dumps(record))
    choice = choose_words(open_pictures(images), images, tmp_path, most=12)
    assert choice.counts["captions of the run"] == 0


def test_a_page_has_every_image_and_escapes_their_names(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page"
    assert main(["search", str(run), str(images), "--out", str(out), "--words", "11"]) == 0
    assert "index.html: 26 images, 1 could not be read; 11 words" in capsys.readouterr().out
    about, part = calls(out / "data" / "about.js")[0], calls(out / "data" / "images-0.js")
    assert (about["images"], about["words"], about["unreadable"], part[0]) == (26, 11, 1, 0)
    assert about["problems"][0]["name"] == "broken.png"
    assert about["originals"] == "../photos"
    names = part[1]["name"]
    assert {HOSTILE, "caf\udce9.png", "a/001.png"} <= set(names)
    assert stored(out / "data" / "images-0.js").shape == (26, 12)
    assert stored(out / "data" / "words-0.js").shape == (11, 12)
    for file in out.rglob("*"):
        assert "script" not in file.name
    for name in ("index.html", "page.css", "page.js", "tower.js"):
        text = (out / name).read_text(encoding="utf-8")
        requests = ("http:", "https:", "//cdn", "fetch(", "XMLHttp", "import(", "innerHTML", "alert")
        assert not [word for word in requests if word in text]
    for number, thumbnail in enumerate(part[1]["thumbnail"]):
        with Image.open(out / "thumbnails" / thumbnail) as picture:
            assert (picture.size, picture.format) == ((24, 20), "WEBP"), number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "page", "photos"]


def test_a_page_overwrites_nothing_and_leaves_nothing_half_done(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="mine exists already; choose another --out"):
        write_search_page(run, images, tmp_path / "mine")
    with pytest.raises(ValueError, match="does not exist; make it first"):
        write_search_page(run, images, tmp_path / "nowhere" / "page")
    with pytest.raises(ValueError, match="lies in the images' folder, where its thumbnails would be found"):
        write_search_page(run, images, images / "a" / "page")
    with pytest.raises(ValueError, match="words=0 must be 1 or more"):
        write_search_page(run, images, tmp_path / "page", words=0)

    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search_page, "write_about", stops)
    with pytest.raises(KeyboardInterrupt):
        write_search_page(run, images, tmp_path / "page", words=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "mine", "photos"]


def test_a_page_has_the_text_tower_where_there_is_room(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = write_search_page(run, images, tmp_path / "page", words=11)
    assert facts.has_tower
    assert facts.megabytes == size_of(tmp_path / "page") / 1e6
    data = tmp_path / "page" / "data"
    form = calls(data / "about.js")[0]["tower"]
    assert sorted(file.name for file in data.glob("tower-*")) == [f"tower-{n}.js" for n in range(form["scripts"])]
    towers = load_towers(run)
    weights = {name: weight for name, weight in towers.model.text.state_dict().items() if weight.ndim == 2}
    weights["projection"] = towers.model.text_projection.detach().T
    written = {name: np.full(shape, np.nan) for name, shape in form["matrices"].items()}
    for number in range(2, form["scripts"]):
        for part in calls(data / f"tower-{number}.js")[0]:
            rows = restored(part)
            written[part["name"]][part["start"] : part["start"] + len(rows)] = rows
    for name, weight in weights.items():
        exact = weight.double().numpy()
        assert (np.abs(written.pop(name) - exact) <= np.abs(exact).max(axis=1, keepdims=True) / 254 + 1e-7).all(), name
    assert not written
    capsys.readouterr()
    monkeypatch.setattr(search_page, "MOST_BYTES", size_of(tmp_path / "page") - 9_000)
    facts = write_search_page(run, images, tmp_path / "small", words=11)
    assert not facts.has_tower
    assert calls(tmp_path / "small" / "data" / "about.js")[0]["tower"] is None
    assert not [*(tmp_path / "small" / "data").glob("tower-*")]
    assert "phrases are estimated from their words: the text tower has 5," in capsys.readouterr().err


def test_eight_bits_change_a_text_little(run: Path) -> None:
    towers = load_towers(run)
    texts = ["red box", "rot hund", "a tall green box", "犬", "wide black red blue box box box"]
    full = towers.embed_texts(texts)
    tower = page_tower(towers, None)
    assert tower is not None
    assert ((full.double().numpy() * tower.embed(texts)).sum(axis=1) > 0.995).all()
    axes = torch.linalg.qr(torch.randn(12, 5, generator=torch.Generator().manual_seed(0))).Q
    shorter = page_tower(towers, axes)
    assert shorter is not None
    np.testing.assert_allclose(shorter.embed(texts), tower.embed(texts) @ axes.double().numpy(), atol=0.02)


def test_pieces_are_those_of_the_libraries(run: Path, tmp_path: Path) -> None:
    import sentencepiece
    import tokenizers

    tokenizer = load_towers(run).tokenizer
    assert isinstance(tokenizer, Tokenizer)
    library: Any = sentencepiece.SentencePieceProcessor()
    library.load_from_serialized_proto(tokenizer.file.read_bytes())
    pieces = page_pieces(tokenizer)
    assert pieces is not None
    assert pieces.score is not None
    numbers = range(3, library.get_piece_size())
    assert pieces.piece == ("",) * 4 + tuple(library.id_to_piece(number) for number in numbers)
    assert pieces.score[4:].tolist() == [library.get_score(number) for number in numbers]
    texts = [f"{a} {b}" for a in ("red", "blue") for b in ("dog", "box")]
    for setting in (
        {"model_type": "bpe"},
        {"byte_fallback": True, "vocab_size": 290},
        {"user_defined_symbols": ["dog"]},
    ):
        model = io.BytesIO()
        settings = {"vocab_size": 20, "hard_vocab_limit": False, "minloglevel": 2, **setting}
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=model, **settings)
        (tmp_path / SENTENCEPIECE).write_bytes(model.getvalue())
        assert page_pieces(Tokenizer(tmp_path / SENTENCEPIECE)) is None
    words = {name: number for number, name in enumerate(["red", "[UNK]", "##dog", "[CLS]", "[SEP]", "[PAD]", "dog"])}
    bert = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))
    bert.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    for lowercase, accents, stripped in ((True, None, True), (False, None, False), (True, False, False)):
        bert.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase, strip_accents=accents)
        bert.save(str(tmp_path / JSON))
        pieces = page_pieces(JsonTokenizer(tmp_path / JSON))
        assert pieces is not None
        assert pieces.piece == ("", "", "", "", "red", "##dog", "dog")
        assert (pieces.lowercase, pieces.strip_accents) == (lowercase, stripped)
    bert.normalizer = tokenizers.normalizers.NFKC()
    bert.save(str(tmp_path / JSON))
    assert page_pieces(JsonTokenizer(tmp_path / JSON)) is None


def test_phrases_are_compared_as_if_they_were_not_stored(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = WordChoice(
        entries=("dog face", "dog", "face", "cat of man", "man", "the cat", "cat"), ignored=("of",), counts={}
    )
    assert page_phrases(choice) == {"dog face": ["dog", "face"], "cat of man": ["cat", "man"]}
    words = quantise(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    means, x = mean_vectors([[0, 2], [3, 1, 1]], words), words.vectors()
    for mean, total in zip(means, (x[0] + x[2], x[3] + 2 * x[1]), strict=True):
        np.testing.assert_allclose(mean, total / np.sqrt((total**2).sum()))
    pairs = [f"{a} {b}" for a in ("red", "blue", "rot", "tall") for b in ("box", "hund", "chien")]
    rows = [f"a/001.png,{text}\n" for pair in pairs for text in (pair, *pair.split())]
    (images / "captions.csv").write_text("path,caption\n" + "".join(rows))
    monkeypatch.setattr(search_page, "LEAST_COMPARED", 12)
    kept = {}
    for name, most in (("tower", 60_000_000), ("means", 0)):
        monkeypatch.setattr(search_page, "MOST_BYTES", most)
        kept[name] = write_search_page(run, images, tmp_path / name, words=22).kept_phrases
        assert calls(tmp_path / name / "data" / "about.js")[0]["kept_phrases"] == pytest.approx(kept[name], abs=5e-4)
    assert kept["means"] < kept["tower"] <= 1
    monkeypatch.setattr(search_page, "LEAST_COMPARED", 13)
    assert write_search_page(run, images, tmp_path / "few", words=22).kept_phrases is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "search needs a query"),
        (["dog", "--out", "page"], "choose one"),
        (["--out", "page", "--top", "3"], "choose one"),
        (["dog", "--languages", "de"], "--languages and --words choose the words of a page"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    words: list[str], message: str, run: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(run), str(images), *words]) == 2
    assert message in capsys.readouterr().err


def test_thumbnails_are_small_and_problems_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 300), "red").save(tmp_path / "a.jpg")
    Image.new("L", (70, 50)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    (tmp_path / "thumbnails").mkdir()
    problems = write_thumbnails(Folder(root=tmp_path), ["a.jpg", "b.png", "c.png", "gone.png"], tmp_path / "thumbnails")
    assert [problem.key for problem in problems] == ["c.png", "gone.png"]
    for number, size in enumerate([(SIDE, 58), (70, 50)]):
        with Image.open(tmp_path / "thumbnails" / "0" / f"{number}.webp") as picture:
            assert picture.size == size
