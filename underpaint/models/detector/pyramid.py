"""The simple feature pyramid: five levels from the encoder's one map of features (ViTDet, section 3)."""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.convnext import LayerNorm2d

NORM = partial(LayerNorm2d, eps=1e-6)
"""Layer norm over channels, the norm of all convolutions of the detector."""


class FeaturePyramid(nn.Module):
    """Maps at a quarter, a half, one, two and four times the stride of a patch."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        up = partial(nn.ConvTranspose2d, kernel_size=2, stride=2)
        resized: list[tuple[nn.Module, int]] = [
            (nn.Sequential(up(width, half), NORM(half), nn.GELU(), up(half, quarter)), quarter),
            (up(width, half), half),
            (nn.Identity(), width),
            (nn.MaxPool2d(2), width),
        ]
        self.resize = nn.ModuleList(resize for resize, _ in resized)
        self.mix = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inside, channels, 1, bias=False),
                NORM(channels),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                NORM(channels),
            )
            for _, inside in resized
        )

    def forward(self, x: Float[Tensor, "b d rows columns"]) -> list[Float[Tensor, "b c _rows _columns"]]:
        levels = [mix(resize(x)) for resize, mix in zip(self.resize, self.mix, strict=True)]
        return [*levels, F.max_pool2d(levels[-1], kernel_size=1, stride=2)]
