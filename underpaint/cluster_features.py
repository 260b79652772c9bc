"""Features that the machines of a Ray cluster compute and leave in the store, for one process that writes them down.

The engine carries names and hashes of images alone: the machines share the folders of the encoder, of the images and of
the cache. Each reads the encoder once. Parts are whole batches, so features have the bits of a process with as many
threads on such a processor.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import torch
from jaxtyping import Float
from torch import Tensor

from underpaint.data.feature_store import (
    FeatureMaker,
    FeatureStore,
    Staff,
    add_part,
    image_hashes,
    read_hashed,
)
from underpaint.data.source import Folder
from underpaint.evals.feature_makers import StoredEncoder
from underpaint.preparation.engine import EngineName, open_engine, require_engine
from underpaint.progress import Progress
from underpaint.training.devices import choose_device, usable_cpus

BATCHES_OF_PART = 8
"""Batches that a worker takes at a time and writes as one file: a kill costs each worker one such part."""

_opening = threading.Lock()
"""Held while an encoder is read: the threads of a process share it."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The facts that all parts share."""

    encoder: StoredEncoder
    encoder_hash: str
    batch: int
    store: Path
    """The folder of the features, in the cache of the process that started."""
    root: Path
    """The folder of the images."""


def require_cluster(engine: EngineName, *, workers: int | None) -> None:
    """Raise ValueError for an unknown engine, one that is not installed, or one that has no use for ``workers``."""
    require_engine(engine)
    if engine == "ray" and workers is not None:
        raise ValueError(f"workers={workers} is for the processes of one machine; leave it out with engine ray")


def fill_on_ray(encoder: StoredEncoder, maker: FeatureMaker, staff: Staff, images: tuple[Path, Sequence[str]]) -> None:
    """Let the workers of Ray add the features of images that are not in the store; nothing is started if all are.

    ``images`` are a folder and paths below it; ``maker`` is the encoder's in this process, which encodes nothing.

    Raises:
        ValueError: under torchrun; if a worker does not find the same encoder, images or cache.
    """
    if staff.group.world > 1:
        raise ValueError("engine ray shares the images among its own workers; start it without torchrun")
    root, paths = images
    store, hashes = FeatureStore(maker), image_hashes(Folder(root=root), paths, root=root)
    path_of = dict(zip(hashes, paths, strict=True))
    missing = [number for number in path_of if number not in store]
    if not missing:
        return
    size = BATCHES_OF_PART * maker.batch
    pieces = (missing[start : start + size] for start in range(0, len(missing), size))
    parts = [json.dumps({number: path_of[number] for number in piece}) for piece in pieces]
    work = _Work(
        encoder=replace(encoder, folder=encoder.folder.absolute()),
        encoder_hash=maker.encoder_hash,
        batch=maker.batch,
        store=maker.folder.absolute(),
        root=root,
    )
    done = len(path_of) - len(missing)
    shown = Progress(f"Features of {root.name} on Ray", total=len(path_of), unit="images", done=done)
    with open_engine("ray") as engine, shown:
        for answer in engine.map(partial(_encode_part, work), parts):
            done += answer["images"]
            shown.update(done)
    store.look_again()
    store.require(list(path_of))


def _encode_part(work: _Work, part: str) -> dict[str, int]:
    """Encode the images of a part, paths by hash as JSON, and add them to the store; how many they are."""
    path_of: dict[str, str] = json.loads(part)
    with _opening:
        maker = _maker(work)
    read = Folder(root=work.root).read
    reads = [partial(read_hashed, read, path, number, at=f"{work.root / path}") for number, path in path_of.items()]
    add_part(work.store, maker, list(path_of), reads)
    return {"images": len(path_of)}


@functools.cache
def _maker(work: _Work) -> FeatureMaker:
    """The maker of this process, for all its threads: an encoder on each GPU, of which a batch has one for itself.

    On a CPU, where Ray gives a worker as many threads of one core each as there are cores, they share an encoder.

    Raises:
        ValueError: if the encoder is not the one of the process that started.
    """
    devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())] or [choose_device("any")]
    makers = [work.encoder.maker(device, batch=work.batch) for device in devices]
    if makers[0].encoder_hash != work.encoder_hash:
        raise ValueError(
            f"{work.encoder.folder} holds another encoder for a worker than here; the machines of the cluster must "
            f"share this folder"
        )
    free: SimpleQueue[FeatureMaker] = SimpleQueue()
    for maker in makers * (usable_cpus() if devices[0].type == "cpu" else 1):
        free.put(maker)

    def encode(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        maker = free.get()
        try:
            return maker.encode(image)
        finally:
            free.put(maker)

    return replace(makers[0], encode=encode)
