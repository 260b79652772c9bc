"""Verbs that need no torch do without it: what they import, how long they take, and that their words are the code's."""

from __future__ import annotations

import inspect
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.report_example import make_study
from underpaint import recipes, verbs
from underpaint.contents import contents, published_name
from underpaint.data.collections.catalog import COLLECTIONS

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numpy", "pyarrow", "PIL", "torchvision", "scipy"}
LIST_SECONDS = 0.5
COLOUR = "\x1b["


def command(*words: str | Path, **values: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **values}
    line = [sys.executable, *map(str, words)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["list"], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["study", "--help"], 0),
        (["report", "{study}"], 0),
        (["report", "{study}/mae-seed0"], 0),
        (["report", "{study}/nothing"], 2),
        (["trian"], 2),
        (["train", "mae_laptop", "--ot", "x"], 2),
        (["eval"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_light_verb_imports_nothing_heavy(words: list[str], code: int, tmp_path: Path) -> None:
    make_study(tmp_path / "study")
    words = [word.format(study=tmp_path / "study") for word in words]
    done = command("-X", "importtime", "-m", "underpaint", *words)
    assert done.returncode == code, done.stderr
    imported = {name.strip().split(".")[0] for name in re.findall(r"^import time:.*\|(.*)$", done.stderr, re.MULTILINE)}
    assert {"underpaint", "argparse"} <= imported
    assert not HEAVY & imported


def test_list_is_quick() -> None:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        assert command("-m", "underpaint", "list").returncode == 0
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < LIST_SECONDS


def first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def test_what_is_listed_is_what_there_is() -> None:
    """The list is read from the source; these are the objects themselves."""
    assert contents() == {
        "recipes": [
            (published_name(name), first_line(recipes.find_recipe(published_name(name)))) for name in recipes.__all__
        ],
        "studies": [(name, first_line(study)) for name, study in {**verbs.STUDIES, **verbs.TABLES}.items()],
        "evaluations": [(name, first_line(evaluation)) for name, evaluation in verbs.EVALUATIONS.items()],
        "collections": [(collection.name, collection.description) for collection in COLLECTIONS],
    }
    for name, description in (entry for entries in contents().values() for entry in entries):
        assert description, name
    for name, description in contents()["recipes"]:
        assert description.endswith("."), f"{name}: the first line is no whole sentence"


def on_a_terminal(*words: str) -> str:
    """What a command prints where standard output is a terminal."""
    reader, writer = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "80"}
    line = [sys.executable, "-m", "underpaint", *words]
    process = subprocess.Popen(line, stdout=writer, stderr=subprocess.PIPE, env=environment, cwd=ROOT)
    os.close(writer)
    text = b""
    try:
        while block := os.read(reader, 65536):
            text += block
    except OSError:  # so Linux ends a terminal
        pass
    os.close(reader)
    process.communicate(timeout=60)
    return text.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("words", [["--help"], ["prepare", "--help"], ["study", "--help"]], ids=" ".join)
def test_help_has_colours_on_a_terminal_and_no_codes_in_a_pipe(words: list[str]) -> None:
    piped = command("-m", "underpaint", *words, COLUMNS="80").stdout
    shown = on_a_terminal(*words)
    assert COLOUR in shown
    assert COLOUR not in piped
    assert re.sub(r"\x1b\[[\d;]*m", "", shown) == piped
    head, _, _ = piped.partition("examples:")
    assert max(map(len, head.splitlines())) <= 80
    assert COLOUR not in command("-m", "underpaint", *words, TERM="xterm-256color", NO_COLOR="1").stdout


def test_help_takes_no_text_for_markup() -> None:
    """Square brackets would be styles to rich, and vanish."""
    assert "{} for the label" in command("-m", "underpaint", "predict", "--help").stdout
    shown = command("-m", "underpaint", "study", "--help").stdout
    assert "[--seeds N [N ...]]" in shown
