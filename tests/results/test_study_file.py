"""``results.json``: files of today and of format 1, and what is damaged in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.ablations_example import make_ablations
from support.html_page import Page
from support.report_example import make_study
from underpaint.report import write_report
from underpaint.results.format_1 import ARMS, EQUAL, translated
from underpaint.results.study_file import read_results, write_results
from underpaint.studies import ablations_results, designs, stages_results

OLD = Path(__file__).parent / "format-1"
"""Cut from a finished smoke study of the first format, and from the example of ``pays`` of that time."""


def copy_of(name: str, folder: Path) -> Path:
    (folder / "results.json").write_bytes((OLD / name / "results.json").read_bytes())
    return folder


@pytest.mark.parametrize("make", [make_study, make_ablations])
def test_what_is_written_is_read_again(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    results = read_results(make(tmp_path / "study"))
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results


def test_a_study_of_format_1_is_rendered_with_its_numbers(tmp_path: Path) -> None:
    old = json.loads((OLD / "stages" / "results.json").read_text())
    assert old["format"] == 1
    assert "page" not in old
    page = Page(write_report(copy_of("stages", tmp_path)))
    values = set(page.values)
    for line in old["summary"]:
        assert {repr(line[key]) for key in ("mean", "low", "high")} <= values
    assert {repr(mean["mean"]) for mean in old["arms"]} <= values
    assert "At equal WSP steps pre-pretraining made no difference" in page.text
    assert "the same WSP, from the weights of MAE" in page.text
    assert "without the noise of the test images" not in page.text, "one seed: the images are all there is"
    assert "gains on" in page.text, "what WSP forgets"


def test_pays_of_format_1_is_rendered_along_its_axes(tmp_path: Path) -> None:
    assert json.loads((OLD / "ablations" / "results.json").read_text())["study"] == "pays"
    page = Page(write_report(copy_of("ablations", tmp_path)))
    assert {"table-mae_share", "table-tagged"} <= page.tables.keys()
    text = re.sub(r"\s+", " ", page.text)
    assert "At equal compute, pre-pretraining was better at" in text
    assert "2 seeds: intervals by paired t over seeds, without the noise of the test images" in text
    assert "Fewer than 3 seeds" in text
    assert read_results(tmp_path)["study"] == "ablations"


def test_the_old_names_mean_what_the_studies_say_today() -> None:
    """Old and new studies can be read side by side; one that changes its meaning takes a new name."""
    small = designs.design_of("small")
    entries = {entry["arm"]: entry for entry in designs.arm_entries(small.arms)}
    assert entries.keys() == ARMS.keys()
    names = {"rows": [{"arm": name} for name in entries]}
    assert {entry["arm"]: entry for entry in translated(names)["arms"]} == entries
    contrasts = {*stages_results.CONTRASTS, *ablations_results.CONTRASTS}
    assert {contrast.name: contrast.equal for contrast in contrasts if contrast.equal != "nothing"} == EQUAL


def changed(results: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    place: Any = results
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    place[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 3, r"results\.json has format 3; this version of underpaint reads format 1 to 2"),
        ("format", True, "has format True"),
        ("rows", {}, r"results\.json: rows is \{\}, expected a list"),
        ("rows.3.value", "high", r"results\.json: rows\[3\]\.value is 'high', expected a number"),
        ("rows.3.seed", 0.5, r"rows\[3\]\.seed is 0\.5, expected a whole number"),
        ("rows.3.n_test", True, r"rows\[3\]\.n_test is True, expected a whole number"),
        ("rows.3.arm", "stranger", "the arm 'stranger' has scores or stages and no entry in 'arms'"),
        ("summary.0.contrast", "a - b", "the contrast 'a - b' has no entry in 'contrasts'"),
        ("summary.0.low", "none", r"summary\[0\]\.low is 'none', expected a number or null"),
        ("summary.0.noise", ["luck"], r"summary\[0\]\.noise\[0\] is 'luck', expected 'seeds' or 'test images'"),
        ("arms.1.role", "hero", r"arms\[1\]\.role is 'hero', expected 'untrained' or 'mae'"),
        ("page", "book", r"page is 'book', expected 'arms' or 'axes'"),
        ("data.collections.openmoji.splits.test", None, r"data\.collections\.openmoji\.splits\.test is None"),
        ("environment", None, "environment is None, expected an object"),
    ],
)
def test_a_damaged_file_is_refused_by_field(tmp_path: Path, path: str, value: object, message: str) -> None:
    results = json.loads((make_study(tmp_path) / "results.json").read_text())
    changed(results, path, value)
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=message):
        read_results(tmp_path)


@pytest.mark.parametrize("name", ["study", "rows", "stages", "summary", "data", "environment"])
def test_a_file_of_format_1_without_a_field_is_refused(tmp_path: Path, name: str) -> None:
    results = json.loads((OLD / "stages" / "results.json").read_text())
    del results[name]
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=f"it has no '{name}'"):
        read_results(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"format": 1}', '{"format": 1, "rows": [[]]}', '{"rows": '])
def test_what_is_no_study_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json"):
        read_results(tmp_path)


def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    results = read_results(make_study(tmp_path / "study"))
    results["rows"][2]["value"] = float("nan")
    with pytest.raises(ValueError, match=r"rows\[2\]\.value is nan"):
        write_results(tmp_path, results)
    assert not (tmp_path / "results.json").exists()
