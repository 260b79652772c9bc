"""What pre-pretraining buys: MAE, WSP and MAE -> WSP, compared by transfer (the paper's Figure 1, in small).

Arms, all of one architecture and started from the same initial weights of a seed:

* ``random``: those weights, untrained; the floor;
* ``mae``: stage 1 on the images alone;
* ``wsp``: stage 2 on the tags, from scratch;
* ``mae_wsp``: the same recipe and steps of stage 2, from the encoder of ``mae``;
* ``wsp_equal_compute``: ``wsp``, its own schedule lengthened to the training FLOPs of ``mae`` and ``mae_wsp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from underpaint import config, recipes
from underpaint.core import Facts
from underpaint.data.dataset import ImageData
from underpaint.data.loader import channel_statistics
from underpaint.data.records import Source
from underpaint.data.sources import open_source
from underpaint.models.weights import save_encoder
from underpaint.run import Run
from underpaint.studies import stages_results
from underpaint.studies.pictures import draw_pictures
from underpaint.studies.protocols import classifier_scores, frozen_scores
from underpaint.study import ComputePart, Part, Study, TrainPart

Size = Literal["smoke", "tiny"]

ARMS = ("random", "mae", "wsp", "mae_wsp", "wsp_equal_compute")
UNTAGGED_ARMS = ("random", "mae")
TRANSFER_BESIDE = "digits"
"""An out-of-domain target that every study is measured on, whatever it is trained on."""


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """The runs a size is made of."""

    mae: Run
    wsp: Run
    finetune: Run


def recipes_of(size: Size) -> Recipes:
    if size == "smoke":
        return Recipes(mae=recipes.mae_smoke(), wsp=recipes.wsp_smoke(), finetune=recipes.finetune_smoke())
    return Recipes(mae=recipes.mae_laptop(), wsp=recipes.wsp_laptop(), finetune=recipes.finetune_laptop())


def stages(
    *, size: Size = "tiny", images: str = "openmoji", tags: str = "", labels: str = "", seeds: Sequence[int] = (0,)
) -> Study:
    """The study on a collection or on one's own folder of images.

    Raises:
        ValueError: if there are no images, or a file of tags or labels does not fit them.
    """
    source = open_source(images, tags=tags, labels=labels)
    setting = _Setting(size=size, images=images, tags=tags, labels=labels, source=source)
    parts = [part for seed in seeds for part in setting.parts_of(seed)]
    arms = setting.arms
    parts.append(
        ComputePart(
            name="pictures",
            compute=lambda folder: draw_pictures(folder, source, arms=arms, seed=seeds[0]),
            settings={"arms": list(arms), "data": source.content_hash, "seed": seeds[0]},
            inputs=tuple(part_name(arm, seeds[0]) for arm in arms),
        )
    )
    settings = {"size": size, "images": images, "data": source.content_hash, "seeds": list(seeds)}
    description = stages_results.describe(source, arms=arms, sources=setting.transfer_sources)
    return Study(
        name="stages",
        settings=settings,
        parts=tuple(parts),
        results=lambda folder: stages_results.collect(
            folder, arms=arms, seeds=seeds, datasets=setting.datasets, data=description
        ),
    )


def part_name(arm: str, seed: int) -> str:
    return f"{arm}-seed{seed}"


class _Setting:
    """What all seeds share: the recipes on these images, and the transfer tasks."""

    def __init__(self, *, size: Size, images: str, tags: str, labels: str, source: Source) -> None:
        self.source = source
        rows = source.rows("pretrain")
        tagged = any(source.tags[row] for row in rows)
        self.arms = ARMS if tagged else UNTAGGED_ARMS
        self.transfer_sources = _transfer_sources(source)
        self.datasets = tuple(other.name for other in self.transfer_sources)
        found = recipes_of(size)
        encoder = found.mae.objective.encoder
        mean, std = channel_statistics(
            source, rows, channels=encoder.channels, value_range=encoder.value_range, size=encoder.size
        )
        self.mae = _on_images(found.mae, images=images, tags=tags, labels=labels, mean=mean, std=std)
        self.wsp = _on_images(found.wsp, images=images, tags=tags, labels=labels, mean=mean, std=std)
        self.finetune = _on_images(found.finetune, images=images, tags=tags, labels=labels, mean=mean, std=std)
        self.mae_facts = Facts(seed=0, images=len(rows))
        self.wsp_facts = _facts(self.wsp) if tagged else self.mae_facts

    def parts_of(self, seed: int) -> list[Part]:
        random = part_name("random", seed)
        parts: list[Part] = [self._random(random, seed), self._train("mae", self.mae, seed, facts=self.mae_facts)]
        if self.arms == ARMS:
            equal = replace(self.wsp, budget=replace(self.wsp.budget, samples=self.equal_compute_samples()))
            for arm, run, start in (
                ("wsp", self.wsp, ""),
                ("mae_wsp", self.wsp, part_name("mae", seed)),
                ("wsp_equal_compute", equal, ""),
            ):
                parts.append(self._train(arm, run, seed, start=start, facts=self.wsp_facts))
        for arm in self.arms:
            for source in self.transfer_sources:
                parts += self._transfer(arm, source, seed)
        return parts

    def equal_compute_samples(self) -> int:
        """Samples of WSP alone that cost what MAE and then WSP cost, in whole batches."""
        mae = self.mae.budget.samples * self.mae.objective.flops_per_sample(self.mae_facts)
        per_sample = self.wsp.objective.flops_per_sample(self.wsp_facts)
        batch = self.wsp.budget.batch_size
        return round((mae / per_sample + self.wsp.budget.samples) / batch) * batch

    def _train(self, arm: str, run: Run, seed: int, *, facts: Facts, start: str = "") -> TrainPart:
        name = part_name(arm, seed)
        return TrainPart(name=name, run=replace(run, name=name, seed=seed), facts=facts, init_from=start)

    def _random(self, name: str, seed: int) -> ComputePart:
        """Saves the weights that every arm of the seed starts from, as if they came from a run."""
        objective = self.mae.objective

        def compute(folder: Path) -> Any:
            network = objective.build(Facts(seed=seed))
            save_encoder(folder / name / "encoder", network.encoder)  # pyright: ignore[reportArgumentType]
            return {"seed": seed}

        return ComputePart(name=name, compute=compute, settings=[config.record(objective.encoder), seed])

    def _transfer(self, arm: str, source: Source, seed: int) -> list[Part]:
        """Frozen features of an arm on one dataset, then finetuning and its accuracy."""
        start = part_name(arm, seed)
        finetune = f"finetune-{arm}-{source.name}-seed{seed}"
        run = replace(self.finetune, name=finetune, seed=seed)
        if source is not self.source:
            run = replace(run, data=replace(run.data, source=source.name, tags="", labels=""))
        settings = {"data": source.content_hash, "seed": seed}
        return [
            ComputePart(
                name=f"transfer-{arm}-{source.name}-seed{seed}",
                compute=lambda folder: frozen_scores(folder / start, source, seed=seed),
                settings=settings,
                inputs=(start,),
            ),
            TrainPart(name=finetune, run=run, facts=_facts(run), init_from=start),
            ComputePart(
                name=f"accuracy-{arm}-{source.name}-seed{seed}",
                compute=lambda folder: classifier_scores(folder / finetune, source, seed=seed),
                settings=settings,
                inputs=(finetune,),
            ),
        ]


def _transfer_sources(source: Source) -> tuple[Source, ...]:
    """The images' own transfer task where they have labels, and the digits."""
    own = (source,) if source.rows("train") and source.rows("test") else ()
    return (*own, open_source(TRANSFER_BESIDE))


def _facts(run: Run) -> Facts:
    """The facts of a run's data, without its seed."""
    opened = run.data.open()
    return Facts(seed=0, labels=opened.vocabulary.labels, images=len(opened.trained_rows))


def _on_images(
    run: Run, *, images: str, tags: str, labels: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Run:
    """The run on these images, normalised by their own statistics."""
    assert isinstance(run.data, ImageData)
    encoder = replace(run.objective.encoder, mean=mean, std=std)
    return replace(
        run,
        objective=replace(run.objective, encoder=encoder),
        data=replace(run.data, source=images, tags=tags, labels=labels),
    )
