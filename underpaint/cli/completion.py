"""``underpaint --completion SHELL``: completion of verbs, options, names and paths, made by shtab from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHELLS = ("bash", "zsh", "fish")
KINDS = {"RECIPE": ("recipes",), "STUDY": ("studies",), "EVALUATION": ("evaluations",)}
"""Names of ``underpaint list`` that an argument takes, by its metavar."""
FILES = ("FILE", "FILE_OR_DIR", "IMAGES", "SOURCE")
FOLDERS = ("DIR", "FOLDER", "MODEL", "RUN")


class PrintCompletion(argparse.Action):
    """Prints a script for a shell and ends the program."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        try:
            print(_script(parser, str(values)))
        except ImportError:
            parser.error("--completion needs shtab: pip install 'underpaint[completion]'")
        parser.exit()


def _script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script, for a parser that is used for nothing else afterwards."""
    import importlib

    from underpaint.contents import contents

    shtab: Any = importlib.import_module("shtab")  # an extra that a type checker may not find
    names = {kind: [name for name, _ in entries] for kind, entries in contents().items()}
    kinds = {**KINDS, "NAME": ("recipes", "evaluations")}  # of `list --fields`; that of `plan --device` has other names
    for action in _actions(parser):
        if action.metavar in kinds and action.dest != "device":
            action.choices = [name for kind in kinds[str(action.metavar)] for name in names[kind]]
        if action.metavar in (*FILES, *FOLDERS):
            action.complete = shtab.FILE if action.metavar in FILES else shtab.DIRECTORY
    return shtab.complete(parser, shell)


def _actions(parser: Any) -> Iterator[Any]:
    """The arguments of the command and of its verbs."""
    for action in parser._actions:
        yield action
        if isinstance(action.choices, Mapping):
            for of_verb in action.choices.values():
                yield from _actions(of_verb)
