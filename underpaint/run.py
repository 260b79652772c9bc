"""A run: one frozen description of everything, and ``execute``, the one place that wires the parts together."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from underpaint import draws, products, records
from underpaint.budget import Budget, Cadence
from underpaint.config import LATER, OPERATIONAL
from underpaint.core import Batch, Evaluator, Facts
from underpaint.data.dataset import Opened
from underpaint.data.loader import ImageStream
from underpaint.evals.features import image_format
from underpaint.evals.heldout import HeldoutLoss
from underpaint.messages import say
from underpaint.models.init import build_without_memory
from underpaint.models.mae_decoder import blocks_of
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import decoder_to_start_from, load_encoder, start_from
from underpaint.shares import Share
from underpaint.training import float8, parallel, shards
from underpaint.training.checkpoint import Checkpoints
from underpaint.training.devices import choose_device, remark_on, usable_cpus
from underpaint.training.loop import LoopConfig, NonFiniteLoss, Precision, TrainState, start_average, train
from underpaint.training.optim import OptimConfig, build_optimizer
from underpaint.training.parallel import ParallelConfig
from underpaint.training.ranks import Ranks, join
from underpaint.training.schedule import Schedule, ScheduleConfig
from underpaint.training.signals import catch_signals
from underpaint.training.watch import OutOfSpace, Watched, Watcher

__all__ = ["Budget", "Cadence", "DataConfig", "ObjectiveConfig", "OutOfSpace", "Run", "choose_device", "execute"]


@runtime_checkable
class ObjectiveConfig(Protocol):
    """The frozen dataclass that stands in a Run and builds its objective (``objectives/``, or one of your own)."""

    @property
    def stage(self) -> str:
        """Name of the stage ("mae", "wsp", ...): part of the key of every random draw, and of the record."""
        ...

    @property
    def encoder(self) -> ViTConfig: ...

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(self, facts: Facts) -> nn.Module: ...

    def flops_per_sample(self, facts: Facts) -> int:
        """Training FLOPs of one sample, forward and backward, in closed form (models/flops.py)."""
        ...


@runtime_checkable
class DataConfig(Protocol):
    """What stands in ``Run.data``: ``ImageData``, or one's own dataclass that opens a ``Source`` of one's own."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def open(self) -> Opened: ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything about one training run; a recipe is a function that returns one."""

    name: str
    objective: ObjectiveConfig
    data: DataConfig
    budget: Budget
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evals: tuple[Evaluator, ...] = field(default=(), metadata=OPERATIONAL)
    # A run folder, whose hash is part of the identity; "" is scratch.
    init_from: str = field(default="", metadata=OPERATIONAL)
    reset_final_norm: bool = False  # of the encoder started from (unknown in the paper)
    precision: Precision = "fp32"
    ema_decay: float = 0.0  # 0 keeps no average
    max_skipped: int = 10  # skipped steps in a row before the run stops
    spike_factor: float = field(default=math.inf, metadata=OPERATIONAL | LATER)  # of the recent median of the losses
    seed: int = 0
    cadence: Cadence = field(default_factory=Cadence)
    threads: int = field(default_factory=usable_cpus, metadata=OPERATIONAL)  # kept from the first start
    device: Literal["any", "cuda", "mps", "cpu"] = field(default="any", metadata=OPERATIONAL)
    parallel: ParallelConfig = field(default_factory=ParallelConfig, metadata=OPERATIONAL)

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay} must lie in [0, 1)")
        if self.name in {"", "..", "."} or "/" in self.name:
            raise ValueError(f"name={self.name!r} must be a name without '/', since the run's folder is called so")
        if not 1 <= self.threads <= 1024:  # OpenMP ends the process where it cannot start so many
            raise ValueError(f"threads={self.threads} must lie between 1 and 1024")
        if self.max_skipped < 1 or self.spike_factor <= 1:
            at_least = f"max_skipped={self.max_skipped} must be at least 1"
            raise ValueError(f"{at_least}, spike_factor={self.spike_factor} above 1; inf skips no spikes")
        _schedule(self)  # refuses a schedule that does not fit the budget or the rate


def execute(run: Run, folder: Path, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train a run into ``folder``, or continue or return what is there already; its result.

    Under torchrun every process calls it, and all of them return the result.

    Raises:
        ValueError: for input the user can mend, among it a folder of another configuration, or ranks that disagree.
        BlockingIOError: if another process works in the folder.
        Interrupted: after a signal, when the state has been saved.
        OutOfSpace: when the disk took no checkpoint several times.
    """
    ranks = join()
    run.parallel.require(ranks)
    folder = Path(ranks.exchange(str(folder))[0])
    with ExitStack() as held:
        ranks.decided_by_first(lambda: held.enter_context(records.lock(folder)))
        opened = ranks.in_turn(run.data.open)
        facts = Facts(
            seed=run.seed,
            labels=opened.vocabulary.labels,
            label_count=opened.vocabulary.count,
            images=opened.images,
        )
        identity = records.identity(run, data=opened.content_hash, init_from=run.init_from)
        ranks.compare(records.fingerprint(run, identity), records.require_agreement)
        done = ranks.decided_by_first(lambda: records.finished(folder, identity))
        if done is not None:
            if ranks.first:
                say(f"{folder}: finished already; delete the folder to train it again")
            ranks.part()
            return done
        device = choose_device(run.device, local_rank=ranks.local_rank)
        float8.require_support(run.precision, device, compiled=run.parallel.compile)
        threads = ranks.decided_by_first(lambda: records.kept_threads(folder, run.threads))
        torch.set_num_threads(max(1, threads // ranks.local_world))
        if ranks.first:
            derived = _derived(run, opened, facts, ranks) | {"device": str(device), "threads": threads}
            records.start(folder, run, identity=identity, derived=derived, overrides=overrides)
            _announce(run, folder, opened, derived)
        result = _train(run, folder, opened=opened, facts=facts, device=device, ranks=ranks)
    ranks.part()
    return result


def _derived(run: Run, opened: Opened, facts: Facts, ranks: Ranks) -> dict[str, Any]:
    """What follows from the configuration and the data; recorded, never a field."""
    return {
        "images": opened.images,
        "labels": len(facts.labels),
        "untagged_images": opened.unlabelled,
        "steps": run.budget.steps,
        "ranks": ranks.world,
        "accumulation": run.budget.accumulation(ranks.world),
        "epochs": run.budget.samples / opened.images,
        "peak_lr": run.optim.peak_lr(run.budget.batch_size),
        "train_flops": run.budget.steps * run.budget.batch_size * run.objective.flops_per_sample(facts),
        "data_hash": opened.content_hash,
    }


def _announce(run: Run, folder: Path, opened: Opened, derived: dict[str, Any]) -> None:
    start = run.init_from or "scratch"
    say(
        f"{run.name} ({run.objective.stage}) in {folder}: {derived['images']:,} images of {opened.name}, "
        f"{derived['steps']:,} steps of {run.budget.batch_size}, {derived['train_flops']:.2e} FLOPs, "
        f"start from {start}, on {derived['device']} with {derived['threads']} threads"
        + (f", {derived['ranks']} processes ({run.parallel.layout})" if derived["ranks"] > 1 else "")
    )
    if remark := remark_on(run.precision, torch.device(derived["device"])):
        say(f"{run.name}: {remark}")
    if opened.unlabelled:
        say(f"{run.name}: {opened.unlabelled:,} images have no label of the vocabulary and are left out")


def _train(
    run: Run, folder: Path, *, opened: Opened, facts: Facts, device: torch.device, ranks: Ranks
) -> dict[str, Any]:
    """Build, resume, train and hand over."""
    state = _build(run, facts, device, ranks)
    checkpoints = Checkpoints(
        folder=folder / "checkpoints",
        keep_every=run.cadence.steps(run.cadence.keep, run.budget),
        ranks=ranks.another() if run.cadence.asynchronous else ranks,
        asynchronous=run.cadence.asynchronous,
    )
    _resume(run, state, checkpoints, ranks)
    stream, heldout = _open_batches(run, folder, opened, ranks)
    stream.position = state.step * run.budget.batch_size
    with ExitStack() as around:
        signalled = around.enter_context(catch_signals(repeated=ranks.world > 1))
        watcher = Watcher(
            Watched(
                name=run.name,
                folder=folder,
                samples=run.budget.samples,
                batch_size=run.budget.batch_size,
                flops=run.objective.flops_per_sample(facts),
                parallel=run.parallel,
            ),
            state,
            checkpoints=checkpoints,
            evaluators=(HeldoutLoss(heldout), *run.evals) if heldout else run.evals,
            meet=stream.settle if isinstance(stream, Share) else lambda: None,
            signalled=signalled,
        )
        around.callback(watcher.close)
        train(
            state,
            on_device(stream, device),
            config=_loop_config(run, ranks),
            schedule=_schedule(run),
            log=watcher.log,
            save=watcher.save,
            evaluate=watcher.evaluate,
            stopped=watcher.stopped,
        )
        watcher.finish()
        if state.step < run.budget.steps:
            ranks.part()
            raise watcher.interruption(state.step)
        product = shards.gather(state.product.state_dict(), ranks)
        _refuse_diverged(run, state, product)
        metrics = watcher.final_metrics(state)

    def hand_over() -> dict[str, Any]:
        network = _whole(run, facts, state, product)
        products.save_pictures(folder, network, on_device(heldout or stream, device))
        bad = len(stream.quarantine)
        if bad:
            say(f"{run.name}: {bad:,} bad records, named in {folder / 'bad_records.jsonl'}")
        result = _result(run, state, facts) | {"bad_records": bad, "metrics": metrics}
        return products.hand_over(folder, objective=run.objective, network=network, facts=facts, result=result)

    return ranks.decided_by_first(hand_over)


def _resume(run: Run, state: TrainState, checkpoints: Checkpoints, ranks: Ranks) -> None:
    for warning in checkpoints.resume(state):  # every rank reads; the first tells
        if ranks.first:
            say(f"ALARM: {warning}")
    if ranks.first and state.step:
        say(f"{run.name}: continues from step {state.step:,}")


def _refuse_diverged(run: Run, state: TrainState, product: Mapping[str, Tensor]) -> None:
    """A run whose last steps were not finite, or whose weights are not, hands nothing over."""
    broken = [name for name, value in product.items() if value.is_floating_point() and not value.isfinite().all()]
    if state.skipped or broken:
        what = f"the weights {broken[0]} are not finite" if broken else f"its last {state.skipped} steps were skipped"
        raise NonFiniteLoss(f"{run.name} has diverged: {what}; lower optim.base_lr or optim.weight_decay")


def _open_batches(
    run: Run, folder: Path, opened: Opened, ranks: Ranks
) -> tuple[ImageStream | Share, tuple[Batch, ...]]:
    """The stream of this rank, and the held-out batches."""
    format, budget = image_format(run.objective.encoder), run.budget
    microbatch = budget.batch_size // ranks.world // budget.accumulation(ranks.world)
    stream = opened.stream(
        format,
        batch_size=budget.batch_size,
        microbatch=microbatch,
        seed=draws.key(run.seed, run.objective.stage),
        quarantine=folder / "bad_records.jsonl" if ranks.first else Path(os.devnull),
    )
    heldout = tuple(opened.heldout(format, batch_size=budget.forward_size))
    return (stream if ranks.world == 1 else Share(stream, ranks=ranks, batch_size=budget.batch_size)), heldout


def _result(run: Run, state: TrainState, facts: Facts) -> dict[str, Any]:
    samples = state.step * run.budget.batch_size
    return {
        "name": run.name,
        "stage": run.objective.stage,
        "seed": run.seed,
        "samples": samples,
        "steps": state.step,
        "train_flops": samples * run.objective.flops_per_sample(facts),
        "wall_seconds": state.seconds,
        "images_per_second": samples / state.seconds,
        "clock": dict(state.clock.seconds),
        "skipped_windows": state.history.skipped,
    }


def _build(run: Run, facts: Facts, device: torch.device, ranks: Ranks) -> TrainState:
    """The objective with its initial weights, its optimizer and its average, as they lie on the ranks."""
    depth, sharded = run.objective.encoder.depth, run.parallel.shards(ranks)
    objective = _sharded(run, facts, device, ranks) if sharded else _plain(run, facts).to(device)
    for evaluator in run.evals:
        if not isinstance(objective, evaluator.needs):
            raise ValueError(f"{type(evaluator).__name__} needs a {evaluator.needs.__name__}, {run.name} is none")
    if sharded and run.ema_decay:  # a sharded network cannot be copied, and made anew it has the same weights
        average = _sharded(run, facts, device, ranks).requires_grad_(False)
    else:
        average = start_average(objective, run.ema_decay)
    parallel.prepare_blocks(blocks_of(objective), run.parallel)
    optimizer = build_optimizer(objective, run.optim, depth=depth)
    replicas = None
    if ranks.world > 1 and not sharded:
        replicas = parallel.Replicated(objective, accumulation=run.budget.accumulation(ranks.world))
    return TrainState(objective, optimizer, average, ranks=ranks, replicas=replicas)


def _built(run: Run, facts: Facts) -> nn.Module:
    network = run.objective.build(facts)
    return float8.convert(network, blocks_of(network)) if run.precision == "float8" else network


def _plain(run: Run, facts: Facts) -> nn.Module:
    objective = _built(run, facts)
    if run.init_from:
        assert isinstance(objective.encoder, ViT), "init_from fills a ViT"
        start_from(objective.encoder, load_encoder(run.init_from), reset_final_norm=run.reset_final_norm)
        objective.load_state_dict(_decoder(run, objective), strict=False)
    return objective


def _sharded(run: Run, facts: Facts, device: torch.device, ranks: Ranks) -> nn.Module:
    """Cut up while it is on ``meta``, then filled: no rank ever holds the whole network."""
    objective, values = build_without_memory(lambda: _built(run, facts))
    if run.init_from:
        encoder = ViT(run.objective.encoder)
        start_from(encoder, load_encoder(run.init_from), reset_final_norm=run.reset_final_norm)
        values |= {f"encoder.{name}": value.clone for name, value in encoder.state_dict().items()}
        values |= {name: value.clone for name, value in _decoder(run, objective).items()}
    bf16 = run.precision != "fp32"
    parallel.shard(objective, run.parallel, ranks=ranks, device=device, blocks=blocks_of(objective), bf16=bf16)
    parallel.fill(objective, values, device)
    return objective


def _decoder(run: Run, objective: nn.Module) -> dict[str, Tensor]:
    """The decoder of an earlier MAE goes on with its encoder; where it has none of this form it is a fresh one."""
    shapes = {name: value.shape for name, value in objective.state_dict().items()}
    found = decoder_to_start_from(run.init_from, shapes)
    trained = any(name == "encoder.cls_token" and p.requires_grad for name, p in objective.named_parameters())
    if not found and trained and "decoder.mask_token" in shapes and join().first:
        say(f"{run.init_from} has no such decoder, so it is fresh (objective.frozen_encoder=true trains it first)")
    return found


def _whole(run: Run, facts: Facts, state: TrainState, weights: dict[str, Tensor]) -> nn.Module:
    """The product as a plain network in one process."""
    if not run.parallel.shards(state.ranks):
        return state.product
    network = run.objective.build(facts)
    network.load_state_dict(weights)
    return network


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    for batch in batches:
        yield {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _loop_config(run: Run, ranks: Ranks) -> LoopConfig:
    budget, cadence = run.budget, run.cadence
    return LoopConfig(
        steps=budget.steps,
        batch_size=budget.batch_size,
        accumulation=budget.accumulation(ranks.world),
        clip=run.optim.clip,
        precision=run.precision,
        ema_decay=run.ema_decay,
        log_every=cadence.steps(cadence.log, budget),
        save_every=cadence.steps(cadence.save, budget),
        evaluate_every=cadence.steps(cadence.evaluate, budget),
        max_skipped=run.max_skipped,
        spike_factor=run.spike_factor,
    )


def _schedule(run: Run) -> Schedule:
    budget = run.budget
    samples = budget.steps * budget.batch_size
    peak = run.optim.peak_lr(budget.batch_size)
    return Schedule(config=run.schedule, peak=peak, samples=samples, warmup=budget.warmup)
