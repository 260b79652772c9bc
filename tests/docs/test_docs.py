"""The commands that the pages and the help show: each parses, and each override is a field that takes the value."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from underpaint import config, recipes, verbs
from underpaint.cli.parser import VERBS, parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = {name: verb.examples for name, verb in VERBS.items()}
COMMAND = re.compile(r"^ *(underpaint [^\n`]+)$", re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    texts = {page.name: "\n".join(re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S)) for page in PAGES}
    for where, text in {**texts, **EXAMPLES}.items():
        for command in COMMAND.findall(text):
            yield where, command


COMMANDS = sorted(set(commands()))


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 20
    assert {where for where, _ in COMMANDS} >= {"README.md", "extend.md", "train", "study"}


@pytest.mark.parametrize(("where", "command"), COMMANDS, ids=[f"{where}: {command}" for where, command in COMMANDS])
def test_a_shown_command_is_one(where: str, command: str) -> None:
    options = parser().parse_args(shlex.split(command, comments=True)[1:])
    own = ":" in getattr(options, "recipe", "") or ":" in getattr(options, "evaluation", "")
    if own:  # built by test_extend
        return
    if options.verb == "train":
        assert config.override(recipes.find_recipe(options.recipe)(), options.overrides)
    elif options.verb == "eval":
        assert config.override(verbs.EVALUATIONS[options.evaluation](dataset="digits"), options.overrides)
    elif options.verb == "study":
        assert verbs.study_name(options.study) in verbs.STUDIES
    elif options.verb == "list" and options.source:
        assert recipes.find_recipe(options.source)
