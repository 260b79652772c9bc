"""Detection on COCO and LVIS: Cascade Mask R-CNN on a plain ViT (ViTDet; paper section 4.4, paper.md 2.6).

    underpaint train detect_coco_vit_b16 data=annotations/instances_train2017.json data.images=train2017 \
        init_from=runs/mae_wsp_b16 --out runs/coco

All values of B, L and H are those of detectron2's configs (projects/ViTDet/configs/COCO and LVIS, cascade), which the
paper starts from; its appendix with the adapted values could not be obtained. An encoder with patches of 14 pixels is
resized to patches of 16.

Substitutes:

* precision: bf16, where detectron2 has fp16;
* 2B: the values of H, and global attention at the end of every quarter of its 24 blocks;
* the crop of large-scale jitter is drawn for each axis, where detectron2 draws one number for both;
* warm-up starts at a rate of 0, where detectron2's starts at a thousandth of the peak.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from underpaint.data.detection.dataset import DetectionData
from underpaint.models.detector.config import DetectorConfig
from underpaint.models.sizes import SIZES
from underpaint.objectives.detect import DetectConfig
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig
from underpaint.training.schedule import ScheduleConfig

SIDE = 1024
BATCH = 64
WARMUP = 250
"""Steps."""
DROPS = (8 / 9, 26 / 27)
"""COCO: steps 163,889 and 177,546 of 184,375; LVIS: 138,889 and 150,463 of 156,250."""


class Recipe(NamedTuple):
    """Values that differ between the sizes."""

    steps: int
    rate: float  # at a batch of 64
    layer_decay: float
    drop_path: float


COCO = {
    "vit_b16": Recipe(steps=184_375, rate=1e-4, layer_decay=0.7, drop_path=0.1),
    "vit_l16": Recipe(steps=184_375, rate=1e-4, layer_decay=0.8, drop_path=0.4),
    "vit_h14": Recipe(steps=184_375 * 3 // 4, rate=1e-4, layer_decay=0.9, drop_path=0.5),
    "vit_2b14": Recipe(steps=184_375 * 3 // 4, rate=1e-4, layer_decay=0.9, drop_path=0.5),  # substitute
}
LVIS = {
    "vit_b16": Recipe(steps=156_250, rate=2e-4, layer_decay=0.7, drop_path=0.1),
    "vit_l16": Recipe(steps=156_250, rate=2e-4, layer_decay=0.8, drop_path=0.4),
    "vit_h14": Recipe(steps=156_250, rate=1e-4, layer_decay=0.9, drop_path=0.4),
    "vit_2b14": Recipe(steps=156_250, rate=1e-4, layer_decay=0.9, drop_path=0.4),  # substitute
}
DECAYS_EVERYTHING = ("vit_h14", "vit_2b14")
"""Sizes whose positions and norms are decayed as well; biases are in all."""


def coco(size: str) -> Run:
    """COCO at 1,024 pixels."""
    return _detect(f"detect_coco_{size}", size, COCO[size], DetectorConfig(), objects=100)


def lvis(size: str) -> Run:
    """LVIS at 1,024 pixels: one sigmoid per class, the federated loss, and images of rare classes repeated."""
    detector = DetectorConfig(scores="sigmoid", federated_classes=50, score_threshold=0.02, detections=300)
    run = _detect(f"detect_lvis_{size}", size, LVIS[size], detector, objects=300)
    assert isinstance(run.data, DetectionData)
    return replace(run, data=replace(run.data, repeat_threshold=0.001))


def detect_laptop() -> Run:
    """Detection at 128 pixels on a CPU."""
    detector = DetectorConfig(
        window=8,
        global_blocks=(1, 3),
        channels=64,
        hidden=128,
        convolutions=1,
        anchor_sides=(8.0, 16.0, 32.0, 64.0, 112.0),
        sampled_anchors=128,
        proposals_per_level=(200, 100),
        proposals=100,
        sampled_regions=64,
    )
    return Run(
        name="detect_laptop",
        objective=DetectConfig(
            encoder=replace(SIZES["vit_laptop8"], size=(128, 128), final_norm=False),
            detector=detector,
            drop_path=0.1,
            objects=50,
        ),
        data=DetectionData(annotations="./annotations.json", scale=(0.5, 1.5)),
        budget=Budget(samples=4_800, batch_size=16, microbatch=16, warmup=480),
        optim=OptimConfig(
            base_lr=1.6e-2, weight_decay=0.1, betas=(0.9, 0.999), layer_decay=0.8, decay_tokens=False, clip=1.0
        ),
        cadence=Cadence(log=160, save=1_600, keep=10_000_000, evaluate=10_000_000),
    )


def _detect(name: str, size: str, recipe: Recipe, detector: DetectorConfig, *, objects: int) -> Run:
    encoder = replace(SIZES[size], size=(SIDE, SIDE), patch=16, final_norm=False)
    everything = size in DECAYS_EVERYTHING
    return Run(
        name=name,
        objective=DetectConfig(
            encoder=encoder,
            detector=replace(detector, global_blocks=last_of_quarters(encoder.depth)),
            drop_path=recipe.drop_path,
            objects=objects,
        ),
        data=DetectionData(annotations="./annotations.json", workers=8),
        budget=Budget(samples=recipe.steps * BATCH, batch_size=BATCH, microbatch=1, warmup=WARMUP * BATCH),
        optim=OptimConfig(
            base_lr=recipe.rate * 256 / BATCH,
            weight_decay=0.1,
            betas=(0.9, 0.999),
            layer_decay=recipe.layer_decay,
            decay_tokens=everything,
            decay_vectors="all" if everything else "biases",
        ),
        schedule=ScheduleConfig(kind="steps", drops=DROPS),
        cadence=Cadence(log=1_280, save=320_000, keep=3_200_000, evaluate=320_000),
        precision="bf16",
    )


def last_of_quarters(depth: int) -> tuple[int, ...]:
    """The last block of each quarter of a ViT's blocks."""
    return tuple(depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4))


def detect_coco_vit_b16() -> Run:
    """ViT-B/16 on COCO."""
    return coco("vit_b16")


def detect_coco_vit_l16() -> Run:
    """ViT-L/16 on COCO."""
    return coco("vit_l16")


def detect_coco_vit_h14() -> Run:
    """ViT-H/14 on COCO, its patches resized to 16 pixels."""
    return coco("vit_h14")


def detect_coco_vit_2b14() -> Run:
    """ViT-2B/14 on COCO, its patches resized to 16 pixels."""
    return coco("vit_2b14")


def detect_lvis_vit_b16() -> Run:
    """ViT-B/16 on LVIS."""
    return lvis("vit_b16")


def detect_lvis_vit_l16() -> Run:
    """ViT-L/16 on LVIS."""
    return lvis("vit_l16")


def detect_lvis_vit_h14() -> Run:
    """ViT-H/14 on LVIS, its patches resized to 16 pixels."""
    return lvis("vit_h14")


def detect_lvis_vit_2b14() -> Run:
    """ViT-2B/14 on LVIS, its patches resized to 16 pixels."""
    return lvis("vit_2b14")
