"""Functions of the user's own, named ``module:function`` on the command line or in Python.

Such a module may lie in the working folder. The folder is never put on ``sys.path``, where it would answer for every
optional import of every library; the one name that the user gave is looked for there, after everything installed.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _OneModule:
    """Finds one module or package in one folder; a package finds its own parts."""

    def __init__(self, name: str, folder: str) -> None:
        self.name, self.folder = name, folder

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, [self.folder]) if fullname == self.name else None


def named_modules() -> tuple[tuple[str, str], ...]:
    """Name and folder of every module that ``import_function`` looks for outside of what is installed."""
    return tuple((finder.name, finder.folder) for finder in sys.meta_path if isinstance(finder, _OneModule))


def find_named(modules: Sequence[tuple[str, str]]) -> None:
    """Look for these modules as the process does whose ``named_modules`` they are: for the workers it starts."""
    for name, folder in modules:
        if (name, folder) not in named_modules():
            sys.meta_path.append(_OneModule(name, folder))


def import_function(name: str) -> Callable[..., Any]:
    """``module:function``, imported because the user named it on the command line or in Python.

    Raises:
        ValueError: if there is no such module, or nothing to call of that name in it.
    """
    module, _, function = name.partition(":")
    find_named([(module.partition(".")[0], os.getcwd())])
    try:
        value = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{name!r} cannot be imported ({error}){_hint(error)}; write module:function, importable from here"
        ) from error
    if not callable(value):
        raise ValueError(f"{name!r} is {value!r}, which cannot be called; write module:function")
    return value


def _hint(error: Exception) -> str:
    """Advice for a module of the working folder that imports another one beside it; "" for any other error."""
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not missing or PathFinder.find_spec(missing, [os.getcwd()]) is None:
        return ""
    return (
        f"; {missing} lies here, where only the module that you name is looked for: put both into one package, or set "
        f"PYTHONPATH=."
    )
