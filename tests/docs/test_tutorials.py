"""The tutorials, run as they are written: blocks in their order, in a folder with small generated images.

A block that starts with ``# longer`` is only parsed, by tests/docs/test_docs.py: it takes minutes to days.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.detection_examples import make_objects
from support.small_runs import make_textures
from support.video_examples import make_videos

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = """
import json, sys
from underpaint.__main__ import main
for words in json.loads(sys.argv[1]):
    if code := main(words):
        sys.exit(f"{words}: {code}")
"""


def blocks(name: str) -> list[tuple[str, str]]:
    """Language and text of the blocks of a tutorial that are to be run."""
    text = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    return [(language, code) for language, code in BLOCK.findall(text) if not code.startswith("# longer")]


def run(name: str, folder: Path) -> str:
    """Run the blocks of a tutorial in ``folder``; what they print."""
    make_textures(folder / "photos")
    for table in ("tags.csv", "labels.csv"):
        shutil.copy(folder / "photos" / table, folder / table)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    printed = []
    for command in programs(blocks(name)):
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        printed.append(done.stdout + done.stderr)
    return "\n".join(printed)


def programs(shown: list[tuple[str, str]]) -> Iterator[list[str]]:
    """The arguments of ``python`` for what is shown: commands that follow each other share a process.

    A start takes as long as most of these commands; tests/cli/test_working_folder.py starts every verb by itself.
    """
    lines: list[list[str]] = []
    for language, code in shown:
        if language == "python":
            lines.append(["python", code])
        else:
            lines += [shlex.split(line, comments=True) for line in code.splitlines()]
    for program, group in itertools.groupby(lines, key=lambda line: line[0]):
        arguments = [line[1:] for line in group]
        if program == "underpaint":
            yield ["-P", "-c", COMMANDS, json.dumps(arguments)]
        else:
            options = {"python": ["-c"], "torchrun": ["-m", "torch.distributed.run"]}[program]
            yield from ([*options, *given] for given in arguments)


def test_every_tutorial_is_run_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    for page in TUTORIALS.glob("*.md"):
        assert f'run("{page.stem}"' in source
        assert len(blocks(page.stem)) >= 3


@pytest.mark.slow
def test_first_study(tmp_path: Path) -> None:
    printed = run("first_study", tmp_path)
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
    (line,) = [line for line in printed.splitlines() if line.startswith("mae_wsp - wsp ")]
    assert re.search(r"[+-]\d+\.\d points \([+-]\d+\.\d to [+-]\d+\.\d\)$", line)


@pytest.mark.slow
def test_your_boxes(tmp_path: Path) -> None:
    for name in ("train", "val"):
        make_objects(tmp_path / name).rename(tmp_path / f"{name}.json")
    printed = run("your_boxes", tmp_path)
    assert "val detection box: AP " in printed
    assert (tmp_path / "runs" / "first_boxes" / "detections.html").is_file()
    assert len(json.loads((tmp_path / "objects.json").read_text())["images"]) == 24


@pytest.mark.slow
def test_your_clips(tmp_path: Path) -> None:
    make_videos(tmp_path / "clips", count=8)
    for name in ("train.csv", "val.csv"):
        (tmp_path / "clips" / name).rename(tmp_path / name)
    printed = run("your_clips", tmp_path)
    assert "val finetune test: top1 " in printed
    assert "train video_attentive test: top1 " in printed
    assert (tmp_path / "runs" / "first_clips" / "videos.html").is_file()


@pytest.mark.slow
def test_your_images(tmp_path: Path) -> None:
    printed = run("your_images", tmp_path)
    labels = json.loads((tmp_path / "runs" / "mae_wsp" / "model" / "labels.json").read_text())["labels"]
    assert sorted(labels) == ["black", "blue", "green", "red", "tall", "wide"]
    assert "digits linear" in printed
    planned = re.findall(r"^(\S+) +[\d,]+ +\d\.\d\de\+\d+ .* MiB$", printed, re.MULTILINE)
    assert {"mae-seed0", "wsp-seed0", "mae_wsp-seed0"} <= set(planned)


@pytest.mark.slow
def test_many_gpus(tmp_path: Path) -> None:
    run("many_gpus", tmp_path)
    for name in ("ddp", "fsdp", "wsp"):
        record = json.loads((tmp_path / "runs" / name / "run.json").read_text())
        assert record["derived"]["ranks"] == 2
        assert (tmp_path / "runs" / name / "encoder" / "model.safetensors").is_file()


@pytest.mark.slow
def test_weights(tmp_path: Path) -> None:
    run("weights", tmp_path)
    card = (tmp_path / "exported" / "timm" / "README.md").read_text(encoding="utf-8")
    assert "apache-2.0" in card.lower()
