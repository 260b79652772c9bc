"""The page of a prepared set: what is in it, what became of every tag, what was left out and why."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from underpaint.report.arms import Mark
from underpaint.report.frame import BOTTOM, LEFT, RIGHT, TOP, Chart, Key, Line, Point, Scale, path_through
from underpaint.report.near_copies_page import groups_of_copies
from underpaint.report.prepared_files import (
    LABEL_EDGES,
    REPEAT_EDGES,
    Audit,
    Images,
    Reason,
    read_audit,
    read_dropped,
    read_examples,
    read_images,
    read_vocabulary,
    tags_of,
)
from underpaint.results.preparation import read_record

if TYPE_CHECKING:
    import pyarrow as pa

ENDS = 20
"""Labels that are listed from the head and from the tail of the vocabulary."""
SHOWN_TAGS = 8
"""Tags shown for one label."""
SHOWN_GROUPS = 6
"""Groups of near copies shown; ``near_copies.html`` has more."""
SHOWN_VALUES = 12
"""Licences, languages and reasons shown, each; the others are summed."""

TAGS, LABELS = Mark(colour="grey", shape="cross"), Mark(colour="green", shape="circle")
_FLAGS = {
    "newer_sidecar": "an XMP file that is newer than the image; its keywords replace those inside",
    "folder_tags": "no tag but the name of a folder",
    "predicted_tags": "tags that predict --write wrote, which are not read",
    "unread_keywords": "keywords that could not be read",
    "no_flip": "never mirrored in training",
    "deep": "more than 8 bits a channel",
    "many_channels": "more than four channels",
    "rotated": "turned as the camera noted",
    "cmyk": "colours for print, converted",
    "animated": "several pictures, of which the first is used",
}
"""Explanations of the flags of images."""
_NAMES = {"synset": "a meaning in WordNet", "text": "a label of its own words", "cut": "cut off", "drop": "dropped"}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A line of a table with a bar: a number and its share of the whole."""

    name: str
    count: int
    share: float
    note: float | None = None
    """A second number of the line."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """One label with some of the tags it was made of, and some of its images."""

    label: int
    rank: int
    name: str
    synset: str
    count: int
    tags: tuple[str, ...]
    more: int
    """Further tags."""
    pictures: tuple[tuple[str, str], ...]
    """Keys and data URIs."""


def content(folder: Path, *, images: bool) -> dict[str, object]:
    """Values of a prepared set for ``templates/prepared.html.j2``."""
    counted, audit, record = read_images(folder), read_audit(folder), read_record(folder)
    vocabulary = read_vocabulary(folder)
    head, tail = _ends(folder, vocabulary, read_examples(folder) if images else {})
    became = audit.of("synset", "text")
    return {
        "name": folder.resolve().name,
        "counted": counted,
        "audit": audit,
        "labels": vocabulary.num_rows,
        "became": became,
        "became_share": became[1] / audit.uses if audit.uses else 0.0,
        "labelled": sum(counted.labels[1:]),
        "chart": _distribution(audit, vocabulary["count"].to_pylist()) if audit.curve else None,
        "legend": [
            Key(name="tags", mark=TAGS, meaning="as they were written"),
            Key(name="labels", mark=LABELS, meaning="what tags of one meaning became"),
        ],
        "decisions": _decisions(audit),
        "head": head,
        "tail": tail,
        "lost": _most([reason for reason in audit.reasons if reason.decision in ("cut", "drop")]),
        "dropped": read_dropped(folder),
        "excluded": record["excluded"] if record else [],
        "copies": record.get("copies", {}) if record else {},
        "copy_groups": groups_of_copies(folder, images=images)[:SHOWN_GROUPS],
        "refused": Counter(record["refused"] if record else {}).most_common(),
        "labels_per_image": _bars([str(n) for n in range(LABEL_EDGES)] + [f"{LABEL_EDGES} or more"], counted.labels),
        "repeats": _repeats(counted),
        "epoch": sum(counted.repeated),
        "values": {name: _values(counter, counted.images) for name, counter in counted.values.items()},
        "meanings": _FLAGS,
        "record": record["settings"] if record else {},
    }


def _ends(folder: Path, vocabulary: pa.Table, examples: dict[int, list[tuple[str, bytes]]]) -> tuple[list[Label], ...]:
    """The most frequent labels, and the rarest; each once where there are few."""
    rows = vocabulary.num_rows
    places = [range(min(ENDS, rows)), range(max(min(ENDS, rows), rows - ENDS), rows)]
    chosen = [vocabulary.slice(some.start, len(some)).to_pylist() for some in places]
    tags = tags_of(folder, [row["label"] for some in chosen for row in some])
    return tuple(
        [
            Label(
                label=row["label"],
                rank=place + 1,
                name=row["name"],
                synset=row["synset"] or "",
                count=row["count"],
                tags=tuple(tags[row["label"]][:SHOWN_TAGS]),
                more=max(0, len(tags[row["label"]]) - SHOWN_TAGS),
                pictures=tuple((key, _uri(image)) for key, image in examples.get(row["label"], ())),
            )
            for place, row in zip(some, rows_of, strict=True)
        ]
        for some, rows_of in zip(places, chosen, strict=True)
    )


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _decisions(audit: Audit) -> list[Bar]:
    total_of = {decision: audit.of(decision) for decision in _NAMES}
    return [
        Bar(name=_NAMES[decision], count=uses, share=uses / audit.uses, note=tags)
        for decision, (tags, uses) in total_of.items()
        if tags
    ]


def _most(reasons: Sequence[Reason]) -> list[Reason]:
    """The reasons with the most uses, and the sum of all others."""
    shown, others = list(reasons[:SHOWN_VALUES]), reasons[SHOWN_VALUES:]
    if others:
        tags, uses = sum(reason.tags for reason in others), sum(reason.uses for reason in others)
        shown.append(Reason(decision="", text=f"{len(others)} further reasons", tags=tags, uses=uses))
    return shown


def _bars(names: Sequence[str], counts: Sequence[int]) -> list[Bar]:
    """One for each, up to the last that counts anything."""
    last = max((place for place, count in enumerate(counts) if count), default=-1)
    total = sum(counts)
    pairs = list(zip(names, counts, strict=True))[: last + 1]
    return [Bar(name=name, count=count, share=count / total) for name, count in pairs]


def _repeats(counted: Images) -> list[Bar]:
    lower = ("", *(f"{edge:g}" for edge in REPEAT_EDGES))
    names = ["at most 1", *(f"above {lower[n]}, to {REPEAT_EDGES[n]:g}" for n in range(1, len(REPEAT_EDGES)))]
    bars = _bars([*names, f"above {lower[-1]}"], counted.repeats)
    total = sum(counted.repeated)
    return [
        Bar(**{**asdict(bar), "note": repeated / total})
        for bar, repeated in zip(bars, counted.repeated, strict=False)
        if bar.count
    ]


def _values(counter: Counter[str], total: int) -> list[Bar]:
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    shown, others = ordered[:SHOWN_VALUES], ordered[SHOWN_VALUES:]
    if others:
        shown.append((f"{len(others)} others", sum(count for _, count in others)))
    return [Bar(name=name, count=count, share=count / total) for name, count in shown]


def _distribution(audit: Audit, counts: Sequence[int]) -> Chart:
    """Count against rank of tags and of labels, both logarithmic: the head on the left, the tail on the right."""
    ranks = {round(len(counts) ** (step / 200)) for step in range(201)} if counts else set[int]()
    labels = [(float(rank), float(counts[rank - 1])) for rank in sorted(ranks)]
    curves = [("tags", TAGS, list(audit.curve)), ("labels", LABELS, labels)]
    known = [(name, mark, [point for point in curve if point[1] > 0]) for name, mark, curve in curves]
    everything = [point for _, _, curve in known for point in curve]
    x_of = Scale(1.0, max(10.0, *(rank for rank, _ in everything)), LEFT, RIGHT, logarithmic=True)
    y_of = Scale(1.0, max(10.0, *(count for _, count in everything)), BOTTOM, TOP, logarithmic=True)
    return Chart(
        title="Count of each tag and each label, by rank",
        x_label="rank, from the most frequent on",
        x_ticks=x_of.ticks(),
        y_ticks=y_of.ticks(),
        lines=tuple(_curve(name, mark, curve, x_of, y_of) for name, mark, curve in known if curve),
    )


def _curve(name: str, mark: Mark, curve: Sequence[Point], x_of: Scale, y_of: Scale) -> Line:
    placed = [(x_of(rank), y_of(count)) for rank, count in curve]
    return Line(name=name, mark=mark, path=path_through(placed), markers=(placed[0], placed[-1]))
