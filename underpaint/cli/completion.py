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

    from underpaint.contents import contents, fitted_names

    shtab: Any = importlib.import_module("shtab")  # an extra that a type checker may not find
    names = {kind: [name for name, _ in entries] for kind, entries in contents().items()}
    for verb, action in _actions(parser):
        kinds = KINDS.get(str(action.metavar), ())
        if (verb, action.dest) == ("list", "fields"):
            kinds = ("recipes", "evaluations")
        if kinds:
            further = fitted_names() if (verb, action.dest) == ("train", "recipe") else []
            action.choices = [*further, *(name for kind in kinds for name in names[kind])]
        if action.metavar in (*FILES, *FOLDERS):
            action.complete = shtab.FILE if action.metavar in FILES else shtab.DIRECTORY
    return shtab.complete(parser, shell)


def _actions(parser: Any, verb: str = "") -> Iterator[tuple[str, Any]]:
    """The arguments of the command and of its verbs, each with its verb."""
    for action in parser._actions:
        yield verb, action
        if isinstance(action.choices, Mapping):
            for name, of_verb in action.choices.items():
                yield from _actions(of_verb, name)
