"""``execute``: the one place that wires the parts of a run together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from underpaint import config, keyed_random
from underpaint.core import Batch, DataInfo, on_device
from underpaint.data.open_dataset import MadeForInputs, OpenDataset
from underpaint.data.stream import Batching, Stream
from underpaint.evals.heldout import HeldoutLoss
from underpaint.messages import say
from underpaint.results.run import RunMeasures, RunResult
from underpaint.run import outputs, record
from underpaint.run.branches import checkpoint_of_trunk, take_over_log
from underpaint.run.build import build_state, whole_network
from underpaint.run.cached_features import with_features
from underpaint.run.declare import NeedsWholeBatch, Run, RunPrecision
from underpaint.run.earlier_runs import earlier_curves
from underpaint.run.precision import precision_remark, with_fastest_precision
from underpaint.run.rank_stream import RankStream
from underpaint.run.starting_encoder import require_fitting_start, with_shape_of_start
from underpaint.training import float8, sharded_tensors
from underpaint.training.checkpoint import Checkpoints
from underpaint.training.devices import choose_device
from underpaint.training.loop import LoopConfig, NonFiniteLoss, TrainState, train
from underpaint.training.monitor import RunInfo, RunMonitor
from underpaint.training.ranks import Ranks, join
from underpaint.training.signals import catch_signals
from underpaint.training.spikes import WINDOW
from underpaint.training.trackers import require_trackers

DIVERGED = 0.75
"""Share of the last steps that were skipped above which a run has diverged, whatever its weights are."""


def execute(run: Run, folder: Path, *, overrides: Sequence[str] = ()) -> RunResult:
    """Train a run into ``folder``, or continue or return what is there already; its result.

    Under torchrun every process calls it, and all of them return the result.

    Raises:
        ValueError: for input the user can mend, among it a folder of another configuration, or ranks that disagree.
        BlockingIOError: if another process works in the folder.
        Interrupted: after a signal, when the state has been saved.
        OutOfSpace: when the disk took no checkpoint several times.
    """
    ranks = join()
    require_trackers(run.log_to)
    run.parallel.require(ranks)
    require_whole_batches(run, ranks)
    run = with_shape_of_start(run)
    require_fitting_start(run)
    folder = Path(ranks.exchange(str(folder))[0])
    with ExitStack() as held:
        ranks.broadcast_from_first(lambda: held.enter_context(record.lock(folder)))
        opened = ranks.first_per_node(lambda: with_features(run, open_data(run), ranks))
        run = replace(run, budget=run.budget.for_images(opened.images))
        data_info = DataInfo(
            seed=run.seed,
            labels=opened.vocabulary.labels,
            label_count=opened.vocabulary.count,
            images=opened.images,
        )
        identity = record.identity(run, data=opened.content_hash, init_from=run.init_from)
        ranks.compare(record.fingerprint(run, identity), record.require_agreement)
        done = ranks.broadcast_from_first(lambda: record.finished(folder, run, identity))
        if done is not None:
            if ranks.first:
                say(f"{folder}: finished already; delete the folder to train it again")
            ranks.leave()
            return done
        device = choose_device(run.device, local_rank=ranks.local_rank)
        float8.require_support(run.precision, device, compiled=run.parallel.compile)
        threads = ranks.broadcast_from_first(lambda: record.kept_threads(folder, run.threads))
        torch.set_num_threads(max(1, threads // ranks.local_world))
        settled = _settled(run, folder, device, ranks)
        derived = _derived(run, opened, data_info, ranks)
        derived |= {"device": str(device), "threads": threads, "precision": settled.settled_precision}
        branch = _branch(run, folder, identity, derived, ranks)
        if ranks.first:
            record.start(folder, run, identity=identity, derived=derived, overrides=overrides)
            _announce(run, folder, opened, derived)
        result = _train(settled, folder, opened=opened, data_info=data_info, device=device, ranks=ranks, branch=branch)
    ranks.leave()
    return result


def open_data(run: Run) -> OpenDataset:
    """The run's data, ready for the inputs of its objective."""
    opened = run.data.open()
    return opened.for_inputs(run.objective.inputs) if isinstance(opened, MadeForInputs) else opened


def require_whole_batches(run: Run, ranks: Ranks) -> None:
    """Raise ValueError where microbatches would change what the loss compares."""
    if not isinstance(run.objective, NeedsWholeBatch) or run.budget.accumulation(ranks.world) == 1:
        return
    share = run.budget.batch_size // ranks.world
    raise ValueError(
        f"the loss of {run.objective.stage} compares all pairs of a batch, which microbatches would part: set "
        f"budget.microbatch={share}, or a smaller budget.batch_size with it"
    )


def _settled(run: Run, folder: Path, device: torch.device, ranks: Ranks) -> Run:
    """The run in the precision of its first start, or in the one that the first rank measures now."""

    def measured() -> RunPrecision:
        return with_fastest_precision(replace(run, precision=record.kept_precision(folder, run)), device).precision

    return replace(run, precision=ranks.broadcast_from_first(measured))


def _derived(run: Run, opened: OpenDataset, data_info: DataInfo, ranks: Ranks) -> dict[str, float | str]:
    """Values that follow from the configuration and the data; they are recorded, but are never fields."""
    return {
        "images": opened.images,
        "labels": len(data_info.labels),
        "untagged_images": opened.unlabelled,
        "steps": run.budget.steps,
        "ranks": ranks.world,
        "accumulation": run.budget.accumulation(ranks.world),
        "epochs": run.budget.samples / opened.images,
        "peak_lr": run.optim.peak_lr(run.budget.batch_size),
        "train_flops": run.budget.steps * run.budget.batch_size * run.objective.flops_per_sample(data_info),
        "data_hash": opened.content_hash,
    }


def _announce(run: Run, folder: Path, opened: OpenDataset, derived: Mapping[str, Any]) -> None:
    start = run.init_from or "scratch"
    say(
        f"{run.name} ({run.objective.stage}) in {folder}: {derived['images']:,} images of {opened.name}, "
        f"{derived['steps']:,} steps of {run.budget.batch_size}, {derived['train_flops']:.2e} FLOPs, "
        f"start from {start}, on {derived['device']} with {derived['threads']} threads in {derived['precision']}"
        + (f", {derived['ranks']} processes ({run.parallel.layout})" if derived["ranks"] > 1 else "")
    )
    if remark := precision_remark(run, torch.device(derived["device"]), flops=derived["train_flops"]):
        say(f"{run.name}: {remark}")
    for note in opened.notes:
        say(f"{run.name}: {note}")
    if opened.unlabelled:
        say(f"{run.name}: {opened.unlabelled:,} images have no label of the vocabulary and are left out")


def _branch(
    run: Run, folder: Path, identity: Mapping[str, object], derived: Mapping[str, float | str], ranks: Ranks
) -> Path | None:
    """The checkpoint of another run that this one begins with; None where it has a checkpoint already."""
    if not run.branch_from:
        return None

    def chosen() -> str:
        begun = Checkpoints(folder=folder / "checkpoints", keep_every=1).newest()
        return "" if begun else str(checkpoint_of_trunk(run, identity, derived))

    path = ranks.broadcast_from_first(chosen)
    return Path(path) if path else None


def _train(
    run: Run,
    folder: Path,
    *,
    opened: OpenDataset,
    data_info: DataInfo,
    device: torch.device,
    ranks: Ranks,
    branch: Path | None,
) -> RunResult:
    """Build, resume and train, then save the outputs."""
    stream, heldout = _open_batches(run, folder, opened, ranks)  # first, since it refuses a batch larger than the data
    state = build_state(run, data_info, device, ranks)
    checkpoints = _checkpoints(run, folder, ranks)
    _resume(run, state, checkpoints, ranks, branch)
    stream.position = state.step * run.budget.batch_size
    with ExitStack() as around:
        signalled = around.enter_context(catch_signals(repeated=ranks.world > 1))
        monitor = RunMonitor(
            _run_info(run, folder, data_info, ranks),
            state,
            checkpoints=checkpoints,
            evaluators=(HeldoutLoss(heldout), *run.evals) if heldout else run.evals,
            meet=stream.settle if isinstance(stream, RankStream) else lambda: None,
            signalled=signalled,
        )
        around.callback(monitor.close)
        train(
            state,
            (on_device(batch, device) for batch in stream),
            config=_loop_config(run, ranks),
            schedule=run.lr_schedule(),
            log=monitor.log,
            save=monitor.save,
            evaluate=monitor.evaluate,
            stopped=monitor.stopped,
        )
        monitor.finish()
        if state.step < run.budget.steps:
            ranks.leave()
            raise monitor.interruption(state.step)
        product = sharded_tensors.gather(state.product.state_dict(), ranks)
        metrics = monitor.final_metrics(state)
        _refuse_diverged(run, state, product, metrics)

    finite = {name: value for name, value in metrics.items() if value is not None}  # the last step may be a skipped one

    def save() -> RunResult:
        network = whole_network(run, data_info, state, product)
        outputs.save_pictures(folder, network, (on_device(batch, device) for batch in heldout or stream))
        bad = len(stream.quarantine)
        if bad:
            say(f"{run.name}: {bad:,} bad records, named in {folder / 'bad_records.jsonl'}")
        result = _result(run, state, data_info, bad_records=bad, metrics=finite, remarks=monitor.remarks())
        texts = opened if isinstance(opened, MadeForInputs) else None
        return outputs.save_outputs(
            folder, run.objective, network=network, data_info=data_info, result=result, texts=texts
        )

    return ranks.broadcast_from_first(save)


def _run_info(run: Run, folder: Path, data_info: DataInfo, ranks: Ranks) -> RunInfo:
    return RunInfo(
        name=run.name,
        folder=folder,
        samples=run.budget.samples,
        batch_size=run.budget.batch_size,
        flops=run.objective.flops_per_sample(data_info),
        parallel=run.parallel,
        log_to=run.log_to,
        fields=config.record(run),
        earlier=earlier_curves(folder) if ranks.first else (),
    )


def _checkpoints(run: Run, folder: Path, ranks: Ranks) -> Checkpoints:
    return Checkpoints(
        folder=folder / "checkpoints",
        keep_every=run.cadence.steps(run.cadence.keep, run.budget),
        keep_at=run.cadence.save_at_steps(run.budget),
        ranks=ranks.new_channel() if run.cadence.asynchronous else ranks,
        asynchronous=run.cadence.asynchronous,
    )


def _resume(run: Run, state: TrainState, checkpoints: Checkpoints, ranks: Ranks, branch: Path | None) -> None:
    if branch is not None:
        checkpoints.take_over(branch, state)
        ranks.broadcast_from_first(lambda: take_over_log(branch, checkpoints.folder.parent))
        if ranks.first:
            say(f"{run.name}: branches from {run.branch_from} at step {state.step:,}")
        return
    for warning in checkpoints.resume(state):  # every rank reads; the first tells
        if ranks.first:
            say(f"ALARM: {warning}")
    if ranks.first and state.step:
        say(f"{run.name}: continues from step {state.step:,}")


def _refuse_diverged(
    run: Run, state: TrainState, product: Mapping[str, Tensor], metrics: Mapping[str, float | None]
) -> None:
    """A run whose weights or held-out loss are not finite, or that took hardly a step at last, saves no outputs.

    If some steps were skipped, even the very last, the weights of the steps before are saved.
    """
    broken = [name for name, value in product.items() if value.is_floating_point() and not value.isfinite().all()]
    steps, batch = min(WINDOW, state.step), run.budget.batch_size
    skipped = state.history.skipped_since((state.step - steps) * batch) // batch
    symptoms = [f"the weights {name} are not finite" for name in broken[:1]]
    if metrics.get("heldout_loss", 0.0) is None:
        symptoms.append("the held-out loss is not finite")
    if skipped > DIVERGED * steps:
        symptoms.append(f"{skipped} of its last {steps} steps were skipped")
    if symptoms:
        raise NonFiniteLoss(f"{run.name} has diverged: {symptoms[0]}; lower optim.base_lr or optim.weight_decay")
    if state.skipped and state.ranks.first:
        say(f"{run.name}: its last {state.skipped} steps were skipped; it saves the weights of the steps before")


def _open_batches(
    run: Run, folder: Path, opened: OpenDataset, ranks: Ranks
) -> tuple[Stream | RankStream, tuple[Batch, ...]]:
    """The stream of this rank, and the held-out batches."""
    inputs, budget = run.objective.inputs, run.budget
    microbatch = budget.batch_size // ranks.world // budget.accumulation(ranks.world)
    stream = opened.stream(
        inputs,
        Batching(batch_size=budget.batch_size, microbatch=microbatch),
        seed=keyed_random.key(run.seed, run.objective.stage),
        quarantine=folder / "bad_records.jsonl" if ranks.first else Path(os.devnull),
    )
    heldout = tuple(opened.heldout(inputs, batch_size=budget.forward_size))
    return (stream if ranks.world == 1 else RankStream(stream, ranks=ranks, batch_size=budget.batch_size)), heldout


def _result(
    run: Run,
    state: TrainState,
    data_info: DataInfo,
    *,
    bad_records: int,
    metrics: Mapping[str, object],
    remarks: list[str],
) -> RunMeasures:
    samples = state.step * run.budget.batch_size
    return {
        "name": run.name,
        "stage": run.objective.stage,
        "seed": run.seed,
        "samples": samples,
        "steps": state.step,
        "train_flops": samples * run.objective.flops_per_sample(data_info),
        "wall_seconds": state.seconds,
        "images_per_second": samples / state.seconds,
        "clock": dict(state.clock.seconds),
        "skipped_windows": list(state.history.skipped),
        "bad_records": bad_records,
        "metrics": dict(metrics),
        "remarks": remarks,
    }


def _loop_config(run: Run, ranks: Ranks) -> LoopConfig:
    budget, cadence = run.budget, run.cadence
    return LoopConfig(
        steps=budget.steps,
        batch_size=budget.batch_size,
        accumulation=budget.accumulation(ranks.world),
        clip=run.optim.clip,
        precision=run.settled_precision,
        ema_decay=run.ema_decay,
        log_every=cadence.steps(cadence.log, budget),
        save_every=cadence.steps(cadence.save, budget),
        evaluate_every=cadence.steps(cadence.evaluate, budget),
        max_skipped=run.max_skipped,
        spike_factor=run.spike_factor,
        save_at=cadence.save_at_steps(budget),
    )
