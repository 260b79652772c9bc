"""An objective of two inputs, images and texts, and its data, both from outside the package, through the same loop."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from support.small_runs import ENCODER, SendSignal, assert_same_bits, log_lines
from underpaint import keyed_random
from underpaint.core import Batch, DataInfo, ImageInput, Inputs, Step, example_batch, weighted_mean
from underpaint.data.decode.limits import BadImage
from underpaint.data.quarantine import Quarantine
from underpaint.data.stream import Batching, SampleStream
from underpaint.models.init import initialise, initialise_encoder, mae_rule
from underpaint.models.vit import ViT, ViTConfig, encoder_layer_of
from underpaint.run import Budget, Cadence, Run, execute
from underpaint.run.outputs import load_model
from underpaint.tags.vocabulary import Vocabulary
from underpaint.training.optim import OptimConfig
from underpaint.training.signals import Interrupted

WORDS = 50


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """Ids of the words of a caption."""

    tokens: int

    def example(self, size: int, device: torch.device | str) -> Int64[Tensor, "b t"]:
        return torch.zeros(size, self.tokens, dtype=torch.int64, device=device)


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    encoder: ViTConfig = ENCODER
    tokens: int = 6
    stage: Literal["pairs"] = "pairs"

    @property
    def inputs(self) -> Inputs:
        return {"image": self.encoder.image_input, "text": TextInput(tokens=self.tokens)}

    def build(self, data_info: DataInfo) -> Pairs:
        return Pairs(self, seed=data_info.seed)

    def flops_per_sample(self, data_info: DataInfo) -> int:
        return 1


class Pairs(nn.Module):
    """The symmetric contrastive loss of images and texts."""

    def __init__(self, config: PairsConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = ViT(config.encoder)
        self.words = nn.Embedding(WORDS, config.encoder.width)
        initialise_encoder(self.encoder, scheme="mae", seed=seed)
        initialise(self.words, rule=mae_rule, seed=seed, prefix="words")

    def blocks(self) -> list[nn.Module]:
        return list(self.encoder.blocks)

    def layer_of(self, name: str) -> int:
        return encoder_layer_of(name, self.config.encoder.depth)

    def forward(self, batch: Mapping[str, Tensor]) -> Step:
        image = F.normalize(self.encoder(batch["image"])[:, 0], dim=1)
        text = F.normalize(self.words(batch["text"]).mean(dim=1), dim=1)
        scores = 10 * image @ text.T
        pairs = torch.arange(len(scores), device=scores.device)
        per_pair = F.cross_entropy(scores, pairs, reduction="none") + F.cross_entropy(scores.T, pairs, reduction="none")
        return Step(weighted_mean(per_pair / 2, batch["weight"]), {})


@dataclass(frozen=True, kw_only=True)
class PairsData:
    """Drawn pairs: the words of a caption say how bright the four quarters of its image are."""

    count: int = 64
    bad: tuple[int, ...] = ()

    def open(self) -> OpenPairs:
        return OpenPairs(config=self)


@dataclass(frozen=True, kw_only=True)
class OpenPairs:
    config: PairsData
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(labels=(), count=()))
    unlabelled: int = 0
    name: str = "pairs"
    notes: tuple[str, ...] = ()

    @property
    def content_hash(self) -> str:
        return f"pairs-{self.config.count}"

    @property
    def images(self) -> int:
        return self.config.count

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> SampleStream:
        image, text = inputs["image"], inputs["text"]
        assert isinstance(image, ImageInput)
        assert isinstance(text, TextInput)
        order = keyed_random.key(seed, "order")

        def sample(position: int) -> dict[str, Tensor]:
            draw = keyed_random.uniform(order, torch.tensor([position]), 1)
            pair = int(draw[0, 0] * self.config.count)
            if position in self.config.bad:
                raise BadImage("drawn to be bad")
            return self.pair(pair, image, text)

        bad = Quarantine(quarantine, images=self.config.count, max_bad=0.5)
        return SampleStream(sample, inputs, batching, quarantine=bad)

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[Batch]:
        image, text = inputs["image"], inputs["text"]
        assert isinstance(image, ImageInput)
        assert isinstance(text, TextInput)
        pairs = [self.pair(number, image, text) for number in range(batch_size)]
        stacked = {key: torch.stack([pair[key] for pair in pairs]) for key in inputs}
        yield {**stacked, "position": torch.arange(batch_size), "weight": torch.ones(batch_size)}

    def pair(self, number: int, image: ImageInput, text: TextInput) -> dict[str, Tensor]:
        words = torch.randint(0, WORDS, (text.tokens,), generator=torch.Generator().manual_seed(number))
        bright: Float[Tensor, 4] = words[:4].float() / WORDS
        quarters = bright.view(1, 2, 2).expand(image.channels, 2, 2)
        return {"image": F.interpolate(quarters[None], size=image.size)[0], "text": words}


def run(*, steps: int = 24, evals: tuple[SendSignal, ...] = (), bad: tuple[int, ...] = ()) -> Run:
    return Run(
        name="pairs",
        objective=PairsConfig(),
        data=PairsData(bad=bad),
        budget=Budget(samples=16 * steps, batch_size=16, microbatch=8),
        optim=OptimConfig(base_lr=0.02, layer_decay=0.7),
        cadence=Cadence(log=16, save=16 * 4, keep=16 * 100, evaluate=16 * 4),
        evals=evals,
        threads=1,
    )


def test_it_learns_and_is_handed_over(tmp_path: Path) -> None:
    execute(run(bad=(3, 40)), tmp_path / "run")
    losses = [line["loss"] for line in log_lines(tmp_path / "run") if "loss" in line]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    bad = (tmp_path / "run" / "bad_records.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in bad] == ["sample 3", "sample 40"]
    with pytest.raises(ValueError, match="PairsConfig, which is not one of this package"):
        load_model(tmp_path / "run")
    network = load_model(tmp_path / "run", config_type=PairsConfig)
    assert isinstance(network, Pairs)
    network(example_batch(PairsConfig().inputs, 4))


def test_it_resumes_to_the_same_bits(tmp_path: Path) -> None:
    execute(run(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        execute(run(evals=(SendSignal(number=signal.SIGTERM),)), tmp_path / "stopped")
    execute(run(), tmp_path / "stopped")
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")
