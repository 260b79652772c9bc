"""The package as it is installed: one version, everything in the wheel, and an import that costs nothing."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import underpaint

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numpy", "PIL"}
VERBS = [
    *("train", "evaluate", "run_study", "make_plan", "import_weights", "export_weights", "embed", "predict"),
    *("search_images", "write_search_page", "write_report", "load_encoder", "load_model", "look"),
]

IMPORT = "import sys, underpaint"
HELP = """
import runpy, sys
sys.argv = ["underpaint", "--help"]
try:
    runpy.run_module("underpaint", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def python(*arguments: str) -> str:
    """What a fresh interpreter prints; it must end well."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_starting_imports_nothing_heavy(code: str) -> None:
    loaded = python("-c", f"{code}\nprint('\\nMODULES', *sys.modules)").rpartition("MODULES")[2].split()
    assert "underpaint" in loaded
    assert not HEAVY.intersection(loaded)


def test_help_names_the_commands() -> None:
    text = python("-m", "underpaint", "--help")
    for command in ("train", "eval", "study", "plan", "import", "export", "embed", "predict", "search", "report"):
        assert command in text


def test_one_version() -> None:
    assert importlib.metadata.version("underpaint") == underpaint.__version__
    assert python("-m", "underpaint", "--version").split()[-1] == underpaint.__version__
    assert f"\nversion: {underpaint.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_no_submodule_shadows_a_verb() -> None:
    for module in pkgutil.walk_packages(underpaint.__path__, "underpaint."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for verb in VERBS:
        assert callable(getattr(underpaint, verb)), verb


@pytest.mark.parametrize("verb", [*VERBS, "prepare"])
def test_what_a_verb_returns_has_fields(verb: str) -> None:
    returned = str(inspect.signature(getattr(underpaint, verb)).return_annotation)
    assert not re.search(r"Any|\bdict\b|empty", returned), returned


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    python(
        *["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "-w"],
        str(tmp_path),
        ".",
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("underpaint/")}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    files = {path.relative_to(ROOT) for path in (ROOT / "underpaint").rglob("*") if path.is_file()}
    assert packed == {path.as_posix() for path in files if "__pycache__" not in path.parts}
    assert any(name.startswith("underpaint/report/") and not name.endswith(".py") for name in packed), "no template"
    assert licences


def test_networks_are_recognised_by_what_every_python_sees() -> None:
    """From Python 3.12 on, a check at run time does not see submodules, which lie in a dictionary of nn.Module: the
    protocols of networks ask for methods, properties and plain attributes alone.
    """
    from inspect import getattr_static

    from underpaint.core import Classifier, DataInfo, Objective, Visualizable
    from underpaint.evals.accuracy import FinishedClassifier
    from underpaint.evals.features import Encoder
    from underpaint.evals.tagger import Tagger
    from underpaint.models.vit import ViTConfig
    from underpaint.objectives.classify import ClassifyConfig
    from underpaint.objectives.mae import MAEConfig

    small = ViTConfig(size=(16, 16), patch=8, width=16, depth=1, heads=2)
    mae = MAEConfig(encoder=small).build(DataInfo(seed=0))
    classifier = ClassifyConfig(encoder=small).build(DataInfo(seed=0, labels=("a", "b")))
    networks = {Objective: mae, Visualizable: mae, Encoder: mae.encoder}
    networks |= dict.fromkeys((Classifier, FinishedClassifier, Tagger), classifier)
    for protocol, network in networks.items():
        assert isinstance(network, protocol), protocol
        members = {name for name in {*vars(protocol), *protocol.__annotations__} if not name.startswith("_")}
        assert members
        for name in members:
            getattr_static(network, name)
