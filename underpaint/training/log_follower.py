"""The curves of a run in MLflow or Weights & Biases, as far as the user asks for it with ``log_to``.

A tracker follows ``log.jsonl``: a thread of its own sends the lines that are new, so training never waits for a server.
A server that fails is said once and tried again; after an outage, or in a run that goes on, the lines that it
lacks follow. ``trackers/NAME.json`` keeps the tracker's id of the run and the last line that was sent.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from underpaint import files
from underpaint.messages import say
from underpaint.training.log import numbers_of
from underpaint.training.trackers import TrackedLine, TrackedRun, Tracker, TrackerName

FORMAT = 1
MOST_LINES = 50
"""Lines that are sent together, a few hundred numbers; the servers have limits."""
BETWEEN_SENDS = 1.0
"""Seconds between two sends, so that a run of quick steps does not send every line alone."""
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds until a server that failed is tried again: doubled up to the longest."""
LAST_WAIT = 30.0
"""Seconds that the end of a run waits for the last lines."""


def tracker_of(name: TrackerName) -> Tracker:
    """A connection that is not open yet; the package is imported when it opens."""
    if name == "mlflow":
        from underpaint.training.mlflow_tracker import MlflowTracker

        return MlflowTracker()
    from underpaint.training.wandb_tracker import WandbTracker

    return WandbTracker()


class LogFollower:
    """Sends the lines of a run's log to one tracker, beside the training."""

    def __init__(self, name: str, tracker: Tracker, run: TrackedRun) -> None:
        """Begin with the lines that the log has already, as far as the tracker lacks them."""
        self.name, self.tracker, self.run = name, tracker, run
        self.log, self.kept = run.folder / "log.jsonl", run.folder / "trackers" / f"{name}.json"
        self.id, self.sent = "", (0, 0)  # the last step, and the number of its lines
        self.opened, self.finished, self.abandoned, self.warned = False, False, False, False
        self.position, self.read, self.waiting = 0, (0, 0), list[tuple[tuple[int, int], TrackedLine]]()
        self.news, self.ending = threading.Event(), threading.Event()
        self.news.set()
        self.thread = threading.Thread(target=self._follow, name=name, daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Tell that the log has a new line."""
        self.news.set()

    def close(self, *, finished: bool) -> None:
        """Send what is left; a tracker that takes longer than ``LAST_WAIT`` is left behind."""
        self.finished = finished
        self.ending.set()
        self.news.set()
        self.thread.join(LAST_WAIT)
        if self.thread.is_alive():
            self.abandoned = True
            say(f"WARNING: {self.name} has not taken the last lines in {LAST_WAIT:g} s; {self.log} has them all")

    def _follow(self) -> None:
        pause = 0.0
        while True:
            self.ending.wait(pause or BETWEEN_SENDS)
            self.news.wait()
            ending = self.ending.is_set()  # asked before the log is read, which has all its lines then
            self.news.clear()
            try:
                self._send_new()
                if ending:
                    self.tracker.close(finished=self.finished)
                pause = 0.0
            except Exception as error:  # noqa: BLE001  of the packages, their transports and databases
                self._warn(error)
                pause = min(2 * pause or FIRST_PAUSE, LONGEST_PAUSE)
                self.news.set()
            if ending:
                return

    def _warn(self, error: Exception) -> None:
        if not self.warned:
            reason = " ".join(str(error).split())[:300]
            say(
                f"WARNING: {self.name} takes no lines ({type(error).__name__}: {reason}); the run goes on, "
                f"{self.log} has them all, and {self.name} is tried again"
            )
        self.warned = True

    def _send_new(self) -> None:
        self._open()
        for number, line in self._new_lines():
            if number > self.sent:
                self.waiting.append((number, line))
        while self.waiting and not self.abandoned:  # a run that goes on in this process has another follower
            some = self.waiting[:MOST_LINES]
            self._keep(some[-1][0])  # before they are sent: a killed process may leave a gap, and sends nothing twice
            self.tracker.send([line for _, line in some])
            del self.waiting[:MOST_LINES]

    def _open(self) -> None:
        if self.opened:
            return
        if self.kept.is_file():
            self.id, self.sent = _kept(self.kept)
        self.id = self.tracker.open(self.run, self.id)
        self.opened = True
        self._keep(self.sent)
        say(f"{self.name}: run {self.id}")

    def _keep(self, sent: tuple[int, int]) -> None:
        self.kept.parent.mkdir(exist_ok=True)
        files.write_json(self.kept, {"format": FORMAT, "run": self.id, "step": sent[0], "lines": sent[1]})
        self.sent = max(self.sent, sent)

    def _new_lines(self) -> Iterator[tuple[tuple[int, int], TrackedLine]]:
        """The whole lines since the last call, each with its step and its number among the lines of this step."""
        with self.log.open("rb") as log:
            log.seek(self.position)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.position += len(whole)
        for line in map(json.loads, whole.splitlines()):
            step = line.pop("step")
            self.read = (step, self.read[1] + 1 if step == self.read[0] else 1)
            if self.read[1] > 1:
                line.pop("samples", None)  # as in the first line of the step
            yield self.read, TrackedLine(step, dict(numbers_of(line)), time.time())


def _kept(path: Path) -> tuple[str, tuple[int, int]]:
    content = files.read_json(path)
    run, step, lines = (content.get(key) if isinstance(content, dict) else None for key in ("run", "step", "lines"))
    if not isinstance(run, str) or not isinstance(step, int) or not isinstance(lines, int):
        raise ValueError(f"{path} is damaged; delete it, and the curves begin anew in another run of the tracker")
    return run, (step, lines)
