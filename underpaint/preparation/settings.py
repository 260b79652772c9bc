"""What decides what a prepared set holds, and the record that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from underpaint.files import read_json
from underpaint.preparation.labelling import Resampling
from underpaint.preparation.mapping import read_mapping
from underpaint.tags.canonical import Parts, TagRules

FORMAT = 1
RECORD = "prepare.json"
WORK = "prepare_work"
"""The folder of what was read and decided, so that nothing is done twice."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Everything that decides what a prepared set holds, besides the engine, which decides nothing."""

    sources: tuple[str, ...]
    tags: str = ""  # a table that is joined to the images of all sources
    exclude: tuple[str, ...] = ()  # folders of evaluation images whose near duplicates are left out
    rules: TagRules = field(default_factory=TagRules)
    resample: Resampling = "sqrt"  # what the column `repeat` holds; a run takes it or not
    resample_ratio: float = 5 / 3  # samples of an epoch per image (the paper's 5 billion from 3)
    shard_images: int = 1000  # images of a shard that is written, on average
    dedupe: bool = False  # are exact and near copies within the set left out?

    def __post_init__(self) -> None:
        if not 1 <= self.shard_images <= 20_000:
            raise ValueError(f"shard_images={self.shard_images} must lie in 1 to 20,000; 1000 is usual")
        if self.resample not in ("none", "sqrt", "instance"):
            raise ValueError(f"resample={self.resample!r} must be 'none', 'sqrt' or 'instance'")
        if self.resample_ratio < 1:
            raise ValueError(f"resample_ratio={self.resample_ratio} must be at least 1: images are never left out")


class PrepareOptions(TypedDict, total=False):
    """What may be asked for besides the sources; what is not given stays as it was in a set that is continued."""

    tags: str | None  # a table that is joined to the images of all sources; "" for none
    mapping: str | None  # a CSV file with tag and label; "" for none
    exclude: Sequence[str | Path] | None  # folders of evaluation images whose near duplicates are left out
    shard_images: int | None
    dedupe: bool | None
    vocabulary_size: int  # this and what follows are fields of ``TagRules``
    minimum_count: int
    parts: Parts
    outside: Literal["keep", "drop"]
    languages: Sequence[str] | Literal["all"]
    lexicons: Sequence[str]


def continued(out: Path, sources: Sequence[str | Path], options: PrepareOptions) -> Preparation:
    """The settings of the set in ``out``, with what is given now: further sources are added, other values replaced.

    Raises ValueError for a value that cannot be, or a record of another release.
    """
    record = read_record(out).get("settings", {})
    before = _restored(record) if record else Preparation(sources=())
    given = {name: value for name, value in options.items() if value is not None}
    known = [field.name for field in fields(TagRules) if field.name != "mapping"]
    plain = ("tags", "mapping", "exclude", "shard_images", "dedupe")
    if unknown := given.keys() - {*known, *plain}:
        raise ValueError(f"unknown rules for tags: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    rules = {name: given[name] for name in known if name in given}
    changed: dict[str, Any] = {name: _tuples(value) for name, value in rules.items()}
    if "lexicons" in options:
        changed["lexicons"] = _absolute(options["lexicons"])
    if (mapping := options.get("mapping")) is not None:
        changed["mapping"] = read_mapping(Path(mapping).expanduser()) if mapping else {}
    exclude = options.get("exclude")
    return replace(
        before,
        **{name: given[name] for name in ("tags", "shard_images", "dedupe") if name in given},
        sources=tuple(dict.fromkeys([*before.sources, *_absolute(sources)])),
        exclude=before.exclude if exclude is None else _absolute(exclude),
        rules=replace(before.rules, **changed),
    )


def _restored(settings: dict[str, Any]) -> Preparation:
    return Preparation(
        sources=tuple(source["path"] for source in settings["sources"]),
        tags=settings["tags"],
        exclude=tuple(settings["exclude"]),
        rules=TagRules(**{name: _tuples(value) for name, value in settings["rules"].items()}),
        resample=settings["resample"],
        resample_ratio=settings["resample_ratio"],
        shard_images=settings["shard_images"],
        dedupe=settings.get("dedupe", False),
    )


def _tuples(value: Any) -> Any:
    """A list of JSON, or of a caller, as the tuple that it was."""
    return tuple(value) if isinstance(value, list) else value


def _absolute(paths: Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(str(Path(path).expanduser().resolve()) for path in paths)


def summary(record: dict[str, Any], out: str | Path) -> str:
    """What a set holds and what was left out, for people."""
    counts = record["counts"]
    lines = [
        f"{out}: {counts['images']:,} images, {counts['labels']:,} labels, {counts['dropped']:,} left out",
        *(f"  left out {count:,} times: {reason}" for reason, count in _most(counts["reasons"], 5)),
        *(
            f"  {one['removed']:,} near duplicates of {one['duplicated']:,} of {one['images']:,} images of "
            f"{one['name']} left out"
            for one in record["excluded"]
        ),
        *_copies(record.get("copies", {}), out),
        *(
            f"  keywords inside an image not read {count:,} times: {reason}"
            for reason, count in _most(record["refused"], 3)
        ),
        f"train with data={out}",
    ]
    return "\n".join(lines)


def _copies(copies: dict[str, int], out: str | Path) -> list[str]:
    """A line about copies within the set; none where copies stay."""
    if not copies:
        return []
    line = f"  {copies['exact']:,} exact copies and {copies['near']:,} near copies left out, tags merged"
    return [f"{line}; look at {Path(out) / 'near_copies.html'}"]


def _most(reasons: dict[str, int], count: int) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: -item[1])[:count]


def read_record(out: Path) -> dict[str, Any]:
    file = out / RECORD
    if not file.is_file():
        return {}
    record = read_json(file)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{file} is no record of this release; choose another --out")
    return record
