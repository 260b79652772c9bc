"""Completion in the shell: what bash offers for the beginning of a command, and scripts for the other shells."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from underpaint.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from underpaint.cli.main import main
try:
    main(["--completion", "bash"])
finally:
    assert not {"torch", "numpy"} & set(sys.modules)
"""
ASK = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
$(complete -p underpaint | sed 's/.*-F \\([^ ]*\\).*/\\1/') underpaint "${COMP_WORDS[COMP_CWORD]}" ""
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash; making it imports nothing heavy."""
    pytest.importorskip("shtab")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    file = tmp_path_factory.mktemp("completion") / "underpaint.bash"
    file.write_text(done.stdout)
    return file


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is asked")
@pytest.mark.parametrize(
    ("begun", "offered"),
    [
        ("underpaint pre", {"predict", "prepare"}),
        ("underpaint train mae_l", {"mae_laptop"}),
        ("underpaint train mae_laptop --d", {"--data", "--dry-run"}),
        ("underpaint eval lin", {"linear", "linear_sgd"}),
        ("underpaint study sta", {"stages"}),
        ("underpaint list --fields knn", {"knn"}),
        ("underpaint prepare ./photos --folders fi", {"first"}),
        ("underpaint embed ./ph", {"./photos"}),
    ],
)
def test_bash_offers_what_may_follow(begun: str, offered: set[str], script: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    line = ["bash", "-c", ASK, "bash", str(script), *shlex.split(begun)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == offered, done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is asked")
@pytest.mark.parametrize(("verb", "fitted"), [("train", {"mae", "wsp"}), ("plan", set[str]())])
def test_train_is_offered_the_fitted_recipes_too(verb: str, fitted: set[str], script: Path) -> None:
    line = ["bash", "-c", ASK, "bash", str(script), "underpaint", verb, ""]
    offered = set(subprocess.run(line, capture_output=True, text=True, timeout=60).stdout.split())
    assert "mae_laptop" in offered
    assert offered & {"mae", "wsp"} == fitted


@pytest.mark.parametrize(("shell", "mark"), [("zsh", "#compdef underpaint"), ("fish", "complete -c underpaint")])
def test_other_shells_have_their_script(shell: str, mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as ended:
        main(["--completion", shell])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    assert mark in script
    assert "mae_laptop" in script


def test_without_shtab_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as ended:
        main(["--completion", "bash"])
    assert ended.value.code == 2
    assert "--completion needs shtab: pip install 'underpaint[completion]'" in capsys.readouterr().err
