"""What autograd keeps of a training step, layer by layer, in closed form: the ground of the memory plan.

Counted for the networks of this package as they stand in ``models/`` and ``objectives/``, in the units ``b`` samples,
``n`` tokens, ``d`` width. What goes into a matrix product is kept in the type of the computation; attention keeps q,
k, v, its output and one fp32 number per query and head (the flash and memory-efficient kernels of CUDA; those of
``models/attention.py`` on a processor keep the same or a little less; never the n x n scores).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.objectives.scores import chunk_of, is_chunked
from underpaint.run import Run

FP32 = 4
STEM = ("encoder.cls_token", "encoder.pos_embed", "encoder.patch_embed.")


@dataclass(frozen=True, kw_only=True)
class Types:
    """Bytes of one number."""

    compute: int  # in matrix products
    stream: int  # between the blocks: fp32 under autocast alone, the compute type where FSDP gathers bf16 weights
    norm: int  # input of a normalisation as it is kept; autocast on CUDA makes an fp32 copy of it
    lean: bool = False  # blocks compute norms, GELU and bf16 copies of their weights again (models/recompute.py)

    @classmethod
    def of(cls, run: Run, *, sharded: bool, cuda: bool) -> Types:
        compute = FP32 if run.precision == "fp32" else 2  # float8 keeps what bf16 does
        stream = compute if sharded else FP32
        lean = run.parallel.recompute_pointwise
        return cls(compute=compute, stream=stream, norm=stream if lean or not cuda else FP32, lean=lean)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One stretch of the forward pass, in its order; all sizes in bytes."""

    parameters: tuple[str, ...]  # prefixes of the names of its parameters
    saved: int  # kept from its forward to its backward pass
    forward: int = 0  # further bytes at the peak of its forward pass
    graphless: int = 0  # bytes at the peak of its forward pass when nothing is kept
    backward: int = 0  # further bytes at the peak of its backward pass, while ``saved`` is all there
    source: int = 0  # its input, the part of ``saved`` that remains under checkpointing
    block: bool = False  # a transformer block: checkpointed and sharded as one
    pieces: bool = False  # autocast casts its weights piece by piece, and again on the way back
    recast: bool = False  # the same, each weight whole


def layers(run: Run, types: Types, *, microbatch: int, labels: int) -> list[Layer]:
    """The layers of a run's objective for one forward and backward pass of ``microbatch`` samples.

    Raises:
        ValueError: for an objective other than MAE and classification.
    """
    objective = run.objective
    if isinstance(objective, MAEConfig):
        return _mae(objective, microbatch, types)
    if isinstance(objective, ClassifyConfig):
        return _classify(objective, microbatch, types, labels)
    raise ValueError(f"no plan for objective {type(objective).__name__}; MAEConfig and ClassifyConfig have one")


def inputs(run: Run, *, microbatch: int) -> int:
    """Bytes of one batch on the device: fp32 pixels, position, weight."""
    encoder = run.objective.encoder
    return microbatch * (FP32 * encoder.channels * encoder.size[0] * encoder.size[1] + 8 + FP32)


def _mae(config: MAEConfig, images: int, types: Types) -> list[Layer]:
    encoder, decoder, kept, decoded = config.encoder, config.decoder, config.num_kept, config.num_decoded
    b, d, c = images * config.masks_per_image, decoder.width, types.compute
    shown, predicted = b * (1 + kept), b * decoded
    whole = predicted if decoder.cross else shown + predicted  # what goes through the decoder's blocks
    pixels = predicted * encoder.patch_values
    # until the loss is there, the images stand in memory again, once for every mask
    again = b * encoder.num_patches * encoder.patch_values * FP32 if config.masks_per_image > 1 else 0
    stem = Layer(
        parameters=STEM,
        saved=b * kept * encoder.patch_values * c,
        # all pixels patch by patch, and those of the kept patches
        forward=b * (encoder.num_patches + kept) * encoder.patch_values * FP32
        + 2 * b * kept * encoder.width * types.stream
        + again,
        backward=2 * shown * encoder.width * types.stream,
    )
    bridge = Layer(
        parameters=("encoder.norm.", "decoder.decoder_embed.", "decoder.mask_token", "decoder.decoder_pos_embed"),
        # input of the norm, input of the projection
        saved=shown * encoder.width * ((0 if config.frozen_encoder else types.norm) + c),
        backward=2 * shown * encoder.width * types.norm + (shown + predicted) * d * types.stream,
    )
    prediction = Layer(
        parameters=("decoder.decoder_norm.", "decoder.decoder_pred."),
        # input of the norm, input of the projection, and prediction minus target
        saved=whole * d * types.norm + predicted * d * c + pixels * FP32,
        forward=pixels * (c + 4 * FP32) + again,  # prediction, true pixels in two orders, target, square
        backward=pixels * 3 * FP32,
    )
    names = [f"decoder.decoder_blocks.{i}." for i in range(decoder.depth)]
    if decoder.cross:
        blocks = [_cross_block(name, (predicted, shown, d), decoder, types) for name in names]
    else:
        shape = (decoder.heads, decoder.mlp_ratio)
        blocks = [_block(name, (b, 1 + kept + decoded, d), shape, types) for name in names]
    encoding = [stem, *_encoder_blocks(encoder, b, 1 + kept, types)]
    return [*(_frozen(encoding) if config.frozen_encoder else encoding), bridge, *blocks, prediction]


def _classify(config: ClassifyConfig, b: int, types: Types, labels: int) -> list[Layer]:
    encoder, c = config.encoder, types.compute
    d = encoder.width
    features = b * (1 + encoder.num_patches) * d
    stem = Layer(
        parameters=STEM,
        saved=b * encoder.num_patches * encoder.patch_values * c if c < FP32 else 0,  # else the batch itself
        forward=features * (types.stream + c),
        backward=2 * features * types.stream,
    )
    view = features if types.norm == c else 0  # the head's input is a view of all tokens, unless it is a bf16 copy
    pieces = is_chunked(b, d, labels, casts=c < types.stream)
    kept, forward, backward = _scores(b, d, labels, c, pieces=pieces)
    head = Layer(
        parameters=("encoder.norm.", "fc_norm.", "batch_norm.", "head."),
        saved=(0 if config.frozen_encoder else features * types.norm) + (view or b * d) * c + kept,
        forward=2 * features * types.norm + forward,
        backward=max(0 if config.frozen_encoder else 2 * features * types.norm, backward),
        pieces=pieces,
    )
    blocks = _encoder_blocks(encoder, b, 1 + encoder.num_patches, types, drop_path=config.drop_path > 0)
    encoding = [stem, *blocks]
    return [*(_frozen(encoding) if config.frozen_encoder else encoding), head]


def _scores(b: int, d: int, labels: int, c: int, *, pieces: bool) -> tuple[int, int, int]:
    """Bytes of the scores and what is made of them: kept, at the peak of the forward pass, and of the backward pass."""
    if not pieces:
        scores = b * labels * FP32
        return scores, scores, 3 * scores
    size = chunk_of(b, d)
    cast = size * d * c if c < FP32 else 0
    scores, low = b * size * FP32, b * size * c if c < FP32 else 0
    return 0, scores + max(low + cast, scores), scores + low + max(cast, size * d * c)


def _frozen(encoding: Iterable[Layer]) -> list[Layer]:
    """Layers without a backward pass: nothing is kept."""
    return [replace(each, saved=0, source=0, forward=each.graphless or each.forward, backward=0) for each in encoding]


def _encoder_blocks(encoder: ViTConfig, b: int, n: int, types: Types, *, drop_path: bool = False) -> list[Layer]:
    size, shape = (b, n, encoder.width), (encoder.heads, encoder.mlp_ratio)
    return [_block(f"encoder.blocks.{i}.", size, shape, types, drop_path=drop_path) for i in range(encoder.depth)]


def _block(
    name: str, size: tuple[int, int, int], shape: tuple[int, int], types: Types, *, drop_path: bool = False
) -> Layer:
    """A pre-norm block for ``size`` (samples, tokens, width) with ``shape`` (heads, MLP ratio)."""
    (b, n, d), (heads, ratio), c = size, shape, types.compute
    tokens = b * n
    residual = tokens * d * types.stream
    copy = tokens * d * c if c < types.stream else 0
    statistics = tokens * (4 + heads) * FP32  # mean and deviation of two norms, log-sum-exp of attention
    # inputs of both norms; inputs of qkv (1), attention (3), proj (1), fc1 (1), GELU and fc2 (ratio each)
    kept = (4 + ratio if types.lean else 6 + 2 * ratio) * c
    branch = c if types.lean and not drop_path else types.norm  # the second input, or what is added to the first
    # in fc2, the first product of the way back: incoming gradient and its copies, gradient of the hidden layer; and
    # where GELU is computed again, that of what it was given
    hidden = tokens * d * ratio * c * (2 if types.lean else 1)
    return Layer(
        parameters=(name,),
        saved=tokens * d * (types.norm + branch + kept) + statistics,
        forward=residual + tokens * d * c,  # what fc2 returns, and the sum
        # input, sum after attention, second norm and its copy, hidden layer before and after GELU
        graphless=3 * residual + copy + tokens * d * 2 * ratio * c,
        backward=residual + copy + (residual if drop_path else 0) + hidden,
        source=residual,
        block=True,
        recast=types.lean,
    )


def _cross_block(name: str, size: tuple[int, int, int], decoder: DecoderConfig, types: Types) -> Layer:
    """A block of a cross decoder on ``size`` (tokens that read, tokens that are read, width)."""
    (tokens, context, d), ratio, c = size, decoder.mlp_ratio, types.compute
    residual = tokens * d * types.stream
    copy = tokens * d * c if c < types.stream else 0
    # inputs of both norms; inputs of q (1), attention (1), proj (1), fc1 (1), GELU and fc2 (ratio each); k and v, and
    # in bf16 the copy of the context that they are made of
    kept = (2 + ratio if types.lean else 4 + 2 * ratio) * c
    copied = c if c < types.stream and not types.lean else 0
    hidden = tokens * d * ratio * c * (2 if types.lean else 1)
    return Layer(
        parameters=(name,),
        saved=tokens * d * (types.norm + (c if types.lean else types.norm) + kept)
        + context * d * (2 * c + copied)
        + tokens * 4 * FP32,
        forward=residual + tokens * d * c,
        graphless=3 * residual + copy + tokens * d * 2 * ratio * c,
        backward=residual + copy + hidden + context * d * types.stream,
        source=residual,
        block=True,
        recast=types.lean,
    )
