"""The page of a prepared set, read back and compared with its tables, row by row and in plain Python."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from support.html_page import Page
from support.image_copies import drawing
from support.image_files import encoded
from support.prepared_page_example import add_losses, make_set
from underpaint.__main__ import main
from underpaint.data.shards.label_pictures import PER_LABEL, SIDE, write_examples
from underpaint.report import write_report

HOSTILE = "<script>alert(1)</script>"
TAGS = (
    "brownbear",
    "ursusarctos",
    "owl",
    "owls",
    "Eule",
    "the",
    "0x851ce54",
    "http://a.com",
    "lighthouse",
    "x12",
    HOSTILE,
)


def posts(count: int) -> list[tuple[str, bytes, tuple[str, ...]]]:
    """Images of 40 pictures, with tags whose numbers fall like 1 / rank."""
    rng = np.random.default_rng(0)
    pictures = [encoded(drawing(seed)) for seed in range(40)]
    share = 1 / np.arange(1, len(TAGS) + 1)
    return [
        (
            f"{number:05d}",
            pictures[number % 40],
            tuple(TAGS[place] for place in np.flatnonzero(rng.random(len(TAGS)) < share * 0.9)),
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_set(tmp_path_factory.mktemp("prepared") / "set", posts(150), min_count=3)
    add_losses(folder)
    write_examples(folder)
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "set"))


def rows_of(page: Page, table: str) -> dict[str, list[float]]:
    """The numbers of a table by the first word of each row, as they were put into the page beside what is printed."""
    return {
        row[0][2].strip(): [float(str(found["data-value"])) for _, found, _ in row[1:] if "data-value" in found]
        for row in page.tables[table][1:]
    }


def index_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "index.parquet").to_pylist()


def test_counts_equal_the_index(made: Path) -> None:
    page, index = Page(write_report(made)), index_of(made)
    expected: dict[str, list[float]] = {}
    for split in ("heldout", "pretrain"):
        own = [row for row in index if row["split"] == split]
        labelled = [row for row in own if row["labels"]]
        expected[split] = [len(own), len(labelled), pytest.approx(sum(row["repeat"] for row in own), rel=1e-6)]
    expected["of no split"] = [sum(row["split"] == "" for row in index)]
    assert rows_of(page, "splits-table") == expected
    lengths = Counter(len(row["labels"]) for row in index)
    assert rows_of(page, "labels-per-image") == {
        str(n): [lengths[n], pytest.approx(lengths[n] / 150)] for n in range(max(lengths) + 1)
    }
    for table, values in (
        ("licences", [row["licence"] for row in index]),
        ("languages", [row["language"] or "not said" for row in index]),
        ("sources", [row["source"] for row in index]),
        ("flags", [flag for row in index for flag in row["flags"]]),
    ):
        counted = Counter(values)
        assert rows_of(page, table) == {name: [n, pytest.approx(n / 150)] for name, n in counted.items()}
    assert str(sum(row["size"] for row in index)) in page.values


def test_repeats_equal_the_index(made: Path) -> None:
    page = Page(write_report(made))
    factors = [row["repeat"] for row in index_of(made)]
    shown = rows_of(page, "repeat-factors")
    assert sum(images for images, *_ in shown.values()) == len(factors)
    for name, (images, _, share) in shown.items():
        numbers = [float(number) for number in re.findall(r"[\d.]+", name)]
        low, high = [0.0, *numbers] if len(numbers) == 1 else numbers
        inside = [factor for factor in factors if low < factor <= high]
        assert images == len(inside) > 0
        assert share == pytest.approx(sum(inside) / sum(factors))
    assert len(shown) >= 3
    (epoch,) = [float(value) for value in page.values if float(value) == pytest.approx(sum(factors), abs=1e-3)]
    assert f"{epoch:,.0f} samples" in page.text


def test_what_became_of_tags_equals_the_audit(made: Path) -> None:
    page = Page(write_report(made))
    audit = pq.read_table(made / "tags_audit.parquet").to_pylist()
    total = sum(row["count"] for row in audit)
    names = {"synset": "a meaning in WordNet", "text": "a label of its own words", "cut": "cut off", "drop": "dropped"}
    expected = {}
    for decision, name in names.items():
        own = [row["count"] for row in audit if row["decision"] == decision]
        if own:
            expected[name] = [sum(own), pytest.approx(sum(own) / total), len(own)]
    assert rows_of(page, "decisions") == expected
    assert len(expected) >= 3
    lost: dict[str, list[str]] = {}
    for row in audit:
        if row["decision"] in ("cut", "drop"):
            lost.setdefault(row["reason"].rpartition("; ")[2], []).append(row["tag"])
    count = {row["tag"]: row["count"] for row in audit}
    shown = {row[0][2].strip(): row[1:] for row in page.tables["lost-tags"][1:]}
    assert len(lost) >= 3
    assert shown.keys() == lost.keys()
    for reason, tags in lost.items():
        cells = shown[reason]
        assert [float(str(cell[1]["data-value"])) for cell in cells[:2]] == [len(tags), sum(count[t] for t in tags)]
        assert cells[2][2].split() == [word for tag in tags for word in f"{tag} {count[tag]}".split()]
    labelled = sum(row["count"] for row in audit if row["label"] is not None)
    assert f"{100 * labelled / total:.1f}% of all uses" in " ".join(page.text.split())


def test_labels_equal_the_vocabulary(made: Path) -> None:
    page = Page(write_report(made))
    vocabulary = pq.read_table(made / "vocabulary.parquet").to_pylist()
    shown = page.tables["head"][1:]
    assert len(shown) == len(vocabulary)
    for rank, (row, cells) in enumerate(zip(vocabulary, shown, strict=True), start=1):
        assert cells[0][2].split("\xa0")[0].strip().startswith(row["name"])
        assert [float(str(cell[1]["data-value"])) for cell in cells[1:3]] == [rank, row["count"]]
        assert " ".join(cells[3][2].split()) == " ".join(" ".join(row["tags"]).split())
    assert "tail" not in page.tables  # each label stands once


def test_losses_equal_their_files(made: Path) -> None:
    page = Page(write_report(made))
    dropped = {row[0][2].strip(): row for row in page.tables["dropped-images"][1:]}
    assert {name: row[1][1]["data-value"] for name, row in dropped.items()} == {
        "the file is empty": "3",
        "7 x 1 pixels are outside the limit of 2 to 100000000 (or other numbers)": "2",
    }
    assert dropped["the file is empty"][2][2].split() == ["lost/0.jpg", "lost/1.jpg", "lost/2.jpg"]
    record = json.loads((made / "prepare.json").read_text())
    for one in record["excluded"]:
        assert rows_of(page, "excluded")[one["name"]] == [
            one["images"], one["duplicated"], one["removed"], one["unreadable_or_flat"],
        ]  # fmt: skip
    assert rows_of(page, "refused-keywords") == {"XMP with a document type or entities": [2]}


def test_pictures_are_small_and_of_their_label(made: Path) -> None:
    page = Page(write_report(made))
    shown = pq.read_table(made / "examples.parquet").to_pylist()
    labels = {row["key"]: row["labels"] for row in index_of(made)}
    assert all(row["label"] in labels[row["key"]] for row in shown)
    vocabulary = pq.read_table(made / "vocabulary.parquet").to_pylist()
    for row in vocabulary:
        have = sum(row["label"] in own for own in labels.values())
        told = sum(one["label"] == row["label"] for one in shown)
        assert min(have, 1) <= told <= min(have, PER_LABEL)
    pictures = [found for tag, found in page.tags if tag == "img"]
    assert len(pictures) == len(shown) >= 12
    for picture in pictures:
        kind, _, content = str(picture["src"]).partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert max(image.size) <= SIDE
        assert len(content) < 12_000


def test_the_head_does_not_show_one_image_for_all(tmp_path: Path) -> None:
    """All images have the same four labels: each shows others of them."""
    every = [(key, image, ("bear", "owl", "fox", "wolf")) for key, image, _ in posts(40)]
    folder = make_set(tmp_path / "set", every)
    write_examples(folder)
    rows = pq.read_table(folder / "examples.parquet").to_pylist()
    assert len(rows) == len({row["key"] for row in rows}) == 4 * PER_LABEL


def test_images_that_cannot_be_read_are_passed_over(own: Path) -> None:
    before = write_examples(own)
    (own / "00000.tar").write_bytes(bytes((own / "00000.tar").stat().st_size))
    (own / "00001.tar").unlink()
    after = write_examples(own)
    assert 0 < after <= before
    keys = {row["key"] for row in pq.read_table(own / "examples.parquet").to_pylist()}
    assert min(keys) >= f"{40:05d}"


def test_strangers_text_is_escaped(made: Path) -> None:
    text = write_report(made).read_text()
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)" in text


def test_page_is_offline_and_without_script(made: Path) -> None:
    page = Page(write_report(made))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, found in page.tags:
        assert not any(name.startswith("on") for name in found)
        for name in ("src", "href"):
            assert str(found.get(name, "#")).startswith(("#", "data:image/"))


def test_same_files_same_bytes(made: Path, own: Path) -> None:
    first, examples = write_report(made).read_bytes(), (made / "examples.parquet").read_bytes()
    write_examples(own)
    assert (own / "examples.parquet").read_bytes() == examples
    assert write_report(own).read_bytes() == first


def test_without_images(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "set")
    assert main(["report", str(tmp_path / "set"), "--no-images"]) == 0
    page = Page(tmp_path / "set" / "prepare.html")
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert "#pictures" not in [found.get("href") for tag, found in page.tags if tag == "a"]


def test_everything_optional_may_be_missing(own: Path) -> None:
    for name in ("dropped.parquet", "prepare.json", "examples.parquet", "vocabulary.parquet", "tags_audit.parquet"):
        (own / name).unlink()
    page = Page(write_report(own))
    assert "150 images." in " ".join(page.text.split())
    assert "no record of how it was made" in page.text


def test_a_long_tail_stays_a_small_page(own: Path) -> None:
    """200,000 tags and 50,000 labels: head, tail and some hundred points of each line."""
    count = (1e6 / np.arange(1, 200_001)).astype(np.int64) + 1
    tags = pa.array([f"tag{n}" for n in range(200_000)])
    decision = pa.array(["text"] * 50_000 + ["cut"] * 150_000)
    label = pa.array([*range(50_000), *[None] * 150_000], pa.int32())
    reason = pa.array(["not in WordNet"] * 50_000 + ["not in WordNet; rarer than min_count=21"] * 150_000)
    audit = {"tag": tags, "count": count, "decision": decision, "label": label, "reason": reason}
    pq.write_table(pa.table(audit), own / "tags_audit.parquet")
    vocabulary = {
        "label": pa.array(range(50_000), pa.int32()),
        "name": tags[:50_000],
        "synset": pa.nulls(50_000, pa.string()),
        "count": count[:50_000],
        "tags": pa.array([[f"tag{n}"] for n in range(50_000)]),
    }
    pq.write_table(pa.table(vocabulary), own / "vocabulary.parquet")
    path = write_report(own, images=False)
    page = Page(path)
    assert path.stat().st_size < 150_000
    assert [float(str(row[1][1]["data-value"])) for row in page.tables["tail"][1:]] == list(range(49_981, 50_001))
    assert rows_of(page, "lost-tags") == {"rarer than min_count=21": [150_000, int(count[50_000:].sum())]}
    lines = [str(found["d"]) for tag, found in page.tags if tag == "path" and "curve" in str(found.get("class"))]
    assert len(lines) == 2
    assert all(100 <= line.count("L") <= 260 for line in lines)
