"""Tags and classes of a folder's images, out of a table that stands beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from underpaint.data.source import Problem
from underpaint.data.tables.classes import classes_by_name
from underpaint.data.tables.matching import Match, match_rows
from underpaint.data.tables.metadata import Metadata
from underpaint.data.tables.separators import describe
from underpaint.data.tables.table_file import TableFile
from underpaint.data.tables.tag_tables import TableRow, TagTable
from underpaint.messages import counted
from underpaint.tags.keyword_paths import words_and_paths


@dataclass(frozen=True, kw_only=True)
class TagsFile:
    """The tags of a folder's images as they were written."""

    tags: Mapping[str, tuple[str, ...]]
    """Tags by path; those of several rows for one image are merged."""
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LabelsFile:
    """The transfer task of a folder's images."""

    label: Mapping[str, str]
    """Class by path."""
    split: Mapping[str, str]
    """Split (``train``, ``test`` or "") by path; empty where the file has no column of splits."""
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def read_tags(given: TableFile, root: Path, known: Collection[str]) -> TagsFile:
    """The tags of the ``known`` images of ``root``; rows that match none of them are problems.

    Raises:
        ValueError: if the file is not a table of tags, or gives no image a tag.
    """
    table, file = TagTable(given, needs=["tags"]), given.file
    merged: dict[str, dict[str, None]] = {}
    problems: list[Problem] = []
    by_end = 0
    for row, match in _matched(table, known):
        if match.path:
            merged.setdefault(match.path, {}).update(dict.fromkeys(row.said.tags or ()))
            by_end += match.by_end
        else:
            problems.append(_problem(row, match, root))
    tags = {path: words_and_paths(words)[0] for path, words in merged.items()}
    _require_any(file, root, tags)
    if not any(tags.values()):
        raise ValueError(f"no row of {file} that names an image has a tag; fill the column tags, or leave the file out")
    separated = f"; tags are separated by {describe(table.separator)}" if table.separator else ""
    notes = [f"{counted(len(tags), 'image')} have a row in {file.name}{separated}", *_notes_on_ends(file, by_end)]
    return TagsFile(tags=tags, problems=tuple(problems), notes=tuple(notes))


def read_labels(given: TableFile, root: Path, known: Collection[str]) -> LabelsFile:
    """The classes, and perhaps the splits, of the ``known`` images of ``root``.

    A row that says of an image what an earlier one says counts once, and a note says so.

    Raises:
        ValueError: if the file is not a table of classes, names an unknown split, says two things of one image, or
            names no image.
    """
    table, file = TagTable(given, needs=["class"]), given.file
    matched = list(_matched(table, known))
    said, repeats = classes_by_name(table, [(match.path, row) for row, match in matched])
    _require_any(file, root, said)
    problems = [_problem(row, match, root) for row, match in matched if not match.path]
    by_end = sum(match.by_end for _, match in matched)
    notes = [*_notes_on_ends(file, by_end), *_notes_on_repeats(file, repeats), *_notes_on_problems(file, problems)]
    return LabelsFile(
        label={path: label for path, (label, _) in said.items()},
        split={path: split for path, (_, split) in said.items()} if "split" in table.columns else {},
        problems=tuple(problems),
        notes=tuple(notes),
    )


def caption_rows(
    given: TableFile, root: Path, known: Collection[str]
) -> tuple[list[tuple[str, Metadata]], tuple[Problem, ...]]:
    """The path and the metadata of each row that names a ``known`` image of ``root``, and the rows that name none.

    Raises:
        ValueError: if the file is not a table of captions, or names no image.
    """
    matched: list[tuple[str, Metadata]] = []
    problems: list[Problem] = []
    for row, match in _matched(TagTable(given, needs=["caption"]), known):
        if match.path:
            matched.append((match.path, row.said))
        else:
            problems.append(_problem(row, match, root))
    _require_any(given.file, root, [path for path, _ in matched])
    return matched, tuple(problems)


def _matched(table: TagTable, known: Collection[str]) -> Iterator[tuple[TableRow, Match]]:
    rows = [row for block in table.rows() for row in block]
    for row, match in zip(rows, match_rows(rows, sorted(known)), strict=True):
        yield row, match
        for path in match.copies:
            yield row, Match(path=path)


def _problem(row: TableRow, match: Match, root: Path) -> Problem:
    """The row as a problem, with the reason why it matches no image."""
    written = (*row.paths, *row.keys, "")[0]
    pure = PurePosixPath(written)
    if pure.is_absolute() or ".." in pure.parts:
        return Problem(key=written, reason="the path leaves the folder")
    try:
        there = bool(written) and (root / written).is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        there = False
    reason = "not an image file that is read" if there else row.refusal or match.reason or "missing file"
    return Problem(key=written, reason=reason)


def _notes_on_ends(file: Path, by_end: int) -> list[str]:
    if not by_end:
        return []
    return [f"{counted(by_end, 'row')} of {file.name} {'is' if by_end == 1 else 'are'} matched by the end of the path"]


def _notes_on_repeats(file: Path, repeats: int) -> list[str]:
    if not repeats:
        return []
    return [f"{counted(repeats, 'row')} of {file.name} {'repeats' if repeats == 1 else 'repeat'} an earlier one"]


def _notes_on_problems(file: Path, problems: Sequence[Problem]) -> list[str]:
    """A sentence about rows that name no image, with the first of them."""
    if not problems:
        return []
    named = f"{problems[0].key!r} ({problems[0].reason})"
    if len(problems) == 1:
        return [f"1 row of {file.name} names no image: {named}"]
    return [f"{len(problems):,} rows of {file.name} name no image, such as {named}"]


def _require_any(file: Path, root: Path, matched: Collection[str]) -> None:
    if not matched:
        raise ValueError(f"{file} names no existing image; its paths must be relative to {root}, or end as those in it")
