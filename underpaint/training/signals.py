"""Ctrl-C, SIGTERM and SIGUSR1 ask a run to finish its step, save, and say how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from underpaint.messages import say

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Slurm can send SIGUSR1 some minutes before the time of a job is over."""


class Interrupted(Exception):
    """A run stopped by a signal, after its state was saved; it can be continued."""


@contextmanager
def catch_signals(*, repeated: bool = False) -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether a signal came; a second one has its usual, immediate effect.

    With ``repeated`` a second one only counts if it is Ctrl-C: torchrun passes a signal on to processes which the
    scheduler has sent it already.

    Only the main thread may set signal handlers; elsewhere the function is always False.
    """
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        if repeated and received.is_set() and number != signal.SIGINT:
            return
        received.set()
        say(f"{signal.Signals(number).name}: finishing this step and saving; again to stop at once")
        for each in (signal.SIGINT,) if repeated else SIGNALS:
            signal.signal(each, previous[each])

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield received.is_set
    finally:
        for number in SIGNALS:
            signal.signal(number, previous[number])
