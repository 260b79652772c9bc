"""Self-attention of a grid of patches within windows, with decomposed relative positions (ViTDet; MViTv2)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint.models.vit import Attention

Grid = tuple[int, int]
"""Rows and columns."""


class WindowAttention(Attention):
    """Attention within windows that do not overlap; a window of the grid's size is global attention.

    The score of query q and key k is ``q k / sqrt(w) + q rows[row(q) - row(k)] + q columns[column(q) - column(k)]``.
    Grids that windows do not divide are padded with zeros at the bottom and on the right, after the norm; padded
    places are attended to, as in detectron2.
    """

    def __init__(self, width: int, heads: int, *, grid: Grid, window: Grid) -> None:
        super().__init__(width, heads)
        self.grid = grid
        self.window = window
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * window[0] - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * window[1] - 1, width // heads))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        b, _, d = x.shape
        windows = into_windows(x.unflatten(1, self.grid), self.window)
        qkv = self.qkv(windows).view(windows.shape[0], windows.shape[1], 3, self.heads, d // self.heads)
        attended = self._attend(*qkv.permute(2, 0, 3, 1, 4).unbind(0)).transpose(1, 2).flatten(2)
        return out_of_windows(self.proj(attended), self.grid, self.window).reshape(b, -1, d)

    def _attend(
        self, q: Float[Tensor, "b heads n w"], k: Float[Tensor, "b heads n w"], v: Float[Tensor, "b heads n w"]
    ) -> Float[Tensor, "b heads n w"]:
        """Exact attention without a table of scores: relative positions become further channels of q and k.

        The further channels of a key are 1 at its row and its column and 0 elsewhere, those of a query its products
        with the relative positions of all rows and columns. So the fused kernels serve, whose memory grows with n.
        """
        rows, columns = self.window
        by_place = q.unflatten(2, self.window)
        to_rows = torch.einsum("...rcw,rkw->...rck", by_place, relative(self.rel_pos_h, rows).to(q.dtype))
        to_columns = torch.einsum("...rcw,ckw->...rck", by_place, relative(self.rel_pos_w, columns).to(q.dtype))
        row = torch.eye(rows, dtype=k.dtype, device=k.device).repeat_interleave(columns, dim=0)
        column = torch.eye(columns, dtype=k.dtype, device=k.device).repeat(rows, 1)
        place = torch.cat([row, column], dim=1).expand(*k.shape[:2], -1, -1)
        width = q.shape[-1]
        q = torch.cat([q * width**-0.5, to_rows.flatten(2, 3), to_columns.flatten(2, 3)], dim=-1)
        k = torch.cat([k, place], dim=-1)
        v = F.pad(v, (0, rows + columns))  # the fused kernels want q, k and v of one width
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :width]


def relative(table: Float[Tensor, "offsets w"], size: int) -> Float[Tensor, "size size w"]:
    """The row of the table of each pair (query, key) along one axis: offset q - k stands at q - k + size - 1."""
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place[None, :] + size - 1]


def into_windows(x: Float[Tensor, "b rows columns d"], window: Grid) -> Float[Tensor, "windows places d"]:
    """The windows of a grid by rows, padded with zeros where they do not divide it."""
    (b, rows, columns, d), (high, wide) = x.shape, window
    x = F.pad(x, (0, 0, 0, -columns % wide, 0, -rows % high))
    x = x.view(b, x.shape[1] // high, high, x.shape[2] // wide, wide, d)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, high * wide, d)


def out_of_windows(x: Float[Tensor, "windows places d"], grid: Grid, window: Grid) -> Float[Tensor, "b rows columns d"]:
    """The grid of the windows of ``into_windows``, without its padding."""
    (rows, columns), (high, wide) = grid, window
    down, across = -(-rows // high), -(-columns // wide)
    x = x.view(-1, down, across, high, wide, x.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(x.shape[0], down * high, across * wide, x.shape[-1])[:, :rows, :columns]
