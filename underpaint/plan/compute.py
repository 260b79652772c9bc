"""The time of a training step on a measured processor: a roofline of products, attention and what memory bounds.

Products run at the measured rate of a square product of the same volume, attention at its own rate, and the rest at
the measured bandwidth of the operation. Reading images is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from underpaint.core import DataInfo
from underpaint.costs.memory import FP32
from underpaint.costs.parts import HasLayers, Part
from underpaint.costs.work import Work
from underpaint.plan.parameters import Parameters
from underpaint.plan.rates import Calibration
from underpaint.run import Run


def parts(run: Run, data_info: DataInfo) -> Sequence[Part]:
    """The parts of a run's objective.

    Raises:
        ValueError: for an objective whose config has no ``layers``.
    """
    if not isinstance(run.objective, HasLayers):
        name = type(run.objective).__name__
        raise ValueError(f"{name} has no method layers(data_info), which says what a step costs (docs/extend.md)")
    return run.objective.layers(data_info)


def work(run: Run, data_info: DataInfo, *, microbatch: int, checkpointing: bool) -> Work:
    """Operations and memory traffic of a forward and backward pass of a microbatch."""
    total = Work()
    for part in parts(run, data_info):
        part.add_work(total, microbatch, c=FP32 if run.settled_precision == "fp32" else 2, again=checkpointing)
    return total


def measured_seconds(work: Work, rates: Calibration, precision: str) -> float:
    """Seconds of one microbatch."""
    return (
        sum(flops / rates.matmul_rate(precision, side) for flops, side in work.products)
        + sum(flops / rates.attention_rate(precision, width) for flops, width in work.attention)
        + work.added / rates.add
        + work.reduced / rates.reduction
        + work.gelu / rates.gelu
        + work.normalised / rates.layer_norm
        + work.calls / rates.call
    )


def update_seconds(parameters: Parameters, rates: Calibration, *, clipped: bool) -> float:
    """Seconds of one optimizer step: the norm of the gradients, clipping, AdamW."""
    size = FP32 * parameters.trained
    return size / rates.adamw + size / rates.reduction + (size / rates.add if clipped else 0.0)
