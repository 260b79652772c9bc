"""The recipes of a study on its images, and the tasks that their encoders are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from underpaint import keyed_random
from underpaint.core import DataInfo
from underpaint.data.dataset import ImageData
from underpaint.data.loader import channel_statistics
from underpaint.data.near_duplicates.removal import Report, without_duplicates
from underpaint.data.open_source import open_source
from underpaint.data.source import Source
from underpaint.messages import say
from underpaint.run import Run, encoder_of
from underpaint.studies.designs import BESIDE
from underpaint.tags.label_names import TagRulesName

STATISTICS_FROM = 4_096
"""Images that the mean and deviation are computed from, where there are more."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe on the images of the study, with what is known of its data."""

    run: Run
    data_info: DataInfo

    @property
    def flops(self) -> int:
        return self.run.budget.samples * self.run.objective.flops_per_sample(self.data_info)


@dataclass(frozen=True, kw_only=True)
class StudyImages:
    """Images that a study trains and tests on; the training images hold no near duplicates of the test images."""

    source: Source
    tasks: tuple[Source, ...]
    """The transfer tasks."""
    data: dict[str, str]
    """The fields of ``ImageData`` that give a run these images."""
    leakage: Report
    """Report on the near duplicates that were left out of ``source``."""
    _facts: dict[object, DataInfo] = field(default_factory=dict, repr=False, compare=False)

    def facts_of(self, run: Run) -> DataInfo:
        """The facts of a run's data, without its seed; data that several runs share is opened once."""
        if run.data not in self._facts:
            opened = run.data.open()
            self._facts[run.data] = DataInfo(seed=0, labels=opened.vocabulary.labels, images=opened.images)
        return self._facts[run.data]


def study_images(
    names: str, *, tags: str, labels: str, transfer: Sequence[str], tag_rules: TagRulesName = "canonical"
) -> StudyImages:
    """Open the images of a study and its transfer tasks; without ``transfer`` these are the images' own and the digits.

    Raises:
        ValueError: if there are no images, or a file of tags or labels does not fit them.
    """
    source = open_source(names, tags=tags, labels=labels, tag_rules=tag_rules)
    for note in (*source.notes, *source.notes_on_tags):
        say(f"{source.name}: {note}")
    beside = tuple(name for name in transfer or (BESIDE,) if name != source.name)
    source, leakage = without_duplicates(source, [open_source(name) for name in beside])
    has_task = bool(source.rows("train") and source.rows("test")) and (not transfer or source.name in transfer)
    others = tuple(without_duplicates(open_source(name), ())[0] for name in beside)
    data = {"source": names, "tags": tags, "labels": labels, "exclude": "+".join(beside)}
    return StudyImages(source=source, tasks=(source, *others) if has_task else others, data=data, leakage=leakage)


def task_data(task: Source, images: StudyImages) -> dict[str, str]:
    """The fields of ``ImageData`` that give a run the training images of a transfer task."""
    if task is images.source:
        return images.data
    return {"source": task.name, "tags": "", "labels": "", "exclude": task.name}


def normalised_encoder(run: Run, source: Source, rows: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """The mean and deviation of the images, as fields of the encoder's config."""
    encoder = encoder_of(run)
    drawn = sorted(rows, key=lambda row: keyed_random.key("statistics", source.path[row]))[:STATISTICS_FROM]
    mean, std = channel_statistics(
        source, sorted(drawn), channels=encoder.channels, value_range=encoder.value_range, size=encoder.size
    )
    return {"mean": mean, "std": std}


def recipe_on(run: Run, images: StudyImages, encoder: dict[str, tuple[float, ...]]) -> Recipe:
    run = run_on(run, images.data, encoder)
    return Recipe(run=run, data_info=images.facts_of(run))


def run_on(run: Run, data: dict[str, str], encoder: dict[str, tuple[float, ...]]) -> Run:
    """The run on these images, normalised by their own statistics."""
    assert isinstance(run.data, ImageData)
    normalised = replace(encoder_of(run), **encoder)
    return replace(run, objective=replace(run.objective, encoder=normalised), data=replace(run.data, **data))
