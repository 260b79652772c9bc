"""Reading of single images: their bytes, header, and metadata from tables, sidecar files and embedded keywords."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from underpaint.data.decode.embedded_tags import Embedded, embedded_tags, packet_tags
from underpaint.data.decode.image import decoding
from underpaint.data.decode.limits import BadImage
from underpaint.data.decode.raw import as_picture
from underpaint.data.shards.tar import IMAGE_EXTENSIONS, MAX_IMAGE_BYTES, MAX_TEXT_BYTES, Member
from underpaint.data.tables import metadata
from underpaint.data.tables.metadata import NOTHING, Metadata
from underpaint.preparation.image_header import ImageHeader, examine
from underpaint.preparation.image_names import names_of_path, names_of_sample
from underpaint.tags.keyword_paths import words_and_paths

ORIGINS = {
    "table": "a table",
    "xmp": "XMP files beside images",
    "text": ".txt and .json files beside images",
    "inside": "keywords inside images",
    "caption": "hashtags of captions",
    "folder": "names of folders alone",
}
"""Places where tags come from, in words."""
FOLDER_TAGS = "folder_tags"
"""Flag of an image whose tags are names of folders alone."""


def origins_in_words(origins: Mapping[str, int]) -> str:
    """Numbers of images by the origin of their tags, the most frequent first."""
    return "; ".join(f"{ORIGINS[name]} {count:,}" for name, count in Counter(origins).most_common())


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """An image that can be used."""

    name: str
    """The image's path relative to the source; for a shard, the sample's key."""
    data: bytes
    header: ImageHeader
    said: Metadata
    keyword_paths: tuple[str, ...] = ()
    """Tags with the words above them, such as ``Places|Norway``; all their words are among the tags."""
    flags: tuple[str, ...] = ()
    """Metadata that could not be read (``unread_sidecar``, ``unread_keywords``), and where tags come from:
    ``folder_tags`` if from the names of folders alone, ``newer_sidecar`` if from an XMP file newer than the image.
    ``predicted_tags`` if ``predict --write`` gave the image tags, which are not read."""
    refused: tuple[str, ...] = ()
    """Reasons why keywords were not read."""
    origins: tuple[str, ...] = ()
    """Names of ``ORIGINS`` that the tags come from."""
    offset: int = 0
    """Byte offset in the shard that the image was read from; 0 for a loose image."""
    perceptual_hash: int | None = None
    fingerprint: bytes = b""
    """The image's ``PerceptualHashes.packed``, by which near copies are found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """An image, or something else in its place, that cannot be used."""

    name: str
    reason: str
    shows: tuple[dict[str, Any], ...] = ()
    """The evaluation images of which the image is a near duplicate."""


def row_of(path: str, *, tags: Sequence[str] | None = None, folders: Sequence[str] = ()) -> dict[str, Any]:
    """The row for ``read_file`` of an image of which nothing else is known, by the names of ``plan.PLANNED``."""
    row = {"paths": [path], "problem": None, "caption": "", "language": "", "licence": ""}
    return {**row, "tags": tags, "folders": folders}


def read_file(root: Path, row: Mapping[str, Any], joined: Mapping[str, Metadata]) -> Sample | LeftOut:
    """The image of a planned row, read from the first of its paths that exists; that of a raw file is its preview."""
    first = row["paths"][0]
    if row["problem"]:
        return LeftOut(name=first, reason=row["problem"])
    if _leaves(first):
        return LeftOut(name=first, reason="the path leaves the folder")
    path = next((candidate for candidate in row["paths"] if (root / candidate).is_file()), "")
    if not path:
        return LeftOut(name=first, reason="missing file")
    file = root / path
    if not file.resolve().is_relative_to(root.resolve()):
        return LeftOut(name=first, reason="a symbolic link that leads out of the folder")
    try:
        data = _bounded(file, MAX_IMAGE_BYTES)
        with decoding():
            picture = as_picture(data) if len(data) <= MAX_IMAGE_BYTES else data
    except OSError as error:
        return LeftOut(name=first, reason=f"cannot be read: {error.strerror}")
    except BadImage as error:
        return LeftOut(name=path, reason=str(error))
    beside, flags = _sidecars(file)
    xmp = _xmp_sidecars(file)
    planned = Metadata(
        tags=None if row["tags"] is None else tuple(row["tags"]),
        caption=row["caption"],
        language=row["language"],
        licence=row["licence"],
    )
    of_tables = planned.merged_with(_looked_up(joined, names_of_path(path)))
    said = of_tables.merged_with(beside).merged_with(xmp.said)
    sample = _sample(
        path,
        picture,
        said,
        flags=(*flags, *xmp.flags),
        refused=xmp.refused,
        folders=tuple(row["folders"]),
        embedded=Embedded(tags=()) if xmp.is_newer else embedded_tags(data),
    )
    if isinstance(sample, LeftOut):
        return sample
    outside = {"table": of_tables.tags, "xmp": xmp.said.tags, "text": beside.tags}
    return replace(sample, origins=(*(name for name, tags in outside.items() if tags), *sample.origins))


def read_member(file: BinaryIO, sample: list[Member], joined: Mapping[str, Metadata]) -> Sample | LeftOut:
    """The image of one sample of a shard, with the metadata of its ``.json`` and ``.txt`` members."""
    key = sample[0].key
    image = next((member for member in sample if member.extension in IMAGE_EXTENSIONS), None)
    if image is None:
        return LeftOut(name=key, reason="the sample has no image")
    said, flags = _looked_up(joined, names_of_sample(sample)), ()
    readers = {"json": metadata.from_json, "txt": metadata.from_caption}
    for extension, read in readers.items():
        for member in (candidate for candidate in sample if candidate.extension == extension):
            try:
                said = said.merged_with(read(_content(file, member)))
            except ValueError:
                flags = (*flags, "unread_sidecar")
    data = _content(file, image)
    return _sample(key, data, said, flags=flags, embedded=embedded_tags(data), offset=image.offset)


def _sample(
    name: str,
    data: bytes,
    said: Metadata,
    *,
    flags: tuple[str, ...],
    refused: tuple[str, ...] = (),
    folders: tuple[str, ...] = (),
    embedded: Embedded,
    offset: int = 0,
) -> Sample | LeftOut:
    try:
        header = examine(data)
    except BadImage as error:
        return LeftOut(name=name, reason=str(error))
    refused = (*refused, *embedded.refused)
    if embedded.predicted and "predicted_tags" not in flags:
        flags = (*flags, "predicted_tags")
    said = said.merged_with(Metadata(tags=metadata.distinct(embedded.tags)))
    origins = ("inside",) if embedded.tags else ()
    if not said.tags:
        said = Metadata(tags=metadata.hashtags(said.caption)).merged_with(said)
        origins = ("caption",) if said.tags else ()
    if not said.tags and folders:
        said, flags, origins = replace(said, tags=folders), (*flags, FOLDER_TAGS), ("folder",)
    words, paths = words_and_paths(said.tags or ())
    return Sample(
        name=name,
        data=data,
        header=header,
        said=said if said.tags is None else replace(said, tags=words),
        keyword_paths=paths,
        flags=(*flags, "unread_keywords") if refused else flags,
        refused=refused,
        origins=origins,
        offset=offset,
    )


def _leaves(path: str) -> bool:
    return path.startswith(("/", "\\")) or path[1:2] == ":" or ".." in path.replace("\\", "/").split("/")


def _bounded(file: Path, most: int) -> bytes:
    """The content of a file, cut after ``most`` + 1 bytes, so that a larger file shows."""
    with file.open("rb") as opened:
        return opened.read(most + 1)


def _sidecars(file: Path) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata in ``photo.json``, ``photo.txt``, ``photo.jpg.json`` and ``photo.jpg.txt``, and flags for errors."""
    said, flags = NOTHING, ()
    for read, extension in ((metadata.from_json, ".json"), (metadata.from_sidecar, ".txt")):
        for beside in (file.with_suffix(extension), file.with_name(file.name + extension)):
            if beside.is_symlink() or not beside.is_file():
                continue
            try:
                content = _bounded(beside, MAX_TEXT_BYTES)
                said = said.merged_with(read(content)) if len(content) <= MAX_TEXT_BYTES else said
                flags = flags if len(content) <= MAX_TEXT_BYTES else (*flags, "unread_sidecar")
            except (OSError, ValueError):
                flags = (*flags, "unread_sidecar")
    return said, flags


@dataclass(frozen=True, kw_only=True, slots=True)
class _XmpSidecars:
    said: Metadata
    refused: tuple[str, ...]
    """Reasons why keywords were not read."""
    is_newer: bool
    """Whether a file with keywords was written after the image, so that those inside the image are out of date."""
    is_predicted: bool
    """Whether a file has tags that this package wrote."""

    @property
    def flags(self) -> list[str]:
        """The flags of ``Sample`` that these mean."""
        return ["newer_sidecar"] * self.is_newer + ["predicted_tags"] * self.is_predicted


def _xmp_sidecars(file: Path) -> _XmpSidecars:
    """The keywords in ``photo.xmp`` (Lightroom, darktable) and ``photo.jpg.xmp`` (digiKam, darktable)."""
    said, refused, is_newer, is_predicted = NOTHING, (), False, False
    for beside in (file.with_suffix(".xmp"), file.with_name(f"{file.name}.xmp")):
        if beside.is_symlink() or not beside.is_file():
            continue
        try:
            keywords = packet_tags(_bounded(beside, MAX_TEXT_BYTES))
            changed = beside.stat().st_mtime_ns
            changed = keywords.writing.changed_by_people(changed) if keywords.writing else changed
            is_newer |= bool(keywords.tags) and changed > file.stat().st_mtime_ns
            is_predicted |= bool(keywords.predicted)
        except OSError as error:
            refused = (*refused, f"an XMP file that cannot be read: {error.strerror}")
            continue
        said = said.merged_with(Metadata(tags=metadata.distinct(keywords.tags)))
        refused = (*refused, *keywords.refused)
    return _XmpSidecars(said=said, refused=refused, is_newer=is_newer, is_predicted=is_predicted)


def _content(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _looked_up(joined: Mapping[str, Metadata], names: tuple[str, ...]) -> Metadata:
    said = NOTHING
    for name in names:
        said = said.merged_with(joined.get(name, NOTHING))
    return said
