"""``python -m underpaint``: the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code (``underpaint.cli.main``)."""
    from underpaint.cli.main import main

    return main(arguments)


if __name__ == "__main__":
    from underpaint.cli.working_folder import leave_working_folder  # before anything else is imported

    leave_working_folder()
    sys.exit(main())
