"""The parts of a detector as the planner sees them, with as many regions and objects as there may be.

Sizes are those of fp32; under autocast a convolution keeps a copy of its input in its own type, norms keep fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from underpaint.costs.memory import FP32, Layer, Types, relative_block
from underpaint.costs.work import CALLS, Work
from underpaint.models.detector.config import BOX_LEVELS, MASK_SIDE, POOLED_BOX, POOLED_MASK, DetectorConfig
from underpaint.models.detector.flops import POSITIVE_REGIONS, windowed_macs
from underpaint.models.vit import ViTConfig

OVERLAPS = 8
"""Numbers of each pair of an object and an anchor while their overlaps are computed."""


class Places(NamedTuple):
    """Places of one image at the levels of the pyramid, the finest first; the last is for proposals alone."""

    levels: tuple[int, ...]

    @staticmethod
    def of(encoder: ViTConfig) -> Places:
        rows, columns = encoder.grid
        n = encoder.num_patches
        return Places((16 * n, 4 * n, n, n // 4, -(-rows // 4) * -(-columns // 4)))

    @property
    def pooled(self) -> int:
        """Those of the levels that regions are pooled from."""
        return sum(self.levels[:BOX_LEVELS])


def activation(c: int) -> int:
    """Bytes of a number that a ReLU keeps as its result, and the next product as its input."""
    return FP32 if c == FP32 else FP32 + c


@dataclass(frozen=True, kw_only=True)
class WindowedLayers:
    """The ViT of a detector."""

    encoder: ViTConfig
    detector: DetectorConfig
    drop_path: bool

    @property
    def recomputed_macs(self) -> int:
        encoder = self.encoder
        return windowed_macs(encoder, self.detector) - encoder.num_patches * encoder.patch_values * encoder.width

    def window(self, block: int) -> tuple[int, int]:
        side = self.detector.window
        return self.encoder.grid if block in self.detector.global_blocks else (side, side)

    def padded(self, window: tuple[int, int]) -> int:
        """Places of all windows of one image."""
        (rows, columns), (high, wide) = self.encoder.grid, window
        return -(-rows // high) * -(-columns // wide) * high * wide

    def memory(self, samples: int, types: Types) -> list[Layer]:
        encoder, c = self.encoder, types.compute
        tokens = samples * encoder.num_patches * encoder.width
        pixels = samples * encoder.num_patches * encoder.patch_values
        stem = Layer(
            parameters=("encoder.pos_embed", "encoder.patch_embed."),
            saved=pixels * c if c < FP32 else 0,
            forward=tokens * (types.stream + c),
            backward=2 * tokens * types.stream,
        )
        return [stem, *(self._block(number, samples, types) for number in range(encoder.depth))]

    def _block(self, number: int, samples: int, types: Types) -> Layer:
        encoder, window = self.encoder, self.window(number)
        return relative_block(
            f"encoder.blocks.{number}.",
            (samples * encoder.num_patches, samples * self.padded(window)),
            (encoder.width, encoder.heads, encoder.mlp_ratio),
            types,
            further=encoder.heads * sum(window),
            tables=2,
            drop_path=self.drop_path,
        )

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        encoder, d = self.encoder, self.encoder.width
        places = samples * encoder.num_patches
        work.linear(places, encoder.patch_values, d, c=c, passes=2)
        for number in range(encoder.depth):
            for backward in (True, False) if again else (True,):
                self._add_block(work, self.window(number), samples, c=c, backward=backward)

    def _add_block(self, work: Work, window: tuple[int, int], samples: int, *, c: int, backward: bool) -> None:
        encoder, d, passes = self.encoder, self.encoder.width, 3 if backward else 1
        padded, rows = samples * self.padded(window), samples * encoder.num_patches
        channels = d // encoder.heads + sum(window)
        for inside, outside in ((d, 3 * d), (d, d)):
            work.linear(padded, inside, outside, c=c, passes=passes)
        work.linear(padded * encoder.heads, d // encoder.heads, sum(window), c=c, passes=passes)
        for inside, outside in ((d, encoder.mlp_ratio * d), (encoder.mlp_ratio * d, d)):
            work.linear(rows, inside, outside, c=c, passes=passes)
        pairs = padded * window[0] * window[1] * encoder.heads * channels
        work.attention.append(((14.0 if backward else 4.0) * pairs, channels))
        work.calls += 2 * CALLS if backward else 2 * CALLS / 3
        share = 1.0 if backward else 0.4
        work.gelu += share * rows * encoder.mlp_ratio * d * FP32
        work.normalised += share * 2 * rows * d * FP32
        # sums, windows and back, and the wide tensors put together, with their gradients
        work.added += share * FP32 * (4 * rows * d + 4 * padded * d + 6 * padded * encoder.heads * channels)


@dataclass(frozen=True, kw_only=True)
class PyramidLayers:
    """The feature pyramid and the network of proposals."""

    encoder: ViTConfig
    detector: DetectorConfig
    objects: int

    recomputed_macs = 0

    def memory(self, samples: int, types: Types) -> list[Layer]:
        return [self._pyramid(samples, types), self._proposals(samples, types)]

    def _pyramid(self, samples: int, types: Types) -> Layer:
        encoder, c, channels = self.encoder, types.compute, self.detector.channels
        n, d = samples * encoder.num_patches, encoder.width
        half, quarter = d // 2, d // 4
        kept = c
        places = Places.of(encoder)
        mixed = samples * places.pooled * channels
        norm = FP32 if c < FP32 else c
        resized = 4 * n * half * (norm + FP32 + kept) + 16 * n * quarter * kept + 4 * n * half * kept
        resized += n // 4 * d * (kept + 8)  # the largest of four, and where they were
        copies = n * d * (FP32 + (3 * c if c < FP32 else 0))  # the encoder's map, as it is and as products take it
        finest = samples * places.levels[0] * channels * FP32
        return Layer(
            parameters=("pyramid.",),
            # both convolutions' results before their norms, the first one's after it, and the level itself
            saved=resized + copies + mixed * (2 * norm + kept + FP32) + samples * places.pooled * 4 * FP32,
            forward=finest,
            backward=2 * finest + samples * places.pooled * channels * FP32,
        )

    def _proposals(self, samples: int, types: Types) -> Layer:
        detector, c = self.detector, types.compute
        places = sum(Places.of(self.encoder).levels)
        numbers = samples * places * detector.channels
        anchors = places * len(detector.anchor_ratios)
        finest = samples * Places.of(self.encoder).levels[0] * detector.channels * FP32
        return Layer(
            parameters=("proposals.",),
            saved=numbers * (2 * c + (c if c < FP32 else 0)) + samples * anchors * 2 * 5 * FP32,
            forward=max(finest, OVERLAPS * self.objects * anchors * FP32),
            backward=2 * finest,
        )

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        encoder, channels = self.encoder, self.detector.channels
        n, d = samples * encoder.num_patches, encoder.width
        half, quarter = d // 2, d // 4
        for rows, inside, outside in ((n, d, 4 * half), (4 * n, half, 4 * quarter), (n, d, 4 * half)):
            work.linear(rows, inside, outside, c=c)
        anchors = len(self.detector.anchor_ratios)
        levels = Places.of(encoder).levels
        for count, inside in zip(levels, (quarter, half, d, d), strict=False):
            work.linear(samples * count, inside, channels, c=c)
            work.linear(samples * count, 9 * channels, channels, c=c)
        for count in levels:
            for _ in range(2):
                work.linear(samples * count, 9 * channels, channels, c=c)
            work.linear(samples * count, channels, 5 * anchors, c=c)
        work.normalised += FP32 * samples * (2 * sum(levels) * channels + 4 * encoder.num_patches * half)
        work.gelu += FP32 * samples * 4 * encoder.num_patches * half
        work.added += FP32 * OVERLAPS * samples * self.objects * sum(levels) * anchors
        work.calls += 2 * CALLS


@dataclass(frozen=True, kw_only=True)
class CascadeLayers:
    """The box heads and the mask head."""

    encoder: ViTConfig
    detector: DetectorConfig
    classes: int

    recomputed_macs = 0

    def memory(self, samples: int, types: Types) -> list[Layer]:
        stages = [self._stage(number, samples, types) for number in range(len(self.detector.cascade))]
        return [*stages, *([self._masks(samples, types)] if self.detector.masks else [])]

    def _stage(self, number: int, samples: int, types: Types) -> Layer:
        detector, c = self.detector, types.compute
        regions = samples * detector.sampled_regions
        pooled = regions * detector.channels * POOLED_BOX**2
        scores = regions * (self.classes + 1)
        flat = pooled * c if detector.convolutions else 0  # put in order for the linear layer
        return Layer(
            parameters=(f"cascade.stages.{number}.",),
            saved=pooled * c
            + detector.convolutions * self._convolution(pooled, c)
            + flat
            + regions * detector.hidden * activation(c)
            + scores * FP32 * (1 if detector.scores == "softmax" else 3),
            forward=2 * pooled * FP32 + scores * FP32,
            backward=3 * pooled * FP32 + 2 * self._maps(samples),
        )

    def _masks(self, samples: int, types: Types) -> Layer:
        detector, c = self.detector, types.compute
        regions = samples * detector.sampled_regions // POSITIVE_REGIONS
        pooled = regions * detector.channels * POOLED_MASK**2
        enlarged = regions * detector.channels * MASK_SIDE**2
        logits = regions * self.classes * MASK_SIDE**2
        return Layer(
            parameters=("mask_head.",),
            saved=pooled * c
            + detector.convolutions * self._convolution(pooled, c)
            + enlarged * c
            + regions * MASK_SIDE**2 * 3 * FP32,
            forward=max(2 * pooled * FP32, logits * (FP32 + (c if c < FP32 else 0))),
            backward=max(2 * logits * FP32, logits * FP32 + enlarged * c, 2 * enlarged * c, 2 * self._maps(samples)),
        )

    def _convolution(self, numbers: int, c: int) -> int:
        """Bytes that a convolution with norm and ReLU keeps beside its input."""
        return numbers * ((FP32 if c < FP32 else c) + activation(c))

    def _maps(self, samples: int) -> int:
        """Bytes of the gradients of all levels."""
        return samples * Places.of(self.encoder).pooled * self.detector.channels * FP32

    def add_work(self, work: Work, samples: int, *, c: int, again: bool) -> None:
        detector, channels = self.detector, self.detector.channels
        regions = samples * detector.sampled_regions
        for _ in detector.cascade:
            self._add_convolutions(work, regions * POOLED_BOX**2, c=c)
            work.linear(regions, channels * POOLED_BOX**2, detector.hidden, c=c)
            work.linear(regions, detector.hidden, self.classes + 5, c=c)
            work.added += FP32 * samples * 2 * Places.of(self.encoder).pooled * channels
        if not detector.masks:
            return
        positive = regions // POSITIVE_REGIONS
        self._add_convolutions(work, positive * POOLED_MASK**2, c=c)
        work.linear(positive * POOLED_MASK**2, channels, 4 * channels, c=c)
        work.linear(positive * MASK_SIDE**2, channels, self.classes, c=c)
        work.added += FP32 * samples * 2 * Places.of(self.encoder).pooled * channels

    def _add_convolutions(self, work: Work, places: int, *, c: int) -> None:
        channels = self.detector.channels
        for _ in range(self.detector.convolutions):
            work.linear(places, 9 * channels, channels, c=c)
            work.normalised += FP32 * places * channels
            work.added += FP32 * places * channels
        work.added += 4 * FP32 * places * channels  # pooling, and putting in order
        work.calls += CALLS


DetectionPart = WindowedLayers | PyramidLayers | CascadeLayers


def detection_layers(
    encoder: ViTConfig, detector: DetectorConfig, *, classes: int, objects: int, drop_path: bool
) -> Sequence[DetectionPart]:
    """All parts in the order of the forward pass."""
    return (
        WindowedLayers(encoder=encoder, detector=detector, drop_path=drop_path),
        PyramidLayers(encoder=encoder, detector=detector, objects=objects),
        CascadeLayers(encoder=encoder, detector=detector, classes=classes),
    )
