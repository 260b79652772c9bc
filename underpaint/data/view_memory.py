"""Evaluation views kept in memory, for processes that show the same images to many networks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from underpaint.data.view_batches import Views

BYTES = 512 * 2**20


class ViewMemory:
    """The batches of views of the images that were asked for first, at most so many bytes of them.

    Nothing is forgotten to make room: who asks for more than fits does so in turns, and would find nothing.
    """

    def __init__(self, size: int = BYTES) -> None:
        self._free = size
        self._kept: dict[Hashable, list[Views]] = {}

    def batches(self, key: Hashable, read: Iterator[Views]) -> Iterator[Views]:
        """The batches of ``read``, or those that were read under the same key before.

        The key must stand for the images, their view, and the size of the batches. Batches are not to be changed.
        """
        if key in self._kept:
            yield from self._kept[key]
            return
        kept, taken = list[Views](), 0
        for batch in read:
            taken += batch[0].nbytes
            if taken <= self._free:
                kept.append(batch)
            else:
                kept.clear()
            yield batch
        if taken <= self._free:
            self._kept[key] = kept
            self._free -= taken
