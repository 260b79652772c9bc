"""Overrides of a study that would do nothing: what it sets by itself, and what none of its runs reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from underpaint.run import Run
from underpaint.run.idle_fields import Idle, idle_fields
from underpaint.studies.designs import Design

RECIPES = ("mae", "wsp", "finetune")
_IMAGES = "all arms see the study's images; give --images DIR"
SET_BY_THE_STUDY: Idle = {
    "name": "a run is called after its arm and seed; leave it out",
    "seed": "all arms of a seed have it; give --seeds N",
    "init_from": "the arms say what starts from what; leave it out",
    **dict.fromkeys(("data", "data.source", "data.exclude"), _IMAGES),
    "data.tags": "all arms see the study's tags; give --tags FILE",
    "data.labels": "all arms are measured on the study's classes; give --labels FILE",
    **dict.fromkeys(("objective.encoder.mean", "objective.encoder.std"), "it is measured on the images; leave it out"),
}
"""Fields of every recipe that have the study's value whatever they are set to."""


def set_by_the_study(overrides: Sequence[str]) -> Idle:
    """Fields of the recipes that have the study's value whatever they are set to.

    A mean and a deviation may be set where they must, beside another number of channels.
    """
    idle = {f"{recipe}.{field}": reason for recipe in RECIPES for field, reason in SET_BY_THE_STUDY.items()}
    for recipe in RECIPES:
        if any(assignment.startswith(f"{recipe}.objective.encoder.channels=") for assignment in overrides):
            del idle[f"{recipe}.objective.encoder.mean"], idle[f"{recipe}.objective.encoder.std"]
    return idle


def idle_settings(overrides: Sequence[str], design: Design, *, images: str, seeds: Sequence[int]) -> Idle:
    """Fields of a design that nothing reads, as far as that is known before its images are opened."""
    idle = set_by_the_study(overrides)
    if images:
        idle["images"] = f"--images {images} is trained on; leave it out"
        idle["transfer"] = f"--images {images} is measured on its own classes and on digits; leave it out"
    if seeds:
        idle["seeds"] = f"--seeds {' '.join(map(str, seeds))} is given; leave one of them out"
    if not any(arm.lengthened == "time" for arm in design.arms):
        idle["mae_seconds"] = "no arm of this size is as long as another in time; take --size small"
    return idle


def idle_in_recipes(runs: Mapping[str, Sequence[Run]]) -> Idle:
    """Fields that none of the runs of a recipe reads; ``init_from`` says which of them start from another."""
    idle: Idle = {}
    for recipe, several in runs.items():
        idle_of_each = [idle_fields(run) for run in several]
        common = set.intersection(*map(set, idle_of_each)) if idle_of_each else set[str]()
        idle |= {f"{recipe}.{field}": idle_of_each[0][field] for field in common}
    return idle


def idle_without_tags(overrides: Sequence[str]) -> Idle:
    """Overrides of WSP, which do nothing for images without tags, each with the reason."""
    names = [assignment.partition("=")[0] for assignment in overrides]
    of_wsp = [name for name in names if name == "mae_seconds" or name.startswith("wsp.")]
    return dict.fromkeys(of_wsp, "the images have no tags, so that WSP is not run; give --tags FILE")
