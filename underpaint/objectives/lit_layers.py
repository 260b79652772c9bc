"""The text tower and the pairs of LiT as the planner sees them."""

from __future__ import annotations

from dataclasses import dataclass

from underpaint.costs.memory import FP32, Layer, Types, block, frozen
from underpaint.costs.work import Work
from underpaint.models.flops import block_macs, ngram_macs
from underpaint.models.ngram_tower import CONVOLUTIONS, ORDERS, NgramConfig
from underpaint.models.text_tower import TextConfig


def text_layers(text: TextConfig | NgramConfig, tokens: int, *, locked: bool) -> TextLayers | NgramLayers:
    """The layers of a text tower, from token ids to features."""
    if isinstance(text, NgramConfig):
        return NgramLayers(text=text, tokens=tokens, locked=locked)
    return TextLayers(text=text, tokens=tokens, locked=locked)


@dataclass(frozen=True, kw_only=True)
class TextLayers:
    """A transformer for texts."""

    text: TextConfig
    tokens: int
    locked: bool = False

    @property
    def recomputed_macs(self) -> int:
        return 0 if self.locked else self.text.depth * block_macs(self.tokens, self.text.width, self.text.mlp_ratio)

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
        layers = [stem, *(block(f"text.blocks.{number}.", size, shape, types) for number in range(text.depth))]
        return frozen(layers) if self.locked else layers

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        text = self.text
        size, shape = (samples, self.tokens, text.width), (text.heads, text.mlp_ratio)
        for _ in range(text.depth):
            work.block(size, shape, c=c, backward=not self.locked)
            if again and not self.locked:
                work.block(size, shape, c=c, backward=False)
        work.normalised += FP32 * samples * self.tokens * text.width
        # two look-ups and their sum; on the way back the gradient of the whole table is filled
        filled = 0 if self.locked else text.vocabulary
        work.added += FP32 * (4 * samples * self.tokens + filled) * text.width


@dataclass(frozen=True, kw_only=True)
class NgramLayers:
    """A tower of n-grams, whose embeddings have no gradient."""

    text: NgramConfig
    tokens: int
    locked: bool = False

    @property
    def recomputed_macs(self) -> int:
        return 0 if self.locked else self.tokens * ngram_macs(self.text)

    def memory(self, samples: int, types: Types) -> list[Layer]:
        text, tokens, c = self.text, samples * self.tokens, types.compute
        branches = len(ORDERS) * text.branch
        stem = Layer(
            parameters=("text.stem.", "text.stem_norm."),
            saved=tokens * (text.width * (FP32 + c % FP32) + branches * types.norm),
            forward=2 * tokens * text.width * FP32,
            backward=2 * tokens * branches * FP32,
        )
        # of each convolution its padded input, the input without what is outside of the text, and the sign of ReLU
        ngrams = Layer(
            parameters=("text.blocks.",),
            saved=CONVOLUTIONS * tokens * branches * (2 * c + FP32),
            forward=3 * tokens * text.branch * FP32,
            backward=3 * tokens * text.branch * FP32,
            source=tokens * branches * types.stream,
            block=True,
        )
        mlp = Layer(
            parameters=("text.norm.", "text.proj.", "text.fc", "text.skip"),
            saved=tokens * text.joined * (types.norm + FP32) + samples * (4 * text.width + 3 * text.hidden) * FP32,
            forward=2 * tokens * text.joined * FP32,
            backward=2 * tokens * text.joined * FP32,
        )
        layers = [stem, ngrams, mlp]
        return frozen(layers) if self.locked else layers

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        text, tokens, passes = self.text, samples * self.tokens, 1 if self.locked else 3
        branches = len(ORDERS) * text.branch
        work.linear(tokens, text.width, branches, c=c, passes=min(passes, 2))
        for order in ORDERS * CONVOLUTIONS:
            work.linear(tokens, order * text.branch, text.branch, c=c, passes=passes + (again and not self.locked))
        work.linear(samples, text.joined, text.width, c=c, passes=passes)
        for inside, outside in (
            (text.width, text.hidden),
            (text.hidden, text.hidden),
            (text.width, text.hidden),
            (text.hidden, text.width),
            (text.width, text.width),
            (text.hidden, text.width),
        ):
            work.linear(samples, inside, outside, c=c, passes=passes)
        share = 1.0 if passes > 1 else 0.4
        work.normalised += share * FP32 * tokens * (branches + text.joined)
        # look-up, scale and lowest value; of each convolution mask, padding, ReLU and sum
        work.added += FP32 * tokens * (3 * text.width + text.joined + 4 * passes * CONVOLUTIONS * branches)


@dataclass(frozen=True, kw_only=True)
class PairLayers:
    """The projections and the loss of the pairs of one rank's batch among themselves."""

    image_width: int
    text_width: int
    width: int
    unlocked: bool  # the image tower has trained blocks
    locked_text: bool = False

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
        work.linear(samples, self.text_width, self.width, c=c, passes=2 if self.locked_text else 3)
        for _ in range(2):
            work.linear(samples, self.width, samples, c=FP32)
        work.linear(samples, self.width, samples, c=FP32, passes=1)  # for the share of hits
        work.added += 12 * FP32 * samples * samples
