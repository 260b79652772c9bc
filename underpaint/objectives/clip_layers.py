"""The parts of a classifier of clips below its head, as the planner sees them."""

from __future__ import annotations

from dataclasses import dataclass

from underpaint.costs.memory import FP32, Layer, Types, frozen, relative_block
from underpaint.costs.work import Work
from underpaint.models.video import ClipConfig
from underpaint.models.video_flops import space_time_block_macs
from underpaint.models.vit import ViTConfig


@dataclass(frozen=True, kw_only=True)
class ClipLayers:
    """Tubelet embedding and blocks of an inflated ViT in ``encoder`` of the objective."""

    encoder: ViTConfig
    clip: ClipConfig
    trained: bool
    drop_path: bool

    @property
    def tubelets(self) -> int:
        """Tokens of a clip without cls."""
        return self.clip.tubelets * self.encoder.num_patches

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.clip.tubelets, *self.encoder.grid

    @property
    def recomputed_macs(self) -> int:
        return self.encoder.depth * space_time_block_macs(self.encoder, self.clip) if self.trained else 0

    def memory(self, samples: int, types: Types) -> list[Layer]:
        encoder, c, places = self.encoder, types.compute, samples * (1 + self.tubelets)
        tokens = places * encoder.width
        stem = Layer(
            parameters=("encoder.cls_token", "encoder.pos_embed", "encoder.time_pos_embed", "encoder.patch_embed."),
            saved=samples * self.clip.frames * encoder.num_patches * encoder.patch_values * c if c < FP32 else 0,
            forward=tokens * (types.stream + c),
            backward=2 * tokens * types.stream,
        )
        blocks = [
            relative_block(
                f"encoder.blocks.{number}.",
                (places, places),
                (encoder.width, encoder.heads, encoder.mlp_ratio),
                types,
                further=encoder.heads * sum(self.grid),
                tables=3,
                drop_path=self.drop_path,
            )
            for number in range(encoder.depth)
        ]
        return [stem, *blocks] if self.trained else frozen([stem, *blocks])

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        encoder, d, passes = self.encoder, self.encoder.width, 2 if self.trained else 1
        inside = encoder.patch_values * self.clip.tubelet
        work.linear(samples * self.tubelets, inside, d, c=c, passes=passes)
        for _ in range(encoder.depth):
            for backward in ((True, False) if again else (True,)) if self.trained else (False,):
                self._add_block(work, samples, c=c, backward=backward)

    def _add_block(self, work: Work, samples: int, *, c: int, backward: bool) -> None:
        encoder, d, passes = self.encoder, self.encoder.width, 3 if backward else 1
        rows, heads = samples * (1 + self.tubelets), encoder.heads
        for inside, outside in ((d, 3 * d), (d, d), (d, encoder.mlp_ratio * d), (encoder.mlp_ratio * d, d)):
            work.linear(rows, inside, outside, c=c, passes=passes)
        work.linear(samples * self.tubelets * heads, d // heads, sum(self.grid), c=c, passes=passes)
        channels = d // heads + sum(self.grid)
        pairs = rows * (1 + self.tubelets) * heads * channels
        work.attention.append(((14.0 if backward else 4.0) * pairs, channels))
