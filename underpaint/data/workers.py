"""The processes that read and decode beside the main one: how they start, and that they end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import BaseContext
from types import TracebackType


def process_context(module: str) -> BaseContext:
    """A server that has imported ``module`` once and forks workers from there: quick, and, unlike a fork of the main
    process, safe beside the threads of torch.
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
    """The thread that hands tensors over reports here. A main process that stops in the middle of a batch is no error
    of the worker's, and people who press Ctrl-C want no traceback; what goes wrong with a sample takes another way.
    """
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)


def _end_with_main_process() -> None:
    """Torch's own watchdog would not do: it waits for the server to die, which waits for its last worker."""
    main_process = multiprocessing.parent_process()
    assert main_process is not None
    main_process.join()
    os._exit(1)
