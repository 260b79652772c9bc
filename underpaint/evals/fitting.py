"""Small trainings inside evaluations: a head, prompts or a pooling on a frozen encoder, by the one training loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint.core import PAD_LABEL, Batch, Step, on_device, weighted_mean
from underpaint.models.init import head_rule, initialise
from underpaint.training.loop import LoopConfig, NonFiniteLoss, Precision, TrainState, train
from underpaint.training.optim import OptimConfig, build_optimizer
from underpaint.training.schedule import Schedule, ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Length and optimizer of a small training."""

    samples: int
    """Number of images shown in all, each as often as there are epochs."""
    batch_size: int
    warmup: int = 0  # samples
    optim: OptimConfig = field(default_factory=OptimConfig)
    precision: Precision = "fp32"

    @property
    def steps(self) -> int:
        return max(1, round(self.samples / self.batch_size))


class HeadOn(nn.Module):
    """A linear classifier of the feature that ``body`` makes of each input, and its softmax loss.

    A batch has the input under ``key``, and a class or PAD_LABEL (left out) in the first column of ``labels``.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        key: str,
        width: int,
        classes: int,
        batch_norm: bool = False,
        label_smoothing: float = 0.0,
        seed: int,
    ) -> None:
        super().__init__()
        self.body, self.key, self.label_smoothing = body, key, label_smoothing
        self.batch_norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if batch_norm else nn.Identity()
        self.head = nn.Linear(width, classes)
        initialise(self.head, rule=head_rule(0.01), seed=seed, prefix="head")

    def logits(self, given: Float[Tensor, "*rest d"]) -> Float[Tensor, "b k"]:
        return self.head(self.batch_norm(self.body(given)))

    def forward(self, batch: Batch) -> Step:
        logits, target = self.logits(batch[self.key]), batch["labels"][:, 0]
        per_image = F.cross_entropy(
            logits.float(), target, reduction="none", ignore_index=PAD_LABEL, label_smoothing=self.label_smoothing
        )
        return Step(weighted_mean(per_image, batch["weight"]), {})


def fit(objective: nn.Module, batches: Iterator[Batch], settings: Fit, *, device: torch.device) -> None:
    """Train what is not frozen in the objective, which stands on ``device``; it is left in evaluation mode.

    Raises:
        NonFiniteLoss: if it diverges.
    """
    optimizer = build_optimizer(objective, settings.optim, layer_of=lambda name: 0)
    schedule = Schedule(
        config=ScheduleConfig(),
        peak=settings.optim.peak_lr(settings.batch_size),
        samples=settings.steps * settings.batch_size,
        warmup=min(settings.warmup, settings.steps * settings.batch_size - 1),
    )
    config = LoopConfig(
        steps=settings.steps,
        batch_size=settings.batch_size,
        accumulation=1,
        clip=settings.optim.clip,
        precision=settings.precision,
        ema_decay=0.0,
        log_every=settings.steps,
        save_every=settings.steps,
        evaluate_every=settings.steps,
        max_skipped=3,
    )
    try:
        train(
            TrainState(objective, optimizer),
            (on_device(batch, device) for batch in batches),
            config=config,
            schedule=schedule,
            log=lambda state, values: None,
            save=lambda state: None,
            evaluate=lambda state: None,
            stopped=lambda: False,
        )
    except NonFiniteLoss as error:  # its advice names the fields of a run
        raise NonFiniteLoss(f"training diverged with base_lr={settings.optim.base_lr:g}: lower base_lr") from error
    objective.eval()


def best_class(logits: Float[Tensor, "b k"]) -> Int64[Tensor, " b"]:
    """The class with the largest logit of each row.

    Raises:
        NonFiniteLoss: if a logit is not finite, as after a last step that diverged.
    """
    if not logits.isfinite().all():
        raise NonFiniteLoss("the trained head gives logits that are not finite: training diverged; lower base_lr")
    return logits.argmax(dim=1)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the network's parameters, and evaluation mode; afterwards all is as it was.

    Others may be training it.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    modes = [(part, part.training) for part in network.modules()]
    for parameter in trained:
        parameter.requires_grad_(False)
    network.eval()
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for part, training in modes:
            part.training = training
