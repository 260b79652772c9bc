"""Counted tags to labels: merging, cuts and the audit against known answers, and the labels of posts against a loop."""

from __future__ import annotations

import io
import random

import pyarrow
import pyarrow.parquet
import pytest

from underpaint.tags.canonical import TagRules
from underpaint.tags.labels import Labeller, LabelSpace, build_label_space


def counted(counts: dict[str, int]) -> pyarrow.Table:
    return pyarrow.table({"tag": list(counts), "count": pyarrow.array(counts.values(), pyarrow.int64())})


def built(counts: dict[str, int], **rules: object) -> LabelSpace:
    return build_label_space(counted(counts), TagRules(**rules))  # type: ignore[arg-type]


BEARS = {
    "#brownbear": 5,
    "#UrsusArctos": 4,
    "brown_bears": 2,
    "and": 50,
    "@anna": 3,
    "#wolkenbruch": 2,
    "dog": 3,
    "Dogs": 4,
}


def test_tags_of_one_meaning_are_one_label() -> None:
    found = built(BEARS)
    assert found.table.to_pylist() == [
        {"label": 0, "name": "brown bear", "synset": "n02132136", "count": 11, "tags": list(BEARS)[:3]},
        {"label": 1, "name": "dog", "synset": "n02084071", "count": 7, "tags": ["Dogs", "dog"]},
        {"label": 2, "name": "wolkenbruch", "synset": None, "count": 2, "tags": ["#wolkenbruch"]},
    ]  # fmt: skip
    audit = {row["tag"]: row for row in found.audit.to_pylist()}
    assert audit.keys() == BEARS.keys()
    assert {tag: row["count"] for tag, row in audit.items()} == BEARS
    assert (audit["and"]["decision"], audit["and"]["label"], audit["and"]["reason"]) == (
        "drop",
        None,
        "function word (en)",
    )
    assert audit["@anna"]["reason"] == "an @name"
    assert [audit[tag]["label"] for tag in ("#brownbear", "#UrsusArctos", "Dogs", "#wolkenbruch")] == [0, 0, 1, 2]


def test_cuts_are_told() -> None:
    found = built(BEARS, min_count=3, vocabulary_size=1)
    audit = {row["tag"]: row for row in found.audit.to_pylist()}
    assert found.table.column("name").to_pylist() == ["brown bear"]
    assert (audit["dog"]["decision"], audit["dog"]["label"]) == ("cut", None)
    assert "vocabulary_size=1" in audit["dog"]["reason"]
    assert "min_count=3" in audit["#wolkenbruch"]["reason"]


def test_the_mapping_wins_over_all() -> None:
    mapping = {"AND": "n02084071", "#dogs": "", "brownbear": "text:Bruno", "@anna": "woman", "dog": "brown bear"}
    found = built(BEARS, mapping=mapping)
    names = dict(zip(found.table.column("label").to_pylist(), found.table.column("name").to_pylist(), strict=True))
    became = {row["tag"]: names.get(row["label"]) for row in found.audit.to_pylist()}
    assert became["and"] == "dog"
    assert became["Dogs"] is None
    assert became["#brownbear"] == "Bruno"
    assert became["@anna"] == "woman"
    assert became["dog"] == became["#UrsusArctos"] == "brown bear"
    with pytest.raises(ValueError, match=r"mapping of 'dog' is wrong: WordNet 3.0 has no synset 'n00000001'"):
        built(BEARS, mapping={"dog": "n00000001"})


def test_names_are_distinct() -> None:
    found = built({"a": 1, "b": 1, "c": 1}, mapping={"a": "n02012849", "b": "n03126707", "c": "text:crane"})
    assert sorted(found.table.column("name").to_pylist()) == [
        "crane (n02012849)",
        "crane (n03126707)",
        "crane (not in WordNet)",
    ]


def test_the_order_of_the_rows_does_not_matter_and_bytes_repeat() -> None:
    rng = random.Random(0)
    rows = list(BEARS.items())
    files: set[bytes] = set()
    for _ in range(3):
        rng.shuffle(rows)
        found = build_label_space(counted(dict(rows)), TagRules())
        for table in (found.table, found.audit):
            pyarrow.parquet.write_table(table, buffer := io.BytesIO())
            files.add(buffer.getvalue())
    assert len(files) == 2


def test_labels_of_posts_are_distinct_and_in_order() -> None:
    found = built(BEARS)
    labeller = Labeller(found)
    of_tag = {row["tag"]: row["label"] for row in found.audit.to_pylist()}
    rng = random.Random(1)
    posts = [rng.choices([*BEARS, "unseen", None], k=rng.randint(0, 9)) for _ in range(500)]  # type: ignore[list-item]
    expected = [list(dict.fromkeys(of_tag[t] for t in own if of_tag.get(t) is not None)) for own in posts]
    tags = pyarrow.array([None, *posts], pyarrow.list_(pyarrow.string()))
    assert labeller.labels(tags).to_pylist() == [[], *expected]
    assert labeller.labels(tags.slice(7, 100)).to_pylist() == expected[6:106]
    parts = pyarrow.chunked_array([tags.slice(0, 3), tags.slice(3, 0), tags.slice(3)])
    assert labeller.labels(parts).to_pylist() == [[], *expected]
    assert labeller.labels(tags.slice(0, 0)).type == pyarrow.list_(pyarrow.int32())
