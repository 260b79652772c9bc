"""The study ``convergence``: MAE and WSP at several lengths, and how many steps of WSP the MAE is worth.

The ends of its grid stand in ``convergence_designs.py`` (the paper's Figures 4 and 5; paper.md C2 to C5). Runs of one
start differ in their length alone: the longest is the trunk, and the shorter ones are branches of it
(``run/branches.py``), which have the bits of runs from scratch and train the last fifth of their samples only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from underpaint import config
from underpaint.data.source import Source
from underpaint.run.idle_fields import Idle, refuse_idle
from underpaint.studies import convergence_results
from underpaint.studies.convergence_designs import (
    ConvergenceDesign,
    End,
    budget_of,
    convergence_design_of,
    decay_start,
    ends_of,
)
from underpaint.studies.designs import Arm, Size
from underpaint.studies.encoder_parts import finetuning_parts, frozen_part, untrained_part
from underpaint.studies.overrides import idle_in_recipes, set_by_the_study
from underpaint.studies.parts import Part, Study, TrainPart
from underpaint.studies.pretraining_images import Recipe, normalised_encoder, recipe_on, run_on, study_images


def convergence(
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
    """Compare MAE and WSP at several lengths: how many steps of WSP the MAE is worth.

    The size sets the collections, unless ``images`` are given, and the seeds, unless ``seeds`` are given.
    ``overrides`` are fields of the size's ``ConvergenceDesign``, such as ``wsp.budget.samples=50_000``, the samples of
    one budget. No part depends on a time, so ``measured`` is empty here.

    Raises:
        ValueError: if there are no images or no tags, a file of tags or labels does not fit them, for an override that
            cannot be applied, or for baselines.
    """
    assert not measured, f"{measured} was measured for another study"
    if baselines:
        raise ValueError(f"--baseline {baselines[0]}: the study `convergence` compares with none; `stages` does")
    design = config.override(convergence_design_of(size), overrides)
    refuse_idle(overrides, design, _idle_settings(overrides, design, images=images, seeds=seeds))
    seeds = tuple(seeds) or design.seeds
    grid = _Grid(design, images=images, tags=tags, labels=labels)
    refuse_idle(overrides, design, grid.idle())
    description = convergence_results.describe_grid(grid.images, design, labels=grid.wsp.data_info.labels)
    return Study(
        name="convergence",
        settings={"size": size, "images": grid.images.source.name, "data": grid.images.source.content_hash}
        | ({"overrides": list(overrides)} if overrides else {}),
        parts=tuple(part for seed in seeds for part in grid.parts_of(seed)),
        seeds=seeds,
        parts_of=grid.parts_of,
        results=lambda folder, seeds: convergence_results.collect(
            folder,
            ends=grid.ends,
            seeds=seeds,
            datasets=[task.name for task in grid.images.tasks],
            is_finetuned=design.is_finetuned,
            budgets=(grid.mae, grid.wsp),
            data=description,
        ),
    )


def _idle_settings(overrides: Sequence[str], design: ConvergenceDesign, *, images: str, seeds: Sequence[int]) -> Idle:
    """Fields of the design that the study sets by itself, or that nothing reads."""
    idle = set_by_the_study(overrides)
    for recipe in ("mae", "wsp"):
        idle[f"{recipe}.schedule.kind"] = "shorter budgets are branches of the longest, which need wsd; leave it out"
        idle[f"{recipe}.cadence.save_at"] = "the trunks are saved where branches leave them; leave it out"
        idle[f"{recipe}.branch_from"] = "the study says what branches from what; leave it out"
    if images:
        idle["images"] = f"--images {images} is trained on; leave it out"
        idle["transfer"] = f"--images {images} is measured on its own classes and on digits; leave it out"
    if seeds:
        idle["seeds"] = f"--seeds {' '.join(map(str, seeds))} is given; leave one of them out"
    if not design.is_finetuned:
        names = [assignment.partition("=")[0] for assignment in overrides]
        reason = "this study is measured on frozen features; set is_finetuned=true with it"
        idle |= {name: reason for name in names if name.startswith("finetune.")}
    return idle


class _Grid:
    """Setting that all seeds share: the recipes on these images, the ends, and the transfer tasks."""

    def __init__(self, design: ConvergenceDesign, *, images: str, tags: str, labels: str) -> None:
        self.design = design
        transfer = () if images else design.transfer
        self.images = study_images(images or design.images, tags=tags, labels=labels, transfer=transfer)
        rows = self.images.source.rows("pretrain")
        if not any(self.images.source.tags[row] for row in rows):
            raise ValueError(
                f"{self.images.source.name} has no tags, so there is no WSP whose steps MAE could be worth; give "
                "--tags FILE"
            )
        encoder = normalised_encoder(design.mae, self.images.source, rows)
        self.mae, self.wsp = (recipe_on(run, self.images, encoder) for run in (design.mae, design.wsp))
        self.finetune = run_on(design.finetune, self.images.data, encoder)
        self.ends = ends_of(design)

    def idle(self) -> Idle:
        """Fields of the recipes that none of the runs reads."""
        arms = [end.arm for end in self.ends]
        runs = {
            stage: [replace(recipe.run, init_from=arm.start) for arm in arms if arm.stage == stage]
            for stage, recipe in (("mae", self.mae), ("wsp", self.wsp))
        }
        return idle_in_recipes({**runs, "finetune": [replace(self.finetune, init_from="arm")]})

    def parts_of(self, seed: int) -> list[Part]:
        parts = [self._encoder(end, seed) for end in self.in_order]
        for end in self.ends:
            for task in self.images.tasks:
                parts += self._transfer(end, task, seed)
        return parts

    @property
    def in_order(self) -> list[End]:
        """The ends, every trunk before its branches."""
        trunks = {self.trunk_of(end).name for end in self.ends if end.arm.stage != "none"}
        stages = ("none", "mae", "wsp")
        return sorted(self.ends, key=lambda end: (stages.index(end.arm.stage), end.arm.name not in trunks))

    def trunk_of(self, end: End) -> Arm:
        """The longest arm of the same stage and start."""
        return max(self._ladder(end), key=lambda arm: arm.share)

    def _ladder(self, end: End) -> list[Arm]:
        arms = (each.arm for each in self.ends)
        return [arm for arm in arms if (arm.stage, arm.start) == (end.arm.stage, end.arm.start)]

    def _encoder(self, end: End, seed: int) -> Part:
        """Train an end, from its MAE where it has one; all but the trunk branch off the trunk."""
        arm, name = end.arm, convergence_results.part_name(end.arm.name, seed)
        if arm.stage == "none":
            return untrained_part(name, self.mae.run, seed=seed)
        recipe, trunk = self._recipe(arm), self.trunk_of(end)
        run = replace(recipe.run, name=name, seed=seed, budget=budget_of(recipe.run, arm.share))
        start = convergence_results.part_name(arm.start, seed) if arm.start else ""
        if arm != trunk:
            return TrainPart(
                name=name,
                run=run,
                data_info=recipe.data_info,
                init_from=start,
                branch_from=convergence_results.part_name(trunk.name, seed),
                branch_at=decay_start(run),
            )
        shorter = [replace(run, budget=budget_of(recipe.run, each.share)) for each in self._ladder(end) if each != arm]
        save_at = tuple(sorted({decay_start(branch) for branch in shorter}))
        run = replace(run, cadence=replace(run.cadence, save_at=save_at))
        return TrainPart(name=name, run=run, data_info=recipe.data_info, init_from=start)

    def _recipe(self, arm: Arm) -> Recipe:
        return self.mae if arm.stage == "mae" else self.wsp

    def _transfer(self, end: End, task: Source, seed: int) -> list[Part]:
        """Frozen features of an end on one dataset; where the design says so, finetuning and its accuracy too."""
        start = convergence_results.part_name(end.arm.name, seed)
        label = f"{end.arm.name}-{task.name}-seed{seed}"
        frozen = frozen_part(label, start, task, shots=self.design.shots, seed=seed)
        if not self.design.is_finetuned:
            return [frozen]
        return [frozen, *finetuning_parts(label, start, task, self.finetune, images=self.images, seed=seed)]
