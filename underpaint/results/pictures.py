"""The fields of ``pictures/pictures.json``: which pictures a study drew, and of what."""

from __future__ import annotations

from typing import NotRequired, TypedDict

PICTURES_FILE = "pictures/pictures.json"


class NeighbourEntry(TypedDict):
    """An image that is near to a query."""

    image: str
    label: str


class QueryEntry(TypedDict):
    """A test image, and what an arm holds to be nearest to it."""

    query: str
    query_label: str
    neighbours: list[NeighbourEntry]


class TaggedEntry(TypedDict):
    """An image with its tags."""

    image: str
    tags: list[str]


class TagCount(TypedDict):
    """Number of images that carry a tag."""

    tag: str
    count: int


class PicturesEntry(TypedDict):
    """The content of ``pictures.json``; every ``image`` is a file beside it."""

    format: int
    neighbours: NotRequired[dict[str, list[QueryEntry]]]  # by arm
    tagged: NotRequired[list[TaggedEntry]]
    frequent_tags: NotRequired[list[TagCount]]
    leakage: NotRequired[str]  # the picture of near duplicates
