"""The pictures of a page, as data URIs, so that it needs no second file."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from underpaint.report.folders import StudyFolder
from underpaint.results.pictures import NeighbourEntry


@dataclass(frozen=True, kw_only=True)
class Picture:
    uri: str  # "" where the file is missing
    label: str
    agrees: bool = False  # has the class of the query


@dataclass(frozen=True, kw_only=True)
class Query:
    """One test image, and what each arm holds to be nearest to it among the training images."""

    picture: Picture
    neighbours: dict[str, tuple[Picture, ...]]


@dataclass(frozen=True, kw_only=True)
class Tagged:
    uri: str
    tags: tuple[str, ...]


def data_uri(path: Path) -> str:
    """A PNG or JPEG file as text, "" where it is missing."""
    form = "jpeg" if path.suffix == ".jpg" else "png"
    return f"data:image/{form};base64,{base64.b64encode(path.read_bytes()).decode()}" if path.is_file() else ""


def read_queries(study: StudyFolder) -> list[Query]:
    """The neighbours of ``pictures.json`` by query instead of by arm: side by side they can be compared."""
    pictures: dict[str, Picture] = {}
    neighbours: dict[str, dict[str, tuple[Picture, ...]]] = {}
    for arm, queries in (study.pictures or {}).get("neighbours", {}).items():
        for query in queries:
            name, label = query["query"], query["query_label"]
            pictures.setdefault(name, Picture(uri=_uri(study, name), label=label))
            neighbours.setdefault(name, {})[arm] = tuple(
                _neighbour(study, neighbour, label) for neighbour in query["neighbours"]
            )
    return [Query(picture=picture, neighbours=neighbours[name]) for name, picture in pictures.items()]


def _neighbour(study: StudyFolder, neighbour: NeighbourEntry, query_label: str) -> Picture:
    label = neighbour["label"]
    return Picture(uri=_uri(study, neighbour["image"]), label=label, agrees=bool(label) and label == query_label)


def read_tagged(study: StudyFolder) -> list[Tagged]:
    return [
        Tagged(uri=_uri(study, entry["image"]), tags=tuple(entry["tags"]))
        for entry in (study.pictures or {}).get("tagged", ())
    ]


def leakage_sheet(study: StudyFolder) -> str:
    """The pairs of near duplicates as one picture; "" where there are none."""
    name = (study.pictures or {}).get("leakage", "")
    return _uri(study, name) if name else ""


def _uri(study: StudyFolder, name: str) -> str:
    if Path(name).name != name:
        raise ValueError(f"{study.path}/pictures/pictures.json names {name!r}; expected a file in that folder")
    return data_uri(study.path / "pictures" / name)
