"""Tables that are joined to images read elsewhere: ``--tags FILE``, ``--labels FILE``, and ``tags.csv`` of a folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from underpaint.data.splits import split_of_name
from underpaint.data.tables.classes import classes_by_name
from underpaint.data.tables.matching import Match, match_rows, spellings
from underpaint.data.tables.metadata import NOTHING, Metadata
from underpaint.data.tables.separators import describe
from underpaint.data.tables.table_file import TableFile
from underpaint.data.tables.tag_tables import TableRow, TagTable
from underpaint.files import read_json, write_json, xxh3
from underpaint.messages import counted
from underpaint.preparation.arrow_files import read_table, write_table
from underpaint.preparation.image_names import ImageNames, as_path

JOINED = pa.schema(
    {
        "name": pa.string(),
        "row": pa.int64(),
        "tags": pa.list_(pa.string()),
        "caption": pa.string(),
        "language": pa.string(),
        "licence": pa.string(),
        "class": pa.string(),
        "split": pa.string(),
    }
)
_FORMAT = 3
"""Version of the joined tables, raised with every change of their content: older ones are made again."""
ROWS_OF_GROUP = 65_536
_AMBIGUOUS = "\0"
"""First character of the entry for a name that several images have; no image's name begins with it."""
MOST_NAMES = 1000
"""Largest number of names among which examples of rows without an image are sought."""
MAX_UNMATCHED = 0.05
"""Largest share of a table's rows that may match no image; more suggest that its paths are of another folder."""


@dataclass(frozen=True, kw_only=True)
class JoinedTable:
    """A table of tags or classes, sorted so that each partition can read its own rows."""

    file: Path
    """The Parquet file with the rows, sorted by the names of images."""
    rows: int
    named: int
    """Number of rows that name an image."""
    by_end: int
    """Number of rows that are matched by the end of their path."""
    separated: str
    """Name of the character that separates tags; "" where tags are in lists."""
    is_of: str
    """The table's content: ``tags`` or ``classes``."""
    written: str
    """Path of the file that the user gave."""


@dataclass(frozen=True, kw_only=True)
class TableFit:
    """The number of a table's rows that match an image; as text a sentence for the user."""

    file: str
    is_of: str
    rows: int
    """Number of rows that name an image."""
    unnamed: int
    matched: int
    by_end: int
    separated: str
    examples: tuple[str, ...]
    """Names of some rows that match no image."""
    ambiguous: int
    """Number of rows that match no image because several have their name."""
    ambiguity: str
    """Such a name, with two of the images; "" where there is none."""

    def __str__(self) -> str:
        text = f"{Path(self.file).name}: {self.matched:,} of {counted(self.rows, 'row')} fit an image"
        text += f", {self.by_end:,} of them by the end of the path" if self.by_end else ""
        text += f"; not {', '.join(map(repr, self.examples))}" if self.examples else ""
        text += f"; {self.told_ambiguous()}" if self.ambiguous else ""
        text += f"; {counted(self.unnamed, 'row')} without a name" if self.unnamed else ""
        return text + (f"; tags are separated by {self.separated}" if self.separated else "")

    def told_ambiguous(self) -> str:
        """A clause about the rows whose name several images have."""
        return f"{counted(self.ambiguous, 'row')} may be about several images, such as: {self.ambiguity}"


def join_table(
    given: TableFile, folder: Path, *, known: Sequence[str], images: ImageNames | None, is_of: str
) -> JoinedTable:
    """Sort the rows of a table by the names of their images, so that each partition reads its own rows.

    ``known`` are the paths of loose images, which rows are matched with. If ``images`` are given, there are others too,
    of shards and other tables, which are matched by their keys when they are read; a key that several images have
    matches none. The table is held in memory once: some 200 bytes a row. The sorted file is made anew only where the
    table, or a path that it is matched with, changed; its name is a hash of its content.

    Raises:
        ValueError: if the file is not a table that names images, lacks a column of tags or classes (``is_of``), or says
            two classes or splits of one image.
    """
    inputs = [
        _FORMAT,
        xxh3(given.file),
        given.file.suffix,
        *([replace(given, file=Path()).written] if given != TableFile(given.file) else []),
        is_of,
        None if images is None else images.identity(),
        xxhash.xxh3_64_hexdigest("\n".join(sorted(known)).encode("utf-8", "backslashreplace")),
    ]
    about = folder / f"{xxhash.xxh3_64_hexdigest(json.dumps(inputs).encode())}.json"
    if about.is_file():
        kept = read_json(about)
        if (folder / kept["file"]).is_file():
            return JoinedTable(**{**kept, "file": folder / kept["file"], "written": str(given.file)})
    table = TagTable(given, needs={"tags": ("tags", "caption"), "classes": ("class",)}[is_of])
    rows = [row for block in table.rows() for row in block]
    matches = match_rows(rows, known)
    if is_of == "classes":
        classes_by_name(table, [(_image_of(row, match), row) for row, match in zip(rows, matches, strict=True)])
    named = list(_named_rows(rows, matches, table, by_key=images is not None, is_of=is_of))
    if images is not None:
        repeated = images.repeated({name for name, _ in named})
        named = [(f"{_AMBIGUOUS}{repeated[name]}" if name in repeated else name, row) for name, row in named]
    joined = pa.Table.from_pylist([{"name": name, **row} for name, row in named], JOINED).sort_by("name")
    target = folder / f"{_content_hash(joined)}.parquet"
    write_table(joined, target, rows_of_group=ROWS_OF_GROUP)
    made = JoinedTable(
        file=target,
        rows=len(rows),
        named=sum(bool(row.paths or row.keys) for row in rows),
        by_end=sum(match.by_end for match in matches),
        separated=describe(table.separator) if table.separator and is_of == "tags" else "",
        is_of=is_of,
        written=str(given.file),
    )
    write_json(about, asdict(made) | {"file": target.name})
    return made


def _image_of(row: TableRow, match: Match) -> str:
    """The image that a row is about, as the folder or the row spells it."""
    return match.path or next(iter((*row.paths, *row.keys)), "")


def _named_rows(
    rows: Sequence[TableRow], matches: Sequence[Match], table: TagTable, *, by_key: bool, is_of: str
) -> Iterator[tuple[str, dict[str, object]]]:
    """Rows of JOINED, one for every name that the image of a table's row may have."""
    stems = Counter(PurePosixPath(path).stem for path in {_plain(row.paths[0]) for row in rows if row.paths})
    for number, (row, match) in enumerate(zip(rows, matches, strict=True)):
        # the joined tags are those of tags' tables, classes those of classes' alone
        said = row.said if is_of == "tags" else NOTHING
        values = {
            "row": number,
            "tags": said.tags,
            "caption": said.caption,
            "language": said.language,
            "licence": said.licence,
            "class": row.label if is_of == "classes" else "",
            "split": split_of_name(row.split, table.file) if is_of == "classes" and "split" in table.columns else None,
        }
        names = [as_path(path) for path in (match.path, *match.copies) if path]
        names += [as_path(path) for path in row.paths]
        if by_key:
            # of a shard's sample only the key is known, which often is the last word of the path
            ends = [PurePosixPath(_plain(path)).stem for path in row.paths[:1]]
            names += [*row.keys, *(end for end in ends if stems[end] == 1)]
        names = names or list(row.keys)
        for name in dict.fromkeys(names):
            yield name, values


def _plain(path: str) -> str:
    return next(iter(spellings(path.replace("\\", "/"))))


def _content_hash(table: pa.Table) -> str:
    state = xxhash.xxh3_64()
    for batch in table.to_batches(max_chunksize=ROWS_OF_GROUP):
        state.update(json.dumps(batch.to_pydict()).encode())
    return state.hexdigest()


def read_joined(tables: Sequence[JoinedTable], names: Iterable[str]) -> tuple[dict[str, Metadata], pa.Table]:
    """The metadata by name that the tables have for these names, and the rows used (columns ``table``, ``row``)."""
    said: dict[str, Metadata] = {}
    used: list[pa.Table] = []
    wanted = list(dict.fromkeys(names))
    for number, table in enumerate(tables if wanted else ()):
        rows = pq.read_table(table.file, filters=[("name", "in", wanted)], use_threads=False)
        for name, metadata in said_by_name(rows.to_pylist()).items():
            said[name] = said.get(name, NOTHING).merged_with(metadata)
        of_table = pa.array(np.full(len(rows), number, dtype=np.int32))
        used.append(pa.table({"table": of_table, "row": rows["row"].combine_chunks()}))
    empty = pa.table({"table": pa.array([], pa.int32()), "row": pa.array([], pa.int64())})
    return said, pa.concat_tables([empty, *used])


def said_by_name(rows: Iterable[Mapping[str, Any]]) -> dict[str, Metadata]:
    """The metadata by name in rows of a joined table; rows of one name are merged."""
    said: dict[str, Metadata] = {}
    for row in rows:
        tags = row["tags"]
        metadata = Metadata(
            tags=None if tags is None else tuple(tags),
            caption=row["caption"],
            language=row["language"],
            licence=row["licence"],
            label=row["class"],
            split=row["split"],
        )
        said[row["name"]] = said.get(row["name"], NOTHING).merged_with(metadata)
    return said


def table_fits(
    tables: Mapping[str, Sequence[JoinedTable]],
    matched_rows: Iterable[tuple[str, Path]],
    *,
    keys: Sequence[str],
    most: float,
) -> list[TableFit]:
    """The fit of each table's rows to the images.

    ``matched_rows`` pairs the name of a source with a file of the rows that match its images.

    Raises:
        ValueError: if more than a share ``most`` of a table's rows match no image; the message quotes some of them and
            the images' ``keys``.
    """
    matched: dict[Path, np.ndarray] = {}
    by_file = {table.file: table for of_source in tables.values() for table in of_source}
    for file, table in by_file.items():
        matched[file] = np.zeros(table.rows, dtype=bool)
    for source, file in matched_rows:
        read = read_table(file)
        number, row = (read[name].to_numpy() for name in ("table", "row"))
        for place, table in enumerate(tables[source]):
            matched[table.file][row[number == place]] = True
    fits = [_fit(table, matched[file]) for file, table in by_file.items()]
    for fit in fits:
        missing = fit.rows - fit.matched
        examples = f", such as {', '.join(map(repr, fit.examples))}" if fit.examples else ""
        examples += f"; {fit.told_ambiguous()}" if fit.ambiguous else ""
        if not fit.rows:
            raise ValueError(f"{fit.file} has no row that names an image; fill it, or leave it out")
        if missing > most * fit.rows:
            raise ValueError(
                f"{missing:,} of {counted(fit.rows, 'row')} of {fit.file} fit no image{examples}; images are called "
                f"{', '.join(map(repr, keys))}. Correct the paths, or allow it with --max-unmatched "
                f"{min(missing / fit.rows + 0.005, 1):.2f}"
            )
    return fits


def _fit(table: JoinedTable, matched: np.ndarray) -> TableFit:
    named = read_table(table.file, ["name", "row"])
    unmatched = named.filter(pa.array(~matched[named["row"].to_numpy()]))
    is_ambiguous = pc.starts_with(unmatched["name"], _AMBIGUOUS)  # pyright: ignore[reportAttributeAccessIssue]
    ambiguous = unmatched.filter(is_ambiguous)
    unmatched = unmatched.filter(pc.invert(is_ambiguous))  # pyright: ignore[reportAttributeAccessIssue]
    names: dict[int, str] = {}
    for name, row in zip(*(unmatched[:MOST_NAMES][column].to_pylist() for column in ("name", "row")), strict=True):
        names.setdefault(row, name.removeprefix("/"))
    return TableFit(
        file=table.written,
        is_of=table.is_of,
        rows=table.named,
        unnamed=table.rows - table.named,
        matched=int(matched.sum()),
        by_end=table.by_end,
        separated=table.separated,
        examples=tuple(names[row] for row in sorted(names)[:3]),
        ambiguous=len(ambiguous["row"].unique()),
        ambiguity=ambiguous["name"][0].as_py().removeprefix(_AMBIGUOUS) if len(ambiguous) else "",
    )
