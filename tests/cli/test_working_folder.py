"""Files in the working folder are not run, whatever they are called, unless the command names them.

The folder is full of canaries: modules with the names of all optional imports of all libraries, gathered by watching
which imports fail while every verb runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from support.prepare_examples import prepared
from support.search_examples import save_lit
from support.small_runs import make_images, wsp_run
from underpaint.cli.main import main
from underpaint.cli.parser import VERBS
from underpaint.run import execute

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = [str(Path(sys.executable).with_name("underpaint"))]
MODULE = [sys.executable, "-m", "underpaint"]

WATCH = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if path is None:
            with open(os.environ["WATCHED"], "a") as file:
                file.write(name + chr(10))

sys.meta_path.append(Watch())
"""
ALL = """
import json, sys
from underpaint.cli.main import main
for words in json.loads(sys.argv[1]):
    assert main(words) == 0, words
"""
TOGETHER = """
import json, os, runpy, sys
sys.path.remove("")
for words in json.loads(sys.argv[1]):
    sys.path.insert(0, os.getcwd())
    sys.argv = ["underpaint", *words]
    try:
        runpy.run_module("underpaint", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        assert not stop.code, words
"""
"""``python -m underpaint`` for one command after another: each begins with the working folder first on the path."""
CANARY = (
    "import os\nopen(os.environ['SUNG'], 'a').write(__name__ + chr(10))\nraise ModuleNotFoundError(name=__name__)\n"
)
OWN = """
import support.small_runs
from my_lab import museum
from underpaint.data.open_source import open_source

def recipe():
    return support.small_runs.recipe()

class Files:
    "The files of a source, of a class of one's own, which worker processes get."
    def __init__(self, files):
        self.files = files
    def read(self, path):
        return self.files.read(path)
    def stamp(self, path):
        return self.files.stamp(path)

def pictures():
    import dataclasses
    source = open_source(museum.ROOT)
    return dataclasses.replace(source, files=Files(source.files))
"""

COMMANDS = {
    "look": "look {photos}",
    "prepare": "prepare {photos} --out {out}",
    "prepare on Ray": "prepare {photos} --out {out} --engine ray",
    "tags": "tags doctor {set}",
    "train": "train mae_smoke data.source={photos} budget.samples=128 budget.warmup=0 --out {out}",
    "train with workers": "train mae_smoke data.source={photos} budget.samples=128 budget.warmup=0 data.workers=2 "
    "--out {out}",
    "eval": "eval linear {run} dataset=digits",
    "study": "study stages --size smoke --images {photos} --plan --out {out}",
    "plan": "plan mae_vit_b16 --device h100",
    "import": "import {exported} --out {out}",
    "export": "export {run}/encoder --to timm --out {out}",
    "export to Hugging Face": "export {run}/encoder --to hf --out {out}",
    "embed": "embed {run} {photos} --out {out}.parquet",
    "predict": "predict {run} {photos}",
    "search": "search {lit} {photos} red",
    "report": "report {run}",
    "list": "list",
    "list --source": "list --source mae_vit_b16",
    "--help": "train --help",
}
QUICK = ("prepare", "list")
ALONE = ("list", "prepare", "prepare on Ray", "train with workers")
"""Commands that have a process of their own, with both launchers: those that start others, and two that do not."""
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the commands read, none of it in the working folder."""
    folder = tmp_path_factory.mktemp("places")
    photos = make_images(folder / "photos", 90)
    rng = np.random.default_rng(0)
    for index in range(3):
        tifffile.imwrite(photos / f"{index}.tif", rng.integers(0, 256, size=(20, 24, 3), dtype=np.uint8))
    execute(wsp_run(photos, steps=2), folder / "run")
    return {
        "photos": photos,
        "run": folder / "run",
        "lit": save_lit(folder / "lit"),
        "exported": folder / "exported",
        "set": prepared(folder / "set", photos),
    }


def words_of(name: str, places: dict[str, Path], out: Path) -> list[str]:
    return [word.format(**places, out=out) for word in COMMANDS[name].split()]


def environment(*path: Path, **values: str | Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    paths = os.pathsep.join(map(str, (*path, ROOT)))
    return {**kept, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **{n: str(v) for n, v in values.items()}}


def watched(names: Sequence[str], places: dict[str, Path], folder: Path) -> set[str]:
    """The names of modules that were looked for in vain while these commands ran."""
    (folder / "site").mkdir(parents=True)
    (folder / "site" / "sitecustomize.py").write_text(WATCH)
    lines = [words_of(name, places, folder / f"out{number}") for number, name in enumerate(names)]
    done = subprocess.run(
        [sys.executable, "-P", "-c", ALL, json.dumps(lines)],
        env=environment(folder / "site", WATCHED=folder / "watched"),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return set((folder / "watched").read_text().split()) - {"usercustomize"}


def canaries(names: set[str], folder: Path) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text(CANARY)
    return folder


def sung(command: Sequence[str], folder: Path, log: Path, *path: Path) -> set[str]:
    """The canaries that were run by a command in their folder; the command must end well."""
    env = environment(*path, SUNG=log)
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return set(log.read_text().split()) if log.exists() else set()


@pytest.fixture(scope="module")
def few(places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    names = watched(QUICK, places, folder)
    assert "imagecodecs" in names, "tifffile tries it"
    return canaries(names, folder / "canaries")


@pytest.fixture(scope="module")
def all_of_them(places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all")
    assert main(["export", str(places["run"] / "encoder"), "--to", "timm", "--out", str(places["exported"])]) == 0
    names = watched([name for name in COMMANDS if name not in ("--help", "prepare on Ray")], places, folder / "here")
    names |= watched(["prepare on Ray"], places, folder / "ray")  # Daft has one engine for the life of a process
    assert len(names) > 100
    return canaries(names, folder / "canaries")


def test_every_verb_is_tried() -> None:
    assert {line.split()[0] for line in COMMANDS.values()} == set(VERBS)


@pytest.mark.slow
def test_canaries_sing_where_python_finds_them(places: dict[str, Path], few: Path, tmp_path: Path) -> None:
    """Else the tests below could not fail. PYTHONPATH is the user's: what it names is imported."""
    command = [*INSTALLED, *words_of("prepare", places, tmp_path / "out")]
    assert (few / "imagecodecs.py").is_file()
    lone = canaries({"imagecodecs"}, tmp_path / "lone")
    assert sung(command, few, tmp_path / "sung", lone) == {"imagecodecs"}


@slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", [INSTALLED, MODULE], ids=["installed", "-m"])
@pytest.mark.parametrize("name", ALONE)
def test_no_verb_runs_anything_of_the_working_folder(
    name: str, launcher: list[str], places: dict[str, Path], all_of_them: Path, tmp_path: Path
) -> None:
    assert sung([*launcher, *words_of(name, places, tmp_path / "out")], all_of_them, tmp_path / "sung") == set()


@slow
@pytest.mark.timeout(600)
def test_no_other_verb_does(places: dict[str, Path], all_of_them: Path, tmp_path: Path) -> None:
    """In one process, whose start takes longer than most of them; ``-m``, where Python puts the folder on the path."""
    lines = [words_of(name, places, tmp_path / name.replace(" ", "_")) for name in COMMANDS if name not in ALONE]
    command = [sys.executable, "-c", TOGETHER, json.dumps(lines)]
    assert sung(command, all_of_them, tmp_path / "sung") == set()
    assert (tmp_path / "train" / "result.json").is_file()


@slow
@pytest.mark.parametrize("launcher", [INSTALLED, MODULE], ids=["installed", "-m"])
def test_a_module_that_the_command_names_is_run_and_no_other(
    launcher: list[str], places: dict[str, Path], few: Path, tmp_path: Path
) -> None:
    """A package in the working folder, its own parts, and its classes in worker processes."""
    here = tmp_path / "here"
    here.mkdir()
    for canary in few.iterdir():
        (here / canary.name).write_text(canary.read_text())
    (here / "my_lab").mkdir()
    (here / "my_lab" / "__init__.py").touch()
    (here / "my_lab" / "museum.py").write_text(f"ROOT = {str(places['photos'])!r}\n")
    (here / "my_lab" / "own.py").write_text(OWN)
    line = "train mae_smoke data.source=my_lab.own:pictures data.workers=1 budget.samples=128 budget.warmup=0 --out"
    assert sung([*launcher, *line.split(), str(tmp_path / "out")], here, tmp_path / "sung", ROOT / "tests") == set()
    assert (tmp_path / "out" / "result.json").is_file()


@pytest.mark.parametrize("launcher", [INSTALLED, MODULE], ids=["installed", "-m"])
def test_a_folder_that_was_deleted_is_no_traceback(launcher: list[str], tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = f"import os, sys; os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd()); os.execv({launcher[0]!r}, "
    script += f"{[*launcher, 'list']!r})"
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("recipes:")


def test_a_module_beside_the_named_one_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import beside\n")
    (tmp_path / "beside.py").write_text("")
    command = [*MODULE, "list", "--source", "mine:recipe"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "'mine:recipe' cannot be imported (No module named 'beside'); beside lies here" in line
    assert "put both into one package, or set PYTHONPATH=." in line
