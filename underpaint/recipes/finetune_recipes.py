"""Full finetuning of an encoder on labelled images.

    underpaint train finetune_laptop data.source=digits init_from=runs/mae_wsp --out runs/finetuned

The form is MAE's (paper.md 2.2): layer-wise learning rates, drop path, no decay of tokens and positions, a head that
starts near zero, cut off at two standard deviations (MAE: at 2, which is not at all), on the cls token. Precision is
fp32 or bf16, where MAE has fp16. The published recipes, with their strong augmentations, are in
published_finetuning.py.
"""

from __future__ import annotations

from dataclasses import replace

from underpaint.data.dataset import ImageData
from underpaint.models.sizes import SIZES
from underpaint.objectives.classify import ClassifyConfig
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig
from underpaint.training.schedule import ScheduleConfig


def finetune_laptop() -> Run:
    """Finetuning on 48-px drawings on a CPU."""
    return Run(
        name="finetune_laptop",
        objective=ClassifyConfig(
            encoder=replace(SIZES["vit_laptop8"], positions="sincos_trained"),
            stage="finetune",
            label_smoothing=0.1,
            drop_path=0.1,
            head_init_std=2e-5,
            init="mae",
        ),
        data=ImageData(source="openmoji", split="train", targets="class", scale=(0.3, 1.0)),
        budget=Budget(samples=4_000, batch_size=32, microbatch=32, warmup=400),
        optim=OptimConfig(base_lr=4e-3, weight_decay=0.05, betas=(0.9, 0.999), layer_decay=0.75, decay_tokens=False),
        schedule=ScheduleConfig(min_lr=1e-6),
        precision="fastest",
        cadence=Cadence(log=320, save=3_200, keep=10_000_000, evaluate=10_000_000),
    )


def finetune_small() -> Run:
    """Finetuning of studies with `--size small`, with their wider encoder."""
    laptop = finetune_laptop()
    encoder = replace(SIZES["vit_small8"], positions="sincos_trained")
    objective = replace(laptop.objective, encoder=encoder)
    return replace(laptop, name="finetune_small", objective=objective)


def finetune_smoke() -> Run:
    """A network for tests, trained in seconds."""
    laptop = finetune_laptop()
    return replace(
        laptop,
        name="finetune_smoke",
        objective=replace(laptop.objective, encoder=replace(SIZES["vit_smoke8"], positions="sincos_trained")),
        budget=Budget(samples=320, batch_size=32, microbatch=32, warmup=32),
        precision="fp32",
        cadence=Cadence(log=64, save=96, keep=10_000_000, evaluate=10_000_000),
    )
