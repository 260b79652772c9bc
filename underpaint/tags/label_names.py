"""Labels of images whose tags are all in memory, by the rules of a prepared set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from underpaint.tags.canonical import TagRules
from underpaint.tags.labels import build_label_space

TagRulesName = Literal["canonical", "words"]
"""``canonical``: tags of one meaning are one label (docs/tags.md); ``words``: tags stay as written, lower-cased."""

EVERY_LABEL = TagRules(vocabulary_size=2**31 - 1)
"""Rules that keep every label; the run's own options cut rare ones later."""


def label_names(
    tags: Mapping[str, tuple[str, ...]], rules: TagRulesName
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The names of each image's labels in the order of its tags, each once, and a sentence that describes the step.

    The names are those that ``underpaint prepare`` gives by its default rules.
    """
    if rules == "words":
        names = {path: tuple(dict.fromkeys(tag.lower() for tag in written)) for path, written in tags.items()}
        return names, ("each word of the tags is a label of its own (data.tag_rules=words)",)
    import pyarrow

    counts = Counter(tag for written in tags.values() for tag in dict.fromkeys(written))
    table = pyarrow.table({"tag": list(counts), "count": pyarrow.array(counts.values(), pyarrow.int64())})
    vocabulary = build_label_space(table, EVERY_LABEL)
    name_of = dict(enumerate(vocabulary.table["name"].to_pylist()))
    audit = zip(vocabulary.audit["tag"].to_pylist(), vocabulary.audit["label"].to_pylist(), strict=True)
    label_of = {tag: name_of[label] for tag, label in audit if label is not None}
    names = {
        path: tuple(dict.fromkeys(label_of[tag] for tag in written if tag in label_of))
        for path, written in tags.items()
    }
    note = f"{len(counts):,} different tags are {len(name_of):,} labels"
    dropped = len(counts) - len(label_of)
    note += f", {dropped:,} dropped" if dropped else ""
    kept = "data.tag_rules=words keeps the words, in a study wsp.data.tag_rules=words"
    return names, (f"{note} by the rules of docs/tags.md ({kept})",)
