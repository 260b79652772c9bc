"""Small LiT objectives and batches; as a script, one training step of each loss on the ranks that were started."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from underpaint.core import DataInfo
from underpaint.models.text_tower import TextConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.lit import Lit, LitConfig
from underpaint.texts.tokens import END, PAD, START
from underpaint.training import parallel

TEXT = TextConfig(vocabulary=50, positions=66, width=16, depth=2, heads=2)
ENCODER = ViTConfig(size=(16, 16), patch=8, width=24, depth=2, heads=3)
CONFIG = LitConfig(encoder=ENCODER, text=TEXT, width=12, tokens=9, logit_scale=5.0)
COUNT = 6


def perturbed(config: LitConfig) -> Lit:
    """In float64, with weights everywhere that matter."""
    model = config.build(DataInfo(seed=0)).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def batch_of(*, bad: Iterable[int] = (), equal: Iterable[tuple[int, int]] = ()) -> dict[str, Tensor]:
    """Images and texts of 3 to 9 tokens in float64; ``equal`` lists pairs that have the first one's text."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.full((COUNT, CONFIG.tokens), PAD)
    for number, row in enumerate(ids):
        length = 3 + number
        row[:length] = torch.randint(4, TEXT.vocabulary, (length,), generator=generator)
        row[0], row[length - 1] = START, END
    for first, second in equal:
        ids[second] = ids[first]
    weight = torch.ones(COUNT, dtype=torch.float64)
    weight[list(bad)] = 0
    image = torch.randn(COUNT, 3, *ENCODER.size, generator=generator, dtype=torch.float64)
    return {"image": image, "text": ids, "position": torch.arange(COUNT), "weight": weight}


def step(config: LitConfig) -> dict[str, Any]:
    """Loss and weights after one step of SGD on this rank's part of the batch."""
    model, batch = perturbed(config), batch_of(bad=(5,), equal=((0, 3), (1, 2)))
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    leave = COUNT // world
    batch = {name: value[rank * leave : (rank + 1) * leave] for name, value in batch.items()}
    network = parallel.Replicated(model, accumulation=1) if world > 1 else model
    loss = network(batch).loss
    loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    mean = loss.detach() / world
    if world > 1:
        dist.all_reduce(mean)
    weights = {name: value.flatten().tolist() for name, value in model.state_dict().items()}
    return {"loss": float(mean), "weights": weights}


if __name__ == "__main__":
    from underpaint.training.ranks import join

    ranks = join()
    losses = {"softmax": CONFIG, "sigmoid": replace(CONFIG, loss="sigmoid", logit_bias=-2.0, unlocked_blocks=1)}
    results = {name: step(config) for name, config in losses.items()}
    if ranks.first:
        Path(sys.argv[1]).write_text(json.dumps(results))
    ranks.leave()
