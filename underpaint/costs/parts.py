"""The parts of a network as the planner sees them: an objective's config lists its own in ``layers(data_info)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from underpaint.core import DataInfo
from underpaint.costs.memory import FP32, Layer, Types, block, frozen
from underpaint.costs.work import Work
from underpaint.models.flops import block_macs
from underpaint.models.vit import ViTConfig


@runtime_checkable
class Part(Protocol):
    """A stretch of a network, in the order of its forward pass."""

    @property
    def recomputed_macs(self) -> int:
        """Multiply-adds of one sample's second forward pass through the blocks, under activation checkpointing."""
        ...

    def memory(self, samples: int, types: Types) -> list[Layer]:
        """Its layers, for a forward and backward pass of so many samples."""
        ...

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        """Add what it asks for; ``c`` bytes a number in products, ``again`` with activation checkpointing."""
        ...


@runtime_checkable
class HasLayers(Protocol):
    """An objective's config that the planner can plan."""

    def layers(self, data_info: DataInfo) -> Sequence[Part]: ...


@dataclass(frozen=True, kw_only=True)
class EncoderLayers:
    """Patch embedding and blocks of a ViT in ``encoder`` of the objective."""

    encoder: ViTConfig
    kept: int | None = None  # patches of each image that are gathered and embedded (MAE); None embeds all of them
    masks: int = 1  # times that each image is encoded, with another choice of patches
    trained: bool = True
    drop_path: bool = False
    trained_blocks: int | None = None  # the last blocks alone are trained, so many; None trains everything

    @property
    def _locked(self) -> int:
        """Blocks without a backward pass."""
        depth = self.encoder.depth
        return depth - (self.trained_blocks if self.trained_blocks is not None else depth if self.trained else 0)

    @property
    def patches(self) -> int:
        return self.encoder.num_patches if self.kept is None else self.kept

    @property
    def recomputed_macs(self) -> int:
        macs = block_macs(1 + self.patches, self.encoder.width, self.encoder.mlp_ratio)
        return self.masks * (self.encoder.depth - self._locked) * macs

    def memory(self, samples: int, types: Types) -> list[Layer]:
        encoder, size = self.encoder, (samples * self.masks, 1 + self.patches, self.encoder.width)
        shape = (encoder.heads, encoder.mlp_ratio)
        layers = [
            self._stem(samples * self.masks, types),
            *(
                block(f"encoder.blocks.{number}.", size, shape, types, drop_path=self.drop_path)
                for number in range(encoder.depth)
            ),
        ]
        if self.trained and self.trained_blocks is None:
            return layers
        return [*frozen(layers[: 1 + self._locked]), *layers[1 + self._locked :]]

    def _stem(self, b: int, types: Types) -> Layer:
        encoder, c = self.encoder, types.compute
        tokens = b * (1 + self.patches) * encoder.width
        pixels = b * self.patches * encoder.patch_values
        names = ("encoder.cls_token", "encoder.pos_embed", "encoder.patch_embed.")
        if self.kept is None:
            saved = pixels * c if c < FP32 else 0  # else the batch itself
            return Layer(
                parameters=names, saved=saved, forward=tokens * (types.stream + c), backward=2 * tokens * types.stream
            )
        everything = b * encoder.num_patches * encoder.patch_values * FP32
        # all pixels patch by patch, those of the kept patches, and for several masks the images once more for each
        gathered = everything + pixels * FP32 + (everything if self.masks > 1 else 0)
        return Layer(
            parameters=names,
            saved=pixels * c,
            forward=gathered + 2 * b * self.kept * encoder.width * types.stream,
            backward=2 * tokens * types.stream,
        )

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        b, encoder = samples * self.masks, self.encoder
        passes = 2 if self.trained and self.trained_blocks is None else 1
        work.linear(b * self.patches, encoder.patch_values, encoder.width, c=c, passes=passes)
        size = (b, 1 + self.patches, encoder.width)
        if self._locked:
            work.blocks(size, replace(encoder, depth=self._locked), c=c, again=again, backward=False)
        if self._locked < encoder.depth:
            work.blocks(size, replace(encoder, depth=encoder.depth - self._locked), c=c, again=again)
