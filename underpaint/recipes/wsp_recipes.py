"""Stage 2, weakly supervised pretraining on tags: the published recipe for every size, and one for a laptop.

    underpaint train wsp_vit_b16 data.source=/data/images init_from=runs/mae_vit_b16 --out runs/mae_wsp_vit_b16

Without ``init_from`` it is the paper's baseline from random weights; nothing else differs (paper.md C16). One epoch is
5 billion samples of the label-balanced stream. Optimizer, batch, warm-up, clipping and augmentation are the values
recalled for SWAG and marked as unverified; its peak rate of 4e-4 at batch 8192 is ``base_lr`` 1.25e-5 per 256.
``precision`` is bf16 where the paper has mixed fp16 (recalled, paper.md 1.4): the same memory, and no gradient scaler.
Flags for what is not known:

* ``reset_final_norm``: whether the final norm is initialised anew instead of taken from MAE;
* ``objective.encoder.positions``: trained (``learned``, as SWAG; MAE's sin-cos values are the start with ``init_from``)
  or frozen (``sincos``).
"""

from __future__ import annotations

from dataclasses import replace

from underpaint.data.dataset import ImageData
from underpaint.models.sizes import SIZES
from underpaint.objectives.classify import ClassifyConfig
from underpaint.recipes.mae_recipes import SMALL_SOURCE
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig

SAMPLES = 5_000_000_000


def wsp(size: str) -> Run:
    """The recipe of stage 2 for one of the sizes of models/sizes.py."""
    return Run(
        name=f"wsp_{size}",
        objective=ClassifyConfig(encoder=replace(SIZES[size], positions="learned")),
        data=ImageData(
            source="./images",
            targets="tags",
            vocabulary_size=28_000,
            resample="sqrt",
            resample_ratio=5 / 3,
            scale=(0.08, 1.0),
            workers=8,
        ),
        budget=Budget(samples=SAMPLES, batch_size=8192, microbatch=128, warmup=SAMPLES // 20),
        optim=OptimConfig(base_lr=1.25e-5, weight_decay=0.1, betas=(0.9, 0.95), clip=1.0),
        precision="bf16",
        cadence=Cadence(log=409_600, save=20_480_000, keep=500_000_000, evaluate=20_480_000),
    )


def wsp_vit_b16() -> Run:
    """ViT-B/16, 86M parameters."""
    return wsp("vit_b16")


def wsp_vit_l16() -> Run:
    """ViT-L/16, 303M parameters."""
    return wsp("vit_l16")


def wsp_vit_h14() -> Run:
    """ViT-H/14, 631M parameters."""
    return wsp("vit_h14")


def wsp_vit_2b14() -> Run:
    """ViT-2B/14, 1.9B parameters."""
    return wsp("vit_2b14")


def wsp_vit_6b5_14() -> Run:
    """ViT-6.5B/14, 6.4B parameters."""
    return wsp("vit_6.5b14")


def wsp_laptop() -> Run:
    """WSP on 48-px drawings on a CPU; position embeddings start as sin-cos and are trained, with or without MAE."""
    return Run(
        name="wsp_laptop",
        objective=ClassifyConfig(encoder=replace(SIZES["vit_laptop8"], positions="sincos_trained"), init="mae"),
        data=ImageData(source="openmoji", targets="tags", min_count=5, scale=(0.3, 1.0)),
        budget=Budget(samples=9_600, batch_size=64, microbatch=64, warmup=960),
        optim=OptimConfig(base_lr=2e-3, weight_decay=0.1, betas=(0.9, 0.95), clip=1.0),
        precision="fastest",
        cadence=Cadence(log=640, save=6_400, keep=10_000_000, evaluate=6_400),
    )


def wsp_small() -> Run:
    """WSP of studies with `--size small`: three collections, a wider encoder and more samples than `wsp_laptop`."""
    laptop = wsp_laptop()
    return replace(
        laptop,
        name="wsp_small",
        objective=replace(laptop.objective, encoder=replace(SIZES["vit_small8"], positions="sincos_trained")),
        data=replace(laptop.data, source=SMALL_SOURCE),
        budget=Budget(samples=128_000, batch_size=128, microbatch=128, warmup=12_800),
        optim=replace(laptop.optim, base_lr=1e-3),
        cadence=Cadence(log=6_400, save=64_000, keep=10_000_000, evaluate=64_000),
    )


def wsp_smoke() -> Run:
    """A network for tests, trained in seconds."""
    laptop = wsp_laptop()
    return replace(
        laptop,
        name="wsp_smoke",
        objective=replace(laptop.objective, encoder=replace(SIZES["vit_smoke8"], positions="sincos_trained")),
        budget=Budget(samples=1_280, batch_size=64, microbatch=64, warmup=128),
        precision="fp32",
        cadence=Cadence(log=128, save=256, keep=10_000_000, evaluate=640),
    )
