"""Worker processes that read and decode: their start, and their end with the main process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import BaseContext
from types import TracebackType


def process_context(module: str) -> BaseContext:
    """A context that forks workers from a server that has imported ``module``, or spawns them where there is no fork.

    It starts workers quickly and, unlike a fork of the main process, is safe beside the threads of torch.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def start_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group, but stopping is the main process's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _report_but_a_hung_up_main_process
    threading.Thread(target=_end_with_main_process, daemon=True).start()


def _report_but_a_hung_up_main_process(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print the traceback of an exception, but not where the main process has gone away.

    A main process that stops in the middle of a batch, as at Ctrl-C, is not an error of the worker. Errors of samples
    do not come here.
    """
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)


def _end_with_main_process() -> None:
    """End this process when the main process ends; torch's watchdog waits for the server, which waits for workers."""
    main_process = multiprocessing.parent_process()
    assert main_process is not None
    main_process.join()
    os._exit(1)
