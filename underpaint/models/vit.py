"""The plain Vision Transformer of the paper (section 3; sizes in sizes.py): pre-norm, GELU, one cls token, eps 1e-6.

Parameter names are those of MAE, MAWS and timm, so that their files load without a map.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint import keyed_random
from underpaint.config import LATER
from underpaint.core import ImageInput, Interpolation, View
from underpaint.models.attention import attention
from underpaint.models.input_check import require_input

Positions = Literal["sincos", "sincos_trained", "learned"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NORM_EPS = 1e-6


LARGEST_SIDE = 2**16
"""Largest side in pixels; with ``require_sizes`` it keeps the number of elements of every tensor below 2^60."""


def require_sizes(what: str, config: object, **largest: int) -> None:
    """Refuse sizes that no network has, whether typed or read in a file of strangers, before anything is built.

    Raises:
        ValueError: that names the field, its value and the limits.
    """
    for name, limit in ({"width": 2**16, "depth": 2**10, "heads": 2**10, "mlp_ratio": 2**6} | largest).items():
        if not 1 <= getattr(config, name) <= limit:
            raise ValueError(f"{what} {name}={getattr(config, name)} must lie between 1 and {limit}")


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Everything needed to build an encoder and to feed it: shape of the network and form of its input."""

    size: tuple[int, int] = (224, 224)  # height, width of the image in pixels
    patch: int = 16  # side of a square patch in pixels
    channels: int = 3
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    positions: Positions = "sincos"  # frozen sin-cos (MAE), sin-cos as a trained start, or learned (SWAG)
    final_norm: bool = True  # False where a head norms the mean of the tokens itself (fc_norm)
    value_range: tuple[float, float] = (0.0, 255.0)  # stored pixel values that become 0 and 1
    mean: tuple[float, ...] = IMAGENET_MEAN  # per channel, of values in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    norm_eps: float = field(default=NORM_EPS, metadata=LATER)  # of every layer norm; Hugging Face has 1e-12
    # How an image becomes one of `size` where nothing is drawn at random, in evaluation (paper.md 2.2, 6.2): resized
    # straight to it, or the centre cut out of one whose short side is size / crop_share.
    view: View = field(default="stretch", metadata=LATER)
    crop_share: float = field(default=1.0, metadata=LATER)
    interpolation: Interpolation = field(default="bicubic", metadata=LATER)

    def __post_init__(self) -> None:
        require_sizes("encoder", self, patch=LARGEST_SIDE, channels=2**12)
        if max(self.size) > LARGEST_SIDE:
            raise ValueError(f"size={self.size} is larger than {LARGEST_SIDE} pixels a side")
        if any(side <= 0 or side % self.patch for side in self.size):
            raise ValueError(f"size={self.size} is not divisible by patch={self.patch}; take multiples of {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"width={self.width} is not divisible by heads={self.heads}")
        if self.positions != "learned" and self.width % 4:
            raise ValueError(f"width={self.width} must be a multiple of 4 for sin-cos positions")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"channels={self.channels} needs as many values in mean={self.mean} and std={self.std}, one per channel"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std} must be positive in every channel")
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range={self.value_range} must be (low, high) with low < high")
        if not 0 < self.crop_share <= 1:
            raise ValueError(f"crop_share={self.crop_share} must lie in (0, 1]")
        if self.norm_eps <= 0:
            raise ValueError(f"norm_eps={self.norm_eps} must be positive")

    @property
    def image_input(self) -> ImageInput:
        """The images that the encoder takes."""
        return ImageInput(
            size=self.size,
            channels=self.channels,
            value_range=self.value_range,
            mean=self.mean,
            std=self.std,
            view=self.view,
            crop_share=self.crop_share,
            interpolation=self.interpolation,
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def patch_values(self) -> int:
        """Pixel values of one patch over all channels (p)."""
        return self.patch * self.patch * self.channels


def sincos_positions(width: int, grid: tuple[int, int]) -> Float[Tensor, "1 tokens d"]:
    """Fixed 2-D sin-cos position embedding with a zero row for the cls token (paper.md 1.3).

    The first half of the channels encodes the column (w first, as in MAE), the second half the row; each half is
    sines then cosines at ``width / 4`` frequencies falling from 1 to 1/10000.
    """
    rows, columns = grid
    quarter = width // 4
    frequency = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)

    def encode(coordinate: Tensor) -> Tensor:
        angle = coordinate.to(torch.float64)[:, None] * frequency[None, :]
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    patches = torch.cat([encode(column.flatten()), encode(row.flatten())], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), patches])[None].to(torch.float32)


def gather_patches(
    image: Float[Tensor, "b c h w"], patch: int, ids: Int64[Tensor, "b m"]
) -> Float[Tensor, "b m c patch patch"]:
    """The pixels of the named patches, numbered by rows."""
    b, c, h, w = image.shape
    rows, columns = h // patch, w // patch
    tiles = image.reshape(b, c, rows, patch, columns, patch).permute(0, 2, 4, 1, 3, 5).reshape(b * rows * columns, -1)
    first = rows * columns * torch.arange(b, device=image.device)[:, None]
    # whole rows of memory: three times as fast on a processor as to index the image
    return tiles.index_select(0, (first + ids).flatten()).view(b, -1, c, patch, patch)


class PatchEmbed(nn.Module):
    """Linear embedding of patches; the weight has the shape of the equivalent convolution."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.proj = nn.Conv2d(config.channels, config.width, kernel_size=config.patch, stride=config.patch)

    def forward(
        self, image: Float[Tensor, "b c h w"], keep: Int64[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b m d"]:
        if keep is None:
            return self.proj(image).flatten(2).transpose(1, 2)
        patches = gather_patches(image, self.patch, keep)
        return F.linear(patches.flatten(2), self.proj.weight.flatten(1), self.proj.bias)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection: rows of ``qkv`` are q, k, v, heads contiguous."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.heads, d // self.heads)
        return self.proj(attention(qkv).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block. ``recompute.py`` has a form of it that keeps less for the backward pass."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: int,
        norm_eps: float = NORM_EPS,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads) if attention is None else attention
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(
        self, x: Float[Tensor, "b n d"], drop_path: Float[Tensor, "b 2"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """``drop_path`` holds a factor per sample for the attention branch and one for the MLP (stochastic depth)."""
        x = x + dropped(self.attn(self.norm1(x)), drop_path, branch=0)
        return x + dropped(self.mlp(self.norm2(x)), drop_path, branch=1)


def dropped(
    change: Float[Tensor, "b n d"], drop_path: Float[Tensor, "b 2"] | None, *, branch: int
) -> Float[Tensor, "b n d"]:
    """A residual branch times its drop-path factor of each sample, which the caller drew."""
    return change if drop_path is None else drop_path[:, branch, None, None] * change


class ViT(nn.Module):
    """Image to tokens: ``vit(image)`` returns the cls token followed by one token per patch.

    With ``keep`` only the named patches are embedded and encoded (MAE); shapes are static for a given number kept.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(
            torch.zeros(1, 1 + config.num_patches, config.width), requires_grad=config.positions != "sincos"
        )
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, config.norm_eps) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.final_norm else nn.Identity()

    def forward(
        self,
        image: Float[Tensor, "b c h w"],
        keep: Int64[Tensor, "b m"] | None = None,
        drop_path: Float[Tensor, "b depth 2"] | None = None,
    ) -> Float[Tensor, "b tokens d"]:
        """Tokens, cls first, after the final norm where the config has one.

        Raises:
            ValueError: if the image has another layout, type, size or number of channels than the config says.
        """
        x = self.first_tokens(image, keep)
        for index, block in enumerate(self.blocks):
            x = block(x) if drop_path is None else block(x, drop_path[:, index])
        return self.norm(x)

    def first_tokens(
        self, image: Float[Tensor, "b c h w"], keep: Int64[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b tokens d"]:
        """The input of the first block: the embedded patches and cls, positions added; errors as in ``forward``."""
        self.require_image(image)
        position = self.pos_embed[:, 1:]
        if keep is not None:
            position = position[0][keep]
        x = self.patch_embed(image, keep) + position
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        return torch.cat([cls, x], dim=1)

    def require_image(self, image: object) -> None:
        """Raise ValueError, with the fix, for what is not a batch of normalised images of the config's size."""
        (h, w), weight = self.config.size, self.patch_embed.proj.weight
        fix = "load_encoder(...).transform(image) makes such a view of an image of any size, and embed(images) features"
        require_input(image, {"c": self.config.channels, "h": h, "w": w}, like=weight, name="image", fix=fix)


def drop_path_factors(key: int, position: Int64[Tensor, " b"], depth: int, rate: float) -> Float[Tensor, "b depth 2"]:
    """Stochastic depth: 0 with a probability that rises linearly from 0 to ``rate`` over the blocks, else 1/(1 - p).

    Drawn per sample from its position, so that recomputed activations and resumed runs see the same factors.
    """
    probability = torch.linspace(0, rate, depth, device=position.device)[None, :, None]
    draw = keyed_random.uniform(key, position, 2 * depth).view(-1, depth, 2)
    return (draw >= probability) / (1 - probability)


def encoder_layer_of(name: str, depth: int) -> int:
    """Number of layers above the parameter of this name, in an objective with a ViT in ``encoder``.

    It is 0 for everything above the encoder's blocks, 1 for its last block, ``depth`` for its first, ``depth + 1`` for
    patch embedding and tokens: the exponent of layer-wise learning-rate decay (paper.md 2.1).
    """
    block = re.match(r"encoder\.blocks\.(\d+)\.", name)
    if block:
        return depth - int(block[1])
    return depth + 1 if re.match(r"encoder\.(cls_token|(time_)?pos_embed|patch_embed)", name) else 0
