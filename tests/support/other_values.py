"""Another value for every field of a run, as overrides; runs and images so small that all of them can be tried."""

from __future__ import annotations

import csv
import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from underpaint import config
from underpaint.data.dataset import ImageData
from underpaint.data.detection.dataset import DetectionData
from underpaint.data.video.dataset import VideoData
from underpaint.models.text_tower import TextConfig
from underpaint.objectives.classify_clips import ClassifyClipsConfig
from underpaint.objectives.detect import DetectConfig
from underpaint.objectives.lit import LitConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.run import Budget, Cadence, Run, encoder_of

BATCH = 16
OTHER: dict[str, tuple[str, ...]] = {
    "name": ("name=another",),
    "seed": ("seed=1",),
    "precision": ("precision=bf16", "precision=fp32"),
    "ema_decay": ("ema_decay=0.5",),
    "max_skipped": ("max_skipped=1",),
    "reset_final_norm": ("reset_final_norm=true",),
    "objective.encoder.size": ("objective.encoder.size=24,16",),
    "objective.encoder.patch": ("objective.encoder.patch=2", "objective.encoder.patch=8"),
    "objective.encoder.channels": (
        "objective.encoder.channels=1 objective.encoder.mean=0.5 objective.encoder.std=0.5",
    ),
    "objective.encoder.width": ("objective.encoder.width=32",),
    "objective.encoder.depth": ("objective.encoder.depth=1",),
    "objective.encoder.heads": ("objective.encoder.heads=4",),
    "objective.encoder.mlp_ratio": ("objective.encoder.mlp_ratio=3",),
    "objective.encoder.value_range": ("objective.encoder.value_range=0,128",),
    "objective.encoder.mean": ("objective.encoder.mean=0.1,0.2,0.3",),
    "objective.encoder.std": ("objective.encoder.std=0.1,0.2,0.3",),
    "objective.encoder.norm_eps": ("objective.encoder.norm_eps=0.1",),
    "objective.encoder.crop_share": ("objective.encoder.crop_share=0.5",),
    "objective.decoder.width": ("objective.decoder.width=32",),
    "objective.decoder.depth": ("objective.decoder.depth=2",),
    "objective.decoder.heads": ("objective.decoder.heads=4",),
    "objective.decoder.mlp_ratio": ("objective.decoder.mlp_ratio=3",),
    "objective.mask_ratio": ("objective.mask_ratio=0.5",),
    "objective.decode_fraction": ("objective.decode_fraction=0.5",),
    "objective.masks_per_image": ("objective.masks_per_image=2",),
    "objective.loss": ("objective.loss=softmax_idf", "objective.loss=bce objective.label_smoothing=0"),
    "objective.pooling": ("objective.pooling=mean objective.encoder.final_norm=false",),
    "objective.label_smoothing": ("objective.label_smoothing=0.3",),
    "objective.drop_path": ("objective.drop_path=0.6",),
    "objective.head_init_std": ("objective.head_init_std=0.3",),
    "objective.text.vocabulary": ("objective.text.vocabulary=150",),
    "objective.text.positions": ("objective.text.positions=40",),
    "objective.text.width": ("objective.text.width=24",),
    "objective.text.depth": ("objective.text.depth=2",),
    "objective.text.heads": ("objective.text.heads=4",),
    "objective.text.mlp_ratio": ("objective.text.mlp_ratio=3",),
    "objective.text.norm_eps": ("objective.text.norm_eps=0.1",),
    "objective.width": ("objective.width=24",),
    "objective.tokens": ("objective.tokens=4",),
    "objective.logit_scale": ("objective.logit_scale=3",),
    "objective.logit_bias": ("objective.logit_bias=-3",),
    "objective.unlocked_blocks": ("objective.unlocked_blocks=1",),
    "data.languages": ("data.languages=de",),
    "data.templates": ("data.templates={}s",),
    "data.split": ("data.split=train", "data.split=pretrain"),
    "data.targets": ("data.targets=tags", "data.targets=class"),
    "data.vocabulary_size": ("data.vocabulary_size=2",),
    "data.min_count": ("data.min_count=20",),
    "data.resample_ratio": ("data.resample_ratio=1.2",),
    "data.scale": ("data.scale=0.9,1",),
    "data.share": ("data.share=0.6",),
    "data.share_seed": ("data.share_seed=5",),
    "data.labels_per_image": ("data.labels_per_image=1",),
    "data.lanes.count": ("data.lanes.count=2",),
    "data.lanes.window": ("data.lanes.window=3",),
    "data.views": ("data.views=2",),
    "data.augment.rand": ("data.augment.rand=rand-m9-inc1",),
    "data.augment.erase": ("data.augment.erase=0.9",),
    "data.augment.mixup": ("data.augment.mixup=0.5 data.targets=class", "data.augment.mixup=0.5"),
    "data.augment.cutmix": ("data.augment.cutmix=0.5 data.targets=class", "data.augment.cutmix=0.5"),
    "data.augment.mix_probability": ("data.augment.mix_probability=0.5",),
    "data.augment.switch_probability": ("data.augment.switch_probability=0.9",),
    "data.augment.mix_group": ("data.augment.mix_group=4",),
    "data.max_bad": ("data.max_bad=0",),
    "budget.samples": (f"budget.samples={4 * BATCH}",),
    "budget.epochs": ("budget.epochs=1",),
    "budget.batch_size": (f"budget.batch_size={BATCH // 2}",),
    "budget.warmup": ("budget.warmup=1",),
    "optim.base_lr": ("optim.base_lr=0.02",),
    "optim.weight_decay": ("optim.weight_decay=0.7",),
    "optim.betas": ("optim.betas=0.1,0.2",),
    "optim.momentum": ("optim.momentum=0.1",),
    "optim.trust": ("optim.trust=0.1",),
    "optim.layer_decay": ("optim.layer_decay=0.3",),
    "optim.clip": ("optim.clip=0.001",),
    "schedule.min_lr": ("schedule.min_lr=1e-7",),
    "schedule.kind": ("schedule.kind=wsd", "schedule.kind=cosine", "schedule.kind=steps schedule.drops=0.5"),
    "schedule.cooldown": ("schedule.cooldown=0.5",),
    "schedule.drops": ("schedule.drops=0.3",),
    "schedule.drop_factor": ("schedule.drop_factor=0.5",),
    "objective.objects": ("objective.objects=1",),
    "objective.detector.window": ("objective.detector.window=3",),
    "objective.detector.global_blocks": ("objective.detector.global_blocks=1",),
    "objective.detector.channels": ("objective.detector.channels=16",),
    "objective.detector.hidden": ("objective.detector.hidden=16",),
    "objective.detector.convolutions": ("objective.detector.convolutions=2",),
    "objective.detector.anchor_sides": ("objective.detector.anchor_sides=5,6,8,12,14",),
    "objective.detector.anchor_ratios": ("objective.detector.anchor_ratios=1",),
    "objective.detector.sampled_anchors": ("objective.detector.sampled_anchors=8",),
    "objective.detector.proposals_per_level": ("objective.detector.proposals_per_level=2,2",),
    "objective.detector.proposals": ("objective.detector.proposals=3",),
    "objective.detector.cascade": ("objective.detector.cascade=0.5",),
    "objective.detector.sampled_regions": ("objective.detector.sampled_regions=3",),
    "objective.detector.scores": ("objective.detector.scores=sigmoid",),
    "objective.detector.federated_classes": (
        "objective.detector.federated_classes=2 objective.detector.scores=sigmoid",
    ),
    "objective.detector.score_threshold": ("objective.detector.score_threshold=0.3",),
    "objective.detector.suppression": ("objective.detector.suppression=0.3",),
    "objective.detector.detections": ("objective.detector.detections=1",),
    "objective.clip.frames": ("objective.clip.frames=2",),
    "objective.clip.tubelet": ("objective.clip.tubelet=1",),
    "objective.clip.stride": ("objective.clip.stride=3",),
    "objective.dropout": ("objective.dropout=0.4",),
    "data.repeat_threshold": ("data.repeat_threshold=1",),
}
"""Other values for the fields that are neither true or false nor a choice; what only fits together is one entry."""


def fields_of(value: Any, prefix: str = "", *, operational: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """Dotted name, type and whether it is operational, of every field that holds a plain value."""
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        inner, name = getattr(value, field.name), f"{prefix}{field.name}"
        is_operational = operational or bool(field.metadata.get("operational"))
        if dataclasses.is_dataclass(inner):
            yield from fields_of(inner, f"{name}.", operational=is_operational)
        else:
            yield name, hints[field.name], is_operational


def alternatives(run: Run, name: str, kind: Any) -> list[list[str]]:
    """Overrides, each of which gives the field another value."""
    if name in OTHER and not (name == "objective.loss" and isinstance(run.objective, LitConfig)):
        sets = [text.split(" ") for text in OTHER[name]]
    elif kind is bool:
        sets = [[f"{name}=true"], [f"{name}=false"]]
    else:
        assert typing.get_origin(kind) is typing.Literal, f"{name} has no other value in this test: add one"
        sets = [[f"{name}={choice}"] for choice in typing.get_args(kind)]
    return [overrides for overrides in sets if _is_another(run, overrides)]


def _is_another(run: Run, overrides: list[str]) -> bool:
    """Whether the overrides give another run, and one that fits together: images are not mixed without labels."""
    try:
        return config.override(run, overrides) != run
    except ValueError:
        return False


NAMES = (("tree", 1), ("trees", 5), ("cat", 2), ("boat", 3), ("horse", 10))
"""Tags, two of one meaning, and every how many images have them."""


def make_odd_images(folder: Path) -> Path:
    """JPEG files that are not square, most with tags of very different frequency and a class, some unreadable."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    tags, labels, captions = [("path", "tags")], [("path", "class")], [("path", "caption", "language")]
    for number in range(90):
        file = folder / f"{number:03d}.jpg"
        coarse = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
        texture = Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC)
        content = BytesIO()
        texture.save(content, "JPEG")
        file.write_bytes(b"broken %d" % number if number % 15 == 7 else content.getvalue())
        names = [tag for tag, every in NAMES if number % every == 0]
        if number % 8:
            tags.append((file.name, ";".join(names)))
        labels.append((file.name, "abc"[number % 3]))
        captions += [(file.name, f"{word} {number % 11}", word[:2]) for word in ("en picture", "de bild")[: number % 3]]
    for name, rows in (("tags.csv", tags), ("labels.csv", labels), ("captions.csv", captions)):
        with (folder / name).open("w", newline="") as opened:
            csv.writer(opened).writerows(rows)
    return folder


SMALL = {"size": (16, 16), "patch": 4, "width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2}


def shrunk(run: Run, source: Path) -> Run:
    """The run with all its choices, on a few small images and for a few steps."""
    if isinstance(run.objective, DetectConfig):
        return _shrunk_detection(run, run.objective, source)
    if isinstance(run.objective, ClassifyClipsConfig):
        return _shrunk_video(run, run.objective, source)
    assert isinstance(run.data, ImageData)
    objective: Any = replace(run.objective, encoder=replace(encoder_of(run), **SMALL))
    if isinstance(objective, MAEConfig):
        decoder = replace(objective.decoder, width=16, depth=1, heads=2, mlp_ratio=2)
        objective = replace(objective, decoder=decoder)
    if isinstance(objective, LitConfig):
        text = TextConfig(vocabulary=200, positions=34, width=16, depth=1, heads=2, mlp_ratio=2)
        objective = replace(objective, text=text, width=16, tokens=16, text_from="", locked_text=False)
    augment = replace(run.data.augment, mix_group=2)  # what the few samples of a step can be divided by
    labels = str(source / "labels.csv") if (source / "labels.csv").is_file() else ""
    data = replace(run.data, source=str(source), labels=labels, workers=0, max_bad=0.5, augment=augment)
    return _in_three_steps(replace(run, objective=objective, data=data))


def _in_three_steps(run: Run) -> Run:
    return replace(
        run,
        budget=Budget(samples=3 * BATCH, batch_size=BATCH, microbatch=BATCH, warmup=BATCH),
        cadence=Cadence(log=BATCH, save=10**6, keep=10**6, evaluate=10**6),
        threads=1,
        device="cpu",
    )


def _shrunk_detection(run: Run, objective: DetectConfig, source: Path) -> Run:
    """The same of a detector; ``source`` is a folder of ``support.detection_examples.make_objects``."""
    detector = replace(
        objective.detector,
        window=2,
        global_blocks=(0,),
        channels=8,
        hidden=8,
        convolutions=1,
        anchor_sides=(4.0, 6.0, 8.0, 12.0, 16.0),
        sampled_anchors=16,
        proposals_per_level=(20, 10),
        proposals=10,
        sampled_regions=8,
    )
    encoder = replace(objective.encoder, **SMALL)
    assert isinstance(run.data, DetectionData)
    data = replace(run.data, annotations=str(source / "objects.json"), workers=0, max_bad=0.5)
    small = replace(run, objective=replace(objective, encoder=encoder, detector=detector, objects=3), data=data)
    return replace(_in_three_steps(small), budget=Budget(samples=12, batch_size=4, microbatch=4, warmup=4))


def _shrunk_video(run: Run, objective: ClassifyClipsConfig, source: Path) -> Run:
    """The same of a classifier of clips; ``source`` is a folder of ``support.video_examples.make_videos``."""
    clip = replace(objective.clip, frames=4, stride=2)
    encoder = replace(objective.encoder, **SMALL)
    assert isinstance(run.data, VideoData)
    augment = replace(run.data.augment, mix_group=2)
    data = replace(run.data, annotations=str(source / "train.csv"), workers=0, max_bad=0.5, augment=augment)
    return _in_three_steps(replace(run, objective=replace(objective, encoder=encoder, clip=clip), data=data))
