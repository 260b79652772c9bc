"""The text tower and the pairs of LiT as the planner sees them."""

from __future__ import annotations

from dataclasses import dataclass

from underpaint.costs.memory import FP32, Layer, Types, block
from underpaint.costs.work import Work
from underpaint.models.flops import block_macs
from underpaint.models.text_tower import TextConfig


@dataclass(frozen=True, kw_only=True)
class TextLayers:
    """The text tower of an objective, from token ids to features."""

    text: TextConfig
    tokens: int

    @property
    def recomputed_macs(self) -> int:
        return self.text.depth * block_macs(self.tokens, self.text.width, self.text.mlp_ratio)

    def memory(self, samples: int, types: Types) -> list[Layer]:
        text = self.text
        values = samples * self.tokens * text.width
        stem = Layer(
            parameters=("text.token_embed.", "text.pos_embed.", "text.norm."),
            saved=values * types.norm,  # input of the norm
            forward=2 * values * FP32,  # both embeddings
            # the dense gradient of the table of tokens is counted with its parameters
            backward=2 * values * FP32,
        )
        size, shape = (samples, self.tokens, text.width), (text.heads, text.mlp_ratio)
        # a post-norm block keeps what a pre-norm block does: the inputs of two norms and of all products
        return [stem, *(block(f"text.blocks.{number}.", size, shape, types) for number in range(text.depth))]

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        text = self.text
        size, shape = (samples, self.tokens, text.width), (text.heads, text.mlp_ratio)
        for _ in range(text.depth):
            work.block(size, shape, c=c)
            if again:
                work.block(size, shape, c=c, backward=False)
        work.normalised += FP32 * samples * self.tokens * text.width
        # two look-ups and their sum; on the way back the gradient of the whole table is filled
        work.added += FP32 * (4 * samples * self.tokens + text.vocabulary) * text.width


@dataclass(frozen=True, kw_only=True)
class PairLayers:
    """The projections and the loss of the pairs of one rank's batch among themselves."""

    image_width: int
    text_width: int
    width: int
    unlocked: bool

    recomputed_macs = 0

    def memory(self, samples: int, types: Types) -> list[Layer]:
        features = samples * (self.image_width + self.text_width) * types.compute
        cosines = samples * samples * FP32
        pairs = Layer(
            parameters=("encoder.norm.", "image_projection", "text_projection", "logit_"),
            # inputs of the projections, embeddings before and after their division, and of each direction the
            # logits' softmax and the target
            saved=features + 4 * samples * self.width * FP32 + 4 * cosines,
            forward=2 * cosines,
            backward=2 * cosines,
        )
        return [pairs]

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        work.linear(samples, self.image_width, self.width, c=c, passes=3 if self.unlocked else 2)
        work.linear(samples, self.text_width, self.width, c=c)
        for _ in range(2):
            work.linear(samples, self.width, samples, c=FP32)
        work.linear(samples, self.width, samples, c=FP32, passes=1)  # for the share of hits
        work.added += 12 * FP32 * samples * samples
