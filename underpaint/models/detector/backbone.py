"""The ViT of a detector: attention within windows in all blocks but a few global ones, no cls token, no final norm."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint.models.detector.window_attention import WindowAttention
from underpaint.models.init import Values, initialise, mae_rule
from underpaint.models.input_check import require_input
from underpaint.models.vit import Block, PatchEmbed, ViTConfig, sincos_positions
from underpaint.models.weights import TrainedEncoder, require_same_form, resize_positions


class WindowedViT(nn.Module):
    """Image to one map of features at the stride of a patch; names are those of ``ViT`` where both have a parameter."""

    def __init__(self, config: ViTConfig, *, window: int, global_blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        self.window = window
        self.global_blocks = global_blocks
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.num_patches, config.width))
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                config.mlp_ratio,
                config.norm_eps,
                attention=WindowAttention(
                    config.width,
                    config.heads,
                    grid=config.grid,
                    window=config.grid if index in global_blocks else (window, window),
                ),
            )
            for index in range(config.depth)
        )

    def forward(
        self, image: Float[Tensor, "b c h w"], drop_path: Float[Tensor, "b depth 2"] | None = None
    ) -> Float[Tensor, "b d rows columns"]:
        """Features of the last block.

        Raises:
            ValueError: if the image has another layout, type, size or number of channels than the config.
        """
        (h, w), weight = self.config.size, self.patch_embed.proj.weight
        fix = "its config has the size, mean and std"
        require_input(image, {"c": self.config.channels, "h": h, "w": w}, like=weight, name="image", fix=fix)
        x = self.patch_embed(image) + self.pos_embed
        for index, block in enumerate(self.blocks):
            x = block(x) if drop_path is None else block(x, drop_path[:, index])
        return x.transpose(1, 2).unflatten(2, self.config.grid)


@torch.no_grad()
def initialise_windowed(encoder: WindowedViT, *, seed: int) -> None:
    """Fill an encoder that starts from scratch: MAE's weights, sin-cos positions, relative positions of zero."""
    initialise(encoder, rule=_rule, seed=seed, prefix="encoder")
    if not encoder.pos_embed.is_meta and encoder.config.width % 4 == 0:
        encoder.pos_embed.copy_(sincos_positions(encoder.config.width, encoder.config.grid)[:, 1:])


def _rule(name: str, value: Tensor, generator: torch.Generator) -> None:
    if name.endswith(("rel_pos_h", "rel_pos_w")):
        nn.init.zeros_(value)
    else:
        mae_rule(name, value, generator)


def require_windowed_start(target: ViTConfig, source: ViTConfig, *, start: str = "the encoder to start from") -> None:
    """Raise ValueError if a pretrained ViT does not fit: all but the sizes of its images and patches must be equal."""
    comparable = _with_patch_of(source, target)
    require_same_form(target, comparable, run="the detector", start=start)


def _with_patch_of(source: ViTConfig, target: ViTConfig) -> ViTConfig:
    """The config of ``source`` after its patches are resized to those of ``target``, on a grid of the same size."""
    rows, columns = source.grid
    return replace(source, patch=target.patch, size=(rows * target.patch, columns * target.patch))


def values_to_start_windowed(encoder: WindowedViT, source: TrainedEncoder) -> Values:
    """The tensors of a pretrained ViT for the detector's, which has no cls token or final norm.

    Positions are resized bicubically from the grid of pretraining, patches of another size by ``resize_patches``;
    relative positions are new and stay at zero.

    Raises:
        ValueError: if the architectures differ.
    """
    require_windowed_start(encoder.config, source.config)
    positions, patches = source.tensors["pos_embed"], source.tensors["patch_embed.proj.weight"]
    changed: Values = {
        "pos_embed": lambda: resize_positions(positions(), source.config.grid, encoder.config.grid)[:, 1:],
        "patch_embed.proj.weight": lambda: resize_patches(patches(), encoder.config.patch),
    }
    tensors = {**source.tensors, **changed}
    return {name: tensors[name] for name in encoder.state_dict() if name in tensors}


def resize_patches(weight: Float[Tensor, "d c old old"], patch: int) -> Float[Tensor, "d c new new"]:
    """The patch embedding for patches of another size: FlexiViT's pseudo-inverse resize (Beyer et al. 2023).

    With B the matrix that resizes a patch of the old size to the new (bicubic, with antialiasing), the new weight is
    pinv(B') w: for larger patches a resized patch has exactly the embedding it had, for smaller ones the nearest in
    the least-squares sense.
    """
    old = weight.shape[-1]
    if old == patch:
        return weight
    basis = torch.eye(old * old, dtype=torch.float64).view(old * old, 1, old, old)
    resized = F.interpolate(basis, size=(patch, patch), mode="bicubic", antialias=True, align_corners=False)
    inverse = torch.linalg.pinv(resized.flatten(1))  # (new * new, old * old), the pseudo-inverse of B'
    flat = torch.einsum("no,dco->dcn", inverse, weight.double().flatten(2))
    return flat.unflatten(2, (patch, patch)).to(weight.dtype)
