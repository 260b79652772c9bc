"""The light decoder of MAE (paper.md 1.3): visible tokens and mask tokens in, pixels of the hidden patches out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from underpaint.models.vit import Block, ViTConfig, sincos_positions


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    width: int = 512
    depth: int = 8
    heads: int = 16
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"decoder width={self.width} must be a multiple of heads={self.heads} and of 4")


class MAEDecoder(nn.Module):
    """Predicts the pixel values of hidden patches, and of those alone."""

    def __init__(self, config: DecoderConfig, encoder: ViTConfig) -> None:
        super().__init__()
        self.decoder_embed = nn.Linear(encoder.width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.decoder_pos_embed = nn.Parameter(sincos_positions(config.width, encoder.grid), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, encoder.norm_eps) for _ in range(config.depth)
        )
        self.decoder_norm = nn.LayerNorm(config.width, eps=encoder.norm_eps)
        self.decoder_pred = nn.Linear(config.width, encoder.patch_values)

    def forward(
        self,
        tokens: Float[Tensor, "b visible d"],
        keep: Int64[Tensor, "b m"],
        hidden: Int64[Tensor, "b hidden"],
    ) -> Float[Tensor, "b hidden p"]:
        """Pixel values, (row, column, channel) within a patch, in the order of ``hidden``.

        The reference puts the tokens back into image order; here they stay as [cls, visible, hidden] and only their
        positions say where they are, which attention cannot tell apart, and the prediction skips what has no loss.
        """
        visible = self.decoder_embed(tokens)
        position = self.decoder_pos_embed[0]
        cls = visible[:, :1] + position[0]
        shown = visible[:, 1:] + position[1:][keep]
        masked = (self.mask_token + position[1:][hidden]).to(visible.dtype)
        x = torch.cat([cls, shown, masked], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x[:, -hidden.shape[1] :]))
