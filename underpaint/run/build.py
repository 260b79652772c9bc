"""Builder of a run's networks and optimizer from its description, distributed over the ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from underpaint.core import DataInfo, as_objective
from underpaint.messages import say
from underpaint.models.detector.backbone import WindowedViT, values_to_start_windowed
from underpaint.models.init import Values, build_without_memory
from underpaint.models.recompute import make_lean
from underpaint.models.video import VideoViT, inflated_values
from underpaint.models.vit import ViT
from underpaint.models.weights import decoder_to_start_from, fill, open_trained, values_to_start_from
from underpaint.run.declare import HasFurtherStart, Run
from underpaint.training import float8, parallel
from underpaint.training.loop import TrainState, start_average
from underpaint.training.optim import build_optimizer
from underpaint.training.ranks import Ranks, join


def build_state(run: Run, data_info: DataInfo, device: torch.device, ranks: Ranks) -> TrainState:
    """The objective with its initial weights, its optimizer and its average, as they lie on the ranks."""
    sharded = run.parallel.shards(ranks)
    objective = _sharded(run, data_info, device, ranks) if sharded else _plain(run, data_info).to(device)
    for evaluator in run.evals:
        if not isinstance(objective, evaluator.needs):
            raise ValueError(f"{type(evaluator).__name__} needs a {evaluator.needs.__name__}, {run.name} is not one")
    if sharded and run.ema_decay:  # a sharded network cannot be copied, and made anew it has the same weights
        average = _sharded(run, data_info, device, ranks).requires_grad_(False)
    else:
        average = start_average(objective, run.ema_decay)
    parallel.prepare_blocks(as_objective(objective).blocks(), run.parallel, make_lean=make_lean)
    optimizer = build_optimizer(objective, run.optim, layer_of=as_objective(objective).layer_of)
    replicas = None
    if ranks.world > 1 and not sharded:
        replicas = parallel.Replicated(objective, accumulation=run.budget.accumulation(ranks.world))
    return TrainState(objective, optimizer, average, ranks=ranks, replicas=replicas)


def _built(run: Run, data_info: DataInfo) -> nn.Module:
    network = run.objective.build(data_info)
    return float8.convert(network, as_objective(network).blocks()) if run.settled_precision == "float8" else network


def _plain(run: Run, data_info: DataInfo) -> nn.Module:
    objective = _built(run, data_info)
    if run.init_from:
        assert isinstance(objective.encoder, nn.Module)
        fill(objective.encoder, _encoder_values(objective.encoder, run))
        objective.load_state_dict(_decoder(run, objective), strict=False)
    objective.load_state_dict(_further_start(run), strict=False)
    return objective


def _further_start(run: Run) -> dict[str, Tensor]:
    return run.objective.start_tensors() if isinstance(run.objective, HasFurtherStart) else {}


def _sharded(run: Run, data_info: DataInfo, device: torch.device, ranks: Ranks) -> nn.Module:
    """Cut up while it is on ``meta``, then filled tensor by tensor: no rank ever holds the whole network."""
    objective, values = build_without_memory(lambda: _built(run, data_info))
    if run.init_from:
        assert isinstance(objective.encoder, nn.Module)
        values |= {f"encoder.{name}": read for name, read in _encoder_values(objective.encoder, run).items()}
        values |= {name: value.clone for name, value in _decoder(run, objective).items()}
    values |= {name: value.clone for name, value in _further_start(run).items()}
    blocks, bf16 = as_objective(objective).blocks(), run.settled_precision != "fp32"
    parallel.shard(objective, run.parallel, ranks=ranks, device=device, blocks=blocks, bf16=bf16)
    parallel.fill(objective, values, device)
    return objective


def _encoder_values(encoder: nn.Module, run: Run) -> Values:
    """The tensors of an objective's encoder that ``init_from`` gives, read when they are asked for."""
    source = open_trained(run.init_from)
    if isinstance(encoder, WindowedViT):
        return values_to_start_windowed(encoder, source)
    if isinstance(encoder, VideoViT):
        return inflated_values(encoder, source, reset_final_norm=run.reset_final_norm)
    if isinstance(encoder, ViT):
        names = encoder.state_dict().keys()
        return values_to_start_from(encoder.config, names, source, reset_final_norm=run.reset_final_norm)
    kind = type(encoder).__name__
    raise ValueError(f"init_from={run.init_from} fills a ViT, and the encoder of {run.name} is a {kind}")


def _decoder(run: Run, objective: nn.Module) -> dict[str, Tensor]:
    """The decoder of an earlier MAE goes on with its encoder; where it has none of this form it is a fresh one."""
    shapes = {name: value.shape for name, value in objective.state_dict().items()}
    decoder = decoder_to_start_from(run.init_from, shapes)
    trained = any(name == "encoder.cls_token" and p.requires_grad for name, p in objective.named_parameters())
    if not decoder and trained and "decoder.mask_token" in shapes and join().first:
        say(f"{run.init_from} has no such decoder, so it is fresh (objective.frozen_encoder=true trains it first)")
    return decoder


def whole_network(run: Run, data_info: DataInfo, state: TrainState, weights: dict[str, Tensor]) -> nn.Module:
    """The product as a plain network in one process."""
    if not run.parallel.shards(state.ranks):
        return state.product
    network = run.objective.build(data_info)
    network.load_state_dict(weights)
    return network
