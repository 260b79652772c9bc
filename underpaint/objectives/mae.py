"""Stage 1, MAE pre-pretraining: predict the pixels of hidden patches from the visible ones (paper.md 1.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.config import LATER
from underpaint.core import DataInfo, ImageBatch, Inputs, Step, unnormalise, weighted_mean
from underpaint.costs.parts import EncoderLayers
from underpaint.models.flops import mae_flops
from underpaint.models.init import initialise, initialise_encoder, mae_rule
from underpaint.models.mae_decoder import DecoderConfig, MAEDecoder
from underpaint.models.vit import ViT, ViTConfig, encoder_layer_of, gather_patches
from underpaint.objectives.layers import MAEDecoderLayers

TARGET_EPS = 1e-6
MASK_GREY = 0.5
FLAT = 0.05
"""Largest difference between normalised values of one channel in a patch that counts as flat."""


@dataclass(frozen=True, kw_only=True)
class MAEConfig:
    encoder: ViTConfig = field(default_factory=ViTConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    mask_ratio: float = 0.75
    norm_pix: bool = True  # targets normalised per patch
    # Train the decoder alone: the first run after an import that brought no decoder; the next one continues both.
    frozen_encoder: bool = field(default=False, metadata=LATER)
    # Cheaper than the paper; docs/results/mae_fast.md has what each cost in quality on small images.
    decode_fraction: float = field(default=1.0, metadata=LATER)  # of the hidden patches, drawn anew for every sample
    masks_per_image: int = field(default=1, metadata=LATER)  # each image is decoded and cropped once for so many masks

    stage: Literal["mae"] = "mae"

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1 or not 0 < self.num_kept < self.encoder.num_patches:
            raise ValueError(
                f"mask_ratio={self.mask_ratio} keeps {self.num_kept} of {self.encoder.num_patches} patches; "
                "at least one must stay visible and one hidden"
            )
        if not 0 < self.decode_fraction <= 1:
            raise ValueError(f"decode_fraction={self.decode_fraction} must lie in (0, 1]; 1 decodes all hidden patches")
        if self.masks_per_image < 1:
            raise ValueError(f"masks_per_image={self.masks_per_image} must be at least 1")

    @property
    def num_kept(self) -> int:
        return int(self.encoder.num_patches * (1 - self.mask_ratio))

    @property
    def num_decoded(self) -> int:
        return max(1, round(self.decode_fraction * (self.encoder.num_patches - self.num_kept)))

    @property
    def inputs(self) -> Inputs:
        return {"image": self.encoder.image_input}

    def build(self, data_info: DataInfo) -> MAE:
        return MAE(self, seed=data_info.seed)

    def layers(self, data_info: DataInfo) -> tuple[EncoderLayers, MAEDecoderLayers]:
        """Layers that a training step computes, for the planner."""
        trained, kept, masks = not self.frozen_encoder, self.num_kept, self.masks_per_image
        return (
            EncoderLayers(encoder=self.encoder, kept=kept, masks=masks, trained=trained),
            MAEDecoderLayers(
                encoder=self.encoder,
                decoder=self.decoder,
                kept=kept,
                decoded=self.num_decoded,
                masks=masks,
                trained_encoder=trained,
            ),
        )

    def flops_per_sample(self, data_info: DataInfo) -> int:
        flops_of_view = mae_flops(
            self.encoder, self.decoder, self.num_kept, self.num_decoded, frozen_encoder=self.frozen_encoder
        )
        return self.masks_per_image * flops_of_view


def random_masking(
    position: Int64[Tensor, " b"], num_patches: int, num_kept: int, *, key: int
) -> tuple[Int64[Tensor, "b m"], Int64[Tensor, "b hidden"]]:
    """A uniform random split of the patches of each sample into kept and hidden, drawn from its position alone.

    The hidden ones stand in random order, so that the first few are a uniform choice among them.
    """
    order = keyed_random.uniform(key, position, num_patches).argsort(dim=1, stable=True)
    return order[:, :num_kept], order[:, num_kept:]


def patch_pixels(image: Float[Tensor, "b c h w"], patch: int, ids: Int64[Tensor, "b m"]) -> Float[Tensor, "b m p"]:
    """Pixel values of the named patches, (row, column, channel) within a patch as in MAE's files."""
    return pixels_of(gather_patches(image, patch, ids))


def pixels_of(tiles: Float[Tensor, "b m c patch patch"]) -> Float[Tensor, "b m p"]:
    return tiles.permute(0, 1, 3, 4, 2).flatten(2)


def normalise_patches(
    pixels: Float[Tensor, "b m p"],
) -> tuple[Float[Tensor, "b m p"], Float[Tensor, "b m 1"], Float[Tensor, "b m 1"]]:
    """(x - mean) / sqrt(var + 1e-6) over each patch, with the unbiased variance; also the mean and the root."""
    mean = pixels.mean(dim=-1, keepdim=True)
    centred = pixels - mean
    variance = centred.square().sum(dim=-1, keepdim=True) / (pixels.shape[-1] - 1)  # var() is slow on a processor
    root = (variance + TARGET_EPS).sqrt()
    return centred / root, mean, root


def reconstruction_loss(predicted: Float[Tensor, "b m p"], target: Float[Tensor, "b m p"]) -> Float[Tensor, " b"]:
    """Mean squared error over the hidden patches of each image, in fp32."""
    return (predicted.float() - target).square().mean(dim=(1, 2))


class MAE(nn.Module):
    """Encode the visible patches, decode the hidden ones, compare pixels."""

    def __init__(self, config: MAEConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        mask = (seed, config.stage, "mask")
        self.mask_keys = [
            keyed_random.key(*mask),
            *(keyed_random.key(*mask, n) for n in range(1, config.masks_per_image)),
        ]
        self.encoder = ViT(config.encoder)
        self.decoder = MAEDecoder(config.decoder, config.encoder)
        initialise_encoder(self.encoder, scheme="mae", seed=seed)
        initialise(self.decoder, rule=mae_rule, seed=seed, prefix="decoder")
        if config.frozen_encoder:
            self.encoder.requires_grad_(False)

    def forward(self, batch: ImageBatch) -> Step:
        masks = len(self.mask_keys)
        self.encoder.require_image(batch["image"])  # by its own shape, before it is repeated
        image = batch["image"].repeat(masks, 1, 1, 1) if masks > 1 else batch["image"]
        drawn = [self.masks(batch["position"], number) for number in range(masks)]
        keep = torch.cat([kept for kept, _ in drawn])
        decoded = torch.cat([hidden[:, : self.config.num_decoded] for _, hidden in drawn])
        predicted = self.decoder(self.encoder(image, keep=keep), keep, decoded)
        tiles = gather_patches(image.float(), self.config.encoder.patch, decoded)
        pixels = pixels_of(tiles)
        target = normalise_patches(pixels)[0] if self.config.norm_pix else pixels
        per_image = reconstruction_loss(predicted, target).view(masks, -1).mean(dim=0)
        return Step(weighted_mean(per_image, batch["weight"]), {"flat_patches": flat_share(tiles)})

    def blocks(self) -> list[nn.Module]:
        return [*self.encoder.blocks, *self.decoder.decoder_blocks]

    def layer_of(self, name: str) -> int:
        return encoder_layer_of(name, self.config.encoder.depth)

    def masks(
        self, position: Int64[Tensor, " b"], number: int = 0
    ) -> tuple[Int64[Tensor, "b m"], Int64[Tensor, "b hidden"]]:
        """The patches that are kept and those that are hidden in one of the masks of each image."""
        encoder = self.config.encoder
        return random_masking(position, encoder.num_patches, self.config.num_kept, key=self.mask_keys[number])

    def pixels(self, image: Float[Tensor, "b c h w"], ids: Int64[Tensor, "b m"]) -> Float[Tensor, "b m p"]:
        return patch_pixels(image.float(), self.config.encoder.patch, ids)

    @torch.no_grad()
    def pictures(self, batch: ImageBatch) -> Float[Tensor, "rows b c h w"]:
        """Three rows: the image, what the encoder sees, and the reconstruction, as values in [0, 1].

        Per-patch-normalised predictions are put back with the mean and deviation of the true patch, which the network
        never sees: the picture shows structure and contrast it found, not brightness.
        """
        keep, hidden = self.masks(batch["position"])
        image, encoder = batch["image"], self.config.encoder
        tokens = self.encoder(image, keep=keep)
        parts = hidden.split(self.config.num_decoded, dim=1)  # as many at once as in training
        predicted = torch.cat([self.decoder(tokens, keep, part) for part in parts], dim=1).float()
        if self.config.norm_pix:
            _, mean, root = normalise_patches(self.pixels(image, hidden))
            predicted = predicted * root + mean
        shown = unnormalise(image.float(), encoder.mean, encoder.std)
        grey = torch.full_like(predicted, MASK_GREY)
        masked = scatter_patches(shown, encoder.patch, hidden, grey)
        canvas = scatter_patches(image.float(), encoder.patch, hidden, predicted)
        return torch.stack([shown, masked, unnormalise(canvas, encoder.mean, encoder.std)])


def flat_share(tiles: Float[Tensor, "b m c patch patch"]) -> Float[Tensor, ""]:
    """Share of patches that are one colour (most patches of drawings): there is nothing in them to predict.

    Up to FLAT, since bicubic resizing leaves ripples. If all channels have one mean and deviation, the target is 0.
    """
    values = tiles.flatten(3)
    return ((values.amax(dim=-1) - values.amin(dim=-1)) < FLAT).all(dim=-1).float().mean()


def scatter_patches(
    image: Float[Tensor, "b c h w"], patch: int, ids: Int64[Tensor, "b m"], pixels: Float[Tensor, "b m p"]
) -> Float[Tensor, "b c h w"]:
    """A copy of the image with the named patches replaced; the inverse of ``patch_pixels``."""
    b, c, h, w = image.shape
    rows, columns = h // patch, w // patch
    tiles = image.reshape(b, c, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    tiles = tiles.scatter(1, ids[:, :, None].expand_as(pixels), pixels)
    return tiles.view(b, rows, columns, patch, patch, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
