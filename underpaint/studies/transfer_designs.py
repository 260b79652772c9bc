"""Designs of the study ``transfer`` at each size, and the evaluations that they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from underpaint import recipes
from underpaint.data.source import Source
from underpaint.evals.attentive import Attentive
from underpaint.evals.features import labelled_rows, require_tunable, transfer_classes
from underpaint.evals.knn import Knn
from underpaint.evals.linear import LARGEST, Linear
from underpaint.evals.linear_sgd import LinearSGD
from underpaint.evals.lowshot import LowShot
from underpaint.evals.lowshot_linear import LowShotLinear
from underpaint.evals.lowshot_vpt import LowShotVPT
from underpaint.run import Budget, Run
from underpaint.studies.designs import Size
from underpaint.studies.parts import THREADS

Protocol = Literal[
    "linear",
    "knn",
    "attentive",
    "lowshot",
    "lowshot_linear",
    "lowshot_vpt",
    "finetune",
    "robustness",
    "zeroshot",
    "video",
    "video_attentive",
    "detection",
]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
RUNS = ("finetune", "video", "detect")
"""Fields of the design that are runs."""
QUERIES = 32
"""Queries of the attentive probe, as published; fewer where they do not divide an encoder's width."""


@dataclass(frozen=True, kw_only=True)
class TransferDesign:
    """Everything that tells one size of the study from another."""

    finetune: Run  # shape and size come from the encoder
    video: Run  # the same
    detect: Run  # its shape comes from the encoder, the size of images and patches from here
    protocols: tuple[Protocol, ...] = PROTOCOLS
    shots: tuple[int, ...] = (1, 5, 10)
    splits: int = 5  # of each low-shot protocol
    attentive_epochs: int = 90
    video_attentive_epochs: int = 20
    # lowshot_vpt: images that are trained on for a split, repeats counted; where MIM-Refiner's 50 epochs are more, they
    # are fewer. 0: never fewer
    prompt_images: int = 0
    names: str = ""  # table of class names for zero-shot; "" takes the names of the classes as words
    templates: str = ""  # file of templates for zero-shot
    clips: int = 5  # of each test video, whose probabilities are averaged
    crops: int = 3  # of each clip
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.protocols:
            raise ValueError(f"protocols is empty; name some of {', '.join(PROTOCOLS)}")
        if "robustness" in self.protocols and "finetune" not in self.protocols:
            raise ValueError("protocols=robustness scores finetuned models: add finetune")
        for name in ("protocols", "shots", "seeds"):
            given = getattr(self, name)
            if twice := next((each for each in given if given.count(each) > 1), None):
                raise ValueError(f"{name}={','.join(map(str, given))} names {twice} twice")
        if not self.shots and any(name.startswith("lowshot") for name in self.protocols):
            raise ValueError("shots is empty; give numbers of training images, such as shots=1,5, or other protocols")


def transfer_design_of(size: Size) -> TransferDesign:
    """The design of a size."""
    design = _DESIGNS[size]()
    runs = {name: replace(getattr(design, name), threads=THREADS) for name in RUNS}
    return replace(design, **runs)


def _smoke() -> TransferDesign:
    finetune = recipes.finetune_smoke()
    budget = Budget(samples=64, batch_size=16, microbatch=16, warmup=16)
    short = Budget(samples=16, batch_size=8, microbatch=8)
    return TransferDesign(
        finetune=replace(finetune, budget=budget),
        video=replace(recipes.video_laptop(), budget=short),
        detect=replace(recipes.detect_laptop(), budget=short),
        shots=(1,),
        splits=2,
        attentive_epochs=2,
        video_attentive_epochs=2,
        prompt_images=6,
        clips=1,
        crops=1,
    )


def _tiny() -> TransferDesign:
    """Minutes for an encoder of a laptop on three sets of some thousand photographs: short trainings."""
    budget = Budget(samples=2_400, batch_size=16, microbatch=16, warmup=240)
    return TransferDesign(
        finetune=recipes.finetune_laptop(),
        video=replace(recipes.video_laptop(), budget=budget),
        detect=replace(recipes.detect_laptop(), budget=budget),
        protocols=tuple(name for name in PROTOCOLS if name != "lowshot_vpt"),
        shots=(1, 5),
        splits=3,
        attentive_epochs=10,
        video_attentive_epochs=10,
    )


def _small() -> TransferDesign:
    finetune = recipes.finetune_small()
    budget = Budget(samples=32_000, batch_size=32, microbatch=32, warmup=3_200)
    video, detect = recipes.video_laptop(), recipes.detect_laptop()
    return TransferDesign(finetune=replace(finetune, budget=budget), video=video, detect=detect)


_DESIGNS: dict[Size, Callable[[], TransferDesign]] = {"smoke": _smoke, "tiny": _tiny, "small": _small}


def left_out_by_size(size: Size, design: TransferDesign) -> list[str]:
    """A line for each protocol that a size lacks, unless the protocols were chosen by the user."""
    if design.protocols != _DESIGNS[size]().protocols or "lowshot_vpt" in design.protocols:
        return []
    reason = f"the published 50 epochs of prompts do not fit into size {size}, and a few epochs are of no use"
    return [f"lowshot_vpt: {reason}; name it in protocols, or take --size small"]


@dataclass(frozen=True, kw_only=True)
class FrozenEvaluation:
    """An evaluation of a frozen encoder on a dataset, and what it costs beside reading images."""

    key: str  # in names of parts, such as ``lowshot_vpt-5``
    evaluation: Any
    training_images: int = 0  # passes of an image forward and back through the frozen encoder
    test_passes: int = 0  # passes of all test images
    feature_passes: int = 0  # passes of all images whose features are kept afterwards
    head_flops: float = 0.0


def frozen_evaluations(
    design: TransferDesign, source: Source, *, width: int, tokens: int, classes: int
) -> list[FrozenEvaluation]:
    """The evaluations of a frozen encoder of this width on a dataset, in the order of ``PROTOCOLS``."""
    name, images = source.name, len(labelled_rows(source, "train"))
    asked: list[FrozenEvaluation] = []
    if "linear" in design.protocols:
        is_large = images * len(transfer_classes(source)) > LARGEST
        probe = LinearSGD(dataset=name) if is_large else Linear(dataset=name)
        asked.append(FrozenEvaluation(key="linear", evaluation=probe, feature_passes=1))
    if "knn" in design.protocols:
        asked.append(FrozenEvaluation(key="knn", evaluation=Knn(dataset=name)))
    if "attentive" in design.protocols:
        probe = Attentive(dataset=name, queries=math.gcd(QUERIES, width), epochs=design.attentive_epochs)
        trained = images * probe.epochs * (1 + (1 - probe.tuning_share) * len(probe.base_lr))
        flops = 6.0 * tokens * width**2 * trained
        asked.append(FrozenEvaluation(key="attentive", evaluation=probe, feature_passes=1, head_flops=flops))
    for kind in (LowShot, LowShotLinear):
        if kind.protocol in design.protocols:
            asked += [
                FrozenEvaluation(
                    key=f"{kind.protocol}-{shots}", evaluation=kind(dataset=name, shots=shots, splits=design.splits)
                )
                for shots in design.shots
            ]
    if "lowshot_vpt" in design.protocols:
        asked += [_prompts(design, name, shots, min(images, shots * classes)) for shots in design.shots]
    return asked


def untunable(asked: Sequence[FrozenEvaluation], source: Source) -> dict[str, str]:
    """Keys of the evaluations that choose a setting by training images of which the source has too few, and why."""
    reasons: dict[str, str] = {}
    for each in asked:
        share: float | None = getattr(each.evaluation, "tuning_share", None)
        try:
            if share is not None:
                require_tunable(source, share=share)
        except ValueError as error:
            reasons[each.key] = str(error)
    return reasons


def _prompts(design: TransferDesign, name: str, shots: int, images: int) -> FrozenEvaluation:
    evaluation = LowShotVPT(dataset=name, shots=shots, splits=design.splits)
    if design.prompt_images:
        epochs = max(1, min(design.prompt_images // images, evaluation.recipe.epochs))
        evaluation = replace(evaluation, epochs=epochs)
    return FrozenEvaluation(
        key=f"lowshot_vpt-{shots}",
        evaluation=evaluation,
        training_images=design.splits * evaluation.recipe.epochs * images,
        test_passes=design.splits,
    )
