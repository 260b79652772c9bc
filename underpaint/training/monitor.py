"""Work around the training loop: log, progress bar, evaluations, checkpoints, full disks, signals and slow ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from underpaint.core import Evaluator
from underpaint.messages import say
from underpaint.progress import Progress
from underpaint.training.checkpoint import Checkpoints
from underpaint.training.clock import TRAINING
from underpaint.training.expected import Curve, ExpectedCurve
from underpaint.training.health import Watchdog, stragglers
from underpaint.training.log import RunLog, logged_curve, read_log
from underpaint.training.log_follower import LogFollower, tracker_of
from underpaint.training.loop import TrainState
from underpaint.training.parallel import ParallelConfig
from underpaint.training.signals import Interrupted
from underpaint.training.trackers import TrackedRun, TrackerName

APART = {"step", "samples", "train_flops", "seconds", "images_per_second", "clock", "skipped_window", "slow", "remark"}
"""Entries of a log line that are not metrics of the result: they have fields of their own, or depend on the machine."""

SAVE_FAILURES = 3
"""Checkpoints in a row that may fail (full disk) before the run gives up."""


class OutOfSpace(OSError):
    """The disk took no checkpoint several times in a row."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The run as its surroundings see it."""

    name: str
    folder: Path
    samples: int  # the whole budget
    batch_size: int
    flops: int  # of one sample
    parallel: ParallelConfig
    log_to: Sequence[TrackerName] = ()
    fields: Mapping[str, object] = field(default_factory=dict)  # of the run, for trackers
    earlier: Sequence[Curve] = ()  # of earlier runs of the recipe, with which this one is compared


class RunMonitor:
    """Every rank has one, and all meet in it; the first writes."""

    def __init__(
        self,
        run: RunInfo,
        state: TrainState,
        *,
        checkpoints: Checkpoints,
        evaluators: Sequence[Evaluator],
        meet: Callable[[], None] = lambda: None,
        signalled: Callable[[], bool] = lambda: False,
    ) -> None:
        """``meet`` is called on all ranks at every logged step; ``signalled`` tells of a signal to this process."""
        self.run, self.ranks, self.checkpoints, self.evaluators = run, state.ranks, checkpoints, evaluators
        self.meet, self.signalled = meet, signalled
        self.path = run.folder / "log.jsonl"
        self.record, self.progress, self.followers = None, None, list[LogFollower]()
        self.begun = state.step * run.batch_size
        if self.ranks.first:
            self.record = RunLog(run.folder, step=state.step)
            self.expected = ExpectedCurve(run.earlier, run.samples, curve=logged_curve(read_log(self.path)))
            self.progress = Progress(run.name, total=run.samples, unit="images", done=self.begun)
            tracked = TrackedRun(name=run.name, folder=run.folder, fields=run.fields)
            self.followers = [LogFollower(name, tracker_of(name), tracked) for name in dict.fromkeys(run.log_to)]
        self.watchdog = Watchdog(run.parallel.hang_seconds)
        self.clock = dict(state.clock.seconds)
        self.saving, self.failures, self.written = state.step, 0, state.step

    def stopped(self) -> bool:
        """Whether a signal reached any rank; asked before every step."""
        self.watchdog.reassure()
        return self.ranks.any(self.signalled())

    def log(self, state: TrainState, values: Mapping[str, Tensor | float]) -> None:
        seen = state.step * self.run.batch_size
        line = {"train_flops": seen * self.run.flops, "seconds": state.seconds, **values}
        line |= self._health(state)
        self.meet()
        if self.record is not None and self.progress is not None:
            if remark := self.expected.add(seen, float(values["loss"])):
                line["remark"] = remark
                say(f"ALARM: {self.run.name}: {remark}")
            self._write(state.step, line)
            rate = (seen - self.begun) / max(self.progress.seconds, 1e-9)
            self.progress.update(seen, f"loss {float(values['loss']):.4f}  {rate:,.0f} images/s")

    def _health(self, state: TrainState) -> dict[str, object]:
        """Seconds per phase since the last line, the slow ranks, and the step that was skipped, if any."""
        spent = {phase: seconds - self.clock[phase] for phase, seconds in state.clock.seconds.items()}
        self.clock = dict(state.clock.seconds)
        health: dict[str, object] = {"clock": {phase: round(seconds, 6) for phase, seconds in spent.items()}}
        trained = {phase: spent[phase] for phase in TRAINING}
        slow = stragglers(self.ranks.exchange(trained), factor=self.run.parallel.slow_factor)
        if slow:
            health["slow"] = slow
        first, end = (state.step - 1) * self.run.batch_size, state.step * self.run.batch_size
        if state.skipped:
            health["skipped_window"] = [first, end]
        if self.ranks.first:
            for line in slow:
                say(f"WARNING: {line}")
            if state.skipped:
                say(f"ALARM: step {state.step} was skipped: bad loss or gradient at the positions {first} to {end - 1}")
        return health

    def evaluate(self, state: TrainState) -> None:
        """All ranks evaluate, since weights may be spread over them; the first writes."""
        metrics: dict[str, float] = {}
        for evaluator in self.evaluators:
            metrics |= evaluator(state.product)
        if self.record is not None:
            self._write(state.step, {"eval": metrics})

    def _write(self, step: int, values: Mapping[str, object]) -> None:
        """Add a line to the log of the first rank, which trackers follow."""
        assert self.record is not None
        self.record.write(step, step * self.run.batch_size, values)
        self.written = step
        for follower in self.followers:
            follower.wake()

    def final_metrics(self, state: TrainState) -> dict[str, float | None]:
        """The last evaluation and the scalars of the last step, from the log, where a run continued after them.

        None stands where a value was not finite, as in the log.
        """

        def last_values() -> dict[str, Any]:
            last: dict[str, Any] = {}
            for line in read_log(self.path):
                last |= line.get("eval", line)
            return last

        def is_missing() -> bool:
            return not any("eval" in line and line["step"] == state.step for line in read_log(self.path))

        if self.ranks.broadcast_from_first(is_missing):
            self.evaluate(state)
        metrics = self.ranks.broadcast_from_first(last_values)
        return {name: value for name, value in metrics.items() if name not in APART}

    def remarks(self) -> list[str]:
        """The remarks on the run's curve, from all its starts."""
        return [str(line["remark"]) for line in read_log(self.path) if "remark" in line]

    def save(self, state: TrainState) -> None:
        """Save; a disk that takes no checkpoint raises an alarm, and ends the run when it happens again and again."""
        self.finish()
        self.saving = state.step
        self._attempt(lambda: self.checkpoints.save(state) is not None and self.checkpoints.is_settled)

    def finish(self) -> None:
        """Wait for the last checkpoint where it is written beside the training."""
        self._attempt(self.checkpoints.wait)

    def _attempt(self, work: Callable[[], bool]) -> None:
        """``work`` tells whether a checkpoint has come to be."""
        try:
            self.failures = 0 if work() else self.failures
        except OSError as error:
            self.failures += 1
            if self.ranks.first:
                newest = next((path.name for path in self.checkpoints.newest()), "none")
                say(
                    f"ALARM: the checkpoint of step {self.saving} was not saved ({error}); the newest good one is "
                    f"{newest}"
                )
            if self.failures >= SAVE_FAILURES or self.saving >= self.run.samples // self.run.batch_size:
                raise OutOfSpace(
                    f"{self.failures} checkpoints in a row were not saved; free some space and go on"
                ) from error

    def interruption(self, step: int) -> Exception:
        """The exception for a run that a signal ended early, by whether its state could be saved."""
        if self.failures:
            return OutOfSpace(f"stopped at step {step:,}, whose state could not be saved; free some space and go on")
        return Interrupted(f"stopped at step {step:,}; the state is saved in {self.run.folder}")

    def close(self) -> None:
        self.watchdog.stop()
        if self.progress is not None and self.record is not None:
            self.progress.close()
            self.record.close()
            for follower in self.followers:
                follower.close(finished=self.written >= self.run.samples // self.run.batch_size)
