"""Weights & Biases as a tracker of runs: ``WANDB_PROJECT``, ``WANDB_MODE=offline`` and the others say where and how."""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Sequence
from typing import Any

from underpaint.training.trackers import TrackedLine, TrackedRun

PROJECT = "underpaint"
SECONDS_TO_START = 60.0


class WandbTracker:
    """A run of Weights & Biases, apart from one that the user may have begun in this process."""

    def __init__(self) -> None:
        self.run: Any = None

    def open(self, run: TrackedRun, kept_id: str) -> str:
        """The id of the run."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to wandb's makers, which nobody asked for
        wandb: Any = importlib.import_module("wandb")
        wandb.setup(settings=wandb.Settings(silent=True))  # it says nothing, and asks for no key at the keyboard
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=kept_id or secrets.token_hex(4),
            resume="allow",
            reinit="create_new",
            dir=str(run.folder),
            config=dict(run.fields),
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, init_timeout=SECONDS_TO_START
            ),
        )
        return self.run.id

    def send(self, lines: Sequence[TrackedLine]) -> None:
        """Hand lines to wandb's own process, which sends them."""
        for line in lines:
            self.run.log(line.values, step=line.step)

    def close(self, *, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)
