"""Run one command: exit codes people and schedulers can rely on, and signals.

0 done, 2 the user's input, 3 the machine (disk, memory), 75 interrupted and resumable.
"""

from __future__ import annotations

import errno
import shlex
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from types import FrameType

from underpaint.cli.parser import VERBS, parse
from underpaint.cli.working_folder import leave_working_folder
from underpaint.training.signals import Interrupted

INPUT, MACHINE, RESUMABLE = 2, 3, 75
FAULTS_OF_NAMES = frozenset({errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EROFS})
"""Numbers of the system's errors that another path mends."""
FAULTS_OF_PATHS = {
    "Symlink loop from": "a link leads to itself; name another path",
    "Could not determine home directory": "a path begins with ~ and a name that no user here has; write it in full",
}
"""Reasons of the errors for which pathlib has no class, by the beginning of their text."""


def command() -> int:
    """Run ``main`` as a separate process, whose imports never find files of the working folder; the exit code."""
    leave_working_folder()
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, of ``sys.argv`` unless its ``arguments`` are given; the exit code.

    Raises:
        SystemExit: with 0 after ``--help`` and ``--version``, with 2 for words that no command takes.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(words)
    signal.signal(signal.SIGTERM, _as_interrupt)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8
    try:
        VERBS[options.verb].call(options)
    except Interrupted as stop:
        return _ended(f"{stop}; continue with\n  underpaint {shlex.join(words)}", RESUMABLE)
    except KeyboardInterrupt:
        return _ended(f"interrupted; continue with\n  underpaint {shlex.join(words)}", RESUMABLE)
    except (ValueError, BlockingIOError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        return _ended(f"underpaint: {error}", INPUT)
    except OSError as error:
        return _ended(f"underpaint: {error}", INPUT if error.errno in FAULTS_OF_NAMES else MACHINE)
    except MemoryError as error:
        return _ended(f"underpaint: {error}", MACHINE)
    except RuntimeError as error:
        if _is_out_of_gpu_memory(error):
            return _ended(f"underpaint: {error}", MACHINE)
        if fault := next((fault for said, fault in FAULTS_OF_PATHS.items() if str(error).startswith(said)), ""):
            return _ended(f"underpaint: {fault} ({error})", INPUT)
        if "can't allocate memory" not in str(error):  # torch has no class of its own for the memory of a processor
            raise
        said = str(error).splitlines()[0]
        return _ended(f"underpaint: the memory here is too small ({said}); underpaint plan says what fits", MACHINE)
    return 0


def _ended(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _is_out_of_gpu_memory(error: RuntimeError) -> bool:
    torch = sys.modules.get("torch")  # an error of torch's comes from a torch that is there already
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM outside the training loop, which finishes its step and saves first, ends like Ctrl-C."""
    raise KeyboardInterrupt
