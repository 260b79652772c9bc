"""Names of tensors without what training code puts before them: ``module._orig_mod.encoder.blocks.0...``."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from underpaint.models.pieces import Derived, Tensors

INSIDE = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts that torch.compile, FSDP and activation checkpointing insert anywhere in a tensor's name."""
BEFORE = {"module", "model", "encoder", "backbone"}
"""Parts that distributed training, or a network around the encoder, puts at the start of a tensor's name."""
FIRST_LAYERS = (
    ("patch_embed", "proj", "weight"),
    ("conv_proj", "weight"),
    ("embeddings", "patch_embeddings", "projection", "weight"),
)
"""The layer that every ViT has once, in the namings of timm, torchvision and transformers."""

Parts = tuple[str, ...]
"""A tensor's name, split at its dots."""


def unwrapped(tensors: Tensors, where: str) -> Tensors:
    """The tensors under the names that they have in the network itself.

    Names that stand behind a wrapper of the ViT's first layer lose it; those beside it, such as a classifier's, lose
    what they share with it. A file without such a layer loses what all its names share.

    Raises:
        ValueError: if two tensors would have one name.
    """
    parts = {name: tuple(part for part in name.split(".") if part not in INSIDE) for name in tensors.info}
    wrapper = _wrapper(parts.values())
    theirs: dict[str, str] = {}
    for name, path in parts.items():
        plain = ".".join(path[_shared(path, wrapper) :])
        if plain in theirs:
            raise ValueError(f"{where} holds both {theirs[plain]} and {name}; save the state dict of one network alone")
        theirs[plain] = name
    info = {plain: tensors.info[name] for plain, name in theirs.items()}
    return Derived(info, lambda plain: tensors.read(theirs[plain]))


def _wrapper(paths: Iterable[Parts]) -> Parts:
    """The leading parts of the names that belong to a wrapper and not to the network."""
    paths = list(paths)
    first_layers = [path for path in paths if any(path[-len(layer) :] == layer for layer in FIRST_LAYERS)]
    if first_layers:
        return max((_leading(path) for path in first_layers), key=len)
    wrapper = _leading(paths[0]) if paths else ()
    return wrapper[: min((_shared(path, wrapper) for path in paths), default=0)]


def _leading(path: Parts) -> Parts:
    return tuple(takewhile(lambda part: part in BEFORE, path[:-1]))


def _shared(path: Parts, wrapper: Parts) -> int:
    """The number of leading parts that a name shares with the wrapper."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(path, wrapper, strict=False))))
