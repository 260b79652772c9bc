"""The recipes of a study on its images, and the tasks that their encoders are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from underpaint import draws
from underpaint.core import Facts
from underpaint.data.dataset import ImageData
from underpaint.data.loader import channel_statistics
from underpaint.data.records import Source
from underpaint.data.sources import open_source
from underpaint.run import Run
from underpaint.studies.designs import BESIDE

STATISTICS_FROM = 4_096
"""Images that the mean and deviation are computed from, where there are more."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe on the images of the study, with what is known of its data."""

    run: Run
    facts: Facts

    @property
    def flops(self) -> int:
        return self.run.budget.samples * self.run.objective.flops_per_sample(self.facts)


def transfer_sources(source: Source, names: Sequence[str]) -> tuple[Source, ...]:
    """The transfer tasks by name; of one's own images theirs, where they have labels, and the digits."""
    if names:
        return tuple(open_source(name) for name in names)
    own = (source,) if source.rows("train") and source.rows("test") else ()
    return (*own, open_source(BESIDE))


def normalised_encoder(run: Run, source: Source, rows: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """The mean and deviation of the images, as fields of the encoder's config."""
    encoder = run.objective.encoder
    drawn = sorted(rows, key=lambda row: draws.key("statistics", source.path[row]))[:STATISTICS_FROM]
    mean, std = channel_statistics(
        source, sorted(drawn), channels=encoder.channels, value_range=encoder.value_range, size=encoder.size
    )
    return {"mean": mean, "std": std}


def recipe_on(run: Run, data: dict[str, str], encoder: dict[str, tuple[float, ...]]) -> Recipe:
    run = run_on(run, data, encoder)
    return Recipe(run=run, facts=facts_of(run))


def run_on(run: Run, data: dict[str, str], encoder: dict[str, tuple[float, ...]]) -> Run:
    """The run on these images, normalised by their own statistics."""
    assert isinstance(run.data, ImageData)
    normalised = replace(run.objective.encoder, **encoder)
    return replace(run, objective=replace(run.objective, encoder=normalised), data=replace(run.data, **data))


def facts_of(run: Run) -> Facts:
    """The facts of a run's data, without its seed."""
    opened = run.data.open()
    return Facts(seed=0, labels=opened.vocabulary.labels, images=len(opened.trained_rows))
