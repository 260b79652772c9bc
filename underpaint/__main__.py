"""``python -m underpaint``: the command line."""

from __future__ import annotations

import sys

from underpaint.cli.main import command, main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(command())
