"""Training FLOPs in closed form (paper.md 1.1): patch embedding, attention, MLP, decoder and head.

A FLOP is one multiplication or one addition; a multiply-add counts two. Normalisation, activations and the optimizer
are left out, as in torch's own counter, which the tests compare with.
"""

from __future__ import annotations

from underpaint.models.image_text import ImageTextConfig
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.ngram_tower import CONVOLUTIONS, ORDERS, NgramConfig
from underpaint.models.text_tower import TextConfig
from underpaint.models.vit import ViTConfig

BACKWARD = 2
"""The backward pass computes two products for each of the forward pass: for the inputs and for the weights."""


def block_macs(tokens: int, width: int, mlp_ratio: int) -> int:
    """Multiply-adds of one transformer block for one image."""
    projections = tokens * width * width * (4 + 2 * mlp_ratio)
    attention = 2 * tokens * tokens * width
    return projections + attention


def encoder_macs(config: ViTConfig, patches: int) -> int:
    """Multiply-adds of the encoder for one image of which ``patches`` patches are embedded."""
    embedding = patches * config.patch_values * config.width
    return embedding + config.depth * block_macs(1 + patches, config.width, config.mlp_ratio)


def decoder_block_macs(config: DecoderConfig, num_kept: int, num_decoded: int) -> int:
    """Multiply-adds of one block of the MAE decoder for one image; the cls token is beside the kept patches."""
    context, width = 1 + num_kept, config.width
    if not config.cross:
        return block_macs(context + num_decoded, width, config.mlp_ratio)
    projections = num_decoded * width * width * (2 + 2 * config.mlp_ratio) + 2 * context * width * width
    return projections + 2 * num_decoded * context * width


def decoder_macs(config: DecoderConfig, encoder: ViTConfig, num_kept: int, num_decoded: int) -> int:
    """Multiply-adds of the MAE decoder for one image; only the patches that are decoded are predicted."""
    embedding = (1 + num_kept) * encoder.width * config.width
    prediction = num_decoded * config.width * encoder.patch_values
    return embedding + config.depth * decoder_block_macs(config, num_kept, num_decoded) + prediction


def mae_flops(
    encoder: ViTConfig, decoder: DecoderConfig, num_kept: int, num_decoded: int, *, frozen_encoder: bool = False
) -> int:
    """FLOPs of one mask of one training sample of MAE, forward and backward; a frozen encoder has no backward.

    The first layer's backward needs no gradient for its inputs, so it has one product instead of two.
    """
    decoding = decoder_macs(decoder, encoder, num_kept, num_decoded)
    if frozen_encoder:
        handed_over = (1 + num_kept) * encoder.width * decoder.width
        return 2 * (encoder_macs(encoder, num_kept) + (1 + BACKWARD) * decoding - handed_over)
    embedding = num_kept * encoder.patch_values * encoder.width
    return 2 * ((1 + BACKWARD) * (encoder_macs(encoder, num_kept) + decoding) - embedding)


def classify_flops(encoder: ViTConfig, classes: int, *, frozen_encoder: bool = False) -> int:
    """FLOPs of one training sample of classification, forward and backward; a frozen encoder has no backward."""
    forward = encoder_macs(encoder, encoder.num_patches)
    embedding = encoder.num_patches * encoder.patch_values * encoder.width
    head = encoder.width * classes
    if frozen_encoder:
        return 2 * (forward + 2 * head)
    return 2 * ((1 + BACKWARD) * (forward + head) - embedding)


def text_macs(text: TextConfig | NgramConfig, tokens: int) -> int:
    """Multiply-adds of a text tower for one text, without the look-up of its tokens."""
    if isinstance(text, TextConfig):
        return text.depth * block_macs(tokens, text.width, text.mlp_ratio)
    mlp = text.joined * text.width + text.width**2 + 4 * text.width * text.hidden + text.hidden**2
    return tokens * (stem_macs(text) + ngram_macs(text)) + mlp


def ngram_macs(text: NgramConfig) -> int:
    """Multiply-adds of one token in the convolutions of a tower of n-grams."""
    return CONVOLUTIONS * sum(ORDERS) * text.branch**2


def stem_macs(text: NgramConfig) -> int:
    """Multiply-adds of one token in the first layer of a tower of n-grams."""
    return len(ORDERS) * text.width * text.branch


def lit_flops(
    towers: ImageTextConfig,
    tokens: int,
    *,
    unlocked_blocks: int = 0,
    cached_features: bool = False,
    locked_text: bool = False,
) -> int:
    """FLOPs of one image with a text of ``tokens`` tokens, forward and backward, but for the cosines of the batch.

    Locked layers have no backward, cached features of images cost nothing, and neither does looking up token
    embeddings. Those of a tower of n-grams have no gradient.
    """
    encoder, text = towers.encoder, towers.text
    image = 0 if cached_features else encoder_macs(encoder, encoder.num_patches)
    unlocked = unlocked_blocks * block_macs(1 + encoder.num_patches, encoder.width, encoder.mlp_ratio)
    image_projection = encoder.width * towers.width
    texts = text_macs(text, tokens)
    backward_of_texts = 0 if locked_text else BACKWARD * texts
    if isinstance(text, NgramConfig) and not locked_text:
        backward_of_texts -= tokens * stem_macs(text)
    projecting = (1 + BACKWARD if unlocked_blocks else 2) * image_projection
    projecting += (2 if locked_text else 1 + BACKWARD) * text.width * towers.width
    return 2 * (image + BACKWARD * unlocked + projecting + texts + backward_of_texts)
