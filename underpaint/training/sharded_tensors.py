"""Which part of a tensor this rank holds, and how whole tensors come in and out of the parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, distributed

from underpaint.training.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class Region(NamedTuple):
    """A box inside a whole tensor."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements."""
        return torch.Size(self.shape).numel()

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(start, start + length) for start, length in zip(self.offset, self.shape, strict=True))

    def within(self, outer: Region) -> Region:
        """The same box, counted from the corner of another that holds it."""
        return Region(tuple(a - b for a, b in zip(self.offset, outer.offset, strict=True)), self.shape)

    def overlap(self, region: Region) -> Region:
        """Intersection of both regions; of size 0 where they are apart."""
        low = tuple(max(a, b) for a, b in zip(self.offset, region.offset, strict=True))
        high = tuple(
            min(a + m, b + n) for a, m, b, n in zip(self.offset, self.shape, region.offset, region.shape, strict=True)
        )
        return Region(low, tuple(max(0, end - start) for start, end in zip(low, high, strict=True)))


def sharded(tensor: Tensor) -> DTensor | None:
    """The tensor as one that lies on several ranks, or None for a plain one.

    A process that is alone has none, and does not spend the second that importing the class takes.
    """
    if not distributed.is_initialized():
        return None
    from torch.distributed.tensor import DTensor

    return tensor if isinstance(tensor, DTensor) else None


def region(tensor: Tensor) -> Region:
    """The box of the whole tensor that this rank holds: all of it, unless it is sharded."""
    spread = sharded(tensor)
    if spread is None:
        return Region((0,) * tensor.ndim, tuple(tensor.shape))
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(spread.shape, spread.device_mesh, spread.placements)
    return Region(tuple(offset), tuple(shape))


def local(tensor: Tensor) -> Tensor:
    """The values this rank holds; changing them in place changes the tensor."""
    spread = sharded(tensor)
    return tensor if spread is None else spread.to_local()


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, on every rank; all ranks must call it."""
    spread = sharded(tensor)
    return tensor if spread is None else spread.full_tensor()


def is_owner(tensor: Tensor, ranks: Ranks) -> bool:
    """Whether this rank is the one that writes its part: of equal copies, the first."""
    spread = sharded(tensor)
    if spread is None:
        return ranks.first
    coordinate = spread.device_mesh.get_coordinate()
    assert coordinate is not None, "a rank outside of the mesh of its own tensor"
    return all(at == 0 for at, placed in zip(coordinate, spread.placements, strict=True) if placed.is_replicate())


@torch.no_grad()
def fill(tensor: Tensor, values: Tensor) -> None:
    """Copy a whole tensor, or this rank's part of it, into place."""
    assert tensor.shape == values.shape, (tensor.shape, values.shape)
    local(tensor).copy_(values[region(tensor).slices])


@torch.no_grad()
def like(tensor: Tensor, part: Tensor) -> Tensor:
    """A tensor that lies on the ranks as another does, with this rank's part given."""
    spread, part = sharded(tensor), part.to(tensor.device)
    if spread is None:
        return part
    return spread.from_local(
        part, spread.device_mesh, spread.placements, run_check=False, shape=spread.shape, stride=spread.stride()
    )


@torch.no_grad()
def gather(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """The whole tensors, on the CPU of rank 0; nothing on the others, who must take part."""
    gathered = {}
    for name, value in tensors.items():
        values = whole(value)
        if ranks.first:
            gathered[name] = values.cpu()
    return gathered
