"""The tree of a vocabulary: the labels above each label, as people wrote them in keywords such as ``Places|Norway``."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

from underpaint.tags.keyword_paths import levels_of
from underpaint.tags.labels import LabelSpace


def with_parents(space: LabelSpace, paths: Any) -> LabelSpace:
    """The label space with a column ``parents`` in its table: the labels directly above each one.

    ``paths`` is a table of ``tag`` (``Places|Norway``) and ``count`` (images). The parent that most images have comes
    first. A level whose word has no label is passed over: its children hang on the next level above.
    """
    import pyarrow

    audit = zip(space.audit["tag"].to_pylist(), space.audit["label"].to_pylist(), strict=True)
    label_of = {tag: label for tag, label in audit if label is not None}
    folded = {tag.casefold(): label for tag, label in reversed(label_of.items())}
    edges: dict[int, Counter[int]] = {}
    for path, count in zip(paths["tag"].to_pylist(), paths["count"].to_pylist(), strict=True):
        words = [word for word in levels_of(path) if word.casefold() in folded]
        labels = [label_of.get(word, folded[word.casefold()]) for word in words]
        for parent, child in pairwise(labels):
            if parent != child:
                edges.setdefault(child, Counter())[parent] += count
    parents = [
        [parent for parent, _ in sorted(edges.get(label, Counter()).items(), key=lambda edge: (-edge[1], edge[0]))]
        for label in range(space.table.num_rows)
    ]
    column = pyarrow.array(parents, pyarrow.list_(pyarrow.int32()))
    return replace(space, table=space.table.append_column("parents", column))
