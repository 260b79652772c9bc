"""Peak memory of one rank, by part: a walk over the layers of a training step, forward, back and optimizer.

It counts what torch's allocator hands out, without the context of the driver, the buffers of the communication library,
and fragmentation; devices.py has an allowance for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from underpaint.core import DataInfo, example_batch
from underpaint.costs.memory import FP32, Layer, Types
from underpaint.plan.compute import parts
from underpaint.plan.parallel_layout import Layout
from underpaint.plan.parameters import Parameters
from underpaint.run import Run

MOMENTS = {"adamw": 2, "lars": 1, "sgd": 1}
"""fp32 tensors of the optimizer for each trained parameter."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one rank: each part at its largest, and the peak of all together (not all are largest at once)."""

    weights: int
    gradients: int
    optimizer: int
    ema: int
    inputs: int
    activations: int
    casts: int  # autocast's bf16 copies of the weights
    communication: int  # FSDP's gathered blocks, their gradients and the buffers of both; DDP's buckets
    workspace: int  # passing, inside one layer
    peak: int
    moment: str  # when that is


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A layer with its parameters, in bytes."""

    shape: Layer
    gradient: int  # of this rank's share
    passing: int  # gradient of the largest parameter, before it is added or reduced
    cast: int  # autocast's copies
    recast: int  # the largest of those that are made for each product and not kept
    whole: int  # all its parameters as FSDP gathers them; 0 where nothing is sharded, as for the next two
    unreduced: int  # all its gradients before they are reduced
    reduced: int  # the same in fp32

    def kept(self, layout: Layout) -> int:
        """Bytes between its forward and its backward pass."""
        return self.shape.source if self.again(layout) else self.shape.saved

    def again(self, layout: Layout) -> bool:
        """Whether its forward pass is computed a second time."""
        return layout.checkpointing and self.shape.block

    def working(self, layout: Layout) -> int:
        """Bytes beyond what is kept, on its way back."""
        repeated = self.shape.saved - self.shape.source + self.cast if self.again(layout) else 0
        return self.shape.backward + self.passing + repeated


def memory(
    run: Run, parameters: Parameters, layout: Layout, *, microbatch: int, data_info: DataInfo, cuda: bool
) -> Memory:
    """The plan of one rank's memory for a ``microbatch`` of samples on each rank.

    Raises:
        ValueError: for an objective without a plan.
    """
    types = types_of(run, sharded=layout.shards > 1, cuda=cuda)
    tape = [
        _with_parameters(layer, parameters, types, layout)
        for part in parts(run, data_info)
        for layer in part.memory(microbatch, types)
    ]
    held = parameters.share(("",), layout.shards)
    trained, weights = held.own_trained, FP32 * held.per_rank
    fixed = {
        "weights": weights,
        "optimizer": FP32 * MOMENTS[run.optim.name] * trained,
        "ema": weights if run.ema_decay else 0,
        "inputs": inputs(run, microbatch=microbatch),
    }
    buckets = FP32 * trained if layout.kind == "ddp" else 0  # copies of the gradients, kept from step to step
    accumulates = run.budget.batch_size > microbatch * layout.ranks
    moments = _moments(tape, layout, gradients=FP32 * trained if accumulates else 0)
    moment, height = max([*moments, ("optimizer", FP32 * trained)], key=lambda each: each[1])
    gathered = [*_gathered_forward(tape), *_gathered_backward(tape)]
    return Memory(
        **fixed,
        gradients=FP32 * trained,
        activations=sum(each.kept(layout) for each in tape),
        casts=sum(each.cast for each in tape),
        communication=buckets + max(gathered),
        workspace=max(max(each.shape.forward, each.working(layout)) for each in tape),
        peak=sum(fixed.values()) + buckets + height,
        moment=moment,
    )


def types_of(run: Run, *, sharded: bool, cuda: bool) -> Types:
    """The types of a run's numbers: ``stream`` runs between the blocks, autocast on CUDA copies what norms take."""
    compute = FP32 if run.settled_precision == "fp32" else 2  # float8 keeps what bf16 does
    stream = compute if sharded else FP32
    lean = run.parallel.recompute_pointwise
    return Types(compute=compute, stream=stream, norm=stream if lean or not cuda else FP32, lean=lean)


def inputs(run: Run, *, microbatch: int) -> int:
    """Bytes of one batch on the device."""
    batch = example_batch(run.objective.inputs, microbatch, device="meta")
    return sum(value.nbytes for value in batch.values())


def _with_parameters(layer: Layer, parameters: Parameters, types: Types, layout: Layout) -> _Layer:
    share, sharded = parameters.share(layer.parameters, layout.shards), layout.shards > 1
    autocast = types.compute < FP32 and not sharded
    whole_casts = autocast and not layer.pieces
    passing = FP32 + (types.compute if whole_casts else 0)
    recast = types.compute * share.largest if whole_casts and layer.recast else 0
    return _Layer(
        shape=layer,
        gradient=FP32 * share.own_trained,
        passing=0 if sharded else passing * share.largest,
        cast=types.compute * share.matrices if whole_casts and not layer.recast else 0,
        recast=recast,
        # with the padding: all ranks send pieces of one size, also of a position embedding, whose first side is 1
        whole=types.compute * layout.shards * share.per_rank if sharded else 0,
        unreduced=types.compute * share.trained if sharded else 0,
        reduced=FP32 * layout.shards * share.own_trained if sharded else 0,
    )


def _moments(tape: Sequence[_Layer], layout: Layout, *, gradients: int) -> list[tuple[str, int]]:
    """Bytes beyond the fixed parts while each layer works; ``gradients`` are those of earlier microbatches."""
    moments: list[tuple[str, int]] = []
    kept = casts = 0
    for layer, gathered in zip(tape, _gathered_forward(tape), strict=True):
        casts += layer.cast
        working = layer.shape.graphless if layer.again(layout) else layer.shape.saved + layer.shape.forward
        working += layer.recast
        moments.append((f"forward {layer.shape.parameters[0]}", gradients + kept + casts + working + gathered))
        kept += layer.kept(layout)
    casts = sum(layer.cast for layer in tape if not layer.again(layout))
    ready = gradients
    for layer, gathered in reversed(list(zip(tape, _gathered_backward(tape), strict=True))):
        working = layer.working(layout)
        moments.append((f"backward {layer.shape.parameters[0]}", ready + kept + casts + working + gathered))
        kept -= layer.kept(layout)
        casts -= 0 if layer.again(layout) else layer.cast
        ready += 0 if gradients else layer.gradient
    return moments


def _gathered_forward(tape: Sequence[_Layer]) -> list[int]:
    """Bytes that FSDP2 holds beside the shards: the root group, a block, its buffer still, and the next block."""
    root = sum(each.whole for each in tape if not each.shape.block)
    following = [*tape[1:], None]
    return [
        root
        + sum(2 * each.whole if each is layer else each.whole for each in (layer, after) if each and each.shape.block)
        for layer, after in zip(tape, following, strict=True)
    ]


def _gathered_backward(tape: Sequence[_Layer]) -> list[int]:
    """The root group, a block, the buffer of the one before it; gradients of the block, of the root group until the
    end, and the fp32 buffer that reduces the block after it.
    """
    root = sum(each.whole for each in tape if not each.shape.block)
    sizes: list[int] = []
    unreduced = buffer = 0
    for index in reversed(range(len(tape))):
        layer, before = tape[index], tape[max(index - 1, 0)]
        gathered = layer.whole + layer.unreduced if layer.shape.block else 0
        unreduced += 0 if layer.shape.block else layer.unreduced
        sizes.append(root + gathered + (before.whole if before.shape.block else 0) + unreduced + buffer)
        if layer.shape.block:
            buffer = layer.reduced
    return sizes[::-1]
