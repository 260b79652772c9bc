"""The user's own mapping of tags, which wins over all rules: a CSV file with the columns ``tag`` and ``label``."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

MAX_MAPPING_BYTES = 64 * 1024**2


def read_mapping(file: Path) -> dict[str, str]:
    """The targets of tags: words, the id of a synset, ``text:`` with words, or "", which drops the tag.

    Raises:
        ValueError: if the file is missing, too large or not such a CSV file, or has two targets for one tag.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist; --mapping is a CSV file with the columns tag and label")
    if file.stat().st_size > MAX_MAPPING_BYTES:
        raise ValueError(f"{file} has {file.stat().st_size} bytes; a mapping has at most {MAX_MAPPING_BYTES}")
    try:
        reader = csv.DictReader(StringIO(file.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        if missing := {"tag", "label"} - set(reader.fieldnames or ()):
            raise ValueError(f"{file} lacks the columns {', '.join(sorted(missing))}; a mapping has tag and label")
        mapping: dict[str, str] = {}
        for row in reader:
            label = (row["label"] or "").strip()
            if mapping.setdefault(row["tag"], label) != label:
                raise ValueError(
                    f"{file} line {reader.line_num} maps {row['tag']!r} to {label!r}, after {mapping[row['tag']]!r}"
                )
        return mapping
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a CSV file in UTF-8: {error}") from error
