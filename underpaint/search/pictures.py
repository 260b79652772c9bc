"""The images to search in, of a folder, a prepared set or a collection, and their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from underpaint.data.feature_store import Staff, features_of, image_hashes, read_hashed
from underpaint.data.loader import read_encoded
from underpaint.data.open_source import is_folder_name, open_source
from underpaint.data.shards.prepared_source import is_prepared_name
from underpaint.data.source import Problem, Source
from underpaint.evals.feature_makers import encoder_maker
from underpaint.evals.text_features import Towers
from underpaint.messages import counted, say
from underpaint.training.devices import usual_workers

EXPLAINED = 20
"""Number of unreadable images whose reason is given."""
NOT_READABLE = "cannot be read"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Readable images of a source, and their embeddings."""

    source: Source
    rows: tuple[int, ...]
    """Index of each readable image in the source."""
    embedding: Float[Tensor, "n e"]
    """Length 1, float32 on the CPU."""
    unreadable: tuple[Problem, ...]

    @property
    def paths(self) -> list[str]:
        """Path of each readable image, relative to the source's root."""
        return [self.source.path[row] for row in self.rows]


def open_pictures(folder: str | Path) -> Source:
    """The images of a folder, a prepared set or a collection of the catalog.

    Raises:
        ValueError: if there are none.
    """
    name = str(folder)
    if "/" not in name and Path(name).is_dir():
        name = f"./{name}"  # a bare word would be the name of a collection
    as_written = is_folder_name(name) and not is_prepared_name(name)
    source = open_source(name, tag_rules="words" if as_written else "canonical")
    if not source.path:
        raise ValueError(f"no images in {folder}; name a folder of images or a collection")
    return source


def embed_pictures(towers: Towers, source: Source) -> Pictures:
    """Embeddings of all images; the encoder sees only those that no earlier call with the same encoder has seen.

    Raises:
        ValueError: if none can be read.
    """
    hashes = image_hashes(source.files, source.path, root=source.root)
    reads = [
        partial(read_hashed, source.files.read, path, image_hash, at=f"{source.root / path}")
        for path, image_hash in zip(source.path, hashes, strict=True)
    ]
    maker = encoder_maker(towers.model.encoder, towers.image_input, device=towers.device)
    staff = Staff(workers=usual_workers())
    features = features_of(hashes, reads, maker, name=source.name, staff=staff)
    rows = tuple(features.kept.nonzero()[:, 0].tolist())
    unreadable = (
        *_explained(source, [row for row in range(len(source.path)) if not features.kept[row]], towers),
        *(problem for problem in source.problems if problem.reason.startswith(NOT_READABLE)),
    )
    if not rows:
        raise ValueError(
            f"none of the {counted(len(source.path), 'image')} can be read; the first, {unreadable[0].key}: "
            f"{unreadable[0].reason}"
        )
    if unreadable:
        first = unreadable[0]
        say(f"{counted(len(unreadable), 'image')} left out, such as {first.key!r}: {first.reason}")
    embedding = towers.project_images(features.x[torch.tensor(rows)])
    return Pictures(source=source, rows=rows, embedding=embedding, unreadable=unreadable)


def _explained(source: Source, rows: Sequence[int], towers: Towers) -> tuple[Problem, ...]:
    """The unreadable images, the first few with the reason, for which they are read again."""
    paths = [source.path[row] for row in rows]
    format = towers.image_input
    _, reasons = read_encoded([partial(source.files.read, path) for path in paths[:EXPLAINED]], format=format)
    reasons += [NOT_READABLE] * (len(paths) - len(reasons))
    return tuple(Problem(key=path, reason=why or NOT_READABLE) for path, why in zip(paths, reasons, strict=True))
