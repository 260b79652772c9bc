"""The parts of MAE and of classification that stand above the encoder, as the planner sees them."""

from __future__ import annotations

from dataclasses import dataclass

from underpaint.costs.memory import FP32, Layer, Types, block, cross_block
from underpaint.costs.work import DRAWS, Work
from underpaint.models.flops import decoder_block_macs
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.scores import chunk_of, is_chunked


@dataclass(frozen=True, kw_only=True)
class MAEDecoderLayers:
    """Layers from the encoder's tokens to the loss of the hidden patches."""

    encoder: ViTConfig
    decoder: DecoderConfig
    kept: int  # patches of each image that the encoder sees
    decoded: int  # hidden patches of each image that are predicted
    masks: int = 1
    trained_encoder: bool = True

    @property
    def recomputed_macs(self) -> int:
        return self.masks * self.decoder.depth * decoder_block_macs(self.decoder, self.kept, self.decoded)

    def memory(self, samples: int, types: Types) -> list[Layer]:
        encoder, decoder, b = self.encoder, self.decoder, samples * self.masks
        d, c = decoder.width, types.compute
        shown, predicted = b * (1 + self.kept), b * self.decoded
        whole = predicted if decoder.cross else shown + predicted  # what goes through the decoder's blocks
        pixels = predicted * encoder.patch_values
        # until the loss is there, the images stand in memory again, once for every mask
        again = b * encoder.num_patches * encoder.patch_values * FP32 if self.masks > 1 else 0
        bridge = Layer(
            parameters=("encoder.norm.", "decoder.decoder_embed.", "decoder.mask_token", "decoder.decoder_pos_embed"),
            # input of the norm, input of the projection
            saved=shown * encoder.width * ((types.norm if self.trained_encoder else 0) + c),
            backward=2 * shown * encoder.width * types.norm + (shown + predicted) * d * types.stream,
        )
        prediction = Layer(
            parameters=("decoder.decoder_norm.", "decoder.decoder_pred."),
            # input of the norm, input of the projection, and prediction minus target
            saved=whole * d * types.norm + predicted * d * c + pixels * FP32,
            forward=pixels * (c + 4 * FP32) + again,  # prediction, true pixels in two orders, target, square
            backward=pixels * 3 * FP32,
        )
        names = [f"decoder.decoder_blocks.{number}." for number in range(decoder.depth)]
        if decoder.cross:
            return [bridge, *(cross_block(name, (predicted, shown, d), decoder, types) for name in names), prediction]
        size, shape = (b, 1 + self.kept + self.decoded, d), (decoder.heads, decoder.mlp_ratio)
        return [bridge, *(block(name, size, shape, types) for name in names), prediction]

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        encoder, decoder, b = self.encoder, self.decoder, samples * self.masks
        kept, decoded, d = self.kept, self.decoded, decoder.width
        whole = 1 + kept + decoded
        work.linear(b * (1 + kept), encoder.width, d, c=c, passes=3 if self.trained_encoder else 2)
        if decoder.cross:
            for backward in (True, False) if again else (True,):
                for _ in range(decoder.depth):
                    work.cross_block((b, decoded, 1 + kept, d), decoder, c=c, backward=backward)
        else:
            work.blocks((b, whole, d), decoder, c=c, again=again)
        work.linear(b * decoded, d, encoder.patch_values, c=c)
        work.normalised += FP32 * b * ((1 + kept) * encoder.width + decoded * d)
        # patches gathered and normalised, the loss and its gradient, the share of flat patches
        work.added += FP32 * b * (2 * (kept + decoded) + 8 * decoded) * encoder.patch_values
        work.added += FP32 * b * (2 * (1 + kept) * encoder.width + 3 * whole * d)  # positions, tokens put together
        work.added += 8 * b * encoder.num_patches * DRAWS


@dataclass(frozen=True, kw_only=True)
class HeadLayers:
    """The encoder's final norm, one linear head on the pooled tokens, and the loss of its scores."""

    encoder: ViTConfig
    labels: int
    trained_encoder: bool = True
    tokens: int | None = None  # of a sample, cls among them; None is those of an image
    norms_mean: bool = False  # the norm is of the mean of the tokens, not of all tokens

    recomputed_macs = 0

    @property
    def _tokens(self) -> int:
        return 1 + self.encoder.num_patches if self.tokens is None else self.tokens

    def memory(self, samples: int, types: Types) -> list[Layer]:
        b, d, c = samples, self.encoder.width, types.compute
        features = b * self._tokens * d
        if self.norms_mean:
            return [self._head_on_mean(samples, types)]
        view = features if types.norm == c else 0  # the head's input is a view of all tokens, unless a bf16 copy
        pieces = is_chunked(b, d, self.labels, casts=c < types.stream)
        kept, forward, backward = _scores(b, d, self.labels, c, pieces=pieces)
        normed = features * types.norm if self.trained_encoder else 0
        head = Layer(
            parameters=("encoder.norm.", "fc_norm.", "batch_norm.", "head."),
            saved=normed + (view or b * d) * c + kept,
            forward=2 * features * types.norm + forward,
            backward=max(2 * normed, backward),
            pieces=pieces,
        )
        return [head]

    def _head_on_mean(self, b: int, types: Types) -> Layer:
        """The head on one feature a sample; on the way back it becomes the gradient of all tokens, and with cls."""
        d, c = self.encoder.width, types.compute
        kept, forward, backward = _scores(
            b, d, self.labels, c, pieces=is_chunked(b, d, self.labels, casts=c < types.stream)
        )
        spread = 2 * b * self._tokens * d * types.stream if self.trained_encoder else 0
        return Layer(
            parameters=("encoder.norm.", "fc_norm.", "batch_norm.", "head."),
            saved=b * d * (types.norm + c) + kept,
            forward=2 * b * d * types.norm + forward,
            backward=max(spread, backward),
            pieces=is_chunked(b, d, self.labels, casts=c < types.stream),
        )

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        b, encoder, tokens = samples, self.encoder, self._tokens
        scored_again = 1 if is_chunked(b, encoder.width, self.labels, casts=c < FP32) else 0
        passes = (3 if self.trained_encoder else 2) + scored_again
        work.linear(b, encoder.width, self.labels, c=c, passes=passes)
        work.normalised += FP32 * b * (1 if self.norms_mean else tokens) * encoder.width
        pixels = encoder.num_patches * encoder.patch_values
        work.added += FP32 * b * (8 * self.labels + 4 * tokens * encoder.width + 2 * pixels)


def _scores(b: int, d: int, labels: int, c: int, *, pieces: bool) -> tuple[int, int, int]:
    """Bytes of the scores and what is made of them: kept, at the peak of the forward pass, and of the backward pass."""
    if not pieces:
        scores = b * labels * FP32
        return scores, scores, 3 * scores
    size = chunk_of(b, d)
    cast = size * d * c if c < FP32 else 0
    scores, low = b * size * FP32, b * size * c if c < FP32 else 0
    return 0, scores + max(low + cast, scores), scores + low + max(cast, size * d * c)
