"""Parts of the study ``transfer`` on videos and on annotated images: a run from the encoder, and its model's scores."""

from __future__ import annotations

import math
from dataclasses import replace

from underpaint.config import record as config_record
from underpaint.data.video.clips import clip_form
from underpaint.evals.video_attentive import VideoAttentive
from underpaint.models.flops import block_macs, classify_flops
from underpaint.objectives.classify_clips import ClassifyClipsConfig
from underpaint.objectives.detect import DetectConfig
from underpaint.recipes.detection_recipes import last_of_quarters
from underpaint.run import Run
from underpaint.studies.parts import ComputePart, Part, TrainPart, Work
from underpaint.studies.transfer_designs import QUERIES, TransferDesign
from underpaint.studies.transfer_inputs import Tested, part_name
from underpaint.studies.transfer_protocols import detection_scores, probe_scores, video_scores
from underpaint.studies.transfer_sets import Objects, Videos


def video_run(design: TransferDesign, encoder: Tested, videos: Videos, seed: int) -> Run:
    """Finetuning of the inflated encoder on videos."""
    return replace(encoder.baseline.finetuned(design.video), seed=seed, data=videos.data)


def video_obstacle(design: TransferDesign, encoder: Tested, videos: Videos) -> str:
    """The reason why an encoder takes no videos; "" where it does."""
    try:
        clip_form(video_run(design, encoder, videos, 0).objective.inputs, name=videos.name)
    except ValueError as error:
        return str(error)
    return ""


def video_parts(design: TransferDesign, encoder: Tested, videos: Videos, seed: int) -> list[Part]:
    """Finetuning with accuracy on the test videos, and the attentive probe, as far as they are asked for."""
    parts: list[Part] = []
    if "video" in design.protocols:
        name = part_name("video", encoder, videos.name, seed)
        run, views = replace(video_run(design, encoder, videos, seed), name=name), (design.clips, design.crops)
        parts += [
            TrainPart(name=name, run=run, data_info=videos.data_info, init_from=encoder.baseline.part),
            ComputePart(
                name=part_name("video_accuracy", encoder, videos.name, seed),
                compute=lambda folder: video_scores(folder / name, videos.tested, clips=views[0], crops=views[1]),
                settings=[videos.content_hash, views, seed],
                inputs=(name,),
                work=_tests(run, videos, len(videos.tested.path) * design.clips * design.crops),
            ),
        ]
    return [*parts, _probe(design, encoder, videos, seed)] if "video_attentive" in design.protocols else parts


def _probe(design: TransferDesign, encoder: Tested, videos: Videos, seed: int) -> ComputePart:
    """The attentive probe of the frozen encoder, on frames that are drawn as for finetuning."""
    run, config, start = video_run(design, encoder, videos, seed), encoder.baseline.config, encoder.baseline.part
    assert isinstance(run.objective, ClassifyClipsConfig)
    clip = run.objective.clip
    evaluation = VideoAttentive(
        dataset=videos.name,
        test=videos.name,
        frames=clip.frames,
        sampling=clip.sampling,
        stride=clip.stride,
        queries=math.gcd(QUERIES, config.width),
        epochs=design.video_attentive_epochs,
    )
    train, test = videos.opened.images, len(videos.tested.path)
    tokens, rates = clip.frames * config.num_patches, len(evaluation.base_lr) * len(evaluation.weight_decay)
    trained = train * evaluation.epochs * (1 + (1 - evaluation.tuning_share) * rates)
    of_head = evaluation.blocks * block_macs(tokens, config.width, config.mlp_ratio) + tokens * config.width**2
    encoded = clip.frames * (train + test) * classify_flops(config, len(videos.data_info.labels)) / 3
    return ComputePart(
        name=part_name("video_attentive", encoder, videos.name, seed),
        compute=lambda folder: probe_scores(evaluation, folder / start, videos.both, seed=seed),
        settings=[config_record(evaluation), videos.content_hash, seed],
        inputs=(start,),
        work=Work(
            images=clip.frames * (train + test) + round(trained),
            flops=encoded + 6 * of_head * trained,
            like=(run, videos.data_info),
        ),
    )


def detection_run(design: TransferDesign, encoder: Tested, objects: Objects, seed: int) -> Run:
    """A detector on the encoder, whose images and patches get the sizes of the design.

    Raises:
        ValueError: if a detector cannot have these sizes.
    """
    objective, config = design.detect.objective, encoder.baseline.config
    assert isinstance(objective, DetectConfig)
    quarters = tuple(sorted({max(0, block) for block in last_of_quarters(config.depth)}))
    objective = replace(
        objective,
        encoder=replace(
            config, size=objective.encoder.size, patch=objective.encoder.patch, positions="learned", final_norm=False
        ),
        detector=replace(objective.detector, global_blocks=quarters),
    )
    return replace(design.detect, seed=seed, objective=objective, data=objects.data)


def detection_parts(design: TransferDesign, encoder: Tested, objects: Objects, seed: int) -> list[Part]:
    """Training of the detector, and average precision on the test images."""
    name = part_name("detect", encoder, objects.name, seed)
    run = replace(detection_run(design, encoder, objects, seed), name=name)
    return [
        TrainPart(name=name, run=run, data_info=objects.data_info, init_from=encoder.baseline.part),
        ComputePart(
            name=part_name("detection", encoder, objects.name, seed),
            compute=lambda folder: detection_scores(folder / name, objects.tested, name=objects.name),
            settings=[objects.content_hash, seed],
            inputs=(name,),
            work=_tests(run, objects, len(objects.tested.table.paths)),
        ),
    ]


def _tests(run: Run, of: Videos | Objects, views: int) -> Work:
    """The passes of so many test views; training costs three times as much."""
    return Work(images=views, flops=views * run.objective.flops_per_sample(of.data_info) / 3, like=(run, of.data_info))
