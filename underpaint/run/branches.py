"""Branches: a run that continues a checkpoint of a longer run, its trunk, instead of repeating the trunk's first steps.

With the schedule warm-up, stable, decay (``schedule.kind=wsd``) runs of different budgets have the same rates until the
shorter one decays, so one trunk serves them all (Hu et al. 2024, arXiv 2404.06395; Hagele et al. 2024, arXiv
2405.18392). Since every random number is a hash of the sample's position, a branch has the bits of the run that it
replaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from underpaint import config, files
from underpaint.results.run import RUN_FILE, RunRecord, read_record
from underpaint.run.budget import Budget
from underpaint.run.declare import Run
from underpaint.training.checkpoint import Checkpoints, step_of
from underpaint.training.optim import OptimConfig
from underpaint.training.schedule import Schedule, ScheduleConfig

LOG_FILE = "log.jsonl"
MAY_DIFFER = ("run.name", "run.budget.samples", "run.budget.warmup", "run.schedule")
"""Parts of the identity of trunk and branch that may differ: what they change is the rate, which is compared itself."""


def checkpoint_of_trunk(run: Run, identity: Mapping[str, object], derived: Mapping[str, object]) -> Path:
    """The newest checkpoint of ``run.branch_from`` before whose step both runs have the same rates.

    Raises:
        ValueError: if the folder holds no run, one of another identity, or no such checkpoint.
    """
    trunk = Path(run.branch_from)
    recorded = read_record(trunk) if (trunk / RUN_FILE).is_file() else None
    if recorded is None:
        raise ValueError(f"branch_from={trunk} holds no run ({RUN_FILE} is missing)")
    _require_same_run(recorded, run, identity, derived)
    shared = shared_steps(_schedule_of(recorded, where=str(trunk / RUN_FILE)), run)
    for path in Checkpoints(folder=trunk / "checkpoints", keep_every=1).newest():
        if step_of(path) <= shared:
            return path
    samples = shared * run.budget.batch_size
    raise ValueError(
        f"branch_from={trunk} has no checkpoint of its first {samples:,} samples, over which both runs have the same "
        f"learning rates; train it with cadence.save_at={samples}, and both with schedule.kind=wsd"
    )


def shared_steps(trunk: Schedule, run: Run) -> int:
    """The number of first steps in which the run has the learning rates of its trunk."""
    schedule, batch = run.lr_schedule(), run.budget.batch_size
    steps = min(trunk.samples, schedule.samples) // batch
    return next((step for step in range(steps) if trunk(step * batch) != schedule(step * batch)), steps)


def take_over_log(checkpoint: Path, folder: Path) -> None:
    """Copy the trunk's log, whose lines after the checkpoint the run drops when it starts."""
    log = checkpoint.parents[1] / LOG_FILE
    if log.is_file():
        files.write_bytes(folder / LOG_FILE, log.read_bytes())


def _require_same_run(
    recorded: RunRecord, run: Run, identity: Mapping[str, object], derived: Mapping[str, object]
) -> None:
    """Raise ValueError where the runs differ in more than their rates, or in what the last bits depend on."""
    budget = config.from_record(Budget, recorded["run"].get("budget"), where=run.branch_from)
    there = {
        **recorded["identity"],
        "microbatch": budget.microbatch,
        **_machine({"precision": derived["precision"], **recorded["derived"]}),
    }
    here = {**identity, "microbatch": run.budget.microbatch, **_machine(derived)}
    differing = [line for line in config.differences(there, here) if not line[0].startswith(MAY_DIFFER)]
    if differing:
        listed = "; ".join(f"{name.removeprefix('run.')}: there {old!r}, here {new!r}" for name, old, new in differing)
        raise ValueError(
            f"branch_from={run.branch_from} is another run ({listed}); a branch differs from its trunk in "
            "budget.samples, budget.warmup and schedule alone"
        )


def _machine(derived: Mapping[str, object]) -> dict[str, object]:
    """Threads, ranks, precision and type of device, which the bits depend on."""
    device = str(derived.get("device")).partition(":")[0]
    precision = derived.get("precision", "")
    return {"threads": derived.get("threads"), "ranks": derived.get("ranks"), "device": device, "precision": precision}


def _schedule_of(recorded: RunRecord, *, where: str) -> Schedule:
    """The learning rates of a recorded run."""
    fields = recorded["run"]
    budget = config.from_record(Budget, fields.get("budget"), where=where)
    optim = config.from_record(OptimConfig, fields.get("optim"), where=where)
    return Schedule(
        config=config.from_record(ScheduleConfig, fields.get("schedule"), where=where),
        peak=optim.peak_lr(budget.batch_size),
        samples=budget.steps * budget.batch_size,
        warmup=budget.warmup,
    )
