"""The light decoder of MAE (paper.md 1.3): visible tokens and mask tokens in, pixels of the hidden patches out."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from underpaint.config import LATER
from underpaint.models.attention import attention
from underpaint.models.vit import Block, Mlp, ViTConfig, require_sizes, sincos_positions


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    width: int = 512
    depth: int = 8
    heads: int = 16
    mlp_ratio: int = 4
    # Hidden patches attend to the visible ones alone and not to each other (CrossMAE, TMLR 2025, without its features
    # from several blocks of the encoder): cheaper, and no option of the paper.
    cross: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        require_sizes("decoder", self)
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"decoder width={self.width} must be a multiple of heads={self.heads} and of 4")


class CrossAttention(nn.Module):
    """Multi-head attention from one set of tokens to another; rows of ``kv`` are k, v, heads contiguous."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b m d"], context: Float[Tensor, "b n d"]) -> Float[Tensor, "b m d"]:
        (b, m, d), n = x.shape, context.shape[1]
        q = self.q(x).view(b, m, 1, self.heads, d // self.heads)
        kv = self.kv(context).view(b, n, 2, self.heads, d // self.heads)
        return self.proj(attention(q, kv).flatten(2))


class CrossBlock(nn.Module):
    """A pre-norm block whose tokens read from a context that stays what it is."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, norm_eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(self, x: Float[Tensor, "b m d"], context: Float[Tensor, "b n d"]) -> Float[Tensor, "b m d"]:
        x = x + self.attn(self.norm1(x), context)
        return x + self.mlp(self.norm2(x))


class MAEDecoder(nn.Module):
    """Predicts the pixel values of hidden patches, and of those alone."""

    def __init__(self, config: DecoderConfig, encoder: ViTConfig) -> None:
        super().__init__()
        self.cross = config.cross
        self.decoder_embed = nn.Linear(encoder.width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.decoder_pos_embed = nn.Parameter(sincos_positions(config.width, encoder.grid), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            (CrossBlock if config.cross else Block)(config.width, config.heads, config.mlp_ratio, encoder.norm_eps)
            for _ in range(config.depth)
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
        x = masked if self.cross else torch.cat([cls, shown, masked], dim=1)
        context = (torch.cat([cls, shown], dim=1),) if self.cross else ()
        for block in self.decoder_blocks:
            x = block(x, *context)
        return self.decoder_pred(self.decoder_norm(x[:, -hidden.shape[1] :]))
