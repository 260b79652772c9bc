"""Settings that determine the content of a prepared set, and their record in ``prepare.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from underpaint._version import __version__
from underpaint.data.folders.folder import CLASS_FOLDERS
from underpaint.data.tables.table_file import absolute, table_file
from underpaint.files import OneOrMany, paths_of, xxh3
from underpaint.messages import counted
from underpaint.preparation.families import Dedupe
from underpaint.preparation.inputs import PreparedFrom
from underpaint.preparation.labelling import Resampling
from underpaint.preparation.mapping import Mapping, read_mapping
from underpaint.preparation.plan import FolderTags
from underpaint.results.preparation import PrepareCounts, PrepareRecord, PrepareSettings, read_record
from underpaint.tags.canonical import Parts, TagRules

WORK = "prepare_work"
"""Name of the folder with intermediate results, so that no work is done twice."""


FORMER_RULES = {"parts": "parts_of_speech", "outside": "unknown_tags", "minimum_count": "min_count"}
"""Names of fields of TagRules in older records, and their present names."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """All settings that determine the content of a prepared set; the engine does not change it."""

    sources: tuple[str, ...]
    tags: tuple[str, ...] = ()  # tables that are joined to the images of all sources
    labels: str = ""  # a table of the images' classes, and perhaps splits, or "folders", for the transfer task
    exclude: tuple[str, ...] = ()  # folders of evaluation images whose near duplicates are left out
    rules: TagRules = field(default_factory=TagRules)
    resample: Resampling = "sqrt"  # rule for the repeat factors in the column `repeat`, which a run may use
    resample_ratio: float = 5 / 3  # average samples per image in an epoch (the paper's 5 billion from 3)
    shard_images: int = 1000  # average number of loose images per shard that is written
    folders: FolderTags = "last"  # folders whose names are the tags of images without any
    dedupe: Dedupe = "none"  # copies within the set that are left out

    def __post_init__(self) -> None:
        if not 1 <= self.shard_images <= 20_000:
            raise ValueError(f"shard_images={self.shard_images} must lie in 1 to 20,000; 1000 is usual")
        if self.resample not in ("none", "sqrt", "instance"):
            raise ValueError(f"resample={self.resample!r} must be 'none', 'sqrt' or 'instance'")
        if self.dedupe not in get_args(Dedupe):
            raise ValueError(f"dedupe={self.dedupe!r} must be one of {', '.join(get_args(Dedupe))}")
        if self.folders not in get_args(FolderTags):
            raise ValueError(f"folders={self.folders!r} must be one of {', '.join(get_args(FolderTags))}")
        if self.resample_ratio < 1:
            raise ValueError(f"resample_ratio={self.resample_ratio} must be at least 1: images are never left out")


class PrepareOptions(TypedDict, total=False):
    """Options of a prepared set; one that is missing or None keeps its recorded value, or takes its default."""

    tags: OneOrMany | None
    """Table of tags for the images of all sources, or several, whose tags are taken together; "" is none."""
    labels: str | None
    """Table of the images' classes, and perhaps splits, or "folders" for class folders, for the transfer task."""
    mapping: str | None
    """CSV file with the columns ``tag``, ``label`` and perhaps ``also`` that overrides the rules for single tags."""
    exclude: Sequence[str | Path] | None
    """Folders of evaluation images whose near duplicates are left out."""
    shard_images: int | None
    """Average number of loose images per shard that is written."""
    folders: FolderTags | None
    """Folders whose names are the tags of images that have no others; "last" is the innermost one."""
    dedupe: Dedupe | bool | None
    """Keep one image of each group of copies: "exact", "near" (both kinds; True means the same), or "none"."""
    vocabulary_size: int
    min_count: int
    parts_of_speech: Parts
    unknown_tags: Literal["keep", "drop"]
    languages: Sequence[str] | Literal["all"]
    lexicons: Sequence[str]


def continued(out: Path, sources: Sequence[str | Path], options: PrepareOptions) -> Preparation:
    """The settings of the set in ``out``, with new sources added and other values replaced by the given ones.

    Raises:
        ValueError: for an invalid value, or a record of another release.
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    record = read_record(out)
    if isinstance(given.get("dedupe"), bool):
        given["dedupe"] = _kind_of_copies(given["dedupe"])
    before = _restored(record["settings"]) if record else Preparation(sources=())
    mapping, exclude = given.pop("mapping", None), given.pop("exclude", None)
    if "tags" in given:
        given["tags"] = _absolute(paths_of(given["tags"])) if given["tags"] else ()
    plain = {name: given.pop(name) for name in ("tags", "labels", "shard_images", "folders", "dedupe") if name in given}
    known = [field.name for field in fields(TagRules) if field.name not in ("mapping", "implied")]
    if unknown := given.keys() - set(known):
        raise ValueError(f"unknown rules for tags: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    changed = {name: _absolute(value) if name == "lexicons" else _tuples(value) for name, value in given.items()}
    if mapping is not None:
        written = read_mapping(Path(mapping).expanduser()) if mapping else Mapping()
        changed |= {"mapping": written.labels, "implied": written.implied}
    return replace(
        before,
        sources=tuple({table_file(each).file: each for each in (*before.sources, *_absolute(sources))}.values()),
        exclude=before.exclude if exclude is None else _absolute(exclude),
        **plain,
        rules=replace(before.rules, **changed),
    )


def _restored(settings: PrepareSettings) -> Preparation:
    return Preparation(
        sources=tuple(source["path"] for source in settings["sources"]),
        tags=_tables(settings["tags"]),
        labels=settings.get("labels", ""),
        exclude=tuple(settings["exclude"]),
        rules=TagRules(**_rules(settings["rules"])),
        resample=settings["resample"],
        resample_ratio=settings["resample_ratio"],
        shard_images=settings["shard_images"],
        folders=settings.get("folders", "last"),
        dedupe=_kind_of_copies(settings.get("dedupe", "none")),
    )


def _kind_of_copies(given: Dedupe | bool) -> Dedupe:
    """Older sets say whether copies of both kinds are left out."""
    return given if isinstance(given, str) else "near" if given else "none"


def _tables(given: Sequence[str] | str) -> tuple[str, ...]:
    """Older sets name one table of tags, or ""."""
    return ((given,) if given else ()) if isinstance(given, str) else tuple(given)


def _rules(settings: dict[str, object]) -> dict[str, Any]:
    return {FORMER_RULES.get(name, name): _tuples(value) for name, value in settings.items()}


def _tuples(value: object) -> Any:
    """A list as a tuple; any other value unchanged."""
    return tuple(value) if isinstance(value, list) else value


def _absolute(paths: Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(map(absolute, paths))


def recorded(sources: Sequence[PreparedFrom], wanted: Preparation) -> PrepareSettings:
    """The settings as ``prepare.json`` records them, with absolute paths and the hashes of the tables."""
    tags = _absolute(wanted.tags)
    settings: PrepareSettings = {
        "underpaint": __version__,
        "sources": [
            {"name": source.name, "path": source.path, "kind": source.kind, "table": source.table} for source in sources
        ],
        "tags": list(tags),
        "tags_hash": [xxh3(table_file(table).file) for table in tags],
        "labels": "",
        "exclude": list(wanted.exclude),
        "rules": asdict(wanted.rules),
        "resample": wanted.resample,
        "resample_ratio": wanted.resample_ratio,
        "shard_images": wanted.shard_images,
        "folders": wanted.folders,
        "dedupe": wanted.dedupe,
    }
    if wanted.labels == CLASS_FOLDERS:
        settings["labels"] = CLASS_FOLDERS
    elif wanted.labels:
        settings["labels"] = absolute(wanted.labels)
        settings["labels_hash"] = xxh3(table_file(wanted.labels).file)
    return settings


def summary(record: PrepareRecord, out: str | Path) -> str:
    """A text for the user with the counts of a set: images, labels, classes, and images left out by reason."""
    counts = record["counts"]
    lines = [
        f"{out}: {counts['images']:,} images, {counts['labels']:,} labels, {counts['dropped']:,} left out",
        *(f"  {fit}" for fit in record.get("tables", ())),
        *([f"  {classes:,} classes to transfer to"] if (classes := counts.get("classes")) else []),
        *(f"  left out {counted(count, 'time')}: {reason}" for reason, count in _most(counts["reasons"], 5)),
        *(
            f"  {tested['removed']:,} near duplicates of {tested['duplicated']:,} of {tested['images']:,} images of "
            f"{tested['name']} left out"
            for tested in record["excluded"]
        ),
        *_copies(record.get("copies", {}), out),
        *_origins(record["counts"]),
        *(
            f"  keywords inside an image not read {counted(count, 'time')}: {reason}"
            for reason, count in _most(record["refused"], 3)
        ),
        f"train with data={out}",
    ]
    return "\n".join(lines)


def _copies(copies: dict[str, int], out: str | Path) -> list[str]:
    """A line about copies within the set; no line where copies are kept."""
    if not copies:
        return []
    if joined := copies.get("joined", 0):
        line = f"  {copies['exact']:,} exact copies left out, tags merged; {joined:,} near copies stay"
        return [f"{line}, each in the split of the image that it copies"]
    line = f"  {copies['exact']:,} exact copies and {copies['near']:,} near copies left out, tags merged"
    return [f"{line}; look at {Path(out) / 'near_copies.html'}"]


def _origins(counts: PrepareCounts) -> list[str]:
    """Lines about tags that are names of folders, XMP files that are newer than their image, and predicted tags."""
    lines: list[str] = []
    if of_folders := counts.get("folder_tags", 0):
        line = f"  {of_folders:,} of {counts['images']:,} images have no tag but the name of a folder"
        most = 2 * of_folders > counts["images"]
        lines.append(f"{line}: most labels say where an image lies (--folders none leaves them out)" if most else line)
    if newer := counts.get("newer_sidecar", 0):
        lines.append(f"  {newer:,} images have an XMP file newer than they are: its keywords replace those inside")
    if predicted := counts.get("predicted_tags", 0):
        lines.append(f"  {predicted:,} images have tags written by predict --write, which are not learned from")
    return lines


def _most(reasons: dict[str, int], count: int) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: -item[1])[:count]
