"""The study ``stages``: MAE, WSP and MAE -> WSP, compared by transfer (the paper's Figure 1, in small).

The arms stand in ``designs.py``; all have one architecture and start from the same initial weights of a seed. A seed
renews those weights, the order, the crops and masks, the run of MAE and the low-shot splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from underpaint import config
from underpaint.data.dataset import ImageData
from underpaint.data.source import Source
from underpaint.messages import say
from underpaint.results.study import DataEntry, StudyResults
from underpaint.run import Budget, Run, encoder_of
from underpaint.run.idle_fields import Idle, override_run, refuse_idle
from underpaint.studies import stages_results
from underpaint.studies.baselines import REMARK, Baseline, open_baselines, part_of
from underpaint.studies.cost import relative_seconds
from underpaint.studies.designs import Arm, Design, Size, design_of, imported_arm, require_images
from underpaint.studies.encoder_parts import finetuning_parts, frozen_part, untrained_part
from underpaint.studies.example_pictures import draw_pictures
from underpaint.studies.overrides import idle_in_recipes, idle_settings, idle_without_tags
from underpaint.studies.parts import ComputePart, Part, Study, TrainPart
from underpaint.studies.pretraining_images import (
    normalised_encoder,
    recipe_on,
    run_on,
    study_images,
)
from underpaint.studies.protocols import tag_scores
from underpaint.studies.results import describe, lacking


def stages(
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
    """Compare MAE, WSP and MAE then WSP at equal steps and at equal compute, on built-in or your own images.

    The size sets the collections, unless ``images`` are given, and the seeds, unless ``seeds`` are given.

    ``overrides`` are fields of the size's ``Design``, above all of its recipes: ``wsp.budget.samples=50_000``.
    ``baselines`` are folders of imported encoders, which are measured as the arms are. ``measured`` is
    ``Study.measured`` of an earlier start; without it, the speed of MAE is measured where an arm needs it.

    Raises:
        ValueError: if there are no images or too few for the size, a file of tags or labels does not fit them, or for
            a wrong override or baseline.
    """
    design = config.override(design_of(size, own_images=bool(images)), overrides)
    refuse_idle(overrides, design, idle_settings(overrides, design, images=images, seeds=seeds))
    seeds = tuple(seeds) or design.seeds
    setting = _Setting(design, images=images, tags=tags, labels=labels, baselines=baselines, measured=measured or {})
    refuse_idle(overrides, design, setting.idle(overrides))
    parts: list[Part] = [setting.copy_of(baseline) for baseline in setting.baselines.values()]
    parts += [part for seed in seeds for part in setting.parts_of(seed)]
    arms = [arm.name for arm in setting.arms]
    encoders = {arm.name: setting.encoder_of(arm, seeds[0]) for arm in setting.arms}
    task = setting.picture_source
    parts.append(
        ComputePart(
            name="pictures",
            compute=lambda folder: draw_pictures(folder, setting.images, task=task, arms=encoders, seed=seeds[0]),
            settings={"arms": arms, "data": [setting.source.content_hash, task.content_hash], "seed": seeds[0]},
            inputs=tuple(encoders.values()),
        )
    )
    for sentence in lacking(setting.images, arms=arms) if images else ():
        say(sentence)
    description = describe(setting.images, arms=arms, labels=setting.wsp.data_info.labels)
    description["stage_images"] = setting.stage_images
    return Study(
        name="stages",
        settings={"size": size, "images": setting.source.name, "data": setting.source.content_hash}
        | ({"overrides": list(overrides)} if overrides else {}),
        parts=tuple(parts),
        seeds=seeds,
        parts_of=setting.own_parts_of,
        results=lambda folder, seeds: _results(folder, setting, seeds, description),
        measured=setting.measured,
    )


def _results(folder: Path, setting: _Setting, seeds: Sequence[int], data: DataEntry) -> StudyResults:
    """Results of the study, including the baselines of earlier runs in this folder."""
    datasets = [task.name for task in setting.tasks]
    kept = stages_results.kept_baselines(folder, arms=setting.arms, datasets=datasets, seeds=seeds)
    arms = [*setting.arms, *kept]
    baselines = [arm.name for arm in arms if arm.role == "baseline"]
    remarks = [REMARK.format(", ".join(baselines))] if baselines else []
    data = {**data, "not_measured": [*remarks, *data["not_measured"]]}
    return stages_results.collect(folder, arms=arms, seeds=seeds, datasets=datasets, data=data)


def part_name(arm: str, seed: int) -> str:
    return f"{arm}-seed{seed}"


class _Setting:
    """Setting that all seeds share: the recipes on these images, the arms they allow, and the transfer tasks."""

    def __init__(
        self,
        design: Design,
        *,
        images: str,
        tags: str,
        labels: str,
        baselines: Sequence[str] = (),
        measured: Mapping[str, float],
    ) -> None:
        self.design = design
        assert isinstance(design.wsp.data, ImageData)
        self.images = study_images(
            images or design.images,
            tags=tags,
            labels=labels,
            transfer=() if images else design.transfer,
            tag_rules=design.wsp.data.tag_rules,
        )
        self.source, self.tasks = self.images.source, self.images.tasks
        rows = self.source.rows("pretrain")
        require_images(design, len(rows), name=self.source.name)
        encoder = normalised_encoder(design.mae, self.source, rows)
        self.mae = recipe_on(design.mae, self.images, encoder)
        tagged = any(self.source.tags[row] for row in rows)
        arms = tuple(arm for arm in design.arms if tagged or arm.stage != "wsp")
        taken, like = [arm.name for arm in design.arms], encoder_of(self.mae.run)
        opened = open_baselines(baselines, taken=taken, like=like)
        self.baselines = {baseline.name: baseline for baseline in opened}
        self.wsp = recipe_on(design.wsp, self.images, encoder) if tagged else self.mae
        self.measured = self._measure(arms, measured)
        self.arms = (*map(self._described, arms), *map(imported_arm, self.baselines))
        self.finetune = run_on(design.finetune, self.images.data, encoder)

    @property
    def stage_images(self) -> dict[str, int]:
        """The number of images that each stage learns from."""
        recipes = {"mae": self.mae, "wsp": self.wsp}
        return {
            stage: recipes[stage].data_info.images for stage in recipes if stage in {arm.stage for arm in self.arms}
        }

    def _measure(self, arms: Sequence[Arm], recorded: Mapping[str, float]) -> dict[str, float]:
        """The wall time of a sample of MAE in samples of WSP, where an arm needs it."""
        if not any(arm.lengthened == "time" for arm in arms):
            return {}
        if seconds := self.design.mae_seconds or recorded.get("mae_seconds"):
            return {"mae_seconds": seconds}
        say("timing a sample of MAE and one of WSP, for the arm of equal time")
        mae, wsp = ((recipe.run, recipe.data_info) for recipe in (self.mae, self.wsp))
        return {"mae_seconds": relative_seconds(mae, wsp)}

    def _described(self, arm: Arm) -> Arm:
        if arm.lengthened != "time":
            return arm
        seconds = self.measured["mae_seconds"]
        return replace(arm, description=f"{arm.description} (a sample of MAE takes {seconds:g} times one of WSP)")

    def idle(self, overrides: Sequence[str]) -> Idle:
        """Fields of the design that none of the runs reads."""
        runs = {
            stage: [replace(recipe.run, init_from=arm.start) for arm in self.arms if arm.stage == stage]
            for stage, recipe in (("mae", self.mae), ("wsp", self.wsp))
        }
        runs["finetune"] = [replace(self.finetune, init_from=arm.name) for arm in self.arms]
        return idle_in_recipes(runs) | ({} if runs["wsp"] else idle_without_tags(overrides))

    @property
    def picture_source(self) -> Source:
        """Whose images neighbours are shown of: of what was trained on, or the first task where that has no labels."""
        return self.tasks[0] if self.source not in self.tasks and "+" in self.source.name else self.source

    def parts_of(self, seed: int) -> list[Part]:
        return self._parts(self.arms, seed)

    def own_parts_of(self, seed: int) -> list[Part]:
        """Those of the arms that are trained here: a seed counts without the baselines that came later."""
        return self._parts([arm for arm in self.arms if arm.stage != "baseline"], seed)

    def _parts(self, arms: Sequence[Arm], seed: int) -> list[Part]:
        parts = [self._pretrain(arm, seed) for arm in arms if arm.stage != "baseline"]
        for arm in arms:
            for source in self.tasks:
                parts += self._transfer(arm, source, seed)
            if arm.stage == "wsp":
                parts.append(self._tags(arm, seed))
        return parts

    def copy_of(self, baseline: Baseline) -> ComputePart:
        """The part that puts a baseline into the study's folder, once for all seeds."""
        return ComputePart(
            name=baseline.part, compute=baseline.copy_into, settings=baseline.describe(), encoder=baseline.config
        )

    def encoder_of(self, arm: Arm, seed: int) -> str:
        """The part whose folder holds the encoder of an arm."""
        return part_of(arm.name) if arm.stage == "baseline" else part_name(arm.name, seed)

    def _pretrain(self, arm: Arm, seed: int) -> Part:
        name = part_name(arm.name, seed)
        if arm.stage == "none":
            return untrained_part(name, self.mae.run, seed=seed)
        recipe = self.mae if arm.stage == "mae" else self.wsp
        run = override_run(recipe.run, arm.overrides)
        optim = replace(run.optim, base_lr=run.optim.base_lr * arm.rate)
        run = replace(run, budget=self._budget(arm, run), optim=optim, name=name, seed=seed)
        start = part_name(arm.start, seed) if arm.start else ""
        return TrainPart(name=name, run=run, data_info=recipe.data_info, init_from=start)

    def _budget(self, arm: Arm, run: Run) -> Budget:
        """Whole batches: a share of its recipe's, or as many as MAE and then the recipe would cost."""
        mae, budget = self.mae, run.budget
        added = {
            "": 0.0,
            "compute": mae.flops / run.objective.flops_per_sample(self.wsp.data_info),
            "time": mae.run.budget.samples * self.measured.get("mae_seconds", 0.0),
        }[arm.lengthened]
        samples = round((arm.share * budget.samples + added) / budget.batch_size) * budget.batch_size
        return replace(budget, samples=samples, warmup=round(arm.share * budget.warmup))

    def _transfer(self, arm: Arm, source: Source, seed: int) -> list[Part]:
        """Frozen features of an arm on one dataset, then finetuning and its accuracy."""
        start, label = self.encoder_of(arm, seed), f"{arm.name}-{source.name}-seed{seed}"
        run = self.baselines[arm.name].finetuned(self.finetune) if arm.stage == "baseline" else self.finetune
        return [
            frozen_part(label, start, source, shots=self.design.shots, seed=seed),
            *finetuning_parts(label, start, source, run, images=self.images, seed=seed),
        ]

    def _tags(self, arm: Arm, seed: int) -> ComputePart:
        """Part that measures an arm's recall of the tags of held-out images, by the frequency of the tag."""
        start = part_name(arm.name, seed)
        return ComputePart(
            name=f"tags-{arm.name}-seed{seed}",
            compute=lambda folder: tag_scores(folder / start, self.source),
            settings={"data": self.source.content_hash},
            inputs=(start,),
        )
