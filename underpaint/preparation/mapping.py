"""The user's own mapping of tags, which wins over all rules: a CSV file with the columns ``tag`` and ``label``.

A third column, ``also``, may name further labels of every image that has the label of the tag.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from underpaint.data.tables.edited import edited_rows

SEPARATOR = ";"
"""Sign between the labels of ``also``."""


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """The rows of a mapping file."""

    labels: dict[str, str] = field(default_factory=dict)
    """The target of each tag: words, the id of a synset, ``text:`` with words, or "", which drops the tag."""
    implied: dict[str, str] = field(default_factory=dict)
    """Further targets of tags, separated by SEPARATOR."""


def read_mapping(file: Path) -> Mapping:
    """The targets of tags.

    Raises:
        ValueError: if the file is missing, too large or not such a CSV file, or has two targets for one tag.
    """
    mapping = Mapping()
    advice = "--mapping is a CSV file with the columns tag and label"
    for line, row in edited_rows(file, ("tag", "label"), optional=("also",), advice=advice):
        tag, label, also = row["tag"], row["label"].strip(), row.get("also", "").strip()
        if not tag.strip():
            raise ValueError(f"{file} line {line} maps no tag to {label!r}; fill the column tag, or delete the line")
        if mapping.labels.setdefault(tag, label) != label:
            raise ValueError(f"{file} line {line} maps {tag!r} to {label!r}, after {mapping.labels[tag]!r}")
        if also and not label:
            raise ValueError(
                f"{file} line {line} drops {tag!r} and gives it {also!r} also; write the tag's own label as well, or "
                "leave also empty"
            )
        if also:
            before = mapping.implied.get(tag)
            mapping.implied[tag] = f"{before}{SEPARATOR}{also}" if before else also
    return mapping
