"""Steps that are not taken: what counts as a loss spike, and which windows of the data were skipped.

All of it is state: a resumed run decides as the uninterrupted one did. A skipped step is counted as a step, so the
position in the data goes on and the window is not met again.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

WINDOW = 64
"""Steps whose losses a new one is compared with; half of them must be there first."""


@dataclass
class LossHistory:
    recent: list[float] = field(default_factory=list)  # losses of the last steps taken
    skipped: list[list[int]] = field(default_factory=list)  # windows [first, end) of positions, in order, merged

    def is_spike(self, loss: float, factor: float) -> bool:
        """Whether a finite loss is more than ``factor`` times the median of the recent ones."""
        return len(self.recent) >= WINDOW // 2 and loss > factor * statistics.median(self.recent)

    def take(self, loss: float) -> None:
        self.recent = [*self.recent[1 - WINDOW :], loss]

    def skipped_since(self, first: int) -> int:
        """Samples from the position ``first`` on that were skipped."""
        return sum(end - max(start, first) for start, end in self.skipped if end > first)

    def skip(self, first: int, end: int) -> None:
        if self.skipped and self.skipped[-1][1] == first:
            self.skipped[-1][1] = end
        else:
            self.skipped.append([first, end])
