"""Parts that every study on arms has: the untrained encoder, and the measurements of an encoder on a dataset.

The parts of one encoder on one dataset are named after their kind and a label, such as ``mae-digits-seed0``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from underpaint import config
from underpaint.core import DataInfo
from underpaint.data.source import Source
from underpaint.models.weights import save_encoder
from underpaint.run import Run, encoder_of
from underpaint.studies.parts import ComputePart, Part, TrainPart
from underpaint.studies.pretraining_images import StudyImages, task_data
from underpaint.studies.protocols import classifier_scores, frozen_scores, frozen_settings


def untrained_part(name: str, run: Run, *, seed: int) -> ComputePart:
    """Save the weights that a run of the seed starts from, as if they came from a run."""
    encoder = encoder_of(run)

    def compute(folder: Path) -> object:
        network = run.objective.build(DataInfo(seed=seed))
        save_encoder(folder / name / "encoder", network.encoder)  # pyright: ignore[reportArgumentType]
        return {"seed": seed}

    return ComputePart(name=name, compute=compute, settings=[config.record(encoder), seed], encoder=encoder)


def frozen_part(label: str, start: str, task: Source, *, shots: Sequence[int], seed: int) -> ComputePart:
    """Measure the frozen features of the encoder that the part ``start`` leaves: ``transfer-LABEL``."""
    return ComputePart(
        name=f"transfer-{label}",
        compute=lambda folder: frozen_scores(folder / start, task, shots=shots, seed=seed),
        settings=frozen_settings(task, shots=shots, seed=seed),
        inputs=(start,),
    )


def finetuning_parts(label: str, start: str, task: Source, run: Run, *, images: StudyImages, seed: int) -> list[Part]:
    """Finetune the encoder of the part ``start`` (``finetune-LABEL``), and measure that (``accuracy-LABEL``)."""
    finetune = f"finetune-{label}"
    run = replace(run, name=finetune, seed=seed, data=replace(run.data, **task_data(task, images)))
    return [
        TrainPart(name=finetune, run=run, data_info=images.facts_of(run), init_from=start),
        ComputePart(
            name=f"accuracy-{label}",
            compute=lambda folder: classifier_scores(folder / finetune, task),
            settings={"data": task.content_hash, "seed": seed},
            inputs=(finetune,),
        ),
    ]
