"""The ViT of images inflated to clips (paper section 4.4): tubelets for patches, and space-time relative positions.

Names of parameters are those of ``ViT`` where both have one. ``patch_embed.proj.weight`` is (d, c, tubelet, patch,
patch); new are ``time_pos_embed`` (1, tubelets, d), the position of each tubelet in time, and in the attention of every
block ``rel_pos_t``, ``rel_pos_h`` and ``rel_pos_w`` (2 * places - 1, width of a head), as in MViTv2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint.core import ClipInput, ImageInput
from underpaint.models.detector.window_attention import relative
from underpaint.models.init import Scheme, Values, initialise, mae_rule, swag_rule
from underpaint.models.input_check import require_input
from underpaint.models.vit import Attention, Block, ViTConfig, sincos_positions
from underpaint.models.weights import TrainedEncoder, values_to_start_from

Sampling = Literal["dense", "uniform"]
"""Frames at a fixed distance somewhere in the video, or one of each of as many equal parts of the whole video."""

LARGEST_CLIP = 1024
"""Most frames of a clip."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The frames of a clip; the encoder's config has the form of each."""

    frames: int = 16
    tubelet: int = 2  # frames that one token covers
    sampling: Sampling = "dense"
    stride: int = 4  # distance of the frames under dense sampling, in frames of the video

    def __post_init__(self) -> None:
        if not 1 <= self.tubelet <= self.frames <= LARGEST_CLIP or self.frames % self.tubelet:
            raise ValueError(
                f"frames={self.frames} must be a multiple of tubelet={self.tubelet}, and at most {LARGEST_CLIP}"
            )
        if not 1 <= self.stride <= LARGEST_CLIP:
            raise ValueError(f"stride={self.stride} must lie between 1 and {LARGEST_CLIP}")

    def input_of(self, image: ImageInput) -> ClipInput:
        """The clips that an encoder takes whose frames have the form of ``image``."""
        return ClipInput(image=image, frames=self.frames, sampling=self.sampling, stride=self.stride)

    @property
    def tubelets(self) -> int:
        """Tokens of a clip at one place."""
        return self.frames // self.tubelet


class TubeletEmbed(nn.Module):
    """Linear embedding of tubelets: a patch in several consecutive frames."""

    def __init__(self, config: ViTConfig, clip: ClipConfig) -> None:
        super().__init__()
        kernel = (clip.tubelet, config.patch, config.patch)
        self.proj = nn.Conv3d(config.channels, config.width, kernel_size=kernel, stride=kernel)

    def forward(self, clip: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b tubelets n d"]:
        return self.proj(clip).flatten(3).permute(0, 2, 3, 1)


class SpaceTimeAttention(Attention):
    """Attention among all tokens of a clip with separable relative positions, none of them to or from the cls token.

    The score of two tubelets is ``q k / sqrt(w) + q (t[time(q) - time(k)] + h[row(q) - row(k)] + w[column(q) -
    column(k)])``.
    """

    def __init__(self, width: int, heads: int, *, grid: tuple[int, int, int]) -> None:
        super().__init__(width, heads)
        self.grid = grid
        """Tubelets in time, rows and columns."""
        times, rows, columns = grid
        self.rel_pos_t = nn.Parameter(torch.zeros(2 * times - 1, width // heads))
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * rows - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * columns - 1, width // heads))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.heads, d // self.heads)
        return self.proj(self._attend(*qkv.permute(2, 0, 3, 1, 4).unbind(0)).transpose(1, 2).flatten(2))

    def _attend(
        self, q: Float[Tensor, "b heads n w"], k: Float[Tensor, "b heads n w"], v: Float[Tensor, "b heads n w"]
    ) -> Float[Tensor, "b heads n w"]:
        """Exact attention without a table of scores: relative positions become further channels of q and k.

        Those of a key are 1 at its time, row and column, those of a query its products with the relative positions of
        all times, rows and columns; those of cls are 0.
        """
        times, rows, columns = self.grid
        by_place = q[:, :, 1:].unflatten(2, self.grid)
        products = (
            torch.einsum("...trcw,tkw->...trck", by_place, relative(self.rel_pos_t, times).to(q.dtype)),
            torch.einsum("...trcw,rkw->...trck", by_place, relative(self.rel_pos_h, rows).to(q.dtype)),
            torch.einsum("...trcw,ckw->...trck", by_place, relative(self.rel_pos_w, columns).to(q.dtype)),
        )
        further_q = F.pad(torch.cat(products, dim=-1).flatten(2, 4), (0, 0, 1, 0))
        further_k = F.pad(places(self.grid).to(k), (0, 0, 1, 0)).expand(*k.shape[:2], -1, -1)
        width = q.shape[-1]
        q = torch.cat([q * width**-0.5, further_q], dim=-1)
        k = torch.cat([k, further_k], dim=-1)
        v = F.pad(v, (0, sum(self.grid)))  # the fused kernels want q, k and v of one width
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :width]


def places(grid: tuple[int, int, int]) -> Float[Tensor, "n times_rows_columns"]:
    """For each place of a grid, in the order of tokens, 1 at its time, at its row and at its column."""
    indices = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
    axes = [torch.eye(size)[index.flatten()] for size, index in zip(grid, indices, strict=True)]
    return torch.cat(axes, dim=1)


class VideoViT(nn.Module):
    """Clip to tokens: the cls token, then one token per tubelet, by time, row and column."""

    def __init__(self, config: ViTConfig, clip: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = clip
        self.patch_embed = TubeletEmbed(config, clip)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(
            torch.zeros(1, 1 + config.num_patches, config.width), requires_grad=config.positions != "sincos"
        )
        self.time_pos_embed = nn.Parameter(torch.zeros(1, clip.tubelets, config.width))
        grid = (clip.tubelets, *config.grid)
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                config.mlp_ratio,
                config.norm_eps,
                attention=SpaceTimeAttention(config.width, config.heads, grid=grid),
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.final_norm else nn.Identity()

    def forward(
        self, clip: Float[Tensor, "b c t h w"], drop_path: Float[Tensor, "b depth 2"] | None = None
    ) -> Float[Tensor, "b tokens d"]:
        """Tokens, cls first, after the final norm where the config has one.

        Raises:
            ValueError: if the clip has another layout, type, length, size or number of channels than the config.
        """
        (h, w), weight = self.config.size, self.patch_embed.proj.weight
        expected = {"c": self.config.channels, "t": self.clip.frames, "h": h, "w": w}
        fix = "its config has the number and size of frames, and their mean and std"
        require_input(clip, expected, like=weight, name="clip", fix=fix)
        tubelets = self.patch_embed(clip) + self.pos_embed[:, None, 1:] + self.time_pos_embed[:, :, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(clip), -1, -1)
        x = torch.cat([cls, tubelets.flatten(1, 2)], dim=1)
        for index, block in enumerate(self.blocks):
            x = block(x) if drop_path is None else block(x, drop_path[:, index])
        return self.norm(x)


@torch.no_grad()
def initialise_video(encoder: VideoViT, *, scheme: Scheme, seed: int) -> None:
    """Fill an encoder that starts from scratch: as one of images, with new positions of zero."""
    image_rule = mae_rule if scheme == "mae" else swag_rule

    def rule(name: str, value: Tensor, generator: torch.Generator) -> None:
        if name.endswith(("time_pos_embed", "rel_pos_t", "rel_pos_h", "rel_pos_w")):
            nn.init.zeros_(value)
        else:
            image_rule(name, value, generator)

    initialise(encoder, rule=rule, seed=seed, prefix="encoder")
    if encoder.config.positions != "learned":
        encoder.pos_embed.copy_(sincos_positions(encoder.config.width, encoder.config.grid))


def inflated_values(encoder: VideoViT, source: TrainedEncoder, *, reset_final_norm: bool) -> Values:
    """The tensors of an encoder of images for one of clips: the kernel of a patch divided by a tubelet's frames (I3D).

    So a still clip has the patch embeddings of its image; with new positions of zero, as they are initialised, the
    output for a still clip of one tubelet is that for the image. Positions in space are resized where the grids differ.

    Raises:
        ValueError: if the architectures differ.
    """
    names = encoder.state_dict().keys()
    values = values_to_start_from(encoder.config, names, source, reset_final_norm=reset_final_norm)
    tubelet, patches = encoder.clip.tubelet, values["patch_embed.proj.weight"]
    inflated = {"patch_embed.proj.weight": lambda: patches()[:, :, None].expand(-1, -1, tubelet, -1, -1) / tubelet}
    return {**values, **inflated}
