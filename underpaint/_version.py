"""The version of the package, on the ground floor: every room may record it without importing the package's face."""

from __future__ import annotations

__version__ = "0.1.0"
