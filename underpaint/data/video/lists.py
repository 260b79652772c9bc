"""Lists of videos with their classes, in the forms of Kinetics and of Something-Something v2.

* ``path label`` or ``path,label`` on each line of a text, where the label is a name or a number (the lists of SlowFast
  and VideoMAE);
* a table with the columns ``label``, ``youtube_id``, ``time_start`` and ``time_end`` (the annotations of Kinetics); its
  files are called ``ID_000010_000020.mp4``;
* a JSON list of objects with ``id`` and ``template`` or ``label`` (the annotations of Something-Something v2); its
  files are called ``ID.webm``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from underpaint import files

MAX_VIDEOS = 10_000_000
"""Largest number of lines of a list."""
KINETICS = ("label", "youtube_id", "time_start", "time_end")
SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov")
"""Endings of the files of a list that names videos by their ids."""


class Row(NamedTuple):
    """A video of a list."""

    path: str
    """Relative to the folder of the videos; without its ending where a list has ids."""
    label: str


@dataclass(frozen=True, kw_only=True)
class VideoList:
    """The videos of a list."""

    name: str
    rows: tuple[Row, ...]


def read_video_list(path: Path) -> VideoList:
    """The videos that a file lists, in its order.

    Raises:
        ValueError: if the file is missing, is not such a list, is empty or names a video twice.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; name a list of videos with their classes")
    rows = tuple(_rows(path))
    if not rows:
        raise ValueError(f"{path} lists no video")
    seen: set[str] = set()
    for row in rows:
        if row.path in seen:
            raise ValueError(f"{path} names {row.path} twice; a video has one class")
        seen.add(row.path)
    return VideoList(name=path.stem, rows=rows)


def ordered_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels in the order of their ids: by name, or by value where all are numbers."""
    distinct = set(labels)
    return tuple(sorted(distinct, key=int if all(label.isdecimal() for label in distinct) else str))


def find_video(root: Path, path: str) -> str:
    """The path with the ending of the file that is there; unchanged where there is none."""
    if (root / path).is_file():
        return path
    return next((path + suffix for suffix in SUFFIXES if (root / (path + suffix)).is_file()), path)


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".json":
        yield from _something(path)
        return
    lines = files.read_lines(path)
    if lines and {"label", "youtube_id"} <= {cell.strip() for cell in lines[0].split(",")}:
        yield from _kinetics(path, lines)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _checked(path, f"line {number}", *_path_and_label(line))


def _path_and_label(line: str) -> tuple[str, str]:
    """The two parts of ``path,label``, whose path may be quoted, or of ``path label``."""
    cells = next(csv.reader([line.strip()]))
    if len(cells) == 1:
        name, _, label = line.strip().rpartition(" ") if line.strip()[-1:].isdecimal() else line.strip().partition(" ")
        return name, label
    return cells[0], ",".join(cells[1:])


def _kinetics(path: Path, lines: list[str]) -> Iterator[Row]:
    table = csv.DictReader(lines)
    if missing := set(KINETICS) - set(table.fieldnames or ()):
        raise ValueError(f"{path} has no column {sorted(missing)[0]}; the annotations of Kinetics have {KINETICS}")
    for number, row in enumerate(table, start=2):
        times = [str(row[name] or "") for name in ("time_start", "time_end")]
        if not all(re.fullmatch(r"\d{1,6}(\.0*)?", time) for time in times):
            raise ValueError(f"{path}, line {number}: {times} are not whole seconds")
        start, end = (int(float(time)) for time in times)
        yield _checked(path, f"line {number}", f"{row['youtube_id']}_{start:06d}_{end:06d}", str(row["label"] or ""))


def _something(path: Path) -> Iterator[Row]:
    content = files.read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path} holds no list; the annotations of Something-Something are a list of objects")
    for number, each in enumerate(content):
        if not isinstance(each, dict) or not isinstance(each.get("id"), (str, int)):
            raise ValueError(f"{path}, element {number}: {json.dumps(each)[:60]} has no id")
        label = each.get("template", each.get("label"))
        name = re.sub(r"[\[\]]", "", label) if isinstance(label, str) else ""
        yield _checked(path, f"element {number}", str(each["id"]), name)


def _checked(path: Path, where: str, name: str, label: str) -> Row:
    name, label = name.strip(), label.strip()
    if not name or not label:
        raise ValueError(f"{path}, {where}: {name or label!r} is not a path and a class")
    return Row(name, label)
