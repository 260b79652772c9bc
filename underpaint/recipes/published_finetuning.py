"""Published full finetuning on ImageNet-1k and iNaturalist 2018, at 224 pixels and at 512 or 518 (paper.md 2.2).

    underpaint train finetune_in1k_vit_b16 data=/data/imagenet init_from=runs/mae_wsp_b16 --out runs/finetuned

Width, depth, patch and normalisation of the encoder are those of ``init_from``; its positions are resized. Sources:

* ImageNet-1k at 224, B, L and H: MAE's FINETUNE.md and main_finetune.py, all values. The group of 32 samples that is
  mixed with itself is the batch of one of MAE's processes.
* iNaturalist 2018, L: MIM-Refiner (mae_large16.yaml), the only published recipe for MAE encoders; cls token.
* 512 and 518: MAWS's released models say the sizes, the cls token with the final norm, and the square view of
  evaluation. The paper's appendix with the other values could not be obtained.

Substitutes for values that are not published:

* precision: bf16, where MAE has fp16, whose gradients overflow at high resolution;
* 2B and 6.5B: rate, layer decay, drop path and length of H;
* iNaturalist B, H, 2B and 6.5B: the recipe of L with ImageNet's layer decay and drop path of each size;
* 512 and 518: rate, layer decay, drop path, augmentation and length of the recipe at 224;
* no average of the weights (``ema_decay``), since whether the paper has one is not known.

Repeated augmentation (``data.views``) is in none of the sources.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from underpaint.data.augment.options import Augment
from underpaint.data.dataset import ImageData
from underpaint.models.sizes import SIZES
from underpaint.objectives.classify import ClassifyConfig
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig
from underpaint.training.schedule import ScheduleConfig

IMAGENET = 1_281_167
INATURALIST = 437_513
"""Training images."""

AUGMENT = Augment(rand="rand-m9-mstd0.5-inc1", erase=0.25, mixup=0.8, cutmix=1.0, mix_group=32)


class Recipe(NamedTuple):
    """Values that differ between the sizes."""

    epochs: int
    base_lr: float
    layer_decay: float
    drop_path: float


IN1K = {
    "vit_b16": Recipe(epochs=100, base_lr=5e-4, layer_decay=0.65, drop_path=0.1),  # MAE
    "vit_l16": Recipe(epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=0.2),  # MAE
    "vit_h14": Recipe(epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=0.3),  # MAE
    "vit_2b14": Recipe(epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=0.3),  # substitute
    "vit_6.5b14": Recipe(epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=0.3),  # substitute
}
INAT18 = {
    "vit_b16": Recipe(epochs=50, base_lr=1e-3, layer_decay=0.65, drop_path=0.1),  # substitute
    "vit_l16": Recipe(epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=0.2),  # MIM-Refiner
    "vit_h14": Recipe(epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=0.3),  # substitute
    "vit_2b14": Recipe(epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=0.3),  # substitute
    "vit_6.5b14": Recipe(epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=0.3),  # substitute
}
HIGH = {"vit_b16": 512, "vit_l16": 512, "vit_h14": 518, "vit_2b14": 518, "vit_6.5b14": 518}
"""Resolution of MAWS's finetuned models."""


def in1k(size: str) -> Run:
    """ImageNet-1k at 224 pixels: MAE's recipe for one of the sizes of models/sizes.py."""
    run = _finetune(f"finetune_in1k_{size}", size, IN1K[size], images=IMAGENET)
    assert isinstance(run.objective, ClassifyConfig)
    encoder = replace(run.objective.encoder, final_norm=False)
    return replace(run, objective=replace(run.objective, encoder=encoder, pooling="mean"))


def inat18(size: str) -> Run:
    """INaturalist 2018 at 224 pixels."""
    return _finetune(f"finetune_inat18_{size}", size, INAT18[size], images=INATURALIST)


def at_high_resolution(run: Run, size: str) -> Run:
    """The recipe at 512 or 518 pixels, with the cls token and whole images in evaluation."""
    pixels = HIGH[size]
    assert isinstance(run.objective, ClassifyConfig)
    encoder = replace(run.objective.encoder, size=(pixels, pixels), final_norm=True, view="stretch", crop_share=1.0)
    return replace(
        run,
        name=f"{run.name}_{pixels}",
        objective=replace(run.objective, encoder=encoder, pooling="cls"),
        budget=replace(run.budget, microbatch=32),
    )


def _finetune(name: str, size: str, recipe: Recipe, *, images: int) -> Run:
    return Run(
        name=name,
        objective=ClassifyConfig(
            encoder=replace(SIZES[size], positions="sincos_trained", view="crop", crop_share=224 / 256),
            shape_from_start=True,
            stage="finetune",
            label_smoothing=0.1,
            drop_path=recipe.drop_path,
            head_init_std=2e-5,
            init="mae",
        ),
        data=ImageData(
            source="./images", split="train", targets="class", scale=(0.08, 1.0), augment=AUGMENT, workers=8
        ),
        budget=Budget(samples=recipe.epochs * images, batch_size=1024, microbatch=128, warmup=5 * images),
        optim=OptimConfig(
            base_lr=recipe.base_lr,
            weight_decay=0.05,
            betas=(0.9, 0.999),
            layer_decay=recipe.layer_decay,
            decay_tokens=False,
        ),
        schedule=ScheduleConfig(min_lr=1e-6),
        precision="bf16",
        cadence=Cadence(log=102_400, save=images, keep=100 * images, evaluate=images),
    )


def finetune_in1k_vit_b16() -> Run:
    """ViT-B/16 on ImageNet-1k at 224 pixels."""
    return in1k("vit_b16")


def finetune_in1k_vit_l16() -> Run:
    """ViT-L/16 on ImageNet-1k at 224 pixels."""
    return in1k("vit_l16")


def finetune_in1k_vit_h14() -> Run:
    """ViT-H/14 on ImageNet-1k at 224 pixels."""
    return in1k("vit_h14")


def finetune_in1k_vit_2b14() -> Run:
    """ViT-2B/14 on ImageNet-1k at 224 pixels, with substitutes."""
    return in1k("vit_2b14")


def finetune_in1k_vit_6b5_14() -> Run:
    """ViT-6.5B/14 on ImageNet-1k at 224 pixels, with substitutes."""
    return in1k("vit_6.5b14")


def finetune_in1k_vit_b16_512() -> Run:
    """ViT-B/16 on ImageNet-1k at 512 pixels, with substitutes."""
    return at_high_resolution(in1k("vit_b16"), "vit_b16")


def finetune_in1k_vit_l16_512() -> Run:
    """ViT-L/16 on ImageNet-1k at 512 pixels, with substitutes."""
    return at_high_resolution(in1k("vit_l16"), "vit_l16")


def finetune_in1k_vit_h14_518() -> Run:
    """ViT-H/14 on ImageNet-1k at 518 pixels, with substitutes."""
    return at_high_resolution(in1k("vit_h14"), "vit_h14")


def finetune_in1k_vit_2b14_518() -> Run:
    """ViT-2B/14 on ImageNet-1k at 518 pixels, with substitutes."""
    return at_high_resolution(in1k("vit_2b14"), "vit_2b14")


def finetune_in1k_vit_6b5_14_518() -> Run:
    """ViT-6.5B/14 on ImageNet-1k at 518 pixels, with substitutes."""
    return at_high_resolution(in1k("vit_6.5b14"), "vit_6.5b14")


def finetune_inat18_vit_b16() -> Run:
    """ViT-B/16 on iNaturalist 2018 at 224 pixels, with substitutes."""
    return inat18("vit_b16")


def finetune_inat18_vit_l16() -> Run:
    """ViT-L/16 on iNaturalist 2018 at 224 pixels."""
    return inat18("vit_l16")


def finetune_inat18_vit_h14() -> Run:
    """ViT-H/14 on iNaturalist 2018 at 224 pixels, with substitutes."""
    return inat18("vit_h14")


def finetune_inat18_vit_2b14() -> Run:
    """ViT-2B/14 on iNaturalist 2018 at 224 pixels, with substitutes."""
    return inat18("vit_2b14")


def finetune_inat18_vit_6b5_14() -> Run:
    """ViT-6.5B/14 on iNaturalist 2018 at 224 pixels, with substitutes."""
    return inat18("vit_6.5b14")


def finetune_inat18_vit_b16_512() -> Run:
    """ViT-B/16 on iNaturalist 2018 at 512 pixels, with substitutes."""
    return at_high_resolution(inat18("vit_b16"), "vit_b16")


def finetune_inat18_vit_l16_512() -> Run:
    """ViT-L/16 on iNaturalist 2018 at 512 pixels, with substitutes."""
    return at_high_resolution(inat18("vit_l16"), "vit_l16")


def finetune_inat18_vit_h14_518() -> Run:
    """ViT-H/14 on iNaturalist 2018 at 518 pixels, with substitutes."""
    return at_high_resolution(inat18("vit_h14"), "vit_h14")


def finetune_inat18_vit_2b14_518() -> Run:
    """ViT-2B/14 on iNaturalist 2018 at 518 pixels, with substitutes."""
    return at_high_resolution(inat18("vit_2b14"), "vit_2b14")


def finetune_inat18_vit_6b5_14_518() -> Run:
    """ViT-6.5B/14 on iNaturalist 2018 at 518 pixels, with substitutes."""
    return at_high_resolution(inat18("vit_6.5b14"), "vit_6.5b14")
