"""The encoder that ``underpaint.load_encoder`` gives: a ViT that takes images as people have them."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from underpaint.data.pictures import ImageTransform, Pictures, picture_list, read_pictures
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.view import ViewSetting, evaluation_input
from underpaint.models.pooling import Pooling, pool
from underpaint.models.vit import ViT
from underpaint.models.weights import at_size, load_encoder_as


class ImageEncoder(ViT):
    """A ViT with the view of its images: ``encoder.embed(images)`` gives what ``underpaint embed`` writes."""

    @property
    def transform(self) -> ImageTransform:
        """The transform of an image (a path, Pillow image, array or tensor) to a normalised tensor (c, h, w).

        The view is that of the evaluations of frozen features, ``published``: the centre crop of the image resized in
        8 bits by Pillow, as transforms of torchvision and timm do it.
        """
        return ImageTransform(evaluation_input(self.config.image_input, "published"))

    def embed(
        self, images: Pictures, *, pooling: Pooling = "cls", view: ViewSetting = "published", batch_size: int = 64
    ) -> Float[Tensor, "n d"]:
        """Features of images on the CPU, one row each: of one image, a list, a batch, or a dataset of torch.

        ``view`` is a view of the evaluations; the encoder's positions are resized where it has another size.

        Raises:
            ValueError: for an image that cannot be read, with its number, and for features that are not finite.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be 1 or more")
        format = evaluation_input(self.config.image_input, view, patch=self.config.patch)
        encoder = self if format.size == self.config.size else at_size(self, format.size)
        given, device = picture_list(images), self.cls_token.device
        features = [torch.zeros(0, self.config.width)]
        for start in range(0, len(given), batch_size):
            numbers = range(start, min(start + batch_size, len(given)))
            image, problems = read_pictures(given, numbers, format=format)
            for number, problem in zip(numbers, problems, strict=True):
                if problem:
                    raise ValueError(f"images[{number}]: {problem}")
            with evaluation_mode(encoder, device):
                features.append(pool(encoder(image.to(device)).float(), pooling).cpu())
            if not features[-1].isfinite().all():
                raise ValueError(f"features of images[{start}:{start + len(numbers)}] are not finite; it has diverged")
        return torch.cat(features)


def load_encoder(folder: str | Path) -> ImageEncoder:
    """The encoder of a finished run or of imported weights, in evaluation mode on the CPU.

    ``encoder.embed(images)`` gives features of images, ``encoder.transform(image)`` the view of one. Called on such
    views (b, c, h, w), the encoder returns tokens (b, 1 + n, d), cls first.

    Raises:
        ValueError: if the folder holds no encoder or a damaged one.
    """
    return load_encoder_as(ImageEncoder, folder)
