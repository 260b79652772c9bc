"""Train variants of the small recipes and measure their frozen features on the tasks of ``stages --size small``.

Shared by ``pilot.py`` and ``mae_fast.py``. Finished runs are not repeated.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from underpaint import config, files
from underpaint.evals.score import Score
from underpaint.recipes import mae_deep_small, mae_fast_small
from underpaint.run import Run
from underpaint.studies.designs import design_of
from underpaint.studies.parts import ComputePart, TrainPart, read_output, run_part
from underpaint.studies.pretraining_images import StudyImages, normalised_encoder, run_on, study_images
from underpaint.studies.protocols import frozen_scores, frozen_settings


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A variant of one of the small recipes."""

    name: str
    recipe: str  # "mae", "mae_deep", "mae_fast" or "wsp"
    start: str = ""  # the candidate whose encoder it starts from
    added: int = 0  # samples of mae_small whose training FLOPs are added to the recipe's
    changes: tuple[str, ...] = ()  # as on the command line


@dataclass(frozen=True, kw_only=True)
class Measured:
    samples: int
    seconds: float  # of training, as the run itself counts them
    scores: dict[str, float]  # per cent, by "task protocol"

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores.values())


class Laboratory:
    """The images, recipes and tasks of the small study, and a folder for what is trained."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.design = design_of("small")

    @cached_property
    def images(self) -> StudyImages:
        return study_images(self.design.images, tags="", labels="", transfer=self.design.transfer)

    @cached_property
    def recipes(self) -> dict[str, Run]:
        encoder = normalised_encoder(self.design.mae, self.images.source, self.images.source.rows("pretrain"))
        found = {
            "mae": self.design.mae,
            "wsp": self.design.wsp,
            "mae_deep": mae_deep_small(),
            "mae_fast": mae_fast_small(),
        }
        return {name: run_on(run, self.images.data, encoder) for name, run in found.items()}

    def measure(self, candidate: Candidate, *, seed: int) -> Measured:
        run = self._run(candidate, seed)
        start = f"{candidate.start}-seed{seed}" if candidate.start else ""
        run_part(TrainPart(name=run.name, run=run, data_info=self.images.facts_of(run), init_from=start), self.folder)
        result = files.read_json(self.folder / run.name / "result.json")
        scores = {name: value for task in range(len(self.images.tasks)) for name, value in self._scores(run, task)}
        return Measured(samples=run.budget.samples, seconds=result["wall_seconds"], scores=scores)

    def _run(self, candidate: Candidate, seed: int) -> Run:
        run, mae = config.override(self.recipes[candidate.recipe], candidate.changes), self.recipes["mae"]
        facts_of = self.images.facts_of
        share = mae.objective.flops_per_sample(facts_of(mae)) / run.objective.flops_per_sample(facts_of(run))
        batch = run.budget.batch_size
        samples = round((run.budget.samples + candidate.added * share) / batch) * batch
        budget = replace(run.budget, samples=samples)
        return replace(run, budget=budget, name=f"{candidate.name}-seed{seed}", seed=seed)

    def _scores(self, run: Run, number: int) -> list[tuple[str, float]]:
        task = self.images.tasks[number]
        part = ComputePart(
            name=f"{run.name}-{task.name}",
            compute=lambda folder: frozen_scores(folder / run.name, task, shots=self.design.shots, seed=run.seed),
            settings=frozen_settings(task, shots=self.design.shots, seed=run.seed),
            inputs=(run.name,),
        )
        run_part(part, self.folder)
        scores = [Score.from_record(record) for record in read_output(part.name, self.folder)]
        kept = [score for score in scores if score.split in ("test", "mean")]
        return [(f"{task.name} {score.protocol}{score.shots or ''}", 100 * score.value) for score in kept]
