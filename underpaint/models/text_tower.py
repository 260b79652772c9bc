"""The text tower of MAWS-CLIP: XLM-R, a post-norm transformer over the tokens of a text (paper.md 1.6, 6.1).

Letters: ``b`` texts, ``l`` tokens of the longest, ``d`` width.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint.models.vit import Mlp, require_sizes
from underpaint.texts.tokens import PAD, UNKNOWN


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The form of a text tower; the defaults are XLM-R base. Large has width 1024, depth 24 and 16 heads."""

    vocabulary: int = 250_002
    positions: int = 514  # two of them come before the first token
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    norm_eps: float = 1e-5  # of every layer norm; XLM-R's, not the image tower's

    def __post_init__(self) -> None:
        require_sizes("text tower", self, vocabulary=2**24, positions=2**20)
        if self.width % self.heads:
            raise ValueError(f"width={self.width} of the text tower is not divisible by heads={self.heads}")
        if self.vocabulary <= UNKNOWN:
            raise ValueError(f"vocabulary={self.vocabulary} must be above {UNKNOWN}, the ids that stand for no text")
        if self.longest < 2:
            raise ValueError(f"positions={self.positions} must be {PAD + 3} or more: start, end and what comes before")
        if self.norm_eps <= 0:
            raise ValueError(f"norm_eps={self.norm_eps} of the text tower must be positive")

    @property
    def longest(self) -> int:
        """Tokens that a text may have, start and end included."""
        return self.positions - PAD - 1


class TextAttention(nn.Module):
    """Multi-head self-attention in which no token looks at padding; ``qkv`` as in the image tower."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b l d"], real: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None, :])
        return self.proj(mixed.transpose(1, 2).reshape(b, n, d))


class TextBlock(nn.Module):
    """Post-norm: each branch is added, then the sum is normed."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.attn = TextAttention(config.width, config.heads)
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_ratio * config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, x: Float[Tensor, "b l d"], real: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        x = self.norm1(x + self.attn(x, real))
        return self.norm2(x + self.mlp(x))


class TextTower(nn.Module):
    """Token ids to features, one per token; that of a text is the first one's (``<s>``).

    The features of real tokens do not depend on how much padding follows them.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embed = nn.Embedding(config.vocabulary, config.width)
        self.pos_embed = nn.Embedding(config.positions, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))

    def forward(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """Features; ``ids`` begin with START and are filled up with PAD behind END.

        Raises:
            ValueError: if there are more tokens than positions.
        """
        if ids.shape[1] > self.config.longest:
            raise ValueError(f"{ids.shape[1]} tokens, but this text tower takes {self.config.longest} at most")
        real = ids != PAD
        # RoBERTa counts positions from PAD on, so the first token has PAD + 1 and padding has PAD itself
        position = real.cumsum(dim=1) * real + PAD
        x = self.norm(self.token_embed(ids) + self.pos_embed(position))
        for block in self.blocks:
            x = block(x, real)
        return x
