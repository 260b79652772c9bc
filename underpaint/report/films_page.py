"""The page of a classifier's evaluations on videos: film strips with its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from underpaint.report.embedded_pictures import data_uri
from underpaint.report.folders import RunFolder
from underpaint.results.filmstrips import PAGE, Filmstrip, Filmstrips, Mistake, read_filmstrips

__all__ = ["PAGE", "content"]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The frames of a video and the answer for it."""

    frames: Sequence[str]  # data URIs
    path: str
    label: str
    predicted: str
    probability: float

    @property
    def right(self) -> bool:
        return self.label == self.predicted


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One evaluation with its videos."""

    dataset: str
    view: str
    right: int
    unread: int
    videos: int
    groups: Sequence[tuple[str, Sequence[Strip]]]
    mistakes: Sequence[Mistake]


def content(run: RunFolder) -> dict[str, object] | None:
    """Everything that ``templates/videos.html.j2`` shows; None without an evaluation of videos."""
    filmed = read_filmstrips(run.path)
    if not filmed:
        return None
    return {"name": run.name, "evaluations": [_shown(folder, record) for folder, record in filmed]}


def _shown(folder: Path, record: Filmstrips) -> Shown:
    drawn = [_strip(folder, strip) for strip in record["strips"] if strip["drawn"]]
    surest = [_strip(folder, strip) for strip in record["strips"] if not strip["drawn"]]
    groups = [("Drawn at random", drawn), ("The surest of the other mistakes", surest)]
    return Shown(
        dataset=record["dataset"],
        view=record["view"],
        right=record["right"],
        unread=record["unread"],
        videos=max(1, record["videos"]),
        groups=[(title, strips) for title, strips in groups if strips],
        mistakes=record["mistakes"],
    )


def _strip(folder: Path, strip: Filmstrip) -> Strip:
    for name in strip["frames"]:
        if Path(name).name != name:
            raise ValueError(f"{folder}/filmstrips.json names {name!r}; expected a file in that folder")
    return Strip(
        frames=[data_uri(folder / name) for name in strip["frames"]],
        path=strip["path"],
        label=strip["label"],
        predicted=strip["predicted"],
        probability=strip["probability"],
    )
