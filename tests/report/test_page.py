"""The pages, read back with a parser that knows nothing of the templates."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from support.ablations_example import make_ablations
from support.html_page import Page
from support.report_example import ARMS, bare_data, make_run, make_study, write_json
from underpaint.report import write_report
from underpaint.report.arms import title_of

SHOWN_SPLITS = ("test", "mean")


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def expected_scores(folder: Path) -> dict[str, list[float]]:
    """Mean over seeds per arm, the tasks of one dataset after those of another, straight from results.json."""
    found: dict[tuple[str, str, str, int], list[float]] = {}
    for row in results_of(folder)["rows"]:
        if row["split"] in SHOWN_SPLITS:
            found.setdefault((row["arm"], row["dataset"], row["protocol"], row["shots"]), []).append(row["value"])
    means: dict[str, list[float]] = {}
    for (arm, *_), values in found.items():
        means.setdefault(arm, []).append(fmean(values))
    return means


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("one") / "study")


@pytest.fixture
def own_study(study: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(study, tmp_path / "study"))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2, 3, 4)])
def test_scores_equal_results_json(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    folder = make_study(tmp_path / "study", seeds=seeds)
    rows = Page(write_report(folder)).tables["results-table"]
    expected = expected_scores(folder)
    shown = {row[0][2].strip(): row[1:] for row in rows if len(row) > 1 and row[0][0] == "th" and row[1][0] == "td"}
    label = {entry["arm"]: title_of(entry) for entry in results_of(folder)["arms"]}
    assert list(shown) == [*(label[arm] for arm in ARMS), "guessing"]
    shown = {arm: shown[label[arm]] for arm in ARMS} | {"guessing": shown["guessing"]}
    means = {one["arm"]: one["mean"] for one in json.loads((folder / "results.json").read_text())["arm_means"]}
    for arm, scores in expected.items():
        assert [float(str(attrs["data-value"])) for _, attrs, _ in shown[arm]] == [means[arm], *scores]
        for (_, _, text), score in zip(shown[arm][1:], scores, strict=True):
            assert text.split()[0] == f"{100 * score:.1f}"
            assert ("±" in text) == (len(seeds) > 1)
    for column in range(8):
        best = max(expected.values(), key=lambda scores: scores[column])[column]
        for arm, scores in expected.items():
            marked = "best" in str(shown[arm][column + 1][1]["class"]).split()
            assert marked == (round(scores[column], 3) == round(best, 3))
    assert [float(str(attrs["data-value"])) for _, attrs, _ in shown["guessing"][1:]] == [0.1] * 8


def test_differences_equal_results_json(study: Path) -> None:
    page = Page(write_report(study))
    header, *rows = page.tables["contrasts-table"]
    summary = results_of(study)["summary"]
    assert len(rows) * (len(header) - 1) == len(summary)
    contrasts = list(dict.fromkeys(line["contrast"] for line in summary))
    shown = {
        (contrast, row[0][2]): float(str(cell[1]["data-value"]))
        for row in rows
        for contrast, cell in zip(contrasts, row[1:], strict=True)
    }
    named = [line["task"].replace("knn", "kNN").replace("finetune", "finetuned") for line in summary]
    assert shown == {(line["contrast"], name): line["mean"] for name, line in zip(named, summary, strict=True)}
    for line in summary:
        assert {repr(line["low"]), repr(line["high"])} <= set(page.values)


def test_the_page_says_what_the_encoders_were_shown(own_study: Path) -> None:
    """By the rows alone; older files do not record it."""
    frozen = "linear, low-shot, kNN: square images whole, of others the centre, "
    assert frozen in (text := write_report(own_study).read_text())
    assert "; finetuned: the whole image, stretched to the encoder&#39;s size." in text
    results = results_of(own_study)
    for row in results["rows"]:
        row.pop("view")
    write_json(own_study / "results.json", results)
    assert "Shown to the encoder" not in write_report(own_study).read_text()


def test_costs_equal_results_json(study: Path) -> None:
    values = {float(value) for value in Page(write_report(study)).values}
    stages = results_of(study)["stages"]
    for stage in stages:
        assert {float(stage[key]) for key in ("samples", "train_flops", "wall_seconds", "images_per_second")} <= values
    for arm in ARMS[1:]:
        assert sum(stage["train_flops"] for stage in stages if stage["arm"] == arm) in values
    compute = {s["arm"]: sum(t["train_flops"] for t in stages if t["arm"] == s["arm"]) for s in stages}
    assert compute["mae_wsp"] / compute["wsp"] in values


@pytest.mark.parametrize("make", [make_study, make_ablations])
def test_arms_are_called_by_their_labels(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """Names such as ``mae_wsp`` stand in the names of folders alone."""
    page = Page(write_report(make(tmp_path / "study")))
    names = re.findall(r"(?<![-\w/])(?:mae_wsp|wsp_equal_compute|mae_wsp - wsp)(?![-\w])", page.text)
    assert not names
    assert "MAE then WSP − WSP alone" in page.text
    tips = {text for text in page.text.splitlines() if text.strip().startswith("WSP at equal compute")}
    assert tips


def test_strangers_text_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    folder = make_study(tmp_path / "study", arms=(*ARMS, evil), extra_tags=(evil, '"><img src=x onerror=alert(2)>'))
    results = results_of(folder)
    results["data"]["collections"][evil] = {
        **results["data"]["collections"]["digits"],
        "licence": evil,
        "attribution": "javascript:alert(3)",
    }
    results["data"]["not_measured"].append(evil)
    results["contrasts"].append({**results["contrasts"][0], "contrast": f"{evil} - wsp", "first": evil})
    results["summary"].append({**results["summary"][0], "contrast": f"{evil} - wsp", "task": evil, "method": evil})
    write_json(folder / "results.json", results)
    page = Page(write_report(folder))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert page.text.count(evil) >= 5  # as an arm, a tag, a collection, a task and among what was not measured


def test_page_is_offline_and_without_script(study: Path) -> None:
    for folder in (study, study / "mae-seed0"):
        path = write_report(folder)
        page = Page(path)
        assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
        for tag, attrs in page.tags:
            assert str(attrs.get("src", "data:image/png;base64,")).startswith("data:image/png;base64,"), tag
            assert str(attrs.get("href", "#")).startswith("#"), attrs
        style = path.read_text().partition("<style>")[2].partition("</style>")[0]
        assert "url(" not in style
        assert "@import" not in style
        assert "gradient" not in style


def test_same_files_same_bytes(study: Path) -> None:
    first = write_report(study).read_bytes()
    assert write_report(study).read_bytes() == first
    assert not list(study.glob("*.part"))


def test_without_images(study: Path) -> None:
    page = Page(write_report(study, images=False))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "written without images" in page.text
    assert "results-table" in page.tables


def test_everything_optional_may_be_missing(own_study: Path) -> None:
    shutil.rmtree(own_study / "pictures")
    for run in own_study.glob("*-seed0"):
        shutil.rmtree(run)
    results = results_of(own_study)
    results["data"], results["summary"] = bare_data(), []
    write_json(own_study / "results.json", results)
    page = Page(write_report(own_study))
    assert "logs are not in this folder" in page.text
    assert "cannot say what pre-pretraining buys" in page.text
    assert "results-table" in page.tables
    assert "contrasts-table" not in page.tables


def test_a_missing_picture_leaves_a_gap(own_study: Path) -> None:
    next((own_study / "pictures").glob("*.png")).unlink()
    assert "picture missing" in Page(write_report(own_study)).text


def test_pictures_outside_the_folder_are_refused(own_study: Path) -> None:
    path = own_study / "pictures" / "pictures.json"
    pictures = json.loads(path.read_text())
    pictures["tagged"][0]["image"] = "../secret.png"
    write_json(path, pictures)
    with pytest.raises(ValueError, match=r"secret\.png"):
        write_report(own_study)


def test_one_arm_alone(tmp_path: Path) -> None:
    page = Page(write_report(make_study(tmp_path / "study", arms=("mae",))))
    assert "cannot say what pre-pretraining buys" in page.text
    assert "relative to" not in page.text


def test_images_without_tags(tmp_path: Path) -> None:
    page = Page(write_report(make_study(tmp_path / "study", arms=("random", "mae"))))
    assert "No arm learned from tags" in page.text


def test_rows_of_one_arm_and_no_stages(own_study: Path) -> None:
    results = results_of(own_study)
    results["rows"] = [row for row in results["rows"] if row["arm"] == "random"]
    results["stages"], results["summary"] = [], []
    write_json(own_study / "results.json", results)
    assert "No stage was trained" in Page(write_report(own_study)).text


def test_page_warns_where_training_does_not_beat_the_floor(own_study: Path) -> None:
    assert "untrained encoder (random)" not in Page(write_report(own_study)).text
    results = results_of(own_study)
    for row in results["rows"]:
        if row["arm"] == "random" and row["dataset"] == "digits" and row["protocol"] in ("linear", "knn"):
            row["value"] = 0.99
    write_json(own_study / "results.json", results)
    assert "On 2 of 8 tasks no trained arm beats" in Page(write_report(own_study)).text


def test_an_image_with_many_tags_shows_some(own_study: Path) -> None:
    path = own_study / "pictures" / "pictures.json"
    pictures = json.loads(path.read_text())
    pictures["tagged"][0]["tags"] = [f"tag-{number}." for number in range(40)]
    write_json(path, pictures)
    text = Page(write_report(own_study)).text
    assert "tag-11." in text
    assert "tag-12." not in text
    assert "and 28 more" in text


def test_run_page(study: Path) -> None:
    folder = study / "mae-seed0"
    page = Page(write_report(folder))
    result = json.loads((folder / "result.json").read_text())
    values = {float(value) for value in page.values}
    for key in ("samples", "train_flops", "wall_seconds", "images_per_second", "bad_records"):
        assert float(result[key]) in values
    assert set(result["metrics"].values()) <= values
    assert "truncated file" in page.text
    assert json.loads((folder / "run.json").read_text())["identity_hash"] in page.text
    assert "underpaint train mae_laptop optim.base_lr=1e-3" in page.text
    assert "61.3%" in page.text


def test_run_page_shows_its_evaluations_and_what_they_remark(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", stage="mae", samples=1000, flops=1e6, speed=10.0)
    page = Page(write_report(folder))
    assert "evaluations-table" not in page.tables
    row = {"dataset": "photos", "shots": 0, "split": "test", "language": "", "metric": "top1", "n_test": 190}
    linear = {**row, "protocol": "linear", "value": 0.4213, "remarks": ["10 of 200 test images could not be read"]}
    shots = [{**row, "protocol": "lowshot", "shots": 5, "split": split, "value": 0.3} for split in ("0", "1", "mean")]
    shots[-1]["remarks"] = ["2 of 9 classes have fewer than 5 training images", "split 1: stopped at a gradient"]
    for name, rows in (("linear-photos-1", [linear]), ("lowshot-photos-2", shots)):
        write_json(folder / "evals" / f"{name}.json", {"format": 1, "evaluation": {}, "seed": 0, "rows": rows})
    table = [[text for _, _, text in line] for line in Page(write_report(folder)).tables["evaluations-table"]]
    assert table[1] == [
        *("photos", "linear", "test", "top1", "42.1% of 190"),
        "10 of 200 test images could not be read",
    ]
    assert table[2][:5] == ["photos", "5-shot", "mean", "top1", "30.0% of 190"]
    assert table[2][5] == "2 of 9 classes have fewer than 5 training images; split 1: stopped at a gradient"
    assert len(table) == 3, "single splits are not shown"
    write_json(folder / "evals" / "torn.json", {"format": 1, "rows": [{"dataset": 3}]})
    with pytest.raises(ValueError, match=r"torn\.json: rows\[0\]"):
        write_report(folder)


def test_unfinished_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", stage="wsp", samples=1000, flops=1e6, speed=10.0, lines=16)
    (folder / "result.json").unlink()
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 17, "samples": 1062, "loss": null}\n{"step": 18, "sam')
    page = Page(write_report(folder))
    assert "not finished" in page.text
    assert "after 1,000 samples" in page.text


def test_run_that_has_just_started(tmp_path: Path) -> None:
    record = {"format": 1, "run": {}, "derived": {}, "overrides": [], "identity": {}}
    write_json(tmp_path / "run" / "run.json", record)
    page = Page(write_report(tmp_path / "run"))
    assert "Nothing was logged yet" in page.text
    assert "Starts from scratch" in page.text


def test_run_with_one_logged_step(tmp_path: Path) -> None:
    write_report(make_run(tmp_path / "run", stage="wsp", samples=64, flops=1e6, speed=10.0, lines=1))


RUN_RECORD = '{"format": 1, "run": {}, "derived": {}, "overrides": [], "identity": {}}'


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"neither a run \(run\.json is missing\) nor a study \(results\.json is missing\)"),
        ({"study.json": "{}"}, "not finished"),
        ({"results.json": "{"}, "not valid JSON"),
        ({"results.json": '{"format": 3}'}, "format 3"),
        ({"results.json": '{"format": 1, "study": "stages", "rows": []}'}, "has no 'stages'"),
        ({"run.json": "[]"}, "expected an object"),
        ({"run.json": "{}"}, "has no 'format'"),
        ({"run.json": RUN_RECORD, "log.jsonl": '{"step"\n{"step": 1, "samples": 2}\n'}, "line 1"),
    ],
)
def test_what_is_no_run_and_no_study_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_report_needs_no_torch(study: Path) -> None:
    code = (
        "import sys; from underpaint.report import write_report; assert 'jinja2' not in sys.modules;"
        f"write_report({str(study)!r}); print(sorted({{'torch', 'numpy', 'PIL'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_colours_can_be_seen_on_both_papers() -> None:
    """Markers and lines reach the contrast of 3 to 1 that WCAG 2.1 asks of graphics, small text 4.5 to 1."""
    style = (Path(__file__).parents[2] / "underpaint/report/templates/style.css").read_text()
    palettes = re.findall(r":root \{([^}]*--sky[^}]*)\}", style)
    assert len(palettes) == 2
    for palette in palettes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", palette))
        for name in ("grey", "amber", "blue", "green", "rose", "sky", "rust"):
            assert contrast_ratio(colours[name], colours["paper"]) >= 3, name
        for name in ("ink", "quiet"):
            assert contrast_ratio(colours[name], colours["paper"]) >= 4.5, name
            assert contrast_ratio(colours[name], colours["tint"]) >= 4.5, name


def contrast_ratio(first: str, second: str) -> float:
    """Relative luminances of two sRGB colours, as WCAG 2.1 defines them."""
    lights = []
    for colour in (first, second):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)
