"""The study ``ablations``, on where pre-pretraining pays: from one base point, one thing is changed at a time.

The axes stand in ``ablations_designs.py``. At each point there are up to four arms, which start from the same initial
weights of a seed: MAE, WSP, MAE -> WSP, and WSP alone for the training FLOPs of MAE -> WSP. They are measured on frozen
features alone. A run that several points need is one part. At size ``smoke`` most axes have two values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from underpaint.core import DataInfo
from underpaint.data.source import Source
from underpaint.run import Run
from underpaint.run.idle_fields import override_run
from underpaint.studies import ablations_results
from underpaint.studies.ablations_designs import AblationsDesign, Value, ablations_design_of
from underpaint.studies.ablations_results import Point
from underpaint.studies.designs import Size
from underpaint.studies.encoder_parts import frozen_part
from underpaint.studies.parts import Part, Study, TrainPart
from underpaint.studies.pretraining_images import (
    Recipe,
    StudyImages,
    normalised_encoder,
    run_on,
    study_images,
)

BASE = "base"


def ablations(
    *,
    size: Size = "tiny",
    images: str = "",
    tags: str = "",
    labels: str = "",
    seeds: Sequence[int] = (),
    overrides: Sequence[str] = (),
    baselines: Sequence[str] = (),
    measured: Mapping[str, float] | None = None,
) -> Study:
    """Compare WSP with MAE then WSP while one setting changes at a time, on built-in or your own images.

    The size sets the collections, unless ``images`` are given, and the seeds, unless ``seeds`` are given.

    No part depends on a time, so ``measured`` is empty here.

    Raises:
        ValueError: if there are no images or no tags, or a file of tags or labels does not fit them; or for overrides,
            since its axes lead away from the recipes as they are.
    """
    assert not measured, f"{measured} was measured for another study"
    if baselines:
        raise ValueError(f"--baseline {baselines[0]}: the study `ablations` compares with none; `stages` does")
    if overrides:
        raise ValueError(
            f"{overrides[0]}: the study `ablations` takes no overrides, its axes are built around its recipes"
        )
    design = ablations_design_of(size)
    seeds = tuple(seeds) or design.seeds
    names = images or design.images
    opened = study_images(names, tags=tags, labels=labels, transfer=() if images else design.transfer)
    plan = plan_points(design, opened)
    vocabulary = plan.runs[f"{BASE}-wsp"].data_info.labels
    description = ablations_results.describe_points(opened, labels=vocabulary, axes=design.axes, left_out=plan.left_out)
    return Study(
        name="ablations",
        settings={"size": size, "images": opened.source.name, "data": opened.source.content_hash},
        parts=tuple(part for seed in seeds for part in _parts(plan, opened.tasks, seed=seed, shots=design.shots)),
        seeds=seeds,
        parts_of=lambda seed: _parts(plan, opened.tasks, seed=seed, shots=design.shots),
        results=lambda folder, seeds: ablations_results.collect(
            folder, points=plan.points, seeds=seeds, datasets=[task.name for task in opened.tasks], data=description
        ),
    )


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run of the study, without its seed."""

    run: Run
    data_info: DataInfo
    start: str = ""  # the name of the run it starts from


@dataclass(frozen=True, kw_only=True)
class Plan:
    points: tuple[Point, ...]
    runs: Mapping[str, PlannedRun]  # by name, each after the one it starts from
    left_out: tuple[str, ...]  # values that these images are too few for, and why


def plan_points(design: AblationsDesign, images: StudyImages) -> Plan:
    """Every point of every axis with the runs of its arms; two arms whose runs differ in nothing have one.

    Raises:
        ValueError: if the base point cannot be run.
    """
    encoder = normalised_encoder(design.mae, images.source, images.source.rows("pretrain"))
    mae, wsp = (run_on(run, images.data, encoder) for run in (design.mae, design.wsp))
    base = _Base(mae, wsp, images, mae_share=design.mae_share)
    runs = _Runs()
    runs.add_point(BASE, base.arms(Value(name=BASE, x=0.0)))
    points, left_out = [], []
    for axis in design.axes:
        for value in axis.values:
            try:
                arms = base.arms(value)
            except ValueError as error:
                left_out.append(f"{axis.name} {value.name}: {error}")
                continue
            names = runs.add_point(f"{axis.name}_{value.name.replace('/', '-')}", arms)
            points.append(Point(axis=axis.name, value=value.name, x=value.x, runs=names))
    return Plan(points=tuple(points), runs=runs.named, left_out=tuple(left_out))


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """Last stage of an arm: a recipe for some samples, from scratch or after another stage."""

    recipe: Recipe
    samples: int
    start: _Stage | None = None

    @property
    def run(self) -> Run:
        """The recipe for these samples, the same part of them as warm-up."""
        run, budget = self.recipe.run, self.recipe.run.budget
        warmup = budget.warmup * self.samples // budget.samples
        return replace(run, budget=replace(budget, samples=self.samples, warmup=warmup))


class _Base:
    """The base point, and what a value makes of it."""

    def __init__(self, mae: Run, wsp: Run, images: StudyImages, *, mae_share: float) -> None:
        self.mae, self.wsp, self.images = mae, wsp, images
        mae_, wsp_ = self._recipe(mae), self._recipe(wsp)
        compute = wsp_.flops / (1 - mae_share)
        self.mae_samples = _whole_batches(mae_share * compute, mae_)
        self.compute = self.mae_samples * _per_sample(mae_) + wsp_.flops

    def arms(self, value: Value) -> dict[str, _Stage]:
        """The arms at a point; where MAE or WSP is given nothing, what is left of both is the other.

        Raises:
            ValueError: if the images that the value leaves are too few.
        """
        mae = self._recipe(override_run(self.mae, value.mae))
        wsp = self._recipe(override_run(self.wsp, value.wsp))
        if value.mae_share is None:
            mae_samples, wsp_samples = self.mae_samples, self.wsp.budget.samples
            compute = mae_samples * _per_sample(mae) + wsp_samples * _per_sample(wsp)
        else:
            compute = self.compute
            mae_samples = _whole_batches(value.mae_share * compute, mae)
            wsp_samples = _whole_batches(compute - mae_samples * _per_sample(mae), wsp) if value.mae_share < 1 else 0
        arms: dict[str, _Stage] = {}
        if mae_samples:
            arms["mae"] = arms["mae_wsp"] = _Stage(recipe=mae, samples=mae_samples)
        if wsp_samples:
            arms["wsp"] = _Stage(recipe=wsp, samples=wsp_samples)
            arms["mae_wsp"] = replace(arms["wsp"], start=arms.get("mae"))
        arms["wsp_equal_compute"] = _Stage(recipe=wsp, samples=_whole_batches(compute, wsp))
        return arms

    def _recipe(self, run: Run) -> Recipe:
        data_info, batch = self.images.facts_of(run), run.budget.batch_size
        if data_info.images < batch:
            raise ValueError(f"{data_info.images} images are fewer than one batch of {batch}")
        if run.objective.stage == "wsp" and len(data_info.labels) < 2:
            least = getattr(run.data, "min_count", 1)
            raise ValueError(f"fewer than two tags have {least} images or more")
        return Recipe(run=run, data_info=data_info)


def _per_sample(recipe: Recipe) -> int:
    return recipe.run.objective.flops_per_sample(recipe.data_info)


def _whole_batches(compute: float, recipe: Recipe) -> int:
    """The samples that so many FLOPs pay for, to the nearest batch."""
    batch = recipe.run.budget.batch_size
    return round(compute / _per_sample(recipe) / batch) * batch


class _Runs:
    """The distinct runs, each named after the first point and arm that need it."""

    def __init__(self) -> None:
        self.named: dict[str, PlannedRun] = {}
        self._name_of: dict[tuple[Run, str], str] = {}

    def add_point(self, point: str, arms: Mapping[str, _Stage]) -> dict[str, str]:
        """The name of the run of each arm; ``mae`` comes before what starts from it."""
        return {arm: self._add(f"{point}-{arm}", stage) for arm, stage in arms.items()}

    def _add(self, name: str, stage: _Stage) -> str:
        start = self._add(f"{name}-start", stage.start) if stage.start else ""
        key = replace(stage.run, name="any", seed=0), start
        if key not in self._name_of:
            self._name_of[key] = name
            self.named[name] = PlannedRun(run=stage.run, data_info=stage.recipe.data_info, start=start)
        return self._name_of[key]


def _parts(plan: Plan, tasks: Sequence[Source], *, seed: int, shots: Sequence[int]) -> list[Part]:
    """Train every run of a seed and measure it on every task."""
    parts: list[Part] = []
    for name, planned in plan.runs.items():
        seeded = f"{name}-seed{seed}"
        start = f"{planned.start}-seed{seed}" if planned.start else ""
        run = replace(planned.run, name=seeded, seed=seed)
        parts.append(TrainPart(name=seeded, run=run, data_info=planned.data_info, init_from=start))
        parts += [frozen_part(f"{name}-{task.name}-seed{seed}", seeded, task, shots=shots, seed=seed) for task in tasks]
    return parts
