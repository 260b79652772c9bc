"""From the description of a run to its networks and optimizer, as they lie on the ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from underpaint.core import DataInfo
from underpaint.messages import say
from underpaint.models.init import build_without_memory
from underpaint.models.mae_decoder import blocks_of
from underpaint.models.recompute import make_lean
from underpaint.models.vit import ViT
from underpaint.models.weights import decoder_to_start_from, load_encoder, start_from
from underpaint.run.declare import Run
from underpaint.training import float8, parallel
from underpaint.training.loop import TrainState, start_average
from underpaint.training.optim import build_optimizer
from underpaint.training.ranks import Ranks, join


def build_state(run: Run, data_info: DataInfo, device: torch.device, ranks: Ranks) -> TrainState:
    """The objective with its initial weights, its optimizer and its average, as they lie on the ranks."""
    depth, sharded = run.objective.encoder.depth, run.parallel.shards(ranks)
    objective = _sharded(run, data_info, device, ranks) if sharded else _plain(run, data_info).to(device)
    for evaluator in run.evals:
        if not isinstance(objective, evaluator.needs):
            raise ValueError(f"{type(evaluator).__name__} needs a {evaluator.needs.__name__}, {run.name} is none")
    if sharded and run.ema_decay:  # a sharded network cannot be copied, and made anew it has the same weights
        average = _sharded(run, data_info, device, ranks).requires_grad_(False)
    else:
        average = start_average(objective, run.ema_decay)
    parallel.prepare_blocks(blocks_of(objective), run.parallel, make_lean=make_lean)
    optimizer = build_optimizer(objective, run.optim, depth=depth)
    replicas = None
    if ranks.world > 1 and not sharded:
        replicas = parallel.Replicated(objective, accumulation=run.budget.accumulation(ranks.world))
    return TrainState(objective, optimizer, average, ranks=ranks, replicas=replicas)


def _built(run: Run, data_info: DataInfo) -> nn.Module:
    network = run.objective.build(data_info)
    return float8.convert(network, blocks_of(network)) if run.precision == "float8" else network


def _plain(run: Run, data_info: DataInfo) -> nn.Module:
    objective = _built(run, data_info)
    if run.init_from:
        assert isinstance(objective.encoder, ViT), "init_from fills a ViT"
        start_from(objective.encoder, load_encoder(run.init_from), reset_final_norm=run.reset_final_norm)
        objective.load_state_dict(_decoder(run, objective), strict=False)
    return objective


def _sharded(run: Run, data_info: DataInfo, device: torch.device, ranks: Ranks) -> nn.Module:
    """Cut up while it is on ``meta``, then filled: no rank ever holds the whole network."""
    objective, values = build_without_memory(lambda: _built(run, data_info))
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


def whole_network(run: Run, data_info: DataInfo, state: TrainState, weights: dict[str, Tensor]) -> nn.Module:
    """The product as a plain network in one process."""
    if not run.parallel.shards(state.ranks):
        return state.product
    network = run.objective.build(data_info)
    network.load_state_dict(weights)
    return network
