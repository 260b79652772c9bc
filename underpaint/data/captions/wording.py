"""Captions of an image from what is written about it: lines of text, or templates around its tags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from underpaint.data.source import Caption

LONGEST_CAPTION = 10_000
"""A text of so many letters is a document, not a caption; prepared sets cut theirs there."""
TEMPLATE_MARK = "{}"


@dataclass(frozen=True, kw_only=True)
class Wording:
    """Options for the texts of images."""

    languages: tuple[str, ...] = ()
    """Languages of the captions that are used, as they are written beside them; () uses all captions."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Sentences that tags are put into, for images without a caption; () leaves such images out."""

    def __post_init__(self) -> None:
        for template in self.templates:
            if TEMPLATE_MARK not in template:
                raise ValueError(
                    f"data.templates has {template!r}, which has no {TEMPLATE_MARK} where the tag goes, as in "
                    f"'a photo of a {TEMPLATE_MARK}.'"
                )

    def chosen(self, captions: Iterable[Caption]) -> tuple[Caption, ...]:
        """The captions of the languages asked for."""
        return tuple(caption for caption in captions if not self.languages or caption.language in self.languages)

    def made_of(self, tags: Sequence[str]) -> tuple[Caption, ...]:
        """Each tag in each template."""
        return tuple(Caption(template.replace(TEMPLATE_MARK, tag)) for tag in tags for template in self.templates)


def captions_of(text: str, language: str = "") -> tuple[Caption, ...]:
    """The distinct lines of a text that are not empty, without needless blanks.

    Raises:
        ValueError: for a text that is too long for a caption, or that cannot be encoded.
    """
    if len(text) >= LONGEST_CAPTION:  # as readers cut it
        raise ValueError(f"a caption of {len(text):,} letters or more; at most {LONGEST_CAPTION - 1:,} are read")
    lines = dict.fromkeys(" ".join(line.split()) for line in text.splitlines())
    for line in lines:
        if any("\ud800" <= letter <= "\udfff" for letter in line):
            raise ValueError(f"a caption with half of a surrogate pair: {line[:40]!a}")
    return tuple(Caption(line, language) for line in lines if line)
