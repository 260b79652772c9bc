"""Is a transfer task near the labels of pretraining? It is where the tags name its classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from underpaint.data.collections.words import all_words
from underpaint.data.source import Source

_FILLERS = frozenset(("a", "an", "and", "of", "or", "other", "the"))


def task_near_labels(source: Source, tags: Iterable[str], task: Source) -> list[str]:
    """The classes of ``task`` that the tags name, sorted.

    ``tags`` are the labels of a vocabulary, say; of them count those that stand on pretraining images of ``source``. A
    class is named if each of its words is a word of some tag; singular and plural are one, "and", "other" and the like
    none.
    """
    standing = {tag for row in source.rows("pretrain") for tag in source.tags[row]}
    stems = {word for tag in standing.intersection(tags) for word in _stems(tag)}
    return sorted(name for name in class_names(task) if _stems(name) and stems.issuperset(_stems(name)))


def class_names(task: Source) -> list[str]:
    """The classes of a transfer task, sorted."""
    rows = {row for split in ("train", "test") for row in task.rows(split)}
    return sorted({task.label[row] for row in rows} - {""})


def remark(task: Source, near: Sequence[str]) -> str:
    """One sentence for a report; "" where no class is named."""
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
    """Enough for class names in English: berries, boxes, dogs; glass stays."""
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("shes", "ches", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word
