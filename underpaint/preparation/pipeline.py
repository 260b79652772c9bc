"""The whole of ``underpaint prepare``: plan, read, count, decide, label, and write the set.

The set is a function of its sources and settings. Whatever an earlier start finished is found by name and not done
again; so a killed command continues, a set grows by further sources, and other rules for tags take seconds.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import xxhash

from underpaint._version import __version__
from underpaint.data.folders.folder import CLASS_FOLDERS
from underpaint.data.folders.listing import list_folder
from underpaint.data.shards.index import CLASSES, PREPARED, VOCABULARY, IndexWriter, index_schema
from underpaint.data.tables.table_file import TableFile, table_file
from underpaint.files import write_json, xxh3
from underpaint.messages import counted, say
from underpaint.preparation import deduplication, labelling
from underpaint.preparation.arrow_files import read_table, write_table
from underpaint.preparation.engine import Engine, EngineName, open_engine
from underpaint.preparation.families import Dedupe
from underpaint.preparation.fingerprinting import exclusion_folder
from underpaint.preparation.first_lines import first_lines
from underpaint.preparation.image_names import ImageNames
from underpaint.preparation.inputs import PreparedFrom, describe, require_apart, tar_files
from underpaint.preparation.joining import MAX_UNMATCHED, JoinedTable, TableFit, join_table, table_fits
from underpaint.preparation.labelling import LabelWork, RepeatFactors
from underpaint.preparation.left_out import problems, refusals, tag_origins, write_dropped, write_excluded
from underpaint.preparation.partition_reader import WorkFolders, read_partition
from underpaint.preparation.plan import Partition, cut, table_paths
from underpaint.preparation.settings import Preparation, recorded
from underpaint.preparation.transfer_task import decide_task, read_task, write_class_folders
from underpaint.progress import Progress
from underpaint.results.preparation import (
    FORMAT,
    RECORD,
    PrepareRecord,
    read_record,
)
from underpaint.tags.keyword_tree import with_parents
from underpaint.tags.labels import LabelSpace, build_label_space

AUDIT, DROPPED = "tags_audit.parquet", "dropped.parquet"

_PARTITION = re.compile(r".+-[0-9a-f]{16}\.(tar|parquet)")
_HALF_WRITTEN = re.compile(r".+\.\d+\.part")
"""Pattern of the temporary files that ``arrow_files.replacing`` leaves where a process is killed."""


def prepare_set(
    wanted: Preparation, out: Path, *, engine: EngineName = "native", max_unmatched: float = MAX_UNMATCHED
) -> PrepareRecord:
    """Prepare a set into ``out``, or continue there; returns the content of its ``prepare.json``.

    ``max_unmatched`` is the largest share of a table's rows that may match no image.

    Raises:
        ValueError: for settings, sources or tables that the user can correct.
    """
    if not 0 <= max_unmatched <= 1:
        raise ValueError(f"max_unmatched={max_unmatched} must be a share between 0 and 1, for example 0.05")
    sources = describe(wanted.sources)
    require_apart([source.path for source in sources], out)
    work_folders = _workshop(sources, wanted, out)
    with open_engine(engine) as opened:
        partitions = _plan(sources, wanted, work_folders)
        _read(partitions, work_folders, opened)
        fits = _fits(partitions, work_folders, max_unmatched)
        if wanted.dedupe != "none":
            work_folders = _deduped(partitions, work_folders, wanted.dedupe)
        return _write_set(sources, partitions, wanted, work_folders=work_folders, engine=opened, fits=fits)


def _workshop(sources: Sequence[PreparedFrom], wanted: Preparation, out: Path) -> WorkFolders:
    work_folders = WorkFolders(out=out.absolute())  # workers on Ray work elsewhere
    folders = ("planned", "rows", "matched", "shards", "joined")
    for folder in (getattr(work_folders, name) for name in folders):
        folder.mkdir(parents=True, exist_ok=True)
    for part in (*out.glob("*.part"), *work_folders.shards.glob("*.part"), *work_folders.work.rglob("*.part")):
        if _HALF_WRITTEN.fullmatch(part.name):
            part.unlink()
    to_match = [
        source for source in sources if source.kind == "folder" and (wanted.tags or wanted.labels or source.table)
    ]
    paths = {source.name: list_folder(source.root).images for source in to_match}
    known = sorted({path for of_source in paths.values() for path in of_source})
    from_folders = wanted.labels == CLASS_FOLDERS
    is_joined = (wanted.tags or (wanted.labels and not from_folders)) and any(
        source.kind != "folder" for source in sources
    )
    images = _image_names(sources, known) if is_joined else None
    of_all = [
        join_table(_table(option, given, needs), work_folders.joined, known=known, images=images, is_of=is_of)
        for option, given, is_of, needs in (
            *(("--tags", table, "tags", "tags") for table in wanted.tags),
            *([("--labels", wanted.labels, "classes", "class")] if wanted.labels and not from_folders else []),
        )
    ]
    if from_folders:
        roots = {str(source.root): paths[source.name] for source in to_match}
        classes = write_class_folders(roots, work_folders.joined / "class_folders.parquet")
        of_all.append(join_table(TableFile(classes), work_folders.joined, known=known, images=None, is_of="classes"))
    tables = {source.name: (*of_all, *_own_table(source, paths, work_folders, wanted)) for source in sources}
    return replace(work_folders, tables=tables, exclusion=exclusion_folder(wanted.exclude, work_folders.work))


def _image_names(sources: Sequence[PreparedFrom], known: Iterable[str]) -> ImageNames:
    tars = [tar for source in sources if source.kind == "tars" for tar in tar_files(Path(source.path))]
    of_tables = [path for source in sources if source.kind == "table" for path in table_paths(table_file(source.path))]
    return ImageNames(tars=tars, loose=(*known, *of_tables))


def _table(option: str, given: str, needs: str) -> TableFile:
    table = table_file(given)
    if not table.file.is_file():
        raise ValueError(f"{option} {table.file} does not exist; give a table with a path or key, and {needs}")
    return table


def _own_table(
    source: PreparedFrom, paths: Mapping[str, Sequence[str]], work_folders: WorkFolders, wanted: Preparation
) -> tuple[JoinedTable, ...]:
    """The table of tags in a folder, joined to its images; () where it has none, or the user names it himself."""
    if not source.table or Path(source.table) in {table_file(table).file.resolve() for table in wanted.tags}:
        return ()
    known = paths.get(source.name, ())
    return (join_table(TableFile(Path(source.table)), work_folders.joined, known=known, images=None, is_of="tags"),)


def _fits(partitions: Sequence[Partition], work_folders: WorkFolders, most: float) -> list[TableFit]:
    """The fit of the tables to the images that were read.

    Raises:
        ValueError: if more than a share ``most`` of a table's rows match no image.
    """
    if not any(work_folders.tables.values()):
        return []
    keys: list[str] = []
    for partition in partitions:
        keys += read_table(work_folders.rows_of(partition), ["key"])["key"].slice(0, 3).to_pylist()
        if len(keys) >= 3:
            break
    matched = ((partition.source.name, work_folders.matched / f"{partition.name}.parquet") for partition in partitions)
    return table_fits(work_folders.tables, matched, keys=keys[:3], most=most)


def _plan(sources: Sequence[PreparedFrom], wanted: Preparation, work_folders: WorkFolders) -> list[Partition]:
    say(f"Looking for images in {', '.join(source.path for source in sources)}")
    excluded = [work_folders.exclusion.name] if work_folders.exclusion else []
    partitions: list[Partition] = []
    for source in sources:
        tables = [table.file.name for table in work_folders.tables[source.name]]
        given = [*tables, *excluded]
        listing = list_folder(source.root) if source.kind == "folder" else None
        if listing is not None:
            for line in first_lines(source, listing, folder_tags=wanted.folders, has_table=bool(tables)):
                say(line)
        partitions += cut(
            source,
            listing=listing,
            folder=work_folders.planned,
            images=wanted.shard_images,
            given=" ".join(given),
            folder_tags=wanted.folders,
        )
    return partitions


def _read(partitions: Sequence[Partition], work_folders: WorkFolders, engine: Engine) -> None:
    """Read the partitions that were not read before."""
    by_name = {partition.name: partition for partition in partitions}
    pending = [name for name, partition in by_name.items() if not work_folders.rows_of(partition).is_file()]
    if done := len(by_name) - len(pending):
        say(f"{done:,} of {len(by_name):,} partitions were read before")
    read = functools.partial(_read_named, partitions=by_name, work_folders=work_folders)
    with Progress("reading", total=len(by_name), unit="partitions", done=done) as progress:
        _follow(engine.map(read, pending), progress, done=done)


def _follow(answers: Iterable[dict[str, int]], progress: Progress, *, done: int) -> None:
    """Show how many partitions are done, and how many images were read since this start."""
    images = 0
    for number, answer in enumerate(answers, done + 1):
        images += answer["images"]
        progress.update(number, f"{images:,} images  {images / max(progress.seconds, 1e-9):,.0f} images/s")


def _deduped(partitions: Sequence[Partition], work_folders: WorkFolders, dedupe: Dedupe) -> WorkFolders:
    """The folders with ``deduped`` set; copies are sought once for the same partitions."""
    target = work_folders.work / deduplication.folder_name([partition.name for partition in partitions], dedupe)
    if not target.is_dir():
        files = [work_folders.rows_of(partition) for partition in partitions]
        deduplication.write_without_copies(files, work_folders.out, target, dedupe)
    return replace(work_folders, deduped=target)


def _read_named(name: str, *, partitions: Mapping[str, Partition], work_folders: WorkFolders) -> dict[str, int]:
    return read_partition(partitions[name], work_folders)


def _write_set(
    sources: Sequence[PreparedFrom],
    partitions: Sequence[Partition],
    wanted: Preparation,
    *,
    work_folders: WorkFolders,
    engine: Engine,
    fits: Sequence[TableFit],
) -> PrepareRecord:
    settings = recorded(sources, wanted)
    rules_for_copies = [work_folders.deduped.name] if work_folders.deduped else []
    digest = _digest([settings, [partition.name for partition in partitions], *rules_for_copies])
    before = _finished(work_folders.out)
    if before is not None and before["digest"] == digest:
        say(f"{work_folders.out} is prepared already")
        return before
    files = [work_folders.used / f"{partition.name}.parquet" for partition in partitions]
    sizes = [_images_of(file) for file in files]
    _require_images(files, sizes)
    work = _decide(
        partitions, wanted, work_folders=work_folders, engine=engine, heldout=labelling.heldout_share(sum(sizes))
    )
    _label(partitions, sizes, work, engine)
    vocabulary = _vocabulary(work, wanted, fits)
    labelled = [work.folder / file.name for file in files]
    repeats = labelling.solve_repeats(
        labelled, vocabulary.table["count"].to_numpy(), rule=wanted.resample, ratio=wanted.resample_ratio
    )
    with IndexWriter(work_folders.out) as writer:
        for file, labels in zip(files, labelled, strict=True):
            if (rows := _index_rows(read_table(file), read_table(labels), repeats)).num_rows:
                writer.add(rows)
        dropped = write_dropped(files, work_folders.out / DROPPED)
        excluded = write_excluded(files, work_folders)
        copies = deduplication.write_copies(work_folders.deduped, work_folders.out)
        (work_folders.out / PREPARED).unlink(missing_ok=True)
        write_table(vocabulary.table, work_folders.out / VOCABULARY)
        write_table(vocabulary.audit, work_folders.out / AUDIT)
        classes = _write_classes(work, work_folders.out)
        writer.finish(name=work_folders.out.name, licence="of each image, see the index", attribution="")
    record: PrepareRecord = {
        "format": FORMAT,
        "digest": digest,
        "settings": settings,
        "counts": {
            "partitions": len(partitions),
            "images": sum(sizes),
            "labels": len(vocabulary.table),
            "classes": classes,
            **dropped,
            **tag_origins(files),
        },
        "tables": [str(fit) for fit in fits],
        "excluded": excluded,
        "copies": copies,
        "refused": refusals(files),
    }
    write_json(work_folders.out / RECORD, record)
    _clear(work_folders, {partition.name for partition in partitions}, work.folder)
    return record


def _vocabulary(work: LabelWork, wanted: Preparation, fits: Sequence[TableFit]) -> LabelSpace:
    """The labels of the set; raises ValueError where a table of tags was given and there are none."""
    vocabulary = work.vocabulary()
    if wanted.tags and not len(vocabulary.table):
        raise ValueError(
            f"no image has a label, though --tags {' '.join(wanted.tags)} is given; {'; '.join(map(str, fits))}. "
            f"{work.folder / AUDIT} gives the decision on each tag"
        )
    return vocabulary


def _write_classes(work: LabelWork, out: Path) -> int:
    """Write the classes of the set; returns their number."""
    if read_task(work.folder) is None:
        (out / CLASSES).unlink(missing_ok=True)
        return 0
    classes = read_table(work.folder / CLASSES)
    write_table(classes, out / CLASSES)
    return len(classes)


def _images_of(file: Path) -> int:
    return read_table(file, ["problem"])["problem"].null_count


def _require_images(files: Sequence[Path], sizes: Sequence[int]) -> None:
    if sum(sizes):
        return
    reasons = Counter(reason for file in files for _, _, reason in problems(file))
    most_frequent = "; ".join(f"{counted(count, 'time')}: {reason}" for reason, count in reasons.most_common(3))
    raise ValueError(f"no image can be used ({most_frequent or 'the sources are empty'})")


def _decide(
    partitions: Sequence[Partition], wanted: Preparation, *, work_folders: WorkFolders, engine: Engine, heldout: float
) -> LabelWork:
    """Count all tags and decide on each, in a folder that is named after what this depends on."""
    lexicons = [xxh3(Path(file)) for file in wanted.rules.lexicons if Path(file).is_file()]
    settings = [
        FORMAT,
        __version__,
        asdict(wanted.rules),
        lexicons,
        heldout,
        [partition.name for partition in partitions],
        work_folders.deduped.name if work_folders.deduped else "",
    ]
    folder = work_folders.work / f"labels-{_digest(settings)}"
    folder.mkdir(exist_ok=True)
    work = LabelWork(rows=work_folders.used, folder=folder, heldout=heldout)
    if not (folder / AUDIT).is_file():
        say("Counting the tags, and deciding on each")
        counts = engine.count([work_folders.used / f"{partition.name}.parquet" for partition in partitions], "tags")
        paths = engine.count(
            [work_folders.used / f"{partition.name}.parquet" for partition in partitions], "keyword_paths"
        )
        vocabulary = with_parents(build_label_space(counts, wanted.rules), paths)
        decide_task([work_folders.used / f"{partition.name}.parquet" for partition in partitions], folder)
        write_table(vocabulary.table, folder / VOCABULARY)
        write_table(vocabulary.audit, folder / AUDIT)
    return work


def _label(partitions: Sequence[Partition], sizes: Sequence[int], work: LabelWork, engine: Engine) -> None:
    size_of = {partition.name: size for partition, size in zip(partitions, sizes, strict=True)}
    pending = [name for name in size_of if not (work.folder / f"{name}.parquet").is_file()]
    groups = labelling.grouped(pending, [size_of[name] for name in pending])
    items = [json.dumps(group) for group in groups]
    with Progress("labelling", total=len(groups), unit="groups of partitions") as progress:
        _follow(engine.map(functools.partial(labelling.label_partitions, work=work), items), progress, done=0)


def _index_rows(rows: pa.Table, labels: pa.Table, repeats: RepeatFactors) -> pa.Table:
    """The rows of the index of one shard."""
    used = labelling.usable(rows)
    factors = repeats.of(labels["labels"].combine_chunks())
    for name in ("labels", "split", "class"):
        used = used.append_column(name, labels[name])
    used = used.append_column("repeat", pa.array(factors, pa.float32()))
    return used.select(index_schema().names)


def _digest(value: object) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(value, sort_keys=True).encode())


def _finished(out: Path) -> PrepareRecord | None:
    """The record of the finished set in ``out``; None where there is none."""
    return read_record(out) if (out / PREPARED).is_file() else None


def _clear(work_folders: WorkFolders, names: set[str], labels: Path) -> None:
    """Delete the files of partitions that no longer belong to the set, and the work folders of earlier settings."""
    for folder in (work_folders.planned, work_folders.rows, work_folders.matched, work_folders.shards):
        for file in folder.iterdir():
            if _PARTITION.fullmatch(file.name) and file.stem not in names:
                file.unlink()
    for folder in (path for kind in ("labels", "exclusion", "dedupe") for path in work_folders.work.glob(f"{kind}-*")):
        if folder not in (labels, work_folders.exclusion, work_folders.deduped):
            shutil.rmtree(folder)
