"""Cost of a step of visual prompt tuning beside that of finetuning the whole encoder, and of a head alone.

    python benchmarks/vpt_cost.py
    python benchmarks/vpt_cost.py --size vit_l16 --batch 8 --rounds 3

Each step is one of the real loop with AdamW on the same images of noise: `finetune` trains the encoder and a head,
`vpt` prompts and a head, `head` a head alone. Rounds alternate, so that a busy machine slows all of them alike; the
seconds are those of the processor (all threads), medians of the rounds. `activations` are what autograd keeps for the
backward pass besides parameters; `trained` are the trained parameters.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time

import torch
from torch import nn

from underpaint.evals.fitting import Fit, HeadOn, fit
from underpaint.evals.lowshot_vpt import PRESETS, Pooled
from underpaint.models.init import initialise_encoder
from underpaint.models.prompts import PromptedViT
from underpaint.models.sizes import SIZES
from underpaint.models.vit import ViT
from underpaint.training.optim import OptimConfig

CPU = torch.device("cpu")
MIB = 2**20


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    config = SIZES[options.size]
    image = torch.randn(options.batch, 3, *config.size, generator=torch.Generator().manual_seed(0))
    batch = {
        "image": image,
        "labels": torch.arange(options.batch)[:, None] % options.classes,
        "weight": torch.ones(options.batch),
    }
    vit = ViT(config)
    initialise_encoder(vit, scheme="mae", seed=0)
    seconds: dict[str, list[float]] = {name: [] for name in ("finetune", "vpt", "head")}
    facts: dict[str, dict[str, float]] = {}
    for name in [*seconds] * (1 + options.rounds):
        model = network(name, vit, options.classes)
        settings = Fit(
            samples=options.steps * options.batch, batch_size=options.batch, optim=OptimConfig(weight_decay=0.0)
        )
        started = time.process_time()
        fit(model, itertools.repeat(batch), settings, device=CPU)
        seconds[name].append((time.process_time() - started) / options.steps)
        if name not in facts:
            trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
            facts[name] = {"trained": trained, "activations_mib": round(activations(model, batch) / MIB)}
    whole = statistics.median(seconds["finetune"][1:])
    for name, values in seconds.items():
        of_rounds = values[1:]  # the first warms up
        print(
            json.dumps(
                {
                    "step": name,
                    "cpu_seconds": round(statistics.median(of_rounds), 3),
                    "lowest": round(min(of_rounds), 3),
                    "highest": round(max(of_rounds), 3),
                    "of_finetuning": round(statistics.median(of_rounds) / whole, 3),
                    **facts[name],
                }
            )
        )


def network(name: str, vit: ViT, classes: int) -> HeadOn:
    """The objective of one of the three kinds, with the encoder frozen or not."""
    recipe = PRESETS["mim_refiner"]
    vit.requires_grad_(name == "finetune")
    body: nn.Module = vit
    if name == "vpt":
        body = PromptedViT(vit, count=recipe.prompts, width=recipe.prompt_width)
    return HeadOn(Pooled(body, "cls"), key="image", width=vit.config.width, classes=classes, seed=0)


def activations(model: HeadOn, batch: dict[str, torch.Tensor]) -> int:
    """Bytes that autograd keeps of one forward pass, parameters and the images aside, each storage once."""
    ours = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    ours.add(batch["image"].untyped_storage().data_ptr())
    kept: dict[int, int] = {}

    def note(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        step = model(batch)
    assert step.loss.requires_grad
    return sum(kept.values())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="vit_b16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
