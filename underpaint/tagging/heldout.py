"""Images that a model has not been trained on, with their labels, and the model's probabilities of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from underpaint import config
from underpaint.data.dataset import ImageData
from underpaint.data.folders.folder_dataset import FolderDataset
from underpaint.data.open_source import open_source
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.prepared_source import prepared_source
from underpaint.data.source import Source, Split
from underpaint.evals.engine import Engine
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.tagger import SplitTagger
from underpaint.messages import counted, say
from underpaint.results.run import RUN_FILE, read_record

MOST_SCORES = 1 << 28
"""Probabilities held at once: 1 GiB of float32."""
BATCH = 64
GIVE_OTHERS = "name images with tags that it has not seen: --heldout SOURCE"


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Images of a source with names that may be labels; of exact copies there is one."""

    source: Source
    rows: tuple[int, ...]
    names: tuple[tuple[str, ...], ...]
    """The tags of each row, or its class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutScores:
    """Probabilities of the labels that stand on held-out images."""

    labels: tuple[str, ...]
    probabilities: np.ndarray
    """float32, (images, labels)."""
    positive: np.ndarray
    """bool, (images, labels)."""


def held_out(run: Path, heldout: str = "") -> HeldOut:
    """The held-out images of a run's data, or all images with tags or classes of the source ``heldout``.

    A run on the split ``pretrain`` has not seen ``heldout``, and a run on ``train`` has not seen ``test``.

    Raises:
        ValueError: if the run has no such images, or its data have changed since, and with them the splits.
    """
    if heldout:
        source = open_source(heldout)
        names = source.tags if any(source.tags) else tuple((name,) if name else () for name in source.label)
        return _usable(source, range(len(names)), names)
    data, content_hash = _data_of(run)
    opened = data.open()
    if opened.content_hash != content_hash:
        raise ValueError(
            f"{data.source} is not as it was when {run} was trained, so images that it has seen may be among the "
            f"held-out ones; {GIVE_OTHERS}"
        )
    source = (
        opened.source
        if isinstance(opened, FolderDataset)
        else prepared_source(PreparedSet(Path(data.source).expanduser()))
    )
    split: Split = "heldout" if data.split == "pretrain" else "test"
    names = source.tags if data.targets == "tags" else tuple((name,) if name else () for name in source.label)
    return _usable(source, source.rows(split), names)


def _data_of(run: Path) -> tuple[ImageData, object]:
    """The data of a run and the hash of their content when it was trained."""
    if not (run / RUN_FILE).is_file():
        raise ValueError(f"{run} is not the folder of a run, so nobody knows what was held out; {GIVE_OTHERS}")
    record = read_record(run)
    fields = record["run"].get("data")
    if not isinstance(fields, dict) or fields.get("type") != ImageData.__name__ or fields.get("targets") == "none":
        raise ValueError(f"{run} was not trained on tags or classes of images; {GIVE_OTHERS}")
    return config.from_record(ImageData, fields, where=str(run / RUN_FILE)), record["identity"].get("data")


def _usable(source: Source, rows: Sequence[int], names: Sequence[tuple[str, ...]]) -> HeldOut:
    first: dict[str, int] = {}
    for row in rows:
        if names[row]:
            first.setdefault(source.family[row], row)
    if not first:
        raise ValueError(f"no held-out image of {source.name} has a tag or a class; {GIVE_OTHERS}")
    return HeldOut(source=source, rows=tuple(first.values()), names=tuple(names[row] for row in first.values()))


def score_held_out(model: SplitTagger, images: HeldOut, engine: Engine) -> HeldOutScores:
    """The probabilities of the labels that stand on at least one of the images.

    Raises:
        ValueError: if none of them has a label of the model, or none can be read.
    """
    known = {label: column for column, label in enumerate(model.labels)}
    labels = sorted({name for names in images.names for name in names} & known.keys())
    if not labels:
        raise ValueError(f"the model knows no label of the held-out images of {images.source.name}; {GIVE_OTHERS}")
    columns = torch.tensor([known[label] for label in labels])
    most = MOST_SCORES // len(labels)
    rows, names = images.rows[:most], images.names[:most]
    loaded: Any = model
    scored = engine.scores(loaded.to(engine.device), images.source, rows, format=model.image_input, batch_size=BATCH)
    parts: list[np.ndarray] = []
    kept: list[bool] = []
    for scores, readable in scored:
        with evaluation_mode(loaded, engine.device):
            parts.append(model.probabilities_of(scores)[readable][:, columns].numpy())
        kept += readable.tolist()
    if not any(kept):
        raise ValueError(f"none of the {len(rows)} held-out images of {images.source.name} could be read")
    if unreadable := kept.count(False):
        say(f"{counted(unreadable, 'held-out image')} of {len(rows):,} could not be read: thresholds are without them")
    place = {label: column for column, label in enumerate(labels)}
    positive = np.zeros((len(rows), len(labels)), dtype=bool)
    for row, written in enumerate(names):
        positive[row, [place[name] for name in written if name in place]] = True
    return HeldOutScores(
        labels=tuple(labels),
        probabilities=np.concatenate(parts),
        positive=positive[np.array(kept)],
    )
