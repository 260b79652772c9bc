"""Linear probe of every layer of an encoder; the layer is chosen on held-out training images.

MAE's encoders are best in their middle layers, tagged ones in the last: one number per encoder compares neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint.data.source import Source
from underpaint.evals.choosing import Accuracies, best_of
from underpaint.evals.engine import Engine
from underpaint.evals.features import Encoder, TaskFeatures, extract_task
from underpaint.evals.linear import Linear, LinearFields
from underpaint.evals.score import Score
from underpaint.evals.view import evaluation_input
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import at_size


@dataclass(frozen=True, kw_only=True)
class Layers(LinearFields):
    """Linear probe of each layer of an encoder, and the score of the layer that held-out training images choose.

    Tokens of every layer pass the encoder's final norm, as in DINOv2's code. Layer and penalty are chosen together
    (ties: the earlier layer, then the stronger penalty). The settings have the held-out accuracy of each layer.
    """

    def probe(self) -> Linear:
        """The probe of one layer."""
        return Linear(**{each.name: getattr(self, each.name) for each in fields(self)})

    def __call__(self, encoder: Encoder, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        """The encoder stands on ``device`` already.

        Raises:
            ValueError: if it is not a ViT, or as ``Linear``.
        """
        return self.measure(encoder, source=source, engine=Engine(device=device), seed=seed)

    def measure(self, encoder: Encoder, *, source: Source, engine: Engine, seed: int) -> list[Score]:
        """The same by an engine."""
        self.check(source)
        if not isinstance(encoder, ViT):
            raise ValueError(f"the layers of a ViT can be probed, and this encoder is a {type(encoder).__name__}")
        format = evaluation_input(encoder.config.image_input, self.view, patch=encoder.config.patch)
        if format.size != encoder.config.size:
            encoder = at_size(encoder, format.size)
        wide = extract_task(
            AllLayers(encoder),
            source,
            pooling=self.pooling,
            view=self.view,
            batch_size=self.batch_size,
            engine=engine,
        )
        return [replace(self.best(layers_of(wide, encoder.config.depth), seed=seed), view=wide.view)]

    def best(self, layers: Sequence[TaskFeatures], *, seed: int) -> Score:
        """The score of the best layer, by held-out training images."""
        judged, remarks = list[Accuracies](), list[str]()
        for number, task in enumerate(layers, start=1):
            accuracies, of_layer = self.probe().judge(task, seed=seed)
            judged += accuracies
            remarks += [f"layer {number}: {remark}" for remark in of_layer]
        choice = best_of(judged, what="l2")
        layer, penalty = divmod(choice.place, len(self.l2))
        size = len(self.l2)
        each = {
            f"tuning_top1 of layer {number + 1}": max(of.tuning for of in judged[number * size : (number + 1) * size])
            for number in range(len(layers))
        }
        score = self.probe().fitted(layers[layer], self.l2[penalty], settings=choice.settings(), remarks=remarks)
        return replace(score, protocol="layers", settings={"layer": layer + 1.0, **score.settings, **each})


def layers_of(wide: TaskFeatures, depth: int) -> list[TaskFeatures]:
    """The features of each layer, as views of those of all layers side by side."""
    halves = zip(wide.train.x.chunk(depth, dim=1), wide.test.x.chunk(depth, dim=1), strict=True)
    return [
        replace(wide, train=replace(wide.train, x=train), test=replace(wide.test, x=test)) for train, test in halves
    ]


class AllLayers(nn.Module):
    """An encoder whose tokens are those of all layers of a ViT side by side: cls, and the mean of the patches."""

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit = vit
        self.config: ViTConfig = vit.config

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 wide"]:
        x, layers = self.vit.first_tokens(image), list[Tensor]()
        for block in self.vit.blocks:
            x = block(x)
            tokens = self.vit.norm(x)
            layers.append(torch.stack([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))
        return torch.cat(layers, dim=2)
