"""The endless stream of batches for a detector, read by worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from underpaint.core import ObjectBatch
from underpaint.data.decode.limits import BadImage
from underpaint.data.detection.samples import Sample, SampleMaker, collate, normalise
from underpaint.data.position_loader import PositionDataset, position_loader
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.source import Problem
from underpaint.data.stream import Batching, Stream


class ObjectStream(Stream):
    """Endless microbatches of views with their objects.

    The sample at a position depends on the table, the seed and the position only, with any number of workers. An image
    that cannot be used is a placeholder with weight 0, reported to ``quarantine``.

    Raises:
        ValueError: for a batch larger than the data.
    """

    def __init__(
        self, items: SourceSampleIndex, maker: SampleMaker, *, batching: Batching, quarantine: Quarantine
    ) -> None:
        if batching.batch_size > items.images:
            raise ValueError(
                f"batch_size={batching.batch_size} is more than the {items.images} images that '{items.name}' has "
                f"to train on; choose at most {items.images}"
            )
        super().__init__(batching, quarantine, parts=items.parts)
        self.samples = _Samples(items, maker)
        if batching.workers:
            maker.table.share_memory()
        quarantine.add(items.problems)

    def read(self, starts: Iterable[int]) -> Iterator[tuple[ObjectBatch, list[Problem]]]:
        for batch, problems in position_loader(self.samples, starts, self.batching, module=__name__):
            normalise(batch, self.samples.maker.image)
            yield batch, problems


class _Samples(PositionDataset):
    """The sample at each position of the stream; sent to the worker processes."""

    def __init__(self, items: SourceSampleIndex, maker: SampleMaker) -> None:
        self.items = items
        self.maker = maker

    def __getitem__(self, position: int) -> tuple[int, Sample | Problem]:
        item = self.items.at(position)
        try:
            return position, self.maker.make(self.items.row_at(position), self.items.read(item), position)
        except BadImage as error:
            return position, Problem(key=item.key, reason=str(error))

    def collate(self, samples: list[tuple[int, Sample | Problem]]) -> tuple[ObjectBatch, list[Problem]]:
        good = [sample if isinstance(sample, Sample) else None for _, sample in samples]
        problems = [sample for _, sample in samples if isinstance(sample, Problem)]
        return collate(good, [position for position, _ in samples], self.maker), problems
