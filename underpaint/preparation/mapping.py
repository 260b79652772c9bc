"""The user's own mapping of tags, which wins over all rules: a CSV file with the columns ``tag`` and ``label``.

A third column, ``also``, may name further labels of every image that has the label of the tag.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

MAX_MAPPING_BYTES = 64 * 1024**2


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
    if not file.is_file():
        raise ValueError(f"{file} does not exist; --mapping is a CSV file with the columns tag and label")
    if file.stat().st_size > MAX_MAPPING_BYTES:
        raise ValueError(f"{file} has {file.stat().st_size} bytes; a mapping has at most {MAX_MAPPING_BYTES}")
    mapping = Mapping()
    try:
        reader = csv.DictReader(StringIO(file.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        if missing := {"tag", "label"} - set(reader.fieldnames or ()):
            raise ValueError(f"{file} lacks the columns {', '.join(sorted(missing))}; a mapping has tag and label")
        for row in reader:
            tag, label, also = (((row.get(name) or "").strip()) for name in ("tag", "label", "also"))
            if mapping.labels.setdefault(row["tag"], label) != label:
                before = mapping.labels[row["tag"]]
                raise ValueError(f"{file} line {reader.line_num} maps {row['tag']!r} to {label!r}, after {before!r}")
            if also and not label:
                raise ValueError(
                    f"{file} line {reader.line_num} drops {tag!r} and gives it {also!r} also; write the tag's own "
                    "label as well, or leave also empty"
                )
            if also:
                before = mapping.implied.get(row["tag"])
                mapping.implied[row["tag"]] = f"{before}{SEPARATOR}{also}" if before else also
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a CSV file in UTF-8: {error}") from error
    return mapping
