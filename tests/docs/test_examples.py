"""The example that makes tagged images out of icon themes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "examples" / "icon_themes.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def icon(theme: Path, path: str, side: int) -> None:
    (theme / path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side)).save(theme / path)


@pytest.fixture
def theme(tmp_path: Path) -> Path:
    """Folders ordered either way, an icon too small, one in no class, and a link."""
    theme = tmp_path / "themes" / "gnome"
    for side in (16, 48, 256):
        icon(theme, f"{side}x{side}/apps/AdobeReader9-beta_x.png", side)
    icon(theme, "mimetypes/64/audio,x.png", 64)
    icon(theme, "places/16/tiny.png", 16)
    icon(theme, "extras/64/none.png", 64)
    (theme / "mimetypes/64/link.png").symlink_to("audio,x.png")
    return theme


def test_each_icon_once_at_its_largest_size(theme: Path, tmp_path: Path) -> None:
    done = run(theme, "--out", tmp_path / "icons")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "icons" / "tags.csv").open(encoding="utf-8", newline="") as file:
        tags = {row["path"]: row["tags"] for row in csv.DictReader(file)}
    with (tmp_path / "icons" / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = {row["path"]: row["class"] for row in csv.DictReader(file)}
    reader, audio = "gnome/programs/AdobeReader9-beta_x.png", "gnome/files/audio,x.png"
    assert tags == {reader: "adobe beta reader", audio: "audio"}
    assert labels == {reader: "programs", audio: "files"}
    with Image.open(tmp_path / "icons" / "images" / reader) as picture:
        assert picture.size == (256, 256)


def test_nothing_is_overwritten_and_nothing_lost(theme: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "gnome").mkdir(parents=True)
    for arguments, said in (
        ((theme, tmp_path / "other" / "gnome", "--out", tmp_path / "icons"), "two themes are called 'gnome'"),
        (("/", "--out", tmp_path / "icons"), "is not a theme"),
        ((theme, "--out", theme / "new"), "lies in the theme"),
        ((theme, "--out", tmp_path), "exists"),
        ((tmp_path / "nothing", "--out", tmp_path / "icons"), "no such folder"),
        ((tmp_path / "other" / "gnome", "--out", tmp_path / "icons"), "no icons"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert said in done.stderr
    assert not (tmp_path / "icons").exists()
