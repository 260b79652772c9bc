"""The label space of tagged images over Arrow: counted tags to a vocabulary and its audit, tags of posts to labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from underpaint.tags.canonical import TEXT, Canonicaliser, Decision, TagRules

CUT = {
    "rare": "rarer than min_count={rules.min_count}",
    "beyond": "not among the vocabulary_size={rules.vocabulary_size} most frequent labels",
}


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """The labels, and the decision on every tag."""

    table: Any
    """``vocabulary.parquet``: label (int32, from 0 on), name, synset (or null), count, tags (the most frequent first).

    In the order of the labels, which is that of falling counts; ``count`` is the sum over the tags. If the mapping
    has implications, a column ``also`` lists the labels that each one implies, whose ``count`` includes it.
    """
    audit: Any
    """``tags_audit.parquet``: tag, count, decision, label (or null), reason; the most frequent tags first.

    A decision is ``synset``, ``text``, ``drop`` or, where the label was not frequent enough, ``cut``.
    """


@dataclass(frozen=True, slots=True)
class _Label:
    decision: Decision
    """The decision on one of the label's tags: the spelling with the most words, where spellings differ."""
    count: int
    members: tuple[tuple[str, int], ...]
    """Tags with their counts."""


def build_label_space(counts: Any, rules: TagRules) -> LabelSpace:
    """Decide on every tag, merge those of one meaning, and cut what is too rare.

    ``counts`` is a table of ``tag`` (string) and ``count`` (int64), the images or posts that carry it; a tag that
    stands there several times counts in sum. The result does not depend on the order of the rows.

    Raises:
        ValueError: if columns are missing, or the mapping of the rules is wrong.
    """
    canonicaliser = Canonicaliser(rules)
    tags = _ranked(counts)
    decisions = _without_plurals([canonicaliser.decide(tag) for tag, _ in tags])
    implied = canonicaliser.implied()
    merged = sorted(
        _with_implied(_merge(tags, decisions), implied),
        key=lambda label: (-label.count, label.decision.name, label.decision.key),
    )
    frequent = [label for label in merged if label.count >= rules.min_count]
    kept = frequent[: rules.vocabulary_size]
    number = {label.decision.key: index for index, label in enumerate(kept)}
    cut = {label.decision.key: CUT["beyond"].format(rules=rules) for label in frequent[len(kept) :]}
    cut |= {label.decision.key: CUT["rare"].format(rules=rules) for label in merged if label.count < rules.min_count}
    table = _table(kept)
    if implied:
        table = table.append_column("also", _also(kept, implied, number))
    return LabelSpace(table=table, audit=_audit(tags, decisions, number, cut))


class Labeller:
    """The labels of posts, by the vocabulary's audit; tags that were not counted there have none."""

    def __init__(self, vocabulary: LabelSpace) -> None:
        import pyarrow.compute

        compute: Any = pyarrow.compute
        labelled = vocabulary.audit.filter(compute.field("label").is_valid()).combine_chunks()
        self._tags = labelled.column("tag").combine_chunks()
        # one more at the end: what is not found
        self._labels = np.append(labelled.column("label").to_numpy(), -1).astype(np.int32)
        self._size = vocabulary.table.num_rows
        self._also = _with_itself(vocabulary.table["also"]) if "also" in vocabulary.table.column_names else None

    def labels(self, tags: Any) -> Any:
        """The distinct labels of every row of an array of lists of strings, in the order of their first appearance.

        A row without tags, or that is null, has none.
        """
        import pyarrow

        if isinstance(tags, pyarrow.ChunkedArray):
            chunks = [self._of_chunk(chunk) for chunk in tags.chunks]
            return pyarrow.chunked_array(chunks, type=pyarrow.list_(pyarrow.int32()))
        return self._of_chunk(tags)

    def _of_chunk(self, tags: Any) -> Any:
        import pyarrow
        import pyarrow.compute

        compute: Any = pyarrow.compute
        encoded = tags.flatten().dictionary_encode()
        places = compute.index_in(encoded.dictionary, value_set=self._tags).fill_null(len(self._labels) - 1)
        of_form = np.append(self._labels[places.to_numpy(zero_copy_only=False)], np.int32(-1))
        label = of_form[encoded.indices.fill_null(len(of_form) - 1).to_numpy(zero_copy_only=False)]
        row = np.repeat(np.arange(len(tags)), compute.list_value_length(tags).fill_null(0).to_numpy())
        row, label = row[label >= 0], label[label >= 0]
        if self._also is not None:
            starts, every = self._also
            lengths = np.diff(starts)[label]
            within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            row, label = np.repeat(row, lengths), every[np.repeat(starts[label], lengths) + within]
        _, first = np.unique(row * np.int64(max(self._size, 1)) + label, return_index=True)
        first.sort()
        ends = np.cumsum(np.bincount(row[first], minlength=len(tags)))
        offsets = pyarrow.array(np.concatenate([[0], ends]).astype(np.int32))
        return pyarrow.ListArray.from_arrays(offsets, pyarrow.array(label[first], pyarrow.int32()))


def _ranked(counts: Any) -> list[tuple[str, int]]:
    """Distinct tags by falling count, and by their letters where counts are equal."""
    if missing := {"tag", "count"} - set(counts.column_names):
        raise ValueError(f"counted tags lack the columns {sorted(missing)}; they need tag and count")
    summed = counts.select(["tag", "count"]).group_by("tag").aggregate([("count", "sum")])
    pairs = zip(summed.column("tag").to_pylist(), summed.column("count_sum").to_pylist(), strict=True)
    return sorted(((tag, n) for tag, n in pairs if tag is not None), key=lambda pair: (-pair[1], pair[0]))


def _without_plurals(decisions: list[Decision]) -> list[Decision]:
    """The decisions, with words outside WordNet in the singular where it is a tag too: ``joypads`` are ``joypad``."""
    singular = {decision.key: decision for decision in decisions if decision.kind == "text"}
    return [
        replace(base, reason=f"{decision.reason}, plural of {base.name}")
        if decision.kind == "text"
        and _is_plural(decision.key)
        and (base := singular.get(decision.key.removesuffix("s")))
        else decision
        for decision in decisions
    ]


def _is_plural(key: str) -> bool:
    """Whether the letters may be an English plural; the ending says too little of short words and other scripts."""
    return key.isascii() and len(key) >= len(TEXT) + 6 and key[-1] == "s" and key[-2] not in "siu"


def _merge(tags: Iterable[tuple[str, int]], decisions: Iterable[Decision]) -> Iterator[_Label]:
    """One label for the tags of each key."""
    groups: dict[str, list[tuple[Decision, str, int]]] = {}
    for (tag, count), decision in zip(tags, decisions, strict=True):
        if decision.key:
            groups.setdefault(decision.key, []).append((decision, tag, count))
    for group in groups.values():
        spoken = min((member for member, _, _ in group), key=lambda member: -member.name.count(" "))
        members = tuple((tag, count) for _, tag, count in group)
        yield _Label(spoken, sum(count for _, count in members), members)


def _with_implied(labels: Iterable[_Label], implied: dict[str, dict[str, Decision]]) -> Iterator[_Label]:
    """The labels, with those that no tag has but others imply; what implies a label adds to its count."""
    of_key = {label.decision.key: label for label in labels}
    further: dict[str, tuple[Decision, int]] = {}
    for key, targets in implied.items():
        count = of_key[key].count if key in of_key else 0
        for target, decision in targets.items() if count else ():
            further[target] = (decision, count + further.get(target, (decision, 0))[1])
    for key, (decision, count) in further.items():
        before = of_key.get(key, _Label(decision, 0, ()))
        of_key[key] = replace(before, count=before.count + count)
    yield from of_key.values()


def _also(kept: list[_Label], implied: dict[str, dict[str, Decision]], number: dict[str, int]) -> Any:
    """The labels that each label implies, as far as they were kept."""
    import pyarrow

    rows = [[number[key] for key in implied.get(label.decision.key, ()) if key in number] for label in kept]
    return pyarrow.array(rows, pyarrow.list_(pyarrow.int32()))


def _with_itself(also: Any) -> tuple[np.ndarray, np.ndarray]:
    """Each label followed by those that it implies, one after the other, and the start of each."""
    rows = [[label, *implied] for label, implied in enumerate(also.to_pylist())]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return starts, np.array([label for row in rows for label in row], dtype=np.int32)


def _table(kept: list[_Label]) -> Any:
    import pyarrow

    return pyarrow.table(
        {
            "label": pyarrow.array(range(len(kept)), pyarrow.int32()),
            "name": pyarrow.array(_distinct_names(kept), pyarrow.string()),
            "synset": pyarrow.array(
                [label.decision.key if label.decision.kind == "synset" else None for label in kept], pyarrow.string()
            ),
            "count": pyarrow.array([label.count for label in kept], pyarrow.int64()),
            "tags": pyarrow.array(
                [[tag for tag, _ in label.members] for label in kept], pyarrow.list_(pyarrow.string())
            ),
        }
    )


def _distinct_names(kept: list[_Label]) -> list[str]:
    """The labels' names; one that several share (crane: the bird, the machine) gets its synset in brackets."""
    shared = Counter(label.decision.name for label in kept)
    return [
        f"{label.decision.name} ({label.decision.key if label.decision.kind == 'synset' else 'not in WordNet'})"
        if shared[label.decision.name] > 1
        else label.decision.name
        for label in kept
    ]


def _audit(tags: list[tuple[str, int]], decisions: list[Decision], number: dict[str, int], cut: dict[str, str]) -> Any:
    import pyarrow

    reasons = [
        f"{decision.reason}; {cut[decision.key]}" if decision.key in cut else decision.reason for decision in decisions
    ]
    return pyarrow.table(
        {
            "tag": pyarrow.array([tag for tag, _ in tags], pyarrow.string()),
            "count": pyarrow.array([count for _, count in tags], pyarrow.int64()),
            "decision": pyarrow.array(
                ["cut" if decision.key in cut else decision.kind for decision in decisions], pyarrow.string()
            ),
            "label": pyarrow.array([number.get(decision.key) for decision in decisions], pyarrow.int32()),
            "reason": pyarrow.array(reasons, pyarrow.string()),
        }
    )
