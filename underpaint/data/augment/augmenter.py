"""Augmentations of one stream: of each view when it is made, and of each batch when it is normalised."""

from __future__ import annotations

import torch
from jaxtyping import Num
from torch import Tensor

from underpaint import keyed_random
from underpaint.core import ImageInput, LabelBatch
from underpaint.data.augment.erasing import erase
from underpaint.data.augment.mixing import mix_batch
from underpaint.data.augment.options import Augment


class Augmenter:
    """The augmentations of a stream with a seed; it is sent to worker processes."""

    def __init__(self, augment: Augment, format: ImageInput, *, seed: int) -> None:
        if augment.rand and format.channels not in (1, 3):
            raise ValueError(
                f"data.augment.rand={augment.rand} changes grey and RGB images, and these have {format.channels} "
                f"channels; leave it out"
            )
        self.augment = augment
        self.spec = augment.rand_spec()
        self.mean = format.mean
        self.keys = {name: keyed_random.key(seed, "augment", name) for name in ("rand", "erase", "mix")}

    def view(self, view: Num[Tensor, "c h w"], position: int) -> Num[Tensor, "c h w"]:
        """The view of a sample, in [0, 1] or of eight bits, after RandAugment, which makes it one of eight bits."""
        if self.spec is None:
            return view
        from underpaint.data.augment.rand_augment import fill_of, rand_augment

        pixels = view if view.dtype == torch.uint8 else view.mul(255).round_().to(torch.uint8)
        seed = keyed_random.sample_seed(self.keys["rand"], position)
        return rand_augment(pixels, self.spec, fill=fill_of(self.mean), seed=seed)

    def batch(self, batch: LabelBatch) -> None:
        """Erase parts of the normalised images, and mix them, in place."""
        if self.augment.erase:
            rows = zip(batch["image"], batch["position"].tolist(), batch["weight"].tolist(), strict=True)
            for image, position, weight in rows:
                if weight:
                    seed = keyed_random.sample_seed(self.keys["erase"], position)
                    erase(image, probability=self.augment.erase, seed=seed)
        if self.augment.mixes:
            mix_batch(batch, self.augment, key=self.keys["mix"])
