"""Measured rates of this machine: matrix products by size and type, attention, and operations bound by memory.

The rates hold for the load of the machine while they were measured, and for the number of threads that torch used; they
are kept in the cache folder, and every plan prints their date. The first plan for this machine measures them briefly.
"""

from __future__ import annotations

import datetime
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from underpaint import files
from underpaint.data.cache import cache_folder
from underpaint.messages import say
from underpaint.models.attention import attention
from underpaint.training.optim import AdamW

FORMAT = 1
SIDES = (64, 128, 256, 512, 1024, 2048, 4096)
"""Sides of the square matrices that are multiplied."""
GROUPED = 256
"""Side below which as many products are timed together as have the work of one of this side."""
HEAD_WIDTHS = (32, 64, 128)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ELEMENTS = 1 << 22
"""Size of the tensors of the pointwise operations: 16 MiB in fp32, more than a processor's cache holds."""
LONGEST = 2.5
"""Seconds: where one product would take longer it is not tried, and has the rate of the next smaller one."""
BRIEF = 0.05
"""The same for a machine that is measured on the way to its first plan, in a few seconds."""
REPEATS = 5
CALLS = 1000
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Rates in FLOPs and bytes per second; bytes are those of the operation's largest tensor."""

    date: str
    torch: str
    threads: int
    device: str
    matmul: dict[str, dict[str, float]]  # by type, then by side
    attention: dict[str, dict[str, float]]  # by type, then by width of a head: forward and backward together
    add: float  # x + y into new memory
    reduction: float  # sum over rows
    gelu: float  # forward and backward together
    layer_norm: float  # likewise
    adamw: float  # per byte of the weights
    call: float  # calls per second of an operation on next to nothing, with its way back
    is_brief: bool = False  # measured in a few seconds, for the first plan

    def matmul_rate(self, precision: str, side: float) -> float:
        """FLOPs per second of a product of the volume ``side`` cubed, between the measured sides."""
        return _between(self.matmul[precision], side)

    def attention_rate(self, precision: str, width: float) -> float:
        """FLOPs per second of attention with heads of a width."""
        return _between(self.attention[precision], width)


def _between(rates: dict[str, float], size: float) -> float:
    """The rate at a size between the measured ones, or at the nearest of them."""
    known = sorted((int(text), rate) for text, rate in rates.items())
    for (low, slow), (high, fast) in itertools.pairwise(known):
        if size < high:
            share = max(0.0, size - low) / (high - low)
            return slow + share * (fast - slow)
    return known[-1][1]


def calibrate() -> Calibration:
    """Measure this machine's processor (about a minute) and keep the result in the cache folder."""
    return _kept(measure_rates())


def rates_here() -> Calibration:
    """The rates kept by the last ``calibrate``; where there are none, the machine is measured briefly for them.

    Raises:
        ValueError: if they are damaged.
    """
    if _path().is_file():
        return kept_rates()
    say("measuring this machine briefly, once; `underpaint plan --calibrate` takes a minute and is more exact")
    return _kept(measure_rates(longest=BRIEF))


def _kept(calibration: Calibration) -> Calibration:
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, {"format": FORMAT, "calibration": asdict(calibration)})
    return calibration


def measure_rates(clock: Clock = time.perf_counter, *, longest: float = LONGEST) -> Calibration:
    """The rates of this machine now; ``clock`` may be the time of the process, where others work on it too.

    An operation is repeated for at most ``longest`` seconds, and products that would take longer are not tried.
    """
    pointwise = {name: _rate(*work, clock, longest) for name, work in _pointwise().items()}
    return Calibration(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        device="cpu",
        matmul={name: _matmul(dtype, clock, longest) for name, dtype in DTYPES.items()},
        attention={name: _attention(dtype, clock, longest) for name, dtype in DTYPES.items()},
        is_brief=longest < LONGEST,
        **pointwise,
    )


def kept_rates() -> Calibration:
    """The rates kept by the last ``calibrate``.

    Raises:
        ValueError: if there are none, or they are damaged.
    """
    path = _path()
    if not path.is_file():
        raise ValueError("this machine has not been measured; run `underpaint plan --calibrate`")
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is of another version; run `underpaint plan --calibrate` again")
    return _parsed(content["calibration"], path)


def _parsed(values: Any, path: Path) -> Calibration:
    try:
        rates = {
            name: {
                kind: {str(int(size)): float(rate) for size, rate in by.items()} for kind, by in values[name].items()
            }
            for name in ("matmul", "attention")
        }
        calibration = Calibration(**{**values, **rates})
        sized = [rate for by in (*calibration.matmul.values(), *calibration.attention.values()) for rate in by.values()]
        wrong = (
            min(
                *sized,
                calibration.add,
                calibration.reduction,
                calibration.gelu,
                calibration.layer_norm,
                calibration.adamw,
                calibration.call,
            )
            <= 0
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); run `underpaint plan --calibrate` again") from error
    if wrong or any(set(by) != set(DTYPES) for by in (calibration.matmul, calibration.attention)):
        raise ValueError(f"{path} is damaged; run `underpaint plan --calibrate` again")
    return calibration


def _path() -> Path:
    return cache_folder() / "calibration.json"


def _matmul(dtype: torch.dtype, clock: Clock, longest: float) -> dict[str, float]:
    """FLOPs per second of products of square matrices."""
    rates: dict[str, float] = {}
    for side in SIDES:
        left, right = _numbers(side, side, dtype=dtype), _numbers(side, side, dtype=dtype)
        repeats = max(1, (GROUPED // side) ** 3)  # small products are timed in groups
        flops = 2 * side**3 * repeats

        def products(left: Tensor = left, right: Tensor = right, repeats: int = repeats) -> None:
            for _ in range(repeats):
                torch.mm(left, right)

        rates[str(side)] = _rate(flops, products, clock, longest)
        if side >= GROUPED and 8 * flops / rates[str(side)] > longest:  # the next one has eight times the work
            break
    return rates


def _attention(dtype: torch.dtype, clock: Clock, longest: float) -> dict[str, float]:
    """FLOPs per second of two products forward and five backward, on 197 tokens, by width of a head."""
    rates: dict[str, float] = {}
    for width in HEAD_WIDTHS:
        b, heads, n = (2, 12, 197) if longest >= LONGEST else (1, 4, 197)  # emulated bf16 takes seconds for the former
        qkv = _numbers(b, n, 3, heads, width, dtype=dtype).requires_grad_()
        gradient = torch.ones(b, n, heads, width, dtype=dtype)

        def both(qkv: Tensor = qkv, gradient: Tensor = gradient) -> object:
            return torch.autograd.grad(attention(qkv), qkv, gradient)

        rates[str(width)] = _rate(7 * 2 * b * heads * n * n * width, both, clock, longest)
    return rates


def _pointwise() -> dict[str, tuple[int, Callable[[], object]]]:
    """Operations bound by memory, by name: bytes of the largest tensor (for ``call``, calls), and the operation."""
    x, y = (_numbers(ELEMENTS // 1024, 1024) for _ in range(2))
    leaf = x.clone().requires_grad_()
    weight, bias = (torch.ones(1024, requires_grad=True) for _ in range(2))
    unit = torch.ones(1, requires_grad=True)
    parameter = torch.nn.Parameter(x.clone())
    parameter.grad = y.clone()
    optimizer = AdamW([parameter], fused=True)

    def gelu() -> object:
        return torch.autograd.grad(F.gelu(leaf), leaf, y)

    def layer_norm() -> object:
        return torch.autograd.grad(F.layer_norm(leaf, (1024,), weight, bias), (leaf, weight, bias), y)

    def calls() -> object:
        number = unit
        for _ in range(CALLS):
            number = number + unit
        return torch.autograd.grad(number, unit)

    size = ELEMENTS * x.element_size()
    return {
        "add": (size, lambda: x + y),
        "reduction": (size, lambda: x.sum(dim=0)),
        "gelu": (size, gelu),
        "layer_norm": (size, layer_norm),
        "adamw": (size, optimizer.step),
        "call": (CALLS, calls),
    }


def _numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def _rate(amount: int, work: Callable[[], object], clock: Clock, longest: float) -> float:
    """``amount`` per second, at the median of some repeats after the first."""
    work()
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < longest:
        started = clock()
        work()
        times.append(clock() - started)
    return amount / statistics.median(times)
