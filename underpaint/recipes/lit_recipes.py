"""Stage 3, LiT: a text tower for a locked encoder, so that images are found by words (paper.md 1.6).

    underpaint train lit_vit_b16 init_from=runs/mae_wsp_b16 objective.text_from=./xlmr data.source=/data --out runs/lit

The paper and its code say: the towers (XLM-R base beside ViT-B, large beside the others), the width of the common
space, 100 tokens and the two that begin and end a text, a locked image tower under a learned projection, the softmax
loss, and the scale 1/0.07 at the start. Optimizer, batch, budget and augmentation are not known. Substitutes:

* AdamW with a peak rate of 7e-4 at batch 8192, betas (0.9, 0.99), weight decay 1e-4, 50,000 steps, 2,000 of them
  warm-up, and bf16 are those of dino.txt (DINOv3), the published LiT nearest to this one;
* crops of 90 to 100% of the area are open_clip's;
* the clamp of the scale at 100 is CLIP's; the paper's code has none.

A batch is compared as a whole: each of w processes takes ``batch_size / w`` pairs at once, and microbatches are
refused.
"""

from __future__ import annotations

from dataclasses import replace

from underpaint.data.captions.caption_data import CaptionData
from underpaint.models.ngram_tower import NgramConfig
from underpaint.models.sizes import SIZES
from underpaint.models.text_tower import TextConfig
from underpaint.objectives.lit import LitConfig
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig

XLMR_BASE = TextConfig()
XLMR_LARGE = TextConfig(width=1024, depth=24, heads=16)
BATCH = 8192
STEPS = 50_000


def lit(size: str, text: TextConfig, *, width: int, start: str) -> Run:
    """The recipe of stage 3 for one of the sizes of models/sizes.py, from the text tower ``start``."""
    return Run(
        name=f"lit_{size}",
        objective=LitConfig(encoder=SIZES[size], text=text, width=width, tokens=102, text_from=start),
        data=CaptionData(source="./images", scale=(0.9, 1.0), workers=8),
        budget=Budget(samples=STEPS * BATCH, batch_size=BATCH, microbatch=BATCH, warmup=2_000 * BATCH),
        optim=OptimConfig(base_lr=7e-4 * 256 / BATCH, weight_decay=1e-4, betas=(0.9, 0.99)),
        precision="bf16",
        cadence=Cadence(log=409_600, save=20_480_000, keep=500_000_000, evaluate=20_480_000),
    )


def lit_vit_b16() -> Run:
    """XLM-R base beside ViT-B/16."""
    return lit("vit_b16", XLMR_BASE, width=768, start="./xlm-roberta-base")


def lit_vit_l16() -> Run:
    """XLM-R large beside ViT-L/16."""
    return lit("vit_l16", XLMR_LARGE, width=1024, start="./xlm-roberta-large")


def lit_vit_h14() -> Run:
    """XLM-R large beside ViT-H/14."""
    return lit("vit_h14", XLMR_LARGE, width=1024, start="./xlm-roberta-large")


def lit_vit_2b14() -> Run:
    """XLM-R large beside ViT-2B/14."""
    return lit("vit_2b14", XLMR_LARGE, width=2048, start="./xlm-roberta-large")


def lit_laptop() -> Run:
    """LiT on drawings and their names in 14 languages on a CPU, with a small text tower from scratch."""
    return Run(
        name="lit_laptop",
        objective=LitConfig(
            encoder=replace(SIZES["vit_laptop8"], positions="sincos_trained"),
            text=TextConfig(vocabulary=8_000, positions=34, width=96, depth=2, heads=3),
            width=96,
        ),
        data=CaptionData(source="openmoji", scale=(0.6, 1.0)),
        budget=Budget(samples=64_000, batch_size=128, microbatch=128, warmup=6_400),
        optim=OptimConfig(base_lr=2e-3, weight_decay=1e-4, betas=(0.9, 0.99)),
        precision="fastest",
        cadence=Cadence(log=1_280, save=12_800, keep=10_000_000, evaluate=12_800),
    )


def lit_multilingual() -> Run:
    """`lit_laptop` beside a locked text tower for 15 languages from the package of the extra `text-multilingual`."""
    laptop = lit_laptop()
    assert isinstance(laptop.objective, LitConfig)
    objective = replace(laptop.objective, text=NgramConfig(), text_from="use-multilingual", locked_text=True)
    return replace(laptop, name="lit_multilingual", objective=objective)


def lit_smoke() -> Run:
    """A network for tests, trained in seconds."""
    laptop = lit_laptop()
    return replace(
        laptop,
        name="lit_smoke",
        objective=replace(
            laptop.objective,
            encoder=replace(SIZES["vit_smoke8"], positions="sincos_trained"),
            text=TextConfig(vocabulary=2_000, positions=18, width=32, depth=1, heads=2),
            width=32,
            tokens=16,
        ),
        budget=Budget(samples=1_280, batch_size=64, microbatch=64, warmup=128),
        precision="fp32",
        cadence=Cadence(log=128, save=256, keep=10_000_000, evaluate=640),
    )
