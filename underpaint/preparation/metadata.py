"""What somebody wrote about an image: its tags, caption, language and licence, out of columns, JSON and text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from underpaint.data.decode.embedded_tags import MAX_TAG_LETTERS, MAX_TAGS
from underpaint.tags import posts

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file_name", "filename", "file", "image", "image_path"),
    "key": ("key", "id", "photo_id", "image_id"),
    "tags": ("tags", "hashtags", "keywords", "user_tags", "usertags", "subject"),
    "caption": ("caption", "text", "description", "title"),
    "language": ("language", "lang"),
    "licence": ("licence", "license", "license_name", "licensename", "licence_url", "license_url"),
}
"""The names that a column of a table, or a field of a JSON file, may have; of several, the first counts."""

MAX_CAPTION_LETTERS = 10_000

_SEPARATED = re.compile(r"[;,\n]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What one place says; nothing of what it does not tell."""

    tags: tuple[str, ...] | None = None
    """Distinct, as they were written. None where there is no place for tags, () where it is empty."""
    caption: str = ""
    language: str = ""
    licence: str = ""

    def merged_with(self, other: Metadata) -> Metadata:
        """Both, this one first: its tags before the other's, and the other's caption where it has none."""
        together = None if self.tags is None and other.tags is None else (*(self.tags or ()), *(other.tags or ()))
        return Metadata(
            tags=None if together is None else distinct(together),
            caption=self.caption or other.caption,
            language=self.language or other.language,
            licence=self.licence or other.licence,
        )


NOTHING = Metadata()


def from_json(content: bytes) -> Metadata:
    """A JSON object with some of the fields of COLUMNS, as img2dataset writes one beside each image.

    Raises:
        ValueError: if it is none.
    """
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:  # among them a number of more digits than Python reads
        raise ValueError(f"it is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"it holds no JSON object but {type(fields).__name__}")
    return from_fields(fields)


def from_fields(fields: Mapping[str, Any]) -> Metadata:
    """Some of the fields of COLUMNS, in whatever case; the tags as a list or as one text."""
    known = {name.lower(): value for name, value in fields.items()}

    def found(what: str) -> Any:
        return next((known[name] for name in COLUMNS[what] if known.get(name) is not None), None)

    def text(what: str) -> str:
        value = found(what)
        return value.strip() if isinstance(value, str) else ""

    tags = found("tags")
    if isinstance(tags, str):
        listed: Iterable[str] | None = tags_of_text(tags)
    else:
        listed = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else None
    return Metadata(
        tags=None if listed is None else distinct(listed),
        caption=text("caption")[:MAX_CAPTION_LETTERS],
        language=text("language"),
        licence=text("licence"),
    )


def from_caption(content: bytes) -> Metadata:
    """A ``.txt`` member of a tar: a caption. Raises ValueError where it is not UTF-8."""
    return Metadata(caption=_decoded(content).strip()[:MAX_CAPTION_LETTERS])


def from_sidecar(content: bytes) -> Metadata:
    """A ``.txt`` file beside an image: tags, where something separates them (lines, ``;``, ``,`` or ``#``).

    A single line without any of these is a caption, unless it is one word. Raises ValueError where it is not UTF-8.
    """
    text = _decoded(content).strip()
    if _SEPARATED.search(text) or "#" in text or " " not in text:
        return Metadata(tags=distinct(tags_of_text(text)))
    return Metadata(caption=text[:MAX_CAPTION_LETTERS])


def tags_of_text(text: str) -> list[str]:
    """The tags of one text: only lines and ``;`` separate them where there are any, else ``,``, else spaces."""
    if "\n" in text.strip() or ";" in text:
        return re.split(r"[\n;]", text)
    return text.split(",") if "," in text else text.split()


def hashtags(caption: str) -> tuple[str, ...]:
    """The words that a caption marks with ``#``."""
    if "#" not in caption and "\uff03" not in caption:
        return ()
    return distinct(posts.hashtags(pa.array([caption], pa.string()))[0].as_py())


def distinct(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags without what surrounds them, each once. Case stays: #BrownBear says where its words begin."""
    cleaned = (" ".join(tag.strip().lstrip("#").split()) for tag in tags)
    return tuple(dict.fromkeys(tag for tag in cleaned if tag and len(tag) <= MAX_TAG_LETTERS and _is_text(tag)))[
        :MAX_TAGS
    ]


def _is_text(tag: str) -> bool:
    """Half of a surrogate pair, which JSON may hold, is no text that could be written."""
    return not any("\ud800" <= letter <= "\udfff" for letter in tag)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error}") from error
