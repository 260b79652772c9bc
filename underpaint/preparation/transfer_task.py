"""The transfer task of a prepared set: classes from ``--labels``, and the split into training and test images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from underpaint.data.folders.folder import CLASS_FOLDERS, NO_CLASS_FOLDERS, class_folders
from underpaint.data.splits import TESTED_SHARE, split_folders, test_families
from underpaint.preparation.arrow_files import read_table, write_table
from underpaint.preparation.families import by_family, read_families

CLASSES = pa.schema({"class": pa.int32(), "name": pa.string(), "count": pa.int64()})
_TASK = "task.parquet"
_MEMBERS = pa.schema({"content_hash": pa.binary(16), "tested": pa.bool_()})


@dataclass(frozen=True, kw_only=True)
class TransferTask:
    """Classes, and the test images."""

    names: tuple[str, ...]
    """Names of the classes, by number."""
    tested: frozenset[bytes]
    """Content hashes of test images, or of their families; a copy of one is a test image too, or in no split."""

    def columns(self, rows: pa.Table, stage: np.ndarray) -> tuple[pa.Array, pa.Array]:
        """The columns ``class`` and ``split`` for rows with ``class_name``, ``given_split`` and ``content_hash``, which
        is that of the family.

        ``stage`` is the pretraining split of each row.
        """
        number = {name: index for index, name in enumerate(self.names)}
        classes = [None if name is None else number[name] for name in rows["class_name"].to_pylist()]
        splits = [
            self._split(known is not None, given, content, where)
            for known, given, content, where in zip(
                classes, rows["given_split"].to_pylist(), rows["content_hash"].to_pylist(), stage.tolist(), strict=True
            )
        ]
        return pa.array(classes, pa.int32()), pa.array(splits, pa.string())

    def _split(self, has_class: bool, given: str | None, content: bytes, stage: str) -> str:
        if content in self.tested:
            return "test" if has_class and given != "train" else ""
        return f"{stage}+train" if has_class and given != "" else stage


def write_class_folders(paths: Mapping[str, Sequence[str]], file: Path) -> Path:
    """Write a table of classes, and of splits where folders give them, from the class folders of each source's paths.

    Raises:
        ValueError: if a source has no class folders.
    """
    rows: list[dict[str, str]] = []
    for source, of_source in paths.items():
        split_of = split_folders(of_source)
        classes = class_folders(of_source, below=split_of)
        if not classes:
            raise ValueError(f"--labels {CLASS_FOLDERS}: {source} has no class folders; {NO_CLASS_FOLDERS}")
        rows += [{"path": path, "class": name, "split": split_of.get(path, "train")} for path, name in classes.items()]
    has_splits = any(row["split"] != "train" for row in rows)
    columns = ("path", "class", "split") if has_splits else ("path", "class")
    write_table(pa.table({column: [row[column] for row in rows] for column in columns}), file)
    return file


def decide_task(files: Sequence[Path], folder: Path) -> None:
    """Write the classes and test images of all partitions to ``folder``, where any image has a class.

    Near copies that stay are one family (``families.py``), which is tested as a whole.

    If no row names a split, a share of each class is drawn as test images, as for a folder.
    """
    counts: Counter[str] = Counter()
    class_of: dict[bytes, str] = {}
    tested: set[bytes] = set()
    has_splits = False
    families = read_families(files[0].parent) if files else {}
    for file in files:
        rows = by_family(read_table(file, ["class_name", "given_split", "content_hash", "problem"]), families)
        for row in rows.filter(rows["problem"].is_null()).filter(pc.field("class_name").is_valid()).to_pylist():
            counts[row["class_name"]] += 1
            class_of.setdefault(row["content_hash"], row["class_name"])
            has_splits |= row["given_split"] is not None
            if row["given_split"] == "test":
                tested.add(row["content_hash"])
    if not counts:
        return
    if not has_splits:
        drawn = test_families({content.hex(): name for content, name in class_of.items()}, share=TESTED_SHARE)
        tested = {bytes.fromhex(content) for content in drawn}
    members = {"content_hash": sorted(class_of), "tested": [content in tested for content in sorted(class_of)]}
    write_table(pa.table(members, _MEMBERS), folder / _TASK)
    names = sorted(counts)
    classes = {"class": range(len(names)), "name": names, "count": [counts[name] for name in names]}
    write_table(pa.table({k: list(v) for k, v in classes.items()}, CLASSES), folder / "classes.parquet")


def read_task(folder: Path) -> TransferTask | None:
    """The transfer task that ``decide_task`` wrote; None where no image has a class."""
    if not (folder / _TASK).is_file():
        return None
    members = read_table(folder / _TASK)
    tested = members.filter(members["tested"])["content_hash"].to_pylist()
    names = read_table(folder / "classes.parquet")["name"].to_pylist()
    return TransferTask(names=tuple(names), tested=frozenset(tested))
