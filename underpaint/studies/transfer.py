"""The study ``transfer``: encoders that were trained elsewhere, through all protocols that disk and encoders allow.

Every encoder is copied into the study. A part is one protocol of one encoder on one dataset for one seed; features are
kept in the cache, so that parts of one encoder share them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from underpaint import config
from underpaint.core import DataInfo
from underpaint.data.dataset import ImageData
from underpaint.messages import say
from underpaint.models.vit import ViTConfig
from underpaint.run import Run
from underpaint.run.idle_fields import Idle, refuse_idle
from underpaint.studies import transfer_results
from underpaint.studies.designs import Size
from underpaint.studies.overrides import SET_BY_THE_STUDY, idle_in_recipes, set_by_the_study
from underpaint.studies.parts import ComputePart, Part, Study, TrainPart, Work
from underpaint.studies.transfer_designs import (
    RUNS,
    FrozenEvaluation,
    TransferDesign,
    frozen_evaluations,
    left_out_by_size,
    transfer_design_of,
    untunable,
)
from underpaint.studies.transfer_inputs import Dataset, Sets, Tested, open_encoders, open_sets, part_name
from underpaint.studies.transfer_protocols import (
    finetuned_scores,
    frozen_scores,
    robustness_scores,
    zero_shot_evaluation,
    zero_shot_scores,
)
from underpaint.studies.transfer_sets import Videos
from underpaint.studies.transfer_tasks import (
    detection_parts,
    detection_run,
    video_obstacle,
    video_parts,
    video_run,
)

NAMED_BY_DATA = "the datasets are those of --data; leave it out"
OF_VIDEOS = ("clips", "crops", "video_attentive_epochs")
"""Fields of the design for videos alone, beside the recipe."""
AFTER_IMAGES = 1000
"""Place of the first part on videos: after all of those on images with classes."""


def transfer(
    *,
    size: Size = "tiny",
    encoders: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: Sequence[str] = (),
    measured: Mapping[str, float] | None = None,
) -> Study:
    """Measure finished encoders on all datasets and protocols that are there: a radar and tables, side by side.

    ``encoders`` are folders of runs or imports, of any shapes; folders called NAME-seed0, NAME-seed1 are the seeds of
    one arm, and the others are measured with each of ``seeds``. ``overrides`` are fields of the size's
    ``TransferDesign``.

    Raises:
        ValueError: for an encoder or a dataset that cannot be measured, before anything is computed, or for an override
            that does nothing.
    """
    assert not measured, f"{measured} was measured for another study"
    design = config.override(transfer_design_of(size), overrides)
    refuse_idle(overrides, design, _idle_settings(design, seeds))
    suite = _Suite(design, open_encoders(encoders), open_sets(datasets, design), tuple(seeds) or design.seeds)
    refuse_idle(overrides, design, suite.idle(overrides))
    suite.require_parts()
    suite.left_out += left_out_by_size(size, design)
    for line in (*suite.notes, *(f"left out: {line}" for line in suite.left_out)):
        say(line)
    return Study(
        name="transfer",
        settings={"size": size, "data": suite.sets.hashes} | ({"overrides": list(overrides)} if overrides else {}),
        parts=(*map(_copied, suite.encoders), *(part for seed in suite.seeds for part in suite.parts_of(seed))),
        seeds=suite.seeds,
        parts_of=suite.parts_of,
        results=lambda folder, seeds: transfer_results.collect(
            folder,
            encoders=suite.encoders,
            outputs=lambda encoder, seed: [part.name for part in suite.scored_parts(encoder, seed)],
            seeds=seeds,
            collections=suite.sets.entries,
            left_out=suite.left_out,
        ),
    )


def _idle_settings(design: TransferDesign, seeds: Sequence[int]) -> Idle:
    """Fields of the design that the study sets by itself, or that nothing reads."""
    idle = set_by_the_study(())
    data = ("data", *(f"data.{name}" for name in ("source", "tags", "labels", "exclude")))
    idle |= {f"finetune.{name}": NAMED_BY_DATA for name in data}
    brought = "the encoders of --from bring it; leave it out"
    for recipe in RUNS:
        free = ("size", "patch") if recipe == "detect" else ()
        names = [each.name for each in fields(ViTConfig) if each.name not in free]
        idle |= {f"{recipe}.objective.encoder.{name}": brought for name in names}
    for recipe in ("video", "detect"):
        idle |= {f"{recipe}.{name}": SET_BY_THE_STUDY[name] for name in ("name", "seed", "init_from")}
        given = ("annotations", "videos", "images", "heldout_annotations", "heldout_videos", "heldout_images")
        idle |= {f"{recipe}.{name}": NAMED_BY_DATA for name in ("data", *(f"data.{name}" for name in given))}
    idle["detect.objective.detector.global_blocks"] = "the last block of each quarter of an encoder; leave it out"
    if seeds:
        idle["seeds"] = f"--seeds {' '.join(map(str, seeds))} is given; leave one of them out"
    if "attentive" not in design.protocols:
        idle["attentive_epochs"] = "no protocol is attentive; add it to protocols"
    if "video_attentive" not in design.protocols:
        idle["video_attentive_epochs"] = "no protocol is video_attentive; add it to protocols"
    if "video" not in design.protocols:
        idle |= dict.fromkeys(("clips", "crops"), "no protocol is video; add it to protocols")
    if "lowshot_vpt" not in design.protocols:
        idle["prompt_images"] = "no protocol is lowshot_vpt; add it to protocols"
    if not any(name.startswith("lowshot") for name in design.protocols):
        idle |= dict.fromkeys(("shots", "splits"), "no protocol is low-shot; add one to protocols")
    if "zeroshot" not in design.protocols:
        idle |= dict.fromkeys(("names", "templates"), "no protocol is zeroshot; add it to protocols")
    return idle


def _copied(encoder: Tested) -> ComputePart:
    baseline = encoder.baseline
    return ComputePart(
        name=baseline.part, compute=baseline.copy_into, settings=baseline.describe(), encoder=baseline.config
    )


class _Suite:
    """Encoders, datasets and protocols, the parts that they make, and what is left out."""

    def __init__(
        self,
        design: TransferDesign,
        encoders: Sequence[Tested],
        sets: Sets,
        seeds: tuple[int, ...],
    ) -> None:
        self.design, self.encoders, self.sets, self.datasets = design, tuple(encoders), sets, sets.datasets
        self.tasks = tuple(each for each in sets.datasets if each.has_task)
        self._named_seeds = {encoder.seed for encoder in encoders if encoder.seed is not None}
        self._own_seeds = set(seeds) if any(encoder.seed is None for encoder in encoders) else set[int]()
        self.seeds = tuple(sorted(self._named_seeds | self._own_seeds))
        self._facts = dict[str, DataInfo]()
        self._untunable = {
            task.source.name: untunable(self._evaluations(self.encoders[0], task), task.source) for task in self.tasks
        }
        self.on_videos, self._no_videos = self._pairs_on_videos()
        detected = sets.objects if "detection" in design.protocols else ()
        self.on_objects = [(encoder, each) for encoder in self.encoders for each in detected]
        self.finetuned, self._not_finetuned = self._finetuned()
        self.left_out = self._left_out()
        self.notes = self._notes()

    def idle(self, overrides: Sequence[str]) -> Idle:
        """Fields of the recipes that no run reads."""
        runs = {
            "finetune": [self._run(encoder, task, 0) for encoder in self.encoders for task in self.finetuned],
            "video": [video_run(self.design, encoder, videos, 0) for encoder, videos in self.on_videos],
            "detect": [detection_run(self.design, encoder, objects, 0) for encoder, objects in self.on_objects],
        }
        started = {recipe: [replace(run, init_from="encoder") for run in several] for recipe, several in runs.items()}
        idle = idle_in_recipes(started)
        names = [assignment.partition("=")[0] for assignment in overrides]
        if not self.on_videos:
            of_videos = [name for name in names if name in OF_VIDEOS or name.startswith("video.")]
            idle |= dict.fromkeys(of_videos, "no encoder is measured on videos")
        elif "video" not in self.design.protocols:
            untrained = [name for name in names if name.startswith("video.") and ".clip." not in name]
            idle |= dict.fromkeys(untrained, "no protocol is video; add it to protocols")
        if not runs["detect"]:
            of_objects = [name for name in names if name.startswith("detect.")]
            idle |= dict.fromkeys(of_objects, "no encoder is measured on annotated images")
        return idle

    def _notes(self) -> list[str]:
        """Notes on the datasets, and remarks of the evaluations on their labels."""
        lines: list[str] = []
        for task in self.datasets:
            lines += [f"{task.source.name}: {note}" for note in task.source.notes]
        for each in (*self.sets.videos, *self.sets.objects):
            lines += [f"{each.name}: {note}" for note in each.opened.notes]
        for task in self.tasks:
            for asked in self._frozen(self.encoders[0], task):
                check = getattr(asked.evaluation, "check", None)
                lines += [f"{task.source.name}: {note}" for note in (check(task.source) if check else [])]
        return list(dict.fromkeys(lines))

    def _left_out(self) -> list[str]:
        """Protocols that an encoder or a dataset does not allow, each with the reason."""
        lines = [*self.sets.passed_over, *self._no_videos, *self._not_finetuned]
        lines += [f"{key} on {name}: {why}" for name, keys in self._untunable.items() for key, why in keys.items()]
        for protocols, sets in ((("video", "video_attentive"), self.sets.videos), (("detection",), self.sets.objects)):
            if not {*protocols} & {*self.design.protocols}:
                lines += [f"{each.name}: protocols has no {' and no '.join(protocols)}" for each in sets]
        if "zeroshot" in self.design.protocols:
            blind = [encoder.baseline.name for encoder in self.encoders if encoder.texts is None]
            if blind:
                lines.append(f"zero-shot of {', '.join(blind)}: no text tower; give runs of LiT for it")
            if len(blind) < len(self.encoders):
                lines += [f"zero-shot on {each.source.name}: {why}" for each, why in self._unnamed()]
        if "robustness" in self.design.protocols and not any(map(self.tested_by, self.finetuned)):
            lines.append("robustness: no dataset has only classes of a model finetuned on another one")
        tested = {each.source.name for task in self.finetuned for each in self.tested_by(task)}
        for each in self.datasets:
            if not each.has_task and each.source.name not in tested:
                lines.append(f"{each.source.name}: it has no training images, and no model is finetuned on its classes")
        return lines

    def _pairs_on_videos(self) -> tuple[list[tuple[Tested, Videos]], list[str]]:
        """Each encoder with the videos that it takes, and a line for each that takes none."""
        pairs, lines = list[tuple[Tested, Videos]](), list[str]()
        for videos in self.sets.videos if {"video", "video_attentive"} & {*self.design.protocols} else ():
            for encoder in self.encoders:
                if reason := video_obstacle(self.design, encoder, videos):
                    lines.append(f"video of {encoder.baseline.name} on {videos.name}: {reason}")
                else:
                    pairs.append((encoder, videos))
        return pairs, lines

    def _finetuned(self) -> tuple[list[Dataset], list[str]]:
        """The datasets with a batch of training images or more, and a line for each with fewer."""
        batch = self.design.finetune.budget.batch_size
        datasets, lines = list[Dataset](), list[str]()
        for task in self.tasks if "finetune" in self.design.protocols else ():
            if (images := self._facts_of(task).images) < batch:
                reason = f"{images} training images are fewer than one batch of {batch}"
                fix = "give more, or set finetune.budget.batch_size and finetune.budget.microbatch"
                lines.append(f"finetuning on {task.source.name}: {reason}; {fix}")
            else:
                datasets.append(task)
        return datasets, lines

    def _unnamed(self) -> list[tuple[Dataset, str]]:
        reasons = [(task, zero_shot_evaluation(self.design, task)) for task in self.tasks]
        return [(task, reason) for task, reason in reasons if isinstance(reason, str)]

    def tested_by(self, task: Dataset) -> list[Dataset]:
        """The other datasets whose classes a model that was finetuned on this one knows."""
        if "robustness" not in self.design.protocols:
            return []
        return [each for each in self.datasets if each is not task and each.classes <= task.classes]

    def parts_of(self, seed: int) -> list[Part]:
        """The parts of a seed, protocol by protocol, so that those which run side by side need other features."""
        by_encoder = [self._parts(encoder, seed) for encoder in self.encoders if self.has_seed(encoder, seed)]
        return [part for _, part in sorted((pair for pairs in by_encoder for pair in pairs), key=lambda pair: pair[0])]

    def require_parts(self) -> None:
        """Raise ValueError where there is nothing to measure, or two parts have one name."""
        names = [part.name for seed in self.seeds for part in self.parts_of(seed)]
        if not names:
            raise ValueError(f"nothing can be measured: {'; '.join(self.left_out)}")
        if twice := next((name for name, count in Counter(names).items() if count > 1), None):
            arms = ", ".join(dict.fromkeys(each.arm for each in self.encoders))
            sets = ", ".join(self.sets.hashes)
            raise ValueError(f"encoders {arms} and datasets {sets} give two parts the name {twice}; rename one")

    def scored_parts(self, encoder: Tested, seed: int) -> list[ComputePart]:
        """The parts whose outputs are the scores of an encoder."""
        if not self.has_seed(encoder, seed):
            return []
        return [part for _, part in self._parts(encoder, seed) if isinstance(part, ComputePart)]

    def has_seed(self, encoder: Tested, seed: int) -> bool:
        """Whether an encoder is measured with a seed: its own, or where it has none, all but those of other arms."""
        if encoder.seed is not None:
            return encoder.seed == seed
        return seed in self._own_seeds or seed not in self._named_seeds

    def _parts(self, encoder: Tested, seed: int) -> list[tuple[int, Part]]:
        """Parts of an encoder with the place of their protocol."""
        parts: list[tuple[int, Part]] = []
        for task in self.tasks:
            frozen = self._frozen(encoder, task)
            parts += [(place, self._frozen_part(asked, encoder, task, seed)) for place, asked in enumerate(frozen)]
            after = len(frozen)
            if task in self.finetuned:
                parts += [(after + place, part) for place, part in enumerate(self._finetuning(encoder, task, seed))]
            if "zeroshot" in self.design.protocols and encoder.texts is not None:
                zero_shot = zero_shot_evaluation(self.design, task)
                if not isinstance(zero_shot, str):
                    parts.append((after, self._zero_shot(encoder, task, zero_shot, seed)))
        further = [video_parts(self.design, by, videos, seed) for by, videos in self.on_videos if by is encoder]
        further += [detection_parts(self.design, by, objects, seed) for by, objects in self.on_objects if by is encoder]
        return parts + [(AFTER_IMAGES + place, part) for several in further for place, part in enumerate(several)]

    def _frozen(self, encoder: Tested, task: Dataset) -> list[FrozenEvaluation]:
        untuned = self._untunable[task.source.name]
        return [each for each in self._evaluations(encoder, task) if each.key not in untuned]

    def _evaluations(self, encoder: Tested, task: Dataset) -> list[FrozenEvaluation]:
        c = encoder.baseline.config
        return frozen_evaluations(
            self.design, task.source, width=c.width, tokens=c.num_patches, classes=len(task.classes)
        )

    def _frozen_part(self, asked: FrozenEvaluation, encoder: Tested, task: Dataset, seed: int) -> ComputePart:
        start, source = encoder.baseline.part, task.source
        forward = self._forward_flops(encoder, task)
        tested, trained = len(source.rows("test")), len(source.rows("train"))
        passes = asked.feature_passes * (tested + trained) + asked.test_passes * tested
        flops = passes * forward + asked.training_images * 2 * forward + asked.head_flops
        return ComputePart(
            name=part_name(asked.key, encoder, source.name, seed),
            compute=lambda folder: frozen_scores(asked.evaluation, folder / start, source, seed=seed),
            settings=[config.record(asked.evaluation), type(asked.evaluation).__name__, source.content_hash, seed],
            inputs=(start,),
            work=self._work(encoder, task, passes + asked.training_images, flops),
        )

    def _finetuning(self, encoder: Tested, task: Dataset, seed: int) -> list[Part]:
        """Finetuning on a dataset, and the model's scores there and on the sets that it is tested by."""
        source = task.source
        name = part_name("finetune", encoder, source.name, seed)
        run = replace(self._run(encoder, task, seed), name=name)
        parts: list[Part] = [
            TrainPart(name=name, run=run, data_info=self._facts_of(task), init_from=encoder.baseline.part),
            ComputePart(
                name=part_name("accuracy", encoder, source.name, seed),
                compute=lambda folder: finetuned_scores(folder / name, source),
                settings=[source.content_hash, seed],
                inputs=(name,),
                work=self._tests(encoder, task, task),
            ),
        ]
        return parts + [self._robustness(name, encoder, task, test_set, seed) for test_set in self.tested_by(task)]

    def _robustness(self, run: str, encoder: Tested, task: Dataset, test_set: Dataset, seed: int) -> ComputePart:
        has_fewer = test_set.classes < task.classes
        called = f"{task.source.name}→{test_set.source.name}"
        return ComputePart(
            name=part_name("robustness", encoder, f"{task.source.name}-{test_set.source.name}", seed),
            compute=lambda folder: robustness_scores(
                folder / run, test_set.source, name=called, has_fewer=has_fewer, trained=task.source
            ),
            settings=[test_set.source.content_hash, seed],
            inputs=(run,),
            work=self._tests(encoder, task, test_set),
        )

    def _zero_shot(self, encoder: Tested, task: Dataset, evaluation: Any, seed: int) -> ComputePart:
        folder, source = encoder.texts, task.source
        assert folder is not None
        return ComputePart(
            name=part_name("zeroshot", encoder, source.name, seed),
            compute=lambda _: zero_shot_scores(evaluation, folder, source),
            settings=[config.record(evaluation), source.content_hash],
            inputs=(encoder.baseline.part,),
            work=self._tests(encoder, task, task),
        )

    def _run(self, encoder: Tested, task: Dataset, seed: int) -> Run:
        """Finetuning of the encoder on the dataset, without near duplicates of its test images."""
        run = encoder.baseline.finetuned(self.design.finetune)
        assert isinstance(run.data, ImageData)
        return replace(run, seed=seed, data=replace(run.data, source=task.name, tags="", labels="", exclude=task.name))

    def _facts_of(self, task: Dataset) -> DataInfo:
        """Facts of the training images of a dataset, opened once."""
        if task.name not in self._facts:
            opened = self._run(self.encoders[0], task, 0).data.open()
            self._facts[task.name] = DataInfo(seed=0, labels=opened.vocabulary.labels, images=opened.images)
        return self._facts[task.name]

    def _forward_flops(self, encoder: Tested, task: Dataset) -> float:
        """FLOPs of a pass of one image; training costs three times as much."""
        return self._run(encoder, task, 0).objective.flops_per_sample(self._facts_of(task)) / 3

    def _tests(self, encoder: Tested, task: Dataset, test_set: Dataset) -> Work | None:
        images = len(test_set.source.rows("test"))
        return self._work(encoder, task, images, images * self._forward_flops(encoder, task))

    def _work(self, encoder: Tested, task: Dataset, images: int, flops: float) -> Work | None:
        """The work of a part; None where it takes no longer than the start of a process."""
        if not images:
            return None
        run = replace(self._run(encoder, task, 0), name=f"{encoder.baseline.name} on {task.source.name}")
        return Work(images=images, flops=flops, like=(run, self._facts_of(task)))
