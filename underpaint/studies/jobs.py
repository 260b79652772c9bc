"""The parts of a study, one after the other or several at a time.

Each part is locked while somebody works on it, so several commands, on several machines that share the folder, can do
one study together.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from underpaint import files
from underpaint.messages import duration, say
from underpaint.progress import Progress
from underpaint.studies.parts import (
    ComputePart,
    Part,
    Study,
    TrainPart,
    claim,
    is_done,
    named_parts,
    needs_of,
    require_sound_runs,
    run_part,
)
from underpaint.studies.time_left import TimeLeft
from underpaint.training.devices import choose_device, usable_cpus
from underpaint.training.signals import Interrupted, catch_signals

LOCKS, LOGS = ".locks", "logs"
RETRY_AFTER = 5.0
"""Seconds until a part that another command works on is looked at again."""
SHORT = 1e12
"""FLOPs, some 15 seconds on one core: less is done before further processes have started."""
READ_FLOPS = 3e8
"""FLOPs that are done in the time in which a photograph of some hundred pixels is read, about 5 ms."""
JOB_MEMORY = 2 * 2**30
"""Bytes of memory assumed for a part."""
LOOK_EVERY = 1.0
"""Seconds between two looks at signals while parts are running."""


def run_parts(
    study: Study, folder: Path, *, only: Sequence[str] = (), jobs: int = 1, build: Callable[[], Study] | None = None
) -> bool:
    """Run what is not done yet; with ``only``, the parts that it names alone, such as ``*-seed0*``.

    ``jobs`` parts at a time are run, in processes that ``build`` the study anew. True when every part is done.

    Raises:
        ValueError: for a name or pattern that no part has, encoders that do not fit the parts that start from them, or
            a folder of another study or other settings.
    """
    require_sound_runs(study)
    study.require_ready(folder)
    agenda = Agenda(study, named_parts(study, only))
    claim(study, folder)
    if jobs > 1 and build is not None:
        run_side_by_side(agenda, folder, build, jobs=jobs)
    else:
        run_one_by_one(agenda, folder)
    return all(is_done(part, folder) for part in study.parts)


def usual_jobs(study: Study) -> int:
    """As many jobs as there are cores for the threads of a run, and memory; one for a short study or an accelerator."""
    trained = [part for part in study.parts if isinstance(part, TrainPart)]
    works = [part.work for part in study.parts if isinstance(part, ComputePart) and part.work is not None]
    flops = sum(part.run.budget.samples * part.run.objective.flops_per_sample(part.data_info) for part in trained)
    flops += sum(work.flops + work.images * READ_FLOPS for work in works)
    runs = [*(part.run for part in trained), *(work.like[0] for work in works)]
    if flops < SHORT or any(choose_device(run.device).type != "cpu" for run in runs):
        return 1
    cores = usable_cpus() // max(run.threads for run in runs)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # free memory is small where files are cached
    return max(1, min(cores, memory // JOB_MEMORY))


class ProcessEnded(OSError):
    """A process that worked on a part was ended from outside."""


class Agenda:
    """The parts that are left, in the order of the study, and which of them may begin."""

    def __init__(self, study: Study, chosen: set[str]) -> None:
        self.numbers = {part.name: number for number, part in enumerate(study.parts, 1)}
        self._left = {part.name: part for part in study.parts if part.name in chosen}
        self._begun: dict[str, Part] = {}
        self._again_at: dict[str, float] = {}

    @property
    def begun(self) -> tuple[str, ...]:
        return tuple(self._begun)

    @property
    def left(self) -> tuple[Part, ...]:
        """The parts that have not begun."""
        return tuple(self._left.values())

    def __len__(self) -> int:
        return len(self._left) + len(self._begun)

    def begin(self) -> Part | None:
        """Take the first part whose inputs are there; None where all that are left must wait."""
        missing = self._left.keys() | self._begun.keys()
        for name, part in self._left.items():
            if self._again_at.get(name, 0) <= time.monotonic() and not missing.intersection(needs_of(part)):
                self._begun[name] = self._left.pop(name)
                return part
        return None

    def end(self, name: str) -> None:
        """A begun part is done."""
        del self._begun[name]

    def put_back(self, name: str) -> None:
        """Another command works on a part that was begun: look at it again later."""
        if name not in self._again_at:
            say(f"{name}: another command is working on it")
        self._again_at[name] = time.monotonic() + RETRY_AFTER
        left = {**self._left, name: self._begun.pop(name)}
        self._left = {name: left[name] for name in sorted(left, key=self.numbers.__getitem__)}


def run_one_by_one(agenda: Agenda, folder: Path) -> None:
    """Run the parts in this process.

    Raises:
        Interrupted: after a signal during a run, when its state has been saved.
    """
    while len(agenda):
        part = agenda.begin()
        if part is None:
            time.sleep(LOOK_EVERY)
            continue
        say(f"[{agenda.numbers[part.name]}/{len(agenda.numbers)}] {part.name}")
        try:
            with _part_lock(folder, part.name):
                run_part(part, folder)
        except BlockingIOError:
            agenda.put_back(part.name)
        else:
            agenda.end(part.name)


def run_side_by_side(agenda: Agenda, folder: Path, build: Callable[[], Study], *, jobs: int) -> None:
    """Run the parts in ``jobs`` processes, each of which builds the study anew; the bits are those of one process.

    The output of a part stands in ``DIR/logs/PART.txt``. After a signal or a failure no further part begins, and the
    runs that are under way save their state.

    Raises:
        Interrupted: after a signal.
        ProcessEnded: if the system ended a process, as it does where memory runs out.
        BaseException: the first error of a part.
    """
    (folder / LOGS).mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")
    going_on, keep_going = context.Pipe(duplex=False)
    total, failure = len(agenda), None
    left = TimeLeft(agenda.left, folder)
    running: dict[Future[float], str] = {}
    with (
        catch_signals() as stopped,
        Progress("study", total=total, unit="parts", seconds_left=left.seconds) as shown,
        ProcessPoolExecutor(min(jobs, total), context, initializer=_start, initargs=(going_on,)) as pool,
    ):
        try:
            while running or (len(agenda) and not keep_going.closed):
                while not keep_going.closed and len(running) < jobs and (part := agenda.begin()) is not None:
                    running[_submit(pool, part.name, build, folder)] = part.name
                for future in wait(running, timeout=LOOK_EVERY, return_when=FIRST_COMPLETED).done:
                    error = _take(future, running.pop(future), agenda, folder)
                    failure = failure or error
                if isinstance(failure, ProcessEnded):
                    break  # the pool has asked the other processes to end
                if failure is not None or stopped():
                    keep_going.close()
                shown.update(total - len(agenda), note=", ".join(agenda.begun))
        finally:  # also after a second Ctrl-C: the pool waits for all that runs
            if not isinstance(failure, ProcessEnded):
                keep_going.close()
    if failure is not None:
        raise failure
    if len(agenda):
        raise Interrupted(f"stopped; {len(agenda)} parts are left")


def _submit(pool: ProcessPoolExecutor, name: str, build: Callable[[], Study], folder: Path) -> Future[float]:
    """Have a part run; a pool that broke since the last look fails the part like one that breaks in its midst."""
    try:
        return pool.submit(_run, name, build, folder)
    except BrokenProcessPool as error:
        failed = Future[float]()
        failed.set_exception(error)
        return failed


def _take(future: Future[float], name: str, agenda: Agenda, folder: Path) -> BaseException | None:
    """Note how a part ended; the error, if it is one."""
    error = future.exception()
    if error is None:
        agenda.end(name)
        say(f"[{agenda.numbers[name]}/{len(agenda.numbers)}] {name}: {duration(future.result())}")
    elif isinstance(error, BlockingIOError):
        agenda.put_back(name)
        return None
    elif isinstance(error, BrokenProcessPool):
        return ProcessEnded(
            f"the system ended a process that worked on {' or '.join(agenda.begun)}, as it does where memory runs out; "
            "the same command continues, with a smaller --jobs in less memory"
        )
    elif not isinstance(error, (Interrupted, KeyboardInterrupt)):
        say(f"{name} failed; what it printed is in {folder / LOGS / name}.txt")
    return error


@contextmanager
def _part_lock(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes from working on a part; raises BlockingIOError if one of them does."""
    (folder / LOCKS).mkdir(exist_ok=True)
    with files.locked(folder / LOCKS / name, wait=False):
        yield


@dataclass
class _Worker:
    """State of a process that works on parts."""

    parts: Mapping[str, Part] = field(default_factory=dict)
    is_busy: bool = False
    is_ending: bool = False


_WORKER = _Worker()


def _start(going_on: Connection) -> None:
    """Make this process ready to run parts."""
    os.setsid()  # Ctrl-C reaches the main process alone, which asks everybody once
    signal.signal(signal.SIGTERM, _interrupt_part)
    watched = (going_on, _main_process(), threading.get_ident())
    threading.Thread(target=_stop_after, args=watched, daemon=True).start()


def _run(name: str, build: Callable[[], Study], folder: Path) -> float:
    """Run a part; the seconds that it took. The first one in a process builds the study."""
    _WORKER.is_busy = True
    try:
        if _WORKER.is_ending:  # asked before it took this part, which is in the pool's queue already
            raise KeyboardInterrupt
        if not _WORKER.parts:
            _print_to(Path(os.devnull))  # the main process has said all this
            _WORKER.parts = {part.name: part for part in build().parts}
        _print_to(folder / LOGS / f"{name}.txt")
        started = time.perf_counter()
        with _part_lock(folder, name):
            run_part(_WORKER.parts[name], folder)
    finally:
        _WORKER.is_busy = False
        if not _main_process().is_alive():  # nobody is left to hear of it
            os._exit(1)
    return time.perf_counter() - started


def _main_process() -> BaseProcess:
    main_process = multiprocessing.parent_process()
    assert main_process is not None
    return main_process


def _stop_after(going_on: Connection, main_process: BaseProcess, main_thread: int) -> None:
    """Ask the run of this process, once, to save its state and end when the main process closes its end of the pipe,
    or has ended; without a run, end with the main process.

    An event would make the main process wait for ever for a process that was killed while it waited for the event.
    """
    going_on.poll(None)
    _WORKER.is_ending = True
    signal.pthread_kill(main_thread, signal.SIGTERM)  # the system may give a signal to the process to another thread
    main_process.join()
    if not _WORKER.is_busy:
        os._exit(1)


def _interrupt_part(number: int, frame: FrameType | None) -> None:
    """SIGTERM outside the training loop, which saves first; a process that waits for a part goes on waiting."""
    if _WORKER.is_busy:
        raise KeyboardInterrupt


def _print_to(file: Path) -> None:
    with file.open("a", encoding="utf-8") as opened:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(opened.fileno(), stream.fileno())
