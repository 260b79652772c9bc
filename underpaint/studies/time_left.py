"""The time that a study still takes, from the work that was done since its command started."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from underpaint.results.run import last_samples
from underpaint.studies.parts import ComputePart, Part, TrainPart, is_done


class TimeLeft:
    """Seconds until all parts are done, if the rest goes as fast as what was done since it first moved.

    Before that, processes start and images are opened, once. Parts count by their FLOPs of training, so a part that is
    under way counts with what it has done. Evaluations that say their work count when they are done; the others, which
    come between, count as the slower training that they cause.
    """

    def __init__(self, parts: Sequence[Part], folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = {part.name: part for part in parts if isinstance(part, TrainPart) or part.work is not None}
        self._folder, self._clock = folder, clock
        self._done = 0.0
        self._total = sum(map(_flops, self._left.values()))
        self._before, self._started = self._update(), float("nan")

    def seconds(self) -> float | None:
        """None until training has moved twice; 0 where none is left, since evaluations take seconds."""
        done = self._update()
        if done >= self._total:
            return 0.0
        if math.isnan(self._started):
            if done > self._before:
                self._before, self._started = done, self._clock()
            return None
        if done <= self._before:
            return None
        return (self._total - done) / (done - self._before) * (self._clock() - self._started)

    def _update(self) -> float:
        """The FLOPs that are done, those of parts under way too."""
        for part in [part for part in self._left.values() if is_done(part, self._folder)]:
            del self._left[part.name]
            self._done += _flops(part)
        trained = (part for part in self._left.values() if isinstance(part, TrainPart))
        return self._done + sum(_training_flops(part, last_samples(self._folder / part.name)) for part in trained)


def _flops(part: Part) -> float:
    if isinstance(part, ComputePart):
        return 0.0 if part.work is None else part.work.flops
    return _training_flops(part, part.run.budget.samples)


def _training_flops(part: TrainPart, samples: int) -> float:
    """FLOPs of its first samples, less those that it takes over from another run."""
    return float(max(0, samples - part.branch_at) * part.run.objective.flops_per_sample(part.data_info))
