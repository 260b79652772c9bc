"""Linear probes as published: a linear layer on frozen features, trained on random crops (paper.md 2.3).

    underpaint train linear_vit_b16 data.source=/data/imagenet init_from=runs/mae_vit_b16 --out runs/linear
    underpaint train linear_swag_vit_b16 data.source=/data/imagenet init_from=runs/wsp_vit_b16 --out runs/linear

``linear_*`` is MAE's, with LARS. ``linear_swag_*`` is SWAG's, with SGD; its rate is not known, so ``optim.base_lr`` is
a substitute to be tuned. On features computed once, ``underpaint eval linear`` needs no learning rate, and
``underpaint eval linear_sgd`` has both optimizers.

In MAE's recipes BatchNorm without affine parameters stands before the head. Two things differ from MAE's code:
``precision`` is bf16, not fp16, and the head starts from N(0, 0.01) cut off at two standard deviations, where the
bounds -2 and 2 of its call are absolute and cut nothing off.
"""

from __future__ import annotations

from dataclasses import replace

from underpaint.data.dataset import ImageData
from underpaint.models.sizes import SIZES
from underpaint.objectives.classify import ClassifyConfig
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig

IMAGENET = 1_281_167


def linear(size: str, epochs: int) -> Run:
    """The recipe for one of the sizes of models/sizes.py; an epoch is one of ImageNet-1k."""
    return Run(
        name=f"linear_{size}",
        objective=ClassifyConfig(
            encoder=SIZES[size], stage="linear", frozen_encoder=True, batch_norm=True, head_init_std=0.01, init="mae"
        ),
        data=ImageData(source="./images", split="train", targets="class", scale=(0.08, 1.0), workers=8),
        budget=Budget(samples=epochs * IMAGENET, batch_size=16_384, microbatch=512, warmup=10 * IMAGENET),
        optim=OptimConfig(name="lars", base_lr=0.1, weight_decay=0.0),
        precision="bf16",
        cadence=Cadence(log=163_840, save=IMAGENET, keep=100 * IMAGENET, evaluate=IMAGENET),
    )


def linear_vit_b16() -> Run:
    """ViT-B/16, 90 epochs."""
    return linear("vit_b16", epochs=90)


def linear_vit_l16() -> Run:
    """ViT-L/16, 50 epochs."""
    return linear("vit_l16", epochs=50)


def linear_vit_h14() -> Run:
    """ViT-H/14, 50 epochs."""
    return linear("vit_h14", epochs=50)


def linear_swag(size: str) -> Run:
    """SWAG's probe: SGD with Nesterov's momentum, 28 epochs, cosine without warm-up, evaluated at 224 of 224 pixels."""
    published = linear(size, epochs=28)
    encoder = replace(SIZES[size], view="crop", crop_share=1.0)
    return replace(
        published,
        name=f"linear_swag_{size}",
        objective=replace(published.objective, encoder=encoder, batch_norm=False),
        budget=Budget(samples=28 * IMAGENET, batch_size=1024, microbatch=512, warmup=0),
        optim=OptimConfig(name="sgd", nesterov=True, base_lr=0.01, weight_decay=1e-9),
    )


def linear_swag_vit_b16() -> Run:
    """SWAG's probe of a ViT-B/16; the rate is a substitute."""
    return linear_swag("vit_b16")


def linear_swag_vit_l16() -> Run:
    """SWAG's probe of a ViT-L/16; the rate is a substitute."""
    return linear_swag("vit_l16")


def linear_swag_vit_h14() -> Run:
    """SWAG's probe of a ViT-H/14; the rate is a substitute."""
    return linear_swag("vit_h14")


def linear_smoke() -> Run:
    """A network for tests, trained in seconds."""
    small = linear("vit_b16", epochs=90)
    return replace(
        small,
        name="linear_smoke",
        objective=replace(small.objective, encoder=SIZES["vit_smoke8"]),
        data=ImageData(source="digits", split="train", targets="class", scale=(0.5, 1.0)),
        budget=Budget(samples=1_280, batch_size=128, microbatch=128, warmup=128),
        precision="fp32",
        cadence=Cadence(log=128, save=640, keep=10_000_000, evaluate=10_000_000),
    )
