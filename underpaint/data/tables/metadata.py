"""Metadata that people wrote about an image: tags, caption, language and licence, from columns, JSON and text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from underpaint.data.tables.separators import MARKS, SeparatorCount, split_tags
from underpaint.tags import posts
from underpaint.tags.function_words import english_function_words
from underpaint.tags.normalise import MAX_TAG_LETTERS

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "file_name", "filename", "file", "image", "image_path"),
        *("sourcefile", "source_file", "file_path", "filepath", "full_path", "image_name"),
    ),
    "key": ("key", "id", "photo_id", "image_id"),
    "digest": ("md5", "file_md5"),
    "tags": (
        *("tags", "hashtags", "keywords", "user_tags", "usertags", "subject"),
        *(
            "tag_string",
            "hierarchicalsubject",
            "hierarchical_subject",
            "hierarchical_keywords",
            "tagslist",
            "tags_list",
        ),
    ),
    "caption": ("caption", "captions", "text", "description", "title"),
    "language": ("language", "lang"),
    "licence": ("licence", "license", "license_name", "licensename", "licence_url", "license_url"),
    "class": ("class", "label", "category"),
    "split": ("split", "subset"),
}
"""Names that a column of a table, or a field of a JSON file, may have, in order of precedence: those of COCO,
img2dataset and Flickr, of Lightroom and Capture One, of digiKam through exiftool (``SourceFile``), and of boorus
(``tag_string``, and ``md5``, the name of the file)."""

MAX_CAPTION_LETTERS = 10_000

MAX_TAG_WORDS = 5
"""Largest number of words of a tag; a text with a longer piece between its separators is a caption."""

FUNCTION_WORD_SHARE = 0.2
"""Smallest share of English function words in a text that is taken for prose."""

_IDEOGRAPHIC_FULL_STOP = "\u3002"
_SENTENCE = re.compile(r"[^\s.][.!?\u3002](?:\s|$)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """The metadata of an image from one or more places; fields that these lack are "" or None."""

    tags: tuple[str, ...] | None = None
    """Distinct tags, as they were written; () where the place for tags is empty, None where there is no such place."""
    caption: str = ""
    language: str = ""
    licence: str = ""
    label: str = ""
    """Class in the transfer task."""
    split: str | None = None
    """Split in the transfer task: ``train``, ``test``, "" for an image in none; None where no table gives splits."""

    def merged_with(self, further: Metadata) -> Metadata:
        """The metadata of both: these tags before the further ones, and the further value of each field empty here."""
        together = None if self.tags is None and further.tags is None else (*(self.tags or ()), *(further.tags or ()))
        return Metadata(
            tags=None if together is None else distinct(together),
            caption=self.caption or further.caption,
            language=self.language or further.language,
            licence=self.licence or further.licence,
            label=self.label or further.label,
            split=further.split if self.split is None else self.split,
        )


NOTHING = Metadata()


def from_json(content: bytes) -> Metadata:
    """The metadata in a JSON object with some of the fields of COLUMNS, as img2dataset writes beside each image.

    Raises:
        ValueError: if the content is not a JSON object.
    """
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:  # among them a number of more digits than Python reads
        raise ValueError(f"it is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"it holds a JSON value of type {type(fields).__name__}, not an object")
    return from_fields(fields)


def from_fields(fields: Mapping[str, object]) -> Metadata:
    """The metadata in some of the fields of COLUMNS, in any case; tags may be a list or one text."""
    known = {name.lower(): value for name, value in fields.items()}
    tags = _field(known, "tags")
    return Metadata(
        tags=None if tags is None else distinct(split_tags(tags)),
        caption=_lines(known, "caption")[:MAX_CAPTION_LETTERS],
        language=_text(known, "language"),
        licence=_text(known, "licence"),
    )


def _field(known: Mapping[str, object], meaning: str) -> object:
    return next((known[name] for name in COLUMNS[meaning] if known.get(name) is not None), None)


def _lines(known: Mapping[str, object], meaning: str) -> str:
    """A text, or a list of texts as its lines."""
    value = _field(known, meaning)
    if not isinstance(value, list):
        return _text(known, meaning)
    return "\n".join(" ".join(each.split()) for each in value if isinstance(each, str))


def _text(known: Mapping[str, object], meaning: str) -> str:
    value = _field(known, meaning)
    return value.strip() if isinstance(value, str) else ""


def from_caption(content: bytes) -> Metadata:
    """The metadata in a ``.txt`` member of a tar, which is a caption; raises ValueError where it is not UTF-8."""
    return Metadata(caption=_decoded(content).strip()[:MAX_CAPTION_LETTERS])


def from_sidecar(content: bytes) -> Metadata:
    """The metadata in a ``.txt`` file beside an image, tags or a caption; raises ValueError where it is not UTF-8."""
    text = _decoded(content).strip()
    if is_caption(text):
        return Metadata(caption=text[:MAX_CAPTION_LETTERS])
    return Metadata(tags=distinct(split_tags(text)))


def is_caption(text: str) -> bool:
    """Whether a text without a column name is prose: several words without separators, or a sentence.

    Prose has commas and lines too. But tags have few words, no full stop, and hardly an "a", "on" or "the".
    """
    if text.startswith("["):
        return False
    count = SeparatorCount()
    count.add([text])
    words = text.split()
    if _IDEOGRAPHIC_FULL_STOP in text:  # scripts without blanks
        return True
    if count.choose() == "blanks":
        return len(words) > 1 and not all(word.startswith(MARKS) for word in words)
    if _SENTENCE.search(text) or any(len(tag.split()) > MAX_TAG_WORDS for tag in split_tags(text)):
        return True
    function_words = sum(word.strip(".,;").lower() in english_function_words() for word in words)
    return function_words > 1 and function_words >= FUNCTION_WORD_SHARE * len(words)


def hashtags(caption: str) -> tuple[str, ...]:
    """The words that a caption marks with ``#``."""
    if not any(mark in caption for mark in MARKS):
        return ()
    import pyarrow as pa

    return distinct(posts.hashtags(pa.array([caption], pa.string()))[0].as_py())


def distinct(tags: Iterable[str]) -> tuple[str, ...]:
    """Distinct tags, without surrounding blanks and hash signs. Case stays, since it shows the words in #BrownBear.

    A tag of more than MAX_TAG_LETTERS is cut to one letter more, so that the audit can give the reason to drop it.
    """
    cleaned = (" ".join(tag.strip().lstrip("#").split()) for tag in tags)
    return tuple(dict.fromkeys(tag[: MAX_TAG_LETTERS + 1] for tag in cleaned if tag and _is_text(tag)))


def _is_text(tag: str) -> bool:
    """Whether a tag can be encoded: JSON may hold half of a surrogate pair, which cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in tag)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error}") from error
