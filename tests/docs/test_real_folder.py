"""The example that makes a folder of real pictures: what it reads from packages, and the words that it plants."""

from __future__ import annotations

import importlib.util
import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source() -> ModuleType:
    return load("real_folder_pictures")


@pytest.fixture(scope="module")
def words() -> ModuleType:
    return load("real_folder_words")


def test_files_of_a_qt_resource(source: ModuleType) -> None:
    """Laid out by hand as Qt writes the format, version 1: root, folder, a plain file and a packed one."""
    names = b"".join(
        struct.pack(">HI", len(name), 0) + name.encode("utf-16-be") for name in ("birds", "owl.webp", "a.txt")
    )
    data = struct.pack(">I", 3) + b"owl" + struct.pack(">I", 2) + b"zz"
    nodes = [
        struct.pack(">IHII", 0, 2, 1, 1),
        struct.pack(">IHII", 0, 2, 2, 2),
        struct.pack(">IHHHI", 16, 0, 0, 0, 0),
        struct.pack(">IHHHI", 38, 1, 0, 0, 7),
    ]
    tree = b"".join(nodes)
    head = struct.pack(">4s4I", b"qres", 1, 20 + len(data) + len(names), 20, 20 + len(data))
    assert list(source.qt_resources(head + data + names + tree)) == [("birds/owl.webp", b"owl")]


def test_licence_of_the_last_pattern_that_fits(source: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "copyright"
    file.write_text(
        "Files: *\nLicense: GPL-3+\n\n"
        "Files: images/fish1.jpg\n images/tools/*\nCopyright: A\nLicense: CC-BY-2.0\n text\n"
    )
    licences = source._licences(file)
    paths = ("share/images/fish1.webp", "share/images/tools/saw.webp", "share/images/fish2.webp")
    assert [source._licence(licences, path) for path in paths] == ["CC-BY-2.0", "CC-BY-2.0", "GPL-3+"]


def test_names_of_a_stamp_in_four_languages(source: ModuleType) -> None:
    text = "A cathedral.\nde.utf8=Die Kathedrale.\nfr.utf8=Une cathédrale.\nes.utf8=Una iglesia muy grande."
    assert source._translations(text) == {"en": "cathedral", "de": "kathedrale", "fr": "cathédrale"}


def test_every_topic_has_words_and_every_misspelling_a_word(source: ModuleType, words: ModuleType) -> None:
    assert set(source.TOPICS.values()) <= set(words.WORDS)
    spelt = {word for forms in words.WORDS.values() for word in forms}
    assert set(words.MISSPELT) <= spelt
    assert not set(words.MISSPELT.values()) & spelt
    assert words.chain("cat") == ["animal", "mammal", "cat"]
