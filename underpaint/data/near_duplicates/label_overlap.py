"""Overlap of a transfer task with the labels of pretraining: the classes of the task that tags name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from underpaint.data.collections.words import all_words
from underpaint.data.source import Source

_FILLERS = frozenset(("a", "an", "and", "of", "or", "other", "the"))


def task_near_labels(source: Source, tags: Iterable[str], task: Source) -> list[str]:
    """The classes of ``task`` that the tags name, sorted.

    ``tags`` are, for example, the labels of a vocabulary; those on no pretraining image of ``source`` are ignored. A
    class is named if each of its words is a word of some tag. Singular and plural are the same; "and", "other" and the
    like are ignored.
    """
    standing = {tag for row in source.rows("pretrain") for tag in source.tags[row]}
    stems = {word for tag in standing.intersection(tags) for word in _stems(tag)}
    return sorted(name for name in class_names(task) if _stems(name) and stems.issuperset(_stems(name)))


def class_names(task: Source) -> list[str]:
    """The classes of a transfer task, sorted."""
    rows = {row for split in ("train", "test") for row in task.rows(split)}
    return sorted({task.label[row] for row in rows} - {""})


def remark(task: Source, near: Sequence[str]) -> str:
    """A sentence for a report on the named classes ``near``; "" where there are none."""
    if not near:
        return ""
    classes = len(class_names(task))
    listed = ", ".join(near[:5]) + (", ..." if len(near) > 5 else "")
    return (
        f"{task.name} is near the labels: tags of the pretraining images name {len(near)} of its {classes} classes "
        f"({100 * len(near) / classes:.0f}%: {listed})."
    )


def _stems(text: str) -> set[str]:
    return {_singular(word) for word in all_words(text.replace("-", " "))} - _FILLERS


def _singular(word: str) -> str:
    """The singular of an English word by simple rules for class names: berries, boxes, dogs; glass stays."""
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("shes", "ches", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word
