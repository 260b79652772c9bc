"""Captions of folders, tables, collections and prepared sets: those read, those named as bad, and the one drawn."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.prepare_examples import prepared
from underpaint import keyed_random
from underpaint.core import ImageInput, Inputs, TextInput
from underpaint.data.captions.caption_data import CaptionData, OpenCaptions
from underpaint.data.captions.wording import LONGEST_CAPTION, captions_of
from underpaint.data.shards.lanes import Lanes
from underpaint.data.stream import Batching
from underpaint.texts.tokenizer import Tokenizer
from underpaint.texts.tokens import END, PAD, START
from underpaint.texts.training import train_tokenizer

INPUTS: Inputs = {
    "image": ImageInput(size=(8, 8), channels=3, value_range=(0, 255), mean=(0.5,) * 3, std=(0.5,) * 3),
    "text": TextInput(tokens=12, vocabulary=120),
}


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 9, 3), shade, dtype=np.uint8)).save(path)


def write(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images: captions in a text file, in JSON and in a table; tags alone; nothing; and broken ones."""
    root = tmp_path / "pictures"
    for number in range(10):
        picture(root / f"{number}.png", 20 * number)
    (root / "0.txt").write_text("a dog runs in the snow\n\n  a  brown dog, running. \na dog runs in the snow\n")
    (root / "1.json").write_text(json.dumps({"captions": ["a cat sleeps", "the sleeping cat"], "language": "en"}))
    (root / "2.txt").write_text("boat, harbour")  # tags
    (root / "3.txt").write_text("   \n")  # empty
    (root / "4.txt").write_text("long " * 20_000)  # 100,000 letters
    (root / "5.json").write_text("{broken")
    (root / "6.txt").write_bytes(b"\xff\xfe not text \xff")
    rows = [("path", "caption", "language"), ("7.png", "ein Baum im Wind", "de"), ("7.png", "a tree in the wind", "en")]
    write(root / "captions.csv", [*rows, ("1.png", "eine schlafende Katze", "de"), ("nowhere.png", "x y", "")])
    write(root / "tags.csv", [("path", "tags"), ("8.png", "house;red")])
    return root


def data(source: Path | str, **options: Any) -> CaptionData:
    return CaptionData(source=str(source), max_bad=1.0, **options)


def opened(source: Path | str, **options: Any) -> OpenCaptions:
    ready = data(source, **options).open().for_inputs(INPUTS)
    assert isinstance(ready, OpenCaptions)
    return ready


def texts_by_image(pairs: OpenCaptions) -> dict[str, tuple[str, ...]]:
    index = pairs.dataset.sample_index(batch_size=8, seed=0)
    items = [index.at(position) for position in range(8 * pairs.images)]  # lanes of a set are of unequal length
    return {item.key: pairs.texts.of(item.image) for item in items}


def in_folder(pairs: OpenCaptions) -> dict[str, tuple[str, ...]]:
    """Training and held-out images together."""
    return texts_by_image(pairs) | {pair.key: pair.texts for pair in pairs.texts.heldout()}


def test_captions_of_a_folder(folder: Path) -> None:
    pairs = opened(folder)
    assert in_folder(pairs) == {
        "0.png": ("a dog runs in the snow", "a brown dog, running."),
        "1.png": ("eine schlafende Katze", "a cat sleeps", "the sleeping cat"),
        "2.png": ("a photo of a boat.", "a photo of a harbour."),
        "7.png": ("ein Baum im Wind", "a tree in the wind"),
        "8.png": ("a photo of a house.", "a photo of a red."),
    }
    notes = "\n".join(pairs.notes)
    assert "without a caption: their texts are made of their tags, as 'a photo of a {}.'" in notes
    assert "without a caption or a tag are left out" in notes


def test_bad_captions_are_named(folder: Path, tmp_path: Path) -> None:
    pairs = opened(folder)
    stream = pairs.stream(INPUTS, Batching(batch_size=2, microbatch=2), seed=0, quarantine=tmp_path / "bad.jsonl")
    assert len(stream.quarantine) == 5
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    reasons = {line["key"]: line["reason"] for line in lines}
    assert reasons["3.png"] == "an empty caption"
    assert reasons["4.png"] == "4.txt: a caption of 10,000 letters or more; at most 9,999 are read"
    assert reasons["5.png"].startswith("5.json: it is not valid JSON")
    assert reasons["6.png"].startswith("6.txt: it is not UTF-8")
    assert reasons["nowhere.png"] == "missing file"


def test_languages_and_templates(folder: Path) -> None:
    german = in_folder(opened(folder, languages=("de",), templates=()))
    assert german == {"1.png": ("eine schlafende Katze",), "7.png": ("ein Baum im Wind",)}
    both = in_folder(opened(folder, templates=("{}", "a drawing of {}")))
    assert both["2.png"] == ("boat", "a drawing of boat", "harbour", "a drawing of harbour")
    with pytest.raises(ValueError, match=r"has no captions in fi, and data\.templates is empty; put a text beside"):
        data(folder, languages=("fi",), templates=()).open()
    with pytest.raises(ValueError, match=r"data\.templates has 'a photo', which has no \{\} where the tag goes"):
        data(folder, templates=("a photo",))
    with pytest.raises(ValueError, match=r"data\.targets=tags: images are paired with captions"):
        data(folder, targets="tags")


def test_a_table_elsewhere(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "mine.csv", [("file_name", "text"), ("9.png", "nine lives")])
    pairs = opened(folder, captions=str(tmp_path / "mine.csv"))
    assert in_folder(pairs)["9.png"] == ("nine lives",)
    assert "7.png" not in in_folder(pairs), "the usual table is not read beside it"
    with pytest.raises(ValueError, match=r"data\.captions=gone\.csv is not a file; give a table with the columns"):
        opened(folder, captions="gone.csv")
    with pytest.raises(ValueError, match="none of a usual name for caption"):
        opened(folder, captions=str(folder / "tags.csv"))


def test_the_text_is_drawn_by_the_position(folder: Path, tmp_path: Path) -> None:
    """The same with workers, from the middle, and by hand."""
    pairs = opened(folder)
    batches: dict[int, list[dict[str, torch.Tensor]]] = {}
    for workers in (0, 2):
        dataset = replace(pairs.dataset, config=replace(pairs.dataset.config, workers=workers))
        of_workers = replace(pairs, dataset=dataset)
        stream = of_workers.stream(INPUTS, Batching(batch_size=4, microbatch=4), seed=5, quarantine=tmp_path / "b")
        iterator: Any = iter(stream)
        batches[workers] = [dict(next(iterator)) for _ in range(4)]
    for plain, parallel in zip(batches[0], batches[2], strict=True):
        assert plain.keys() == parallel.keys() == {"image", "text", "position", "weight"}
        assert all(torch.equal(plain[name], parallel[name]) for name in plain)
    later = pairs.stream(INPUTS, Batching(batch_size=4, microbatch=4), seed=5, quarantine=tmp_path / "b")
    later.position = 8
    assert torch.equal(next(iter(later))["text"], batches[0][2]["text"])
    assert pairs.tokenizer is not None
    index, drawn = pairs.dataset.sample_index(batch_size=4, seed=5), set[str]()
    for batch in batches[0]:
        for position, ids in zip(batch["position"], batch["text"], strict=True):
            texts = pairs.texts.of(index.at(int(position)).image)
            number = float(keyed_random.uniform(keyed_random.key(5, "text"), position[None], 1))
            drawn.add(text := texts[int(number * len(texts))])
            assert torch.equal(ids, pairs.tokenizer([text], context=10, length=12)[0])
    assert len(drawn) > len(texts_by_image(pairs)), "more than one text of some image is drawn"


def test_heldout_pairs_have_their_first_text(tmp_path: Path) -> None:
    for number in range(120):
        picture(tmp_path / "many" / f"{number}.png", 2 * number)
        (tmp_path / "many" / f"{number}.txt").write_text(f"a picture of number {number}\nand another text of it.")
    pairs = opened(tmp_path / "many")
    heldout = pairs.texts.heldout()
    assert heldout
    assert not {pair.key for pair in heldout} & texts_by_image(pairs).keys()
    batches = list(pairs.heldout(INPUTS, batch_size=2))
    assert pairs.tokenizer is not None
    expected = pairs.tokenizer([pair.texts[0] for pair in heldout], context=10, length=12)
    assert torch.equal(torch.cat([batch["text"] for batch in batches]), expected)
    assert not any("number 3 " in text for text in pairs.texts.training() for pair in heldout if pair.key == "3.png")


def test_the_identity_is_that_of_texts_too(folder: Path) -> None:
    before = opened(folder)
    assert opened(folder).content_hash == before.content_hash
    assert replace(before, tokenizer=None).content_hash != before.content_hash, "the tokenizer counts"
    (folder / "0.txt").write_text("a dog runs in the rain")
    assert opened(folder).content_hash != before.content_hash


@pytest.mark.slow
def test_names_of_a_collection() -> None:
    pairs = data("openmoji", languages=("en", "de")).open()
    texts = in_folder(pairs)
    assert texts["images/0033-FE0F-20E3.png"] == ("keycap 3", "taste 3")
    assert "without a caption: their texts are made of their tags" in "\n".join(pairs.notes)
    with pytest.raises(ValueError, match=r"the collection 'openmoji' brings its captions: leave out data\.captions=x"):
        data("openmoji", captions="x").open()


def test_captions_of_a_prepared_set(folder: Path, tmp_path: Path) -> None:
    for name in ("3.txt", "4.txt", "5.json", "6.txt", "captions.csv"):
        (folder / name).unlink()
    pairs = opened(prepared(tmp_path / "set", folder), templates=("a {}",), lanes=Lanes(count=1))
    by_name = {key.rpartition("/")[2].partition(".")[0]: texts for key, texts in texts_by_image(pairs).items()}
    by_name |= {pair.key.rpartition("/")[2].partition(".")[0]: pair.texts for pair in pairs.texts.heldout()}
    assert by_name["0"] == ("a dog runs in the snow", "a brown dog, running.")
    assert by_name["1"] == ("a cat sleeps", "the sleeping cat")
    assert by_name["8"] == ("a house", "a red")
    assert "9" not in by_name
    batch = next(iter(pairs.stream(INPUTS, Batching(batch_size=2, microbatch=2), seed=0, quarantine=tmp_path / "bad")))
    assert batch["text"].shape == (2, 12)
    with pytest.raises(ValueError, match=r"a prepared set, has its captions: leave out data\.captions=x, and give"):
        data(tmp_path / "set", captions="x").open()


def test_a_trained_tokenizer_is_the_same_for_texts_in_any_order(tmp_path: Path) -> None:
    texts = [f"{words} number {n}" for words in ("red cat", "blue cat", "red boat") for n in range(9)]
    model = train_tokenizer(texts, vocabulary=60)
    assert train_tokenizer(reversed(texts * 2), vocabulary=60) == model
    (tmp_path / "x.model").write_bytes(model)
    tokenizer = Tokenizer(tmp_path / "x.model")
    assert tokenizer.vocabulary <= 60
    ids = tokenizer(["red boat", ""], length=20)
    assert ids.shape == (2, 20)
    assert ids[1].tolist() == [START, END, *[PAD] * 18]
    with pytest.raises(ValueError, match=r"no tokenizer of 8 ids can be trained .*choose another objective"):
        train_tokenizer(texts, vocabulary=8)


def test_captions_are_lines() -> None:
    assert [text for text, _ in captions_of(" one  two \r\n\nthree\none two")] == ["one two", "three"]
    with pytest.raises(ValueError, match="a caption of 100,000 letters"):
        captions_of("x" * 100_000)
    assert captions_of("x" * (LONGEST_CAPTION - 1))
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        captions_of("\ud800")
