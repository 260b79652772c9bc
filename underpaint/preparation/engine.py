"""Engines that work on partitions: Daft in this process, or Daft on a Ray cluster, with the same program.

Daft carries the names of partitions and calls a function on each; the function reads and writes its own files, so that
only names and numbers pass through the engine. Tags are counted by Daft itself.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pyarrow as pa

EngineName = Literal["native", "ray"]
ENGINES: tuple[EngineName, ...] = ("native", "ray")

SILENT = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    "DAFT_DASHBOARD_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Environment variables that turn off telemetry and progress bars; set before these libraries are imported."""

LOCAL_WORKERS = 2
"""Number of workers of the Ray cluster that is started on this machine where RAY_ADDRESS names none."""

_stopping = threading.Event()
"""Set when work stops early: the threads of this process then begin no further items."""
_STOPPED = "stopped"
_at_work: set[int] = set()
"""Ids of the threads of this process that are working on items."""

_FAILURES: dict[str, type[Exception]] = {"ValueError": ValueError, "OSError": OSError}


@runtime_checkable
class _Items(Protocol):
    """A column of Daft."""

    def to_pylist(self) -> list[str]: ...


class Engine:
    """Maps a function over partitions, and counts."""

    def __init__(self, daft: Any, name: EngineName) -> None:
        self._daft = daft
        self._name = name

    def map(self, function: Callable[[str], dict[str, int]], items: Sequence[str]) -> Iterator[dict[str, int]]:
        """Yield the function's result for each item, in the order in which they finish.

        The function is called in other threads, on Ray in other processes, with as many items at once as there are
        cores; it must be picklable, and its result plain JSON data.

        Raises:
            ValueError, OSError: as the function raised it.
        """
        if not items:
            return
        daft = self._daft

        work = functools.update_wrapper(functools.partial(_all_told, function), _all_told)
        call = daft.func.batch(return_dtype=daft.DataType.string(), batch_size=1)(work)
        frame = daft.from_pydict({"item": list(items)})
        if self._name == "ray":
            frame = frame.into_partitions(len(items))
        rows = frame.select(call(frame["item"]).alias("told")).iter_rows(results_buffer_size=1)
        done, failure = 0, {}
        with _stopped_by_signals():
            for answer in (json.loads(row["told"]) for row in rows):
                if self._name == "ray" and _stopping.is_set():
                    raise KeyboardInterrupt  # the workers are other processes, and end with the cluster's job
                if "failure" not in answer and not failure:
                    done += 1
                    yield answer
                    continue
                _stopping.set()  # what is left answers at once: Daft is not left in the middle of its work
                failure = failure or answer
        if failure:
            _raise(failure)
        if done < len(items):  # Daft may take Ctrl-C for itself, and ends without a word while its threads work on
            _stopping.set()
            while _at_work:
                time.sleep(0.05)
            raise KeyboardInterrupt

    def count(self, files: Sequence[Path], column: str) -> pa.Table:
        """Counts of the strings in a column of lists, over Parquet files: columns ``tag`` and ``count``, by tag."""
        daft = self._daft
        frame = daft.read_parquet([str(file) for file in files]).select(daft.col(column)).explode(column)
        frame = frame.where(daft.col(column).not_null()).groupby(column).agg(daft.col(column).count().alias("count"))
        counted = frame.to_arrow().rename_columns(["tag", "count"])
        return counted.cast(pa.schema({"tag": pa.string(), "count": pa.int64()})).sort_by("tag").combine_chunks()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT set ``_stopping``: an exception from a handler would abort inside Daft's threads."""
    _stopping.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: _stopping.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _raise(answer: dict[str, str]) -> None:
    if answer["failure"] == _STOPPED:
        raise KeyboardInterrupt
    raise _FAILURES[answer["failure"]](answer["message"])


def _all_told(function: Callable[[str], dict[str, int]], given: _Items) -> list[str]:
    """The answers for a batch of items; a function of the module, since Daft pickles it."""
    thread = threading.get_ident()
    _at_work.add(thread)
    try:
        return [_told(function, item) for item in given.to_pylist()]
    finally:
        _at_work.discard(thread)


def _told(function: Callable[[str], dict[str, int]], item: str) -> str:
    """The function's result as JSON, or its exception, since engines wrap exceptions in their own."""
    if _stopping.is_set():
        return json.dumps({"failure": _STOPPED})
    try:
        return json.dumps(function(item))
    except ValueError as error:
        return json.dumps({"failure": "ValueError", "message": str(error)})
    except OSError as error:
        return json.dumps({"failure": "OSError", "message": str(error)})


@contextmanager
def open_engine(name: EngineName) -> Iterator[Engine]:
    """Daft on its own threads, or on Ray: the cluster of RAY_ADDRESS, else one of LOCAL_WORKERS workers here.

    Raises:
        ValueError: if the engine is unknown or not installed.
    """
    require_engine(name)
    os.environ.update(SILENT)
    try:
        import daft
    except ImportError as error:
        raise ValueError("prepare needs Daft: pip install '.[prepare]'") from error
    with _ray() if name == "ray" else nullcontext():
        _choose(name)
        yield Engine(daft, name)


def require_engine(name: EngineName) -> None:
    """Raise ValueError for an unknown engine, or for Ray where it or Daft is not installed."""
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}; known are {', '.join(ENGINES)}")
    if name == "ray" and not all(map(importlib.util.find_spec, ("daft", "ray"))):
        raise ValueError("--engine ray needs Daft and Ray: pip install '.[ray]'")


@functools.cache
def _choose(name: EngineName) -> None:
    """Choose Daft's engine; the first choice holds for the life of a process."""
    import daft

    if name == "ray":
        daft.set_runner_ray(noop_if_initialized=True)
    elif _choose.cache_info().currsize == 0:
        daft.set_runner_native()


@contextmanager
def _ray() -> Iterator[None]:
    import ray

    with tempfile.TemporaryDirectory(prefix="underpaint-ray-") as empty:
        with chdir(empty):  # Ray's workers import from the folder in which it starts, optional modules of libraries too
            if "RAY_ADDRESS" in os.environ:
                ray.init(log_to_driver=False)
            else:
                here = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
                ray.init(num_cpus=LOCAL_WORKERS, log_to_driver=False, **here)
        try:
            yield
        finally:
            ray.shutdown()
