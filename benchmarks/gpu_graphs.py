"""A CUDA graph of forward and backward against the same started kernel by kernel: how much the host holds back."""

from __future__ import annotations

import time
from typing import Any

import torch
from gpu_steps import REPEATS, Case, batch_of, fill, release
from torch import Tensor, nn

from underpaint.models.recompute import make_lean
from underpaint.plan.parameters import assumed_data
from underpaint.training.parallel import prepare_blocks

WARM_UP = 3


def graphs(case: Case, device: str, *, seconds: float) -> dict[str, Any]:
    """Milliseconds of forward and backward: as kernels, and replayed as one graph; and whether gradients agree."""
    run = case.run()
    release(device)
    with torch.device("meta"):
        network = run.objective.build(assumed_data(1000))
    network.to_empty(device=device)
    fill(network)
    prepare_blocks(network.blocks(), run.parallel, make_lean=make_lean)
    batch = batch_of(run, device, case.microbatch)
    batch["labels"] %= 1000

    def both() -> Tensor:
        # the cache of casts would be filled while the graph is made, and not when it is replayed
        with torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False):
            loss = network(batch).loss
        loss.backward()
        return loss.detach()

    plain = _milliseconds(both, network, device, seconds)
    if device != "cuda":
        return {"case": case.name, "microbatch": case.microbatch, "plain_ms": plain}
    expected = {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}
    replay = capture(both, network)
    replay()
    close = [torch.allclose(value, _gradient(network, name), rtol=1e-2, atol=1e-6) for name, value in expected.items()]
    replayed = _milliseconds(replay, None, device, seconds)
    found = {
        "case": case.name,
        "microbatch": case.microbatch,
        "plain_ms": plain,
        "graph_ms": replayed,
        "gradients_agree": sum(close) / len(close),
    }
    del network, replay
    release(device)
    return found


def capture(work: Any, network: nn.Module) -> Any:
    """``work`` as a CUDA graph whose gradients lie in the same memory at every replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            network.zero_grad(set_to_none=True)
            work()
    torch.cuda.current_stream().wait_stream(side)
    network.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def _gradient(network: nn.Module, name: str) -> Tensor:
    gradient = network.get_parameter(name).grad
    assert gradient is not None
    return gradient


def _milliseconds(work: Any, network: nn.Module | None, device: str, seconds: float) -> float:
    """The best of REPEATS stretches of about so many seconds in all."""

    def once() -> None:
        if network is not None:
            network.zero_grad(set_to_none=True)
        work()

    def stretch(count: int) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(count):
            once()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / count

    for _ in range(WARM_UP):
        once()
    count = max(1, round(seconds / REPEATS / stretch(1)))
    return 1000 * min(stretch(count) for _ in range(REPEATS))
