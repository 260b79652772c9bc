"""The study ``scaling``: error against the number of images and the size of the model (the paper's Figures 2, 3, 7).

The grid and the arms stand in ``scaling_designs.py``. The largest point, the widest model on all images, is predicted
from the smaller ones before it is run: without ``largest`` everything else is run and ``prediction.json`` is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from underpaint import config
from underpaint.core import DataInfo
from underpaint.data.dataset import ImageData
from underpaint.data.shares import in_share
from underpaint.data.source import Source
from underpaint.models.vit import ViT
from underpaint.results.scaling import ModelEntry
from underpaint.results.study import StudyResults
from underpaint.run import Run, encoder_of
from underpaint.run.idle_fields import Idle, override_run, refuse_idle
from underpaint.studies import scaling_results
from underpaint.studies.designs import Arm, StudyOptions
from underpaint.studies.encoder_parts import finetuning_parts, frozen_part, untrained_part
from underpaint.studies.overrides import SET_BY_THE_STUDY, idle_in_recipes
from underpaint.studies.parts import Part, Study, TrainPart, is_done
from underpaint.studies.pretraining_images import normalised_encoder, run_on, study_images
from underpaint.studies.scaling_designs import (
    FINETUNED_ALONE,
    SWAPPED_MAE,
    UNMEASURED,
    Point,
    ScalingDesign,
    scaling_design_of,
)
from underpaint.studies.scaling_prediction import require_prediction

FEWEST_BATCHES = 2
"""Batches of images that a share must hold."""
SET_BY_THE_GRID = {
    "objective.encoder.width": "the grid sets it; give widths=48,96",
    "objective.encoder.heads": "the grid sets it; give head_width=24",
    "data.share": "the grid sets it; give shares=0.25,0.5,1",
    "data.share_seed": "it is the seed of the runs; leave it out",
}


def scaling(**asked: Unpack[StudyOptions]) -> Study:
    """Measure how MAE, WSP and MAE then WSP scale with images and models, and predict the largest point.

    The size sets the collections, unless ``images`` are given, and the seeds, unless ``seeds`` are given. ``overrides``
    are fields of the size's ``ScalingDesign`` and its recipes. With ``largest``, the largest point is run as well,
    which needs the prediction. No part depends on a time, so ``measured`` is empty here.

    Raises:
        ValueError: if there are no images or tags, a file of tags or labels does not fit them, or for a wrong override.
    """
    assert not asked.get("measured"), f"{asked.get('measured')} was measured for another study"
    if baselines := asked.get("baselines"):
        raise ValueError(f"--baseline {baselines[0]}: the study `scaling` compares with none; `stages` does")
    size, images = asked.get("size", "tiny"), asked.get("images", "")
    overrides = config.assignments(asked.get("overrides", ()))
    design, largest = config.override(scaling_design_of(size), overrides), asked.get("largest", False)
    refuse_idle(overrides, design, _idle_settings(images=images, seeds=asked.get("seeds", ())))
    seeds = tuple(asked.get("seeds", ())) or design.seeds
    grid = _Grid(design, images=images, tags=asked.get("tags", ""), labels=asked.get("labels", ""))
    refuse_idle(overrides, design, grid.idle())

    def parts_of(seed: int) -> list[Part]:
        return [*grid.parts_of(seed), *(grid.largest_parts_of(seed) if largest else ())]

    return Study(
        name="scaling",
        settings={"size": size, "images": grid.images.source.name, "data": grid.images.source.content_hash}
        | ({"overrides": list(overrides)} if overrides else {}),
        parts=tuple(part for seed in seeds for part in parts_of(seed)),
        seeds=seeds,
        parts_of=parts_of,
        results=lambda folder, seeds: _results(folder, grid, seeds),
        require_ready=(lambda folder: require_prediction(folder, seeds)) if largest else lambda folder: None,
    )


def _results(folder: Path, grid: _Grid, seeds: Sequence[int]) -> StudyResults:
    """Results of the study, with the largest point where all seeds have it."""
    has_largest = all(is_done(part, folder) for seed in seeds for part in grid.largest_parts_of(seed))
    arms_of = grid.design.arms_at if has_largest else grid.design.arms_before
    return scaling_results.collect(
        folder,
        arms={point: arms_of(point) for point in grid.points},
        images={point: sum(grid.images_at(point, seed) for seed in seeds) / len(seeds) for point in grid.points},
        seeds=seeds,
        largest=grid.design.largest,
        setting=scaling_results.Setting(
            images=grid.images, models=grid.models, labels=grid.labels, left_out=grid.left_out
        ),
    )


def _idle_settings(*, images: str, seeds: Sequence[int]) -> Idle:
    """Fields of a design that nothing reads, as far as that is known before its images are opened."""
    fields = SET_BY_THE_STUDY | SET_BY_THE_GRID
    idle = {f"{recipe}.{field}": why for recipe in ("mae", "wsp", "finetune") for field, why in fields.items()}
    if images:
        idle["images"] = f"--images {images} is trained on; leave it out"
        idle["transfer"] = f"--images {images} is measured on its own classes and on digits; leave it out"
    if seeds:
        idle["seeds"] = f"--seeds {' '.join(map(str, seeds))} is given; leave one of them out"
    return idle


class _Grid:
    """The recipes on these images at every point of the grid, and the transfer tasks."""

    def __init__(self, design: ScalingDesign, *, images: str, tags: str, labels: str) -> None:
        self.design = design
        assert isinstance(design.wsp.data, ImageData)
        self.images = study_images(
            images or design.images,
            tags=tags,
            labels=labels,
            transfer=() if images else design.transfer,
            tag_rules=design.wsp.data.tag_rules,
        )
        source = self.images.source
        rows = source.rows("pretrain")
        if not any(source.tags[row] for row in rows):
            raise ValueError(f"{source.name} has no tags, which WSP learns from; give --tags FILE")
        self.families = [source.family[row] for row in rows]
        self.normalised = normalised_encoder(design.mae, source, rows)
        fewest = FEWEST_BATCHES * max(design.mae.budget.batch_size, design.wsp.budget.batch_size)
        self.shares = tuple(share for share in design.shares if share * len(rows) >= fewest or share == 1)
        self.left_out = tuple(
            f"{share:.3g} of the images are {share * len(rows):.0f}, fewer than {FEWEST_BATCHES} batches"
            for share in design.shares
            if share not in self.shares
        )
        self.points = design.points(self.shares)
        self.labels = self.images.facts_of(self._run(design.wsp, design.largest, seed=0)).labels

    @property
    def models(self) -> list[ModelEntry]:
        entries: list[ModelEntry] = []
        for width in self.design.widths:
            encoder = encoder_of(self._run(self.design.mae, Point(width=width, share=1.0), seed=0))
            parameters = sum(parameter.numel() for parameter in ViT(encoder).parameters())
            depth = encoder_of(self.design.mae).depth
            entries.append({"model": f"width {width}", "width": width, "depth": depth, "parameters": parameters})
        return entries

    def idle(self) -> Idle:
        """Fields of the design that none of the runs reads."""
        design, point = self.design, self.points[0]
        runs = {name: [self._run(run, point, seed=0)] for name, run in (("mae", design.mae), ("wsp", design.wsp))}
        runs["wsp"].append(replace(runs["wsp"][0], init_from="mae"))
        runs["finetune"] = [replace(self._run(design.finetune, point, seed=0, share=False), init_from="mae")]
        return idle_in_recipes(runs)

    def images_at(self, point: Point, seed: int) -> int:
        """Number of images that MAE draws from; WSP draws from those of them that have a label."""
        return sum(in_share(family, point.share, seed=_share_seed(seed)) for family in self.families)

    def parts_of(self, seed: int) -> list[Part]:
        """All but the largest point, the smaller ones first."""
        parts: list[Part] = []
        for point in sorted(self.points, key=lambda point: (point.share, point.width)):
            parts += self._parts(self.design.arms_before(point), point, seed)
        return parts

    def largest_parts_of(self, seed: int) -> list[Part]:
        largest = self.design.largest
        before = self.design.arms_before(largest)
        return self._parts([arm for arm in self.design.arms_at(largest) if arm not in before], largest, seed)

    def _parts(self, arms: Sequence[Arm], point: Point, seed: int) -> list[Part]:
        parts: list[Part] = []
        for arm in arms:
            parts.append(self._pretrain(arm, point, seed))
            if arm not in UNMEASURED:
                for task in self.images.tasks:
                    parts += self._transfer(arm, point, task, seed)
        return parts

    def _run(self, run: Run, point: Point, *, seed: int, share: bool = True) -> Run:
        """A recipe at a point of the grid."""
        run = run_on(run, self.images.data, self.normalised)
        run = replace(run, objective=replace(run.objective, encoder=self.design.model(run, point.width)), seed=seed)
        if share and point.share < 1:
            run = replace(run, data=replace(run.data, share=point.share, share_seed=_share_seed(seed)))
        return run

    def _pretrain(self, arm: Arm, point: Point, seed: int) -> Part:
        name = point.run_of(arm.name, seed)
        recipe = self.design.wsp if arm.stage == "wsp" else self.design.mae
        run = override_run(self._run(recipe, point, seed=seed), arm.overrides)
        if arm.stage == "none":
            return untrained_part(name, run, seed=seed)
        if arm == SWAPPED_MAE:
            swapped = {"source": self.design.other_images, "tags": "", "labels": ""}
            run = replace(run, data=replace(run.data, **swapped))
        start = point.run_of(arm.start, seed) if arm.start else ""
        return TrainPart(name=name, run=replace(run, name=name), data_info=self._info(run), init_from=start)

    def _info(self, run: Run) -> DataInfo:
        """Information on a run's data for the plan: that of all images, since opening every share takes longer than the
        little that the labels which a share lacks would cost.
        """
        assert isinstance(run.data, ImageData)
        return self.images.facts_of(replace(run, data=replace(run.data, share=1.0, share_seed=0)))

    def _transfer(self, arm: Arm, point: Point, task: Source, seed: int) -> list[Part]:
        """Finetuning on one dataset and its accuracy, and the frozen features of all arms but MAE alone."""
        start, label = point.run_of(arm.name, seed), point.label_of(arm.name, task.name, seed)
        run = self._run(self.design.finetune, point, seed=seed, share=False)
        frozen = frozen_part(label, start, task, shots=self.design.shots, seed=seed)
        return [
            *(() if arm in FINETUNED_ALONE else (frozen,)),
            *finetuning_parts(label, start, task, run, images=self.images, seed=seed),
        ]


def _share_seed(seed: int) -> int:
    """Seed 0 of a study is a seed like all others, and 0 of ``data.share_seed`` the shares of older releases."""
    return seed + 1
