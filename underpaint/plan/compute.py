"""The time of a training step on a measured processor: a roofline of products, attention and what memory bounds.

Products run at the measured rate of a square product of the same volume, attention at its own rate, and the rest at
the measured bandwidth of the operation. Reading images is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.objectives.scores import is_chunked
from underpaint.plan.parameters import Parameters
from underpaint.plan.rates import Calibration
from underpaint.run import Run

FP32 = 4
CALLS = 40
"""Operations of one block, views and casts included, that cost time however small the tensors are."""
DRAWS = 24
"""Passes over 8-byte numbers for each random draw of a mask: the mixing function, and a sort."""


@dataclass
class Work:
    """What a microbatch asks of the processor, forward and backward."""

    products: list[tuple[float, float]] = field(default_factory=list)  # FLOPs, and the side of the cube they fill
    attention: list[tuple[float, float]] = field(default_factory=list)  # FLOPs, and the width of a head
    added: float = 0.0  # bytes of results of pointwise operations
    reduced: float = 0.0  # bytes summed over rows
    gelu: float = 0.0
    normalised: float = 0.0
    calls: float = 0.0  # operations, each with its way back

    def linear(self, rows: int, inside: int, outside: int, *, c: int, passes: int = 3) -> None:
        """A linear layer: one product forward and, with 3 passes, two backward; its bias is copied and summed."""
        flops = 2.0 * rows * inside * outside
        self.products += [(flops, (rows * inside * outside) ** (1 / 3))] * passes
        moved = rows * outside  # written once where an addition moves three times as much
        moved += inside * outside * passes  # weights come from memory once for each product; their gradients go there
        if passes > 1:
            moved += inside * outside
            self.reduced += rows * outside * c
        self.added += moved * c / 3

    def block(self, size: tuple[int, int, int], shape: tuple[int, int], *, c: int, backward: bool = True) -> None:
        """A transformer block on ``size`` (samples, tokens, width) with ``shape`` (heads, MLP ratio)."""
        (b, n, d), (heads, ratio) = size, shape
        rows, passes = b * n, 3 if backward else 1
        for inside, outside in ((d, 3 * d), (d, d), (d, ratio * d), (ratio * d, d)):
            self.linear(rows, inside, outside, c=c, passes=passes)
        self.calls += CALLS if backward else CALLS / 3
        self.attention.append(((14.0 if backward else 4.0) * b * n * n * d, d / heads))  # two products, and five back
        self._pointwise(rows, d, ratio, backward=backward)

    def cross_block(
        self, size: tuple[int, int, int, int], decoder: DecoderConfig, *, c: int, backward: bool = True
    ) -> None:
        """A block of a cross decoder on ``size`` (samples, tokens that read, tokens that are read, width)."""
        b, m, n, d = size
        passes, ratio = 3 if backward else 1, decoder.mlp_ratio
        for rows, inside, outside in (
            (b * m, d, d),
            (b * n, d, 2 * d),
            (b * m, d, d),
            (b * m, d, ratio * d),
            (b * m, ratio * d, d),
        ):
            self.linear(rows, inside, outside, c=c, passes=passes)
        self.calls += CALLS if backward else CALLS / 3
        self.attention.append(((14.0 if backward else 4.0) * b * m * n * d, d / decoder.heads))
        self._pointwise(b * m, d, ratio, backward=backward)

    def _pointwise(self, rows: int, d: int, ratio: int, *, backward: bool) -> None:
        share = 1.0 if backward else 0.4
        self.gelu += share * rows * ratio * d * FP32
        self.normalised += share * 2 * rows * d * FP32
        # two residual sums, and two sums of gradients
        self.added += rows * d * FP32 * (2 + (2 if backward else 0))


def work(run: Run, *, microbatch: int, labels: int, checkpointing: bool) -> Work:
    """What a forward and backward pass of a microbatch asks for.

    Raises:
        ValueError: for an objective other than MAE and classification.
    """
    found, c = Work(), FP32 if run.precision == "fp32" else 2
    objective = run.objective
    if isinstance(objective, MAEConfig):
        _mae(found, objective, microbatch, c, again=checkpointing)
    elif isinstance(objective, ClassifyConfig):
        _classify(found, objective, microbatch, c, labels=labels, again=checkpointing)
    else:
        raise ValueError(f"no plan for objective {type(objective).__name__}; MAEConfig and ClassifyConfig have one")
    return found


def _mae(found: Work, config: MAEConfig, images: int, c: int, *, again: bool) -> None:
    encoder, decoder, kept, decoded = config.encoder, config.decoder, config.num_kept, config.num_decoded
    b, d = images * config.masks_per_image, decoder.width
    whole = 1 + kept + decoded
    trained, size = not config.frozen_encoder, (b, 1 + kept, encoder.width)
    found.linear(b * kept, encoder.patch_values, encoder.width, c=c, passes=2 if trained else 1)
    _blocks(found, size, encoder, c=c, again=again, backward=trained)
    found.linear(b * (1 + kept), encoder.width, d, c=c, passes=3 if trained else 2)
    if decoder.cross:
        for _ in range(decoder.depth):
            found.cross_block((b, decoded, 1 + kept, d), decoder, c=c)
            if again:
                found.cross_block((b, decoded, 1 + kept, d), decoder, c=c, backward=False)
    else:
        _blocks(found, (b, whole, d), decoder, c=c, again=again)
    found.linear(b * decoded, d, encoder.patch_values, c=c)
    found.normalised += FP32 * b * ((1 + kept) * encoder.width + decoded * d)
    # patches gathered and normalised, the loss and its gradient, the share of flat patches
    found.added += FP32 * b * (2 * (kept + decoded) + 8 * decoded) * encoder.patch_values
    found.added += FP32 * b * (2 * (1 + kept) * encoder.width + 3 * whole * d)  # positions, tokens put together
    found.added += 8 * b * encoder.num_patches * DRAWS


def _classify(found: Work, config: ClassifyConfig, b: int, c: int, *, labels: int, again: bool) -> None:
    encoder, trained = config.encoder, not config.frozen_encoder
    size = (b, 1 + encoder.num_patches, encoder.width)
    found.linear(b * encoder.num_patches, encoder.patch_values, encoder.width, c=c, passes=2 if trained else 1)
    _blocks(found, size, encoder, c=c, again=again, backward=trained)
    again_scored = 1 if is_chunked(b, encoder.width, labels, casts=c < FP32) else 0
    found.linear(b, encoder.width, labels, c=c, passes=(3 if trained else 2) + again_scored)
    found.normalised += FP32 * b * size[1] * encoder.width
    found.added += (
        FP32 * b * (8 * labels + 4 * size[1] * encoder.width + 2 * encoder.num_patches * encoder.patch_values)
    )


def _blocks(
    found: Work,
    size: tuple[int, int, int],
    network: ViTConfig | DecoderConfig,
    *,
    c: int,
    again: bool,
    backward: bool = True,
) -> None:
    shape = (network.heads, network.mlp_ratio)
    for _ in range(network.depth):
        found.block(size, shape, c=c, backward=backward)
        if again and backward:
            found.block(size, shape, c=c, backward=False)


def measured_seconds(work: Work, rates: Calibration, precision: str) -> float:
    """Seconds of one microbatch."""
    return (
        sum(flops / rates.matmul_rate(precision, side) for flops, side in work.products)
        + sum(flops / rates.attention_rate(precision, width) for flops, width in work.attention)
        + work.added / rates.add
        + work.reduced / rates.reduction
        + work.gelu / rates.gelu
        + work.normalised / rates.layer_norm
        + work.calls / rates.call
    )


def update_seconds(parameters: Parameters, rates: Calibration, *, clipped: bool) -> float:
    """Seconds of one optimizer step: the norm of the gradients, clipping, AdamW."""
    size = FP32 * parameters.trained
    return size / rates.adamw + size / rates.reduction + (size / rates.add if clipped else 0.0)
