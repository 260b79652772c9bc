"""The stream of pairs whose image side is a feature of the store instead of pixels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from underpaint import keyed_random
from underpaint.core import Batch
from underpaint.data.captions.image_texts import ImageTexts, draw
from underpaint.data.feature_store import Features
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SampleIndex
from underpaint.data.source import Problem
from underpaint.data.stream import Batching, Stream

UNREADABLE = "cannot be read; the stored features have none for it"


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingFeatures:
    """Features of the images that are trained on, and their rows by the identity that an ``Item`` has."""

    features: Features
    row: Mapping[Hashable, int]


class FeatureStream(Stream):
    """Pairs of features and token ids; order and texts are those of the stream of images with the same seed."""

    def __init__(
        self,
        items: SampleIndex,
        features: TrainingFeatures,
        texts: ImageTexts,
        *,
        tokens: Callable[[list[str]], torch.Tensor],
        seed: int,
        batching: Batching,
        quarantine: Quarantine,
    ) -> None:
        if batching.batch_size > items.images:
            raise ValueError(
                f"batch_size={batching.batch_size} is more than the {items.images} images that '{items.name}' has to "
                f"train on; choose at most {items.images}"
            )
        super().__init__(batching, quarantine, parts=items.parts)
        self.items, self.features, self.texts, self.tokens = items, features, texts, tokens
        self.text_key = keyed_random.key(seed, "text")
        quarantine.add(items.problems)

    def read(self, starts: Iterable[int]) -> Iterator[tuple[Batch, list[Problem]]]:
        for first in starts:
            position = torch.arange(first, first + self.batching.microbatch)
            items = [self.items.at(place) for place in position.tolist()]
            numbers = keyed_random.uniform(self.text_key, position, 1)[:, 0].tolist()
            texts = [draw(self.texts.of(item.image), number) for item, number in zip(items, numbers, strict=True)]
            rows = torch.tensor([self.features.row[item.image] for item in items])
            kept = self.features.features.kept[rows]
            bad = [item.key for item, readable in zip(items, kept.tolist(), strict=True) if not readable]
            batch = {
                "feature": self.features.features.x[rows],
                "text": self.tokens(texts),
                "position": position,
                "weight": kept.float(),
            }
            yield batch, [Problem(key=key, reason=UNREADABLE) for key in bad]
