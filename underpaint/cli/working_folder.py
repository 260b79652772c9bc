"""Keeps the working folder out of imports: it holds people's files, not code that they chose to run.

Libraries try what they can use (tifffile tries imagecodecs) and would take a file of that name. A module that the
user names is looked for there all the same, and it alone (``underpaint.user_modules``).
"""

from __future__ import annotations

import os  # and nothing that Python has not imported by itself: the working folder is still on the path here
import sys


def leave_working_folder() -> None:
    """Keep imports of this process and of the Python processes it starts out of the working folder, as ``python -P``.

    ``python -m underpaint`` has put it first in ``sys.path``; PYTHONPATH stays as the user set it. If the package
    itself runs from the working folder, as in a checkout that is not installed, everything stays as it is.
    """
    try:
        folder = os.path.realpath(os.curdir)
    except FileNotFoundError:  # it was deleted, and nothing lies there
        return
    if os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)) == folder:
        return
    if not sys.flags.safe_path and sys.path and os.path.realpath(sys.path[0]) == folder:
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"  # else `python -c`, which starts worker processes, puts it first again
