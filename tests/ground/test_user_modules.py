"""Modules that the user names: found where one works, last of all, and by that name alone."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from underpaint.user_modules import find_named, import_function, named_modules


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty working folder, and Python's machinery as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    known = {id(finder) for finder in sys.meta_path if type(finder).__name__ == "_OneModule"}
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if id(finder) not in known])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_package_is_found_with_its_parts(tmp_path: Path) -> None:
    (tmp_path / "my_lab_1").mkdir()
    (tmp_path / "my_lab_1" / "parts.py").write_text("VALUE = 7\n")
    (tmp_path / "my_lab_1" / "recipes.py").write_text("from my_lab_1.parts import VALUE\ndef mine(): return VALUE\n")
    path = list(sys.path)
    assert import_function("my_lab_1.recipes:mine")() == 7
    assert sys.path == path
    assert named_modules() == (("my_lab_1", str(tmp_path)),)


def test_what_is_installed_comes_first(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("raise AssertionError('not this one')\n")
    sys.modules.pop("colorsys", None)
    assert import_function("colorsys:rgb_to_hsv")(0, 0, 0) == (0, 0, 0)


def test_other_names_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "mine_2.py").write_text("def make(): ...\n")
    (tmp_path / "optional_2.py").write_text("")
    (tmp_path / "mine_3.py").write_text("import optional_2\n")
    import_function("mine_2:make")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("optional_2")
    with pytest.raises(ValueError, match=r"No module named 'optional_2'\); optional_2 lies here, .* PYTHONPATH=\."):
        import_function("mine_3:make")


def test_another_process_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_4.py").write_text("VALUE = 4\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    find_named([("mine_4", str(tmp_path))])
    find_named([("mine_4", str(tmp_path))])
    assert len(named_modules()) == 1
    assert importlib.import_module("mine_4").VALUE == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_5:f", "No module named 'nowhere_5'"),
        ("os:nothing", "no attribute 'nothing'"),
        ("os:sep", "cannot be called"),
        ("os", "write module:function"),
    ],
)
def test_what_cannot_be_imported_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_function(name)
