"""The page of detections: right, wrong and missed boxes by a plain loop, and the page in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.detection_examples import make_objects
from support.html_page import Page
from support.report_example import make_run
from underpaint.data.detection.dataset import AnnotatedImages, open_annotated
from underpaint.evals.detection.average_precision import Detection
from underpaint.evals.detection.evaluation import write_answers
from underpaint.evals.detection.pictures import best_threshold, compare
from underpaint.report import write_report

HOSTILE = "<script>document.title='hacked'</script>"


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


@pytest.fixture(scope="module", name="annotations")
def make_annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images; the name of a class would be a script."""
    path = make_objects(tmp_path_factory.mktemp("objects"), 30)
    tree = json.loads(path.read_text())
    tree["categories"][0]["name"] = HOSTILE
    path.write_text(json.dumps(tree))
    return path


@pytest.fixture(scope="module")
def detections(annotations: Path) -> list[Detection]:
    """Shifted copies of most objects, some of another class, and boxes where nothing is."""
    rng = np.random.default_rng(1)
    answers: list[Detection] = []
    for each in json.loads(annotations.read_text())["annotations"]:
        for _ in range(int(rng.integers(0, 3))):
            x, y, w, h = (float(side) for side in each["bbox"])
            x, y = x + float(rng.normal(0, 2)), y + float(rng.normal(0, 2))
            category = each["category_id"] if rng.random() < 0.8 else 13 - each["category_id"]
            box = [max(x, 0.0), max(y, 0.0), w, h]
            score = float(rng.random())
            answers.append({"image_id": each["image_id"], "category_id": category, "bbox": box, "score": score})
    return answers


def naive(annotations: Path, detections: list[Detection]) -> tuple[set[int], dict[int, int]]:
    """Places of the right detections, and which detection found each object, by the surest detection first."""
    objects = json.loads(annotations.read_text())["annotations"]
    finder: dict[int, int] = {}
    for place in sorted(range(len(detections)), key=lambda place: -detections[place]["score"]):
        detection = detections[place]
        free = [
            (overlap(detection["bbox"], each["bbox"]), each["id"])
            for each in objects
            if (each["image_id"], each["category_id"]) == (detection["image_id"], detection["category_id"])
            and each["id"] not in finder
        ]
        best, number = max(free, default=(0.0, 0))
        if best >= 0.5:
            finder[number] = place
    return set(finder.values()), finder


def test_right_and_wrong_are_those_of_a_plain_loop(annotations: Path, detections: list[Detection]) -> None:
    outcome = compare(annotations, detections, lvis=False)
    right, finder = naive(annotations, detections)
    assert {place for place, hit in outcome.right.items() if hit} == right
    assert len(outcome.right) == len(detections)
    assert dict(outcome.finder) == finder
    objects = len(json.loads(annotations.read_text())["annotations"])
    assert outcome.objects == objects
    scores = {each["score"] for each in detections}

    def f1(threshold: float) -> float:
        shown = {place for place, each in enumerate(detections) if each["score"] >= threshold}
        return 2 * len(shown & right) / (len(shown) + objects)

    assert best_threshold(outcome, detections).threshold == max(scores, key=f1)


def test_without_detections_all_objects_are_missed(annotations: Path, tmp_path: Path) -> None:
    write_answers(tmp_path / "a.detections", _set(annotations), [])
    record = json.loads((tmp_path / "a.detections" / "pictures.json").read_text())
    assert len(record["images"]) == 24
    assert not any(each["detected"] for image in record["images"] for each in image["truth"])


def _set(annotations: Path) -> AnnotatedImages:
    return open_annotated(str(annotations), "", max_bad=0.0)


@pytest.fixture(scope="module")
def run(annotations: Path, detections: list[Detection], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("run") / "detector", stage="detect", samples=64, flops=1e9, speed=4)
    (folder / "evals").mkdir()
    write_answers(folder / "evals" / "a.detections", _set(annotations), detections)
    return folder


def test_the_page_shows_what_the_file_says(run: Path) -> None:
    report = write_report(run)
    assert 'href="detections.html"' in report.read_text()
    page = Page(run / "detections.html")
    record = json.loads((run / "evals" / "a.detections" / "pictures.json").read_text())
    assert sum(image["drawn"] for image in record["images"]) == 12
    classes = [attributes.get("class") for tag, attributes in page.tags if tag == "g"][2:]  # after the legend
    shown = [image[kind] for image in record["images"] for kind in ("truth", "detections")]
    good = [each.get("detected", each.get("right")) for boxes in shown for each in boxes]
    assert classes == ["right" if each else "wrong" for each in good]
    assert HOSTILE not in (run / "detections.html").read_text()
    assert HOSTILE in page.text
    write_report(run, images=False)
    assert "detections.html" not in report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 380])
def test_the_page_in_a_browser(run: Path, browser: Any, width: int) -> None:
    """Pictures are decoded, boxes lie on them, the page is as wide as the window, and nothing is asked for or run."""
    write_report(run)
    complaints: list[str] = []
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
    page.goto((run / "detections.html").as_uri())
    assert page.title().startswith("Detections of detector")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator(".detected image").count() == 24
    assert page.locator(".detected use").count() == 24
    outside = """all => all.filter(box => {
        const b = box.getBoundingClientRect(), s = box.ownerSVGElement.getBoundingClientRect()
        return b.left < s.left - 2 || b.top < s.top - 2 || b.right > s.right + 3 || b.bottom > s.bottom + 3
    }).length"""
    assert page.eval_on_selector_all(".detected figure:first-child rect", outside) == 0
    assert not complaints
