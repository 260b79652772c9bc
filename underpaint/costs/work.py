"""Work that a microbatch asks of a processor, forward and backward, in the quantities whose rates are measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig

FP32 = 4
CALLS = 40
"""Operations of one block, views and casts included, that cost time however small the tensors are."""
DRAWS = 24
"""Passes over 8-byte numbers for each random draw of a mask: the mixing function, and a sort."""


@dataclass
class Work:
    """Operations and memory traffic of a microbatch, forward and backward."""

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

    def blocks(
        self,
        size: tuple[int, int, int],
        network: ViTConfig | DecoderConfig,
        *,
        c: int,
        again: bool,
        backward: bool = True,
    ) -> None:
        """The blocks of a network on ``size`` (samples, tokens, width); ``again`` computes each forward pass twice."""
        shape = (network.heads, network.mlp_ratio)
        for _ in range(network.depth):
            self.block(size, shape, c=c, backward=backward)
            if again and backward:
                self.block(size, shape, c=c, backward=False)
