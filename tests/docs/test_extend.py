"""docs/extend.md, followed to the letter from outside the package: its files saved, its commands run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

import underpaint as package
from support.small_runs import underpaint

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extend.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(PAGE.read_text()) if found == language]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's Python files and pictures for its museum."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "my_lab").mkdir()
    (folder / "my_lab" / "__init__.py").touch()
    for code in blocks("python"):
        name = re.match(r"# (my_lab/\w+\.py)\n", code)
        assert name is not None, code
        (folder / name[1]).write_text(code)
    (folder / "museum").mkdir()
    for number in range(160):
        about = {
            "inventory_number": f"A{number // 2}",
            "technique": ("etching", "woodcut")[number // 2 % 2],
            "keywords": [("Ship", "Tree", "Horse")[number % 3], "old"],
        }
        (folder / "museum" / f"{number}.json").write_text(json.dumps(about))
        if number:  # the first is described, but not there
            Image.new("RGB", (40, 30), (number, 255 - number, number % 3 * 100)).save(
                folder / "museum" / f"{number}.png"
            )
    return folder


@pytest.mark.slow
def test_the_page_works_as_written(lab: Path) -> None:
    commands = [line for code in blocks("sh") for line in code.splitlines()]
    assert len(commands) == 7, commands
    outputs = {}
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "underpaint"
        done = underpaint(*arguments, cwd=lab)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        outputs[command] = done.stdout
    assert "digits class_means test: top1" in outputs[commands[-1]]
    assert (lab / "runs" / "rotation" / "encoder" / "model.safetensors").is_file()
    problems = (lab / "runs" / "museum" / "run.json").read_text()
    assert '"source": "my_lab.collections:museum"' in problems
    labels = json.loads((lab / "runs" / "museum" / "model" / "labels.json").read_text())["labels"]
    assert sorted(labels) == ["horse", "old", "ship", "tree"]


@pytest.mark.slow
def test_an_own_objective_is_loaded_by_its_config(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(lab)
    from my_lab.rotation import RotationConfig  # pyright: ignore[reportMissingImports]

    with pytest.raises(ValueError, match="RotationConfig"):
        package.load_model(lab / "runs" / "rotation")
    model = package.load_model(lab / "runs" / "rotation", config_type=RotationConfig)
    assert model.head.out_features == 4  # pyright: ignore[reportAttributeAccessIssue]
