"""Efficient probing (EP): the attentive pooling of Psomas et al. 2025, with learned queries and no key projection.

Their code is billpsomas/efficient-probing, poolings/ep.py.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.models.init import initialise, mae_rule
from underpaint.models.vit import Block, ViTConfig


class AttentivePooling(nn.Module):
    """One feature from the tokens of an image: query i pools the i-th slice of the values by its own softmax.

    Queries attend to the tokens themselves, scaled by 1 / sqrt(width); values are a linear map of them without bias.
    """

    def __init__(self, width: int, *, queries: int, seed: int) -> None:
        """Queries start from N(0, 0.02), values as torch's linear layers do.

        Raises:
            ValueError: if the number of queries does not divide the width.
        """
        super().__init__()
        if queries < 1 or width % queries:
            raise ValueError(f"queries={queries} must divide the encoder's width {width}: each pools a slice of it")
        self.query = nn.Parameter(torch.empty(queries, width))
        self.value = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.query.normal_(std=0.02, generator=keyed_random.parameter_generator(seed, "attentive query"))
            bound = width**-0.5
            generator = keyed_random.parameter_generator(seed, "attentive value")
            self.value.weight.uniform_(-bound, bound, generator=generator)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        queries, width = self.query.shape
        attention = (tokens @ (self.query.T * width**-0.5)).softmax(dim=1)  # (b, t, queries)
        values = self.value(tokens).unflatten(2, (queries, width // queries))
        return torch.einsum("btq,btqw->bqw", attention, values).flatten(1)


class ClipPooling(nn.Module):
    """One feature from the tokens of the frames of a clip, each frame encoded as an image.

    Learned positions tell the frames apart, blocks of self-attention compare them, and queries pool their tokens.
    """

    def __init__(self, encoder: ViTConfig, *, frames: int, blocks: int, queries: int, seed: int) -> None:
        """Blocks have the heads and the MLP of the encoder's.

        Raises:
            ValueError: if the number of queries does not divide the width.
        """
        super().__init__()
        width = encoder.width
        self.frames = frames
        self.time_pos_embed = nn.Parameter(torch.empty(frames, 1, width))
        self.blocks = nn.Sequential(*(Block(width, encoder.heads, encoder.mlp_ratio) for _ in range(blocks)))
        self.pooling = AttentivePooling(width, queries=queries, seed=seed)
        initialise(self.blocks, rule=mae_rule, seed=seed, prefix="blocks")
        with torch.no_grad():
            generator = keyed_random.parameter_generator(seed, "time_pos_embed")
            self.time_pos_embed.normal_(std=0.02, generator=generator)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        """``tokens`` are those of all frames, frame by frame."""
        by_frame = tokens.unflatten(1, (self.frames, -1)) + self.time_pos_embed
        return self.pooling(self.blocks(by_frame.flatten(1, 2)))
