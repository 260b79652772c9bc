"""Video classification on Kinetics-400 and Something-Something v2 (paper section 4.4, paper.md 2.7).

    underpaint train video_k400_vit_b16 data=k400/train.csv data.videos=k400/videos init_from=runs/mae_wsp_b16 \
        --out runs/k400

The paper finetunes encoders that were pretrained on images alone, at 224 pixels, with relative positions; its appendix
with the values could not be obtained. Those of Kinetics-400 are SlowFast's (configs/masked_ssl, models of MAE-ST by the
same authors): 16 frames at a distance of 4, epochs, layer decay, drop path, dropout, decay, warm-up, clipping, last
rate, head, augmentations and the two views of each clip. Those of Something-Something are OmniMAE's
(omnimae_vitbase_ft_ssv2.yaml): rate, layer decay, drop path, decay, head and augmentations, without mirror images,
since left and right make classes.

Substitutes:

* rate of Kinetics: SlowFast's is one per node, and the batch of a node is a placeholder in its configs. That of L, 32
  clips, gives 2.4e-3 per 256 clips, which is MAE-ST's; B and H take the same 32 clips;
* batch: 512 clips; groups of 8 samples are mixed;
* precision: bf16;
* mean of the patch tokens and its norm before the head, as in MAE-ST, on both datasets;
* kernel of a patch divided by the frames of a tubelet (I3D), new positions that start at zero;
* relative positions are decayed as all matrices are, which SlowFast's are not;
* Something-Something: 40 epochs, since OmniMAE's warm-up of 5 epochs is an eighth of the training by its comments (its
  config says 100); a frame of each of 16 parts of the whole video, where OmniMAE takes 2.7 seconds;
* Something-Something, L and H: the recipe of B with the drop path of Kinetics.

Views of evaluation (`underpaint eval video`) are 7 clips and 3 crops on Kinetics, 5 and 3 on Something-Something.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from underpaint.data.augment.options import Augment
from underpaint.data.video.dataset import VideoData
from underpaint.models.sizes import SIZES
from underpaint.models.video import ClipConfig
from underpaint.objectives.classify_clips import ClassifyClipsConfig
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig
from underpaint.training.schedule import ScheduleConfig

KINETICS = 240_436
SOMETHING = 168_913
"""Training videos."""
BATCH, MICROBATCH = 512, 8
NODE = 32
"""Clips of a node of SlowFast, to which its rates belong."""
REPEATED = 2
"""Views of each clip on Kinetics."""


class Recipe(NamedTuple):
    """Values that differ between the sizes."""

    epochs: int
    base_lr: float
    layer_decay: float
    drop_path: float
    dropout: float = 0.0
    min_lr: float = 1e-6


K400 = {
    "vit_b16": Recipe(75, 6e-4 * 256 / NODE, layer_decay=0.65, drop_path=0.1, dropout=0.3, min_lr=1e-5),
    "vit_l16": Recipe(50, 3e-4 * 256 / NODE, layer_decay=0.75, drop_path=0.2, dropout=0.3, min_lr=1e-5),
    "vit_h14": Recipe(75, 3e-4 * 256 / NODE, layer_decay=0.8, drop_path=0.2, dropout=0.5, min_lr=1e-6),
}
SSV2 = {
    "vit_b16": Recipe(40, 1e-3, layer_decay=0.75, drop_path=0.1),  # OmniMAE
    "vit_l16": Recipe(40, 1e-3, layer_decay=0.75, drop_path=0.2),  # substitute
    "vit_h14": Recipe(40, 1e-3, layer_decay=0.75, drop_path=0.2),  # substitute
}


def k400(size: str) -> Run:
    """Kinetics-400 at 224 pixels."""
    augment = Augment(rand="rand-m7-mstd0.5-inc1", erase=0.25, mixup=0.8, cutmix=1.0, mix_group=MICROBATCH)
    data = VideoData(annotations="./train.csv", views=REPEATED, augment=augment, workers=8)
    run = _video(f"video_k400_{size}", size, K400[size], data=data, videos=KINETICS)
    assert isinstance(run.objective, ClassifyClipsConfig)
    objective = replace(run.objective, head_init_std=2e-5)
    return replace(run, objective=objective, optim=replace(run.optim, clip=5.0))


def ssv2(size: str) -> Run:
    """Something-Something v2 at 224 pixels."""
    augment = Augment(rand="rand-m7-n4-mstd0.5-inc1", erase=0.25, mixup=0.8, cutmix=1.0, mix_group=MICROBATCH)
    data = VideoData(annotations="./something-something-v2-train.json", flip=False, augment=augment, workers=8)
    run = _video(f"video_ssv2_{size}", size, SSV2[size], data=data, videos=SOMETHING)
    assert isinstance(run.objective, ClassifyClipsConfig)
    return replace(run, objective=replace(run.objective, clip=ClipConfig(sampling="uniform"), head_init_std=0.01))


def video_laptop() -> Run:
    """Clips of 8 frames of 48 pixels on a CPU."""
    return Run(
        name="video_laptop",
        objective=ClassifyClipsConfig(
            encoder=replace(SIZES["vit_laptop8"], positions="sincos_trained", final_norm=False),
            clip=ClipConfig(frames=8, sampling="uniform"),
            stage="finetune",
            pooling="mean",
            label_smoothing=0.1,
            drop_path=0.1,
            head_init_std=2e-5,
            init="mae",
        ),
        data=VideoData(annotations="./train.csv", scale=(0.5, 1.0), flip=False),
        budget=Budget(samples=4_800, batch_size=16, microbatch=16, warmup=480),
        optim=OptimConfig(
            base_lr=1.6e-2, weight_decay=0.05, betas=(0.9, 0.999), layer_decay=0.75, decay_tokens=False, clip=1.0
        ),
        schedule=ScheduleConfig(min_lr=1e-6),
        cadence=Cadence(log=160, save=1_600, keep=10_000_000, evaluate=10_000_000),
    )


def _video(name: str, size: str, recipe: Recipe, *, data: VideoData, videos: int) -> Run:
    epoch = videos * data.views
    return Run(
        name=name,
        objective=ClassifyClipsConfig(
            encoder=replace(SIZES[size], positions="sincos_trained", final_norm=False),
            shape_from_start=True,
            stage="finetune",
            pooling="mean",
            label_smoothing=0.1,
            drop_path=recipe.drop_path,
            dropout=recipe.dropout,
            init="mae",
        ),
        data=data,
        budget=Budget(samples=recipe.epochs * epoch, batch_size=BATCH, microbatch=MICROBATCH, warmup=5 * epoch),
        optim=OptimConfig(
            base_lr=recipe.base_lr,
            weight_decay=0.05,
            betas=(0.9, 0.999),
            layer_decay=recipe.layer_decay,
            decay_tokens=False,
        ),
        schedule=ScheduleConfig(min_lr=recipe.min_lr),
        precision="bf16",
        cadence=Cadence(log=10 * BATCH, save=epoch, keep=100 * epoch, evaluate=epoch),
    )


def video_k400_vit_b16() -> Run:
    """ViT-B/16 on Kinetics-400, with substitutes."""
    return k400("vit_b16")


def video_k400_vit_l16() -> Run:
    """ViT-L/16 on Kinetics-400, with substitutes."""
    return k400("vit_l16")


def video_k400_vit_h14() -> Run:
    """ViT-H/14 on Kinetics-400, with substitutes."""
    return k400("vit_h14")


def video_ssv2_vit_b16() -> Run:
    """ViT-B/16 on Something-Something v2, with substitutes."""
    return ssv2("vit_b16")


def video_ssv2_vit_l16() -> Run:
    """ViT-L/16 on Something-Something v2, with substitutes."""
    return ssv2("vit_l16")


def video_ssv2_vit_h14() -> Run:
    """ViT-H/14 on Something-Something v2, with substitutes."""
    return ssv2("vit_h14")
