"""One check of a network's input, so that a wrong layout or type has a message before torch fails somewhere inside."""

from __future__ import annotations

import torch
from torch import Tensor


def require_input(given: object, expected: dict[str, int], *, like: Tensor, name: str, fix: str) -> None:
    """Refuse a tensor that is not a batch of what a network takes.

    ``expected`` has the size of each axis after the batch, ``c``, ``h`` and ``w`` for images, and ``like`` is a weight
    that meets the input. ``fix`` is said where the shape tells no nearer one.

    Raises:
        ValueError: with the shape and type that were given, those that are expected, and the fix.
    """
    sizes = tuple(expected.values())
    if isinstance(given, Tensor) and tuple(given.shape[1:]) == sizes and _fits(given, like):
        return
    if isinstance(given, Tensor):
        fix = _nearer_fix(given, expected, like=like, name=name) or fix
        what = f"of shape {tuple(given.shape)} and type {_name(given)}"
    else:
        what = f"of type {type(given).__name__}"
    shape = ", ".join(map(str, sizes))
    raise ValueError(f"{name} {what}, but this encoder takes normalised floats (b, {shape}); {fix}")


def _fits(given: Tensor, like: Tensor) -> bool:
    """Whether the types can be multiplied, under autocast where it is on."""
    if given.dtype == like.dtype:
        return True
    device = given.device.type
    cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return cast and given.is_floating_point() and given.dtype != torch.float64  # which autocast leaves as it is


def _nearer_fix(given: Tensor, expected: dict[str, int], *, like: Tensor, name: str) -> str:
    """The way to make a batch of this very tensor; "" if its shape tells none."""
    shape, sizes, axes = tuple(given.shape), tuple(expected.values()), [*expected]
    if shape[1:] == sizes:
        return f"use {name}.to(torch.{_name(like)})" if given.is_floating_point() else ""
    if shape == sizes:
        return f"this is one {name}: {name}[None] is a batch of one"
    if len(shape) != 1 + len(sizes):
        return ""
    others = [axis for axis in axes if axis != "c"]
    for place in range(1, len(axes)):
        order = [*others[:place], "c", *others[place:]]
        if shape[1:] == tuple(expected[axis] for axis in order):
            back = ", ".join(str(1 + order.index(axis)) for axis in axes)
            where = "last" if order[-1] == "c" else f"axis {1 + place}"
            return f"the channels are {where}: use {name}.permute(0, {back})"
    return ""


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
