"""The page of videos: which are shown, what is said of each, and the page in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.html_page import Page
from support.report_example import make_run
from support.video_examples import ENCODER, make_videos
from underpaint.evals.filmstrips import write_filmstrips
from underpaint.evals.predictions import Predictions
from underpaint.models.video import ClipConfig
from underpaint.report import write_report

HOSTILE = "<script>document.title='hacked'</script>"
LABELS = ("left", HOSTILE)
FORM = ClipConfig(frames=8, sampling="uniform").input_of(ENCODER.image_input)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Predictions]:
    """Twenty videos, every third taken for the other class, the surer the later; the last cannot be read."""
    folder = make_videos(tmp_path_factory.mktemp("videos"), count=20)
    paths = (*(f"train_{index}.mp4" for index in range(20)), "gone.mp4")
    label = tuple(LABELS[index % 2] for index in range(21))
    answers = [LABELS[(index + (index % 3 == 0)) % 2] for index in range(20)]
    return folder, Predictions(
        dataset="moving",
        view="1x1 clips@16",
        image=paths,
        family=paths,
        label=label,
        accepted=tuple((name,) for name in label),
        predicted=(*answers, None),
        restricted=(*answers, None),
        probability=tuple(index / 20 for index in range(21)),
    )


@pytest.fixture(scope="module")
def run(predictions: tuple[Path, Predictions], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("run") / "clips", stage="finetune", samples=64, flops=1e9, speed=4)
    (folder / "evals").mkdir()
    root, answers = predictions
    write_filmstrips(folder / "evals" / "a.videos", root=root, predictions=answers, form=FORM)
    return folder


def test_strips_are_drawn_and_the_surest_mistakes(run: Path, predictions: tuple[Path, Predictions]) -> None:
    record = json.loads((run / "evals" / "a.videos" / "filmstrips.json").read_text())
    strips = record["strips"]
    assert [strip["drawn"] for strip in strips[:8]] == [True] * 8
    shown = {strip["path"] for strip in strips[:8]}
    wrong = [index for index in range(0, 20, 3) if f"train_{index}.mp4" not in shown]
    assert [strip["path"] for strip in strips[8:]] == [f"train_{index}.mp4" for index in sorted(wrong, reverse=True)]
    assert (record["right"], record["unread"], record["videos"]) == (13, 1, 21)
    # of the even ones 0, 6, 12 and 18, of the odd ones 3, 9 and 15
    assert record["mistakes"] == [
        {"label": "left", "predicted": HOSTILE, "videos": 4},
        {"label": HOSTILE, "predicted": "left", "videos": 3},
    ]
    assert len(list((run / "evals" / "a.videos").glob("*.jpg"))) == 6 * len(strips)


def test_the_page_says_what_the_file_says(run: Path) -> None:
    report = write_report(run)
    assert 'href="videos.html"' in report.read_text()
    page = Page(run / "videos.html")
    record = json.loads((run / "evals" / "a.videos" / "filmstrips.json").read_text())
    kinds = [attributes.get("class") for tag, attributes in page.tags if tag == "figure"]
    right = [strip["label"] == strip["predicted"] for strip in record["strips"]]
    assert kinds == [f"film {'right' if each else 'wrong'}" for each in right]
    assert sum(tag == "img" for tag, _ in page.tags) == 6 * len(right)
    assert "13 of 21 videos (61.9%) are classified rightly; 1 could not be read" in " ".join(page.text.split())
    assert HOSTILE not in (run / "videos.html").read_text()
    assert HOSTILE in page.text
    write_report(run, images=False)
    assert "videos.html" not in report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "columns"), [(1200, 6), (380, 3)])
def test_the_page_in_a_browser(run: Path, browser: Any, width: int, columns: int) -> None:
    """Frames are decoded and lie in rows, the page is as wide as the window, and nothing is asked for or run."""
    write_report(run)
    complaints: list[str] = []
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
    page.goto((run / "videos.html").as_uri())
    assert page.title().startswith("Videos of clips")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    images = page.locator(".film:first-child img")
    assert page.eval_on_selector_all(".film img", "all => all.every(img => img.naturalWidth > 0)")
    tops = [images.nth(place).bounding_box()["y"] for place in range(6)]
    assert tops.count(tops[0]) == columns
    assert not complaints
