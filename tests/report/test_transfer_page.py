"""The page of the study ``transfer``, from results as the study writes them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from support.html_page import Page
from support.report_example import bare_data, environment_entry, meaning, write_json
from underpaint.report import write_report
from underpaint.report.html_tables import best_of, thousands

SCORES = {
    "first": {"linear": 0.5, "knn": 1.0, "finetune": 0.25},
    "second": {"linear": 0.75, "knn": 1.0, "finetune": 0.25},
    "third": {"linear": 0.25, "knn": 1.0, "finetune": 0.125},
}
MEANS = {arm: sum(of_arm.values()) / len(of_arm) for arm, of_arm in SCORES.items()}

TOY = {
    "images": 20,
    "splits": {"pretrain": 11, "heldout": 1, "train": 12, "test": 8},
    "families": 20,
    "tagged": 0,
    "classes": 3,
    "licence": "your own images",
    "attribution": "sets/toy",
    "content_hash": "6f1d0c9b2a7e4f53",
    "problems": {},
}


def results(*half_widths: float) -> dict[str, Any]:
    """Results on one dataset; half widths are those of the means of each pair, in the order of ``combinations``."""
    pairs = list(combinations(SCORES, 2))
    noise = {"n_seeds": 1, "method": "paired bootstrap over 8 test images, one seed", "noise": ["test images"]}
    common = {"seed": 0, "dataset": "toy", "shots": 0, "view": "crop", "language": "", "metric": "top1", "n_test": 8}
    scores = [(arm, protocol, score) for arm, of_arm in SCORES.items() for protocol, score in of_arm.items()]
    summary = [
        {"contrast": f"{tested} - {reference}", "task": task, **noise, "mean": mean, "low": mean - d, "high": mean + d}
        for (reference, tested), d in zip(pairs, half_widths, strict=True)
        for mean in [MEANS[tested] - MEANS[reference]]
        for task in ("toy linear", "mean over tasks")
    ]  # fmt: skip
    shown = [(arm, protocol, {"mean": score, "low": score / 2, "high": score}) for arm, protocol, score in scores]
    return {
        "format": 2,
        "study": "transfer",
        "page": "radar",
        **meaning(tuple(SCORES), pairs),
        "rows": [{"arm": a, "protocol": p, "split": "test", "value": score, **common} for a, p, score in scores],
        "stages": [],
        "baselines": [
            {
                "arm": arm, "format": "", "file": "", "folder": f"runs/{arm}", "licence": "", "parameters": 32_224,
                "encoder": {"size": [32, 32], "width": 32, "depth": 2, "patch": 8},
            }
            for arm in SCORES
        ],
        "arm_means": [{"arm": arm, "mean": mean, "low": 0.4, "high": 0.9} for arm, mean in MEANS.items()],
        "summary": summary,
        "dataset_summary": [],
        "tag_summary": [],
        "transfer": {
            "tasks": [{"arm": a, "task": f"toy {p}", "n_seeds": 1, **one} for a, p, one in shown],
            "axes": [{"arm": a, "protocol": p, "datasets": 1, **one} for a, p, one in shown],
            "left_out": [],
        },
        "data": bare_data() | {"collections": {"toy": TOY}},
        "environment": environment_entry(["__main__.py", "study", "transfer"]),
    }  # fmt: skip


def page_of(folder: Path, content: dict[str, Any]) -> Page:
    write_json(folder / "results.json", content)
    return Page(write_report(folder))


@pytest.mark.parametrize(
    ("half_widths", "said", "winner"),
    [
        # second - first is +8.3, third - second -20.8
        ((0.05, 0.05, 0.05), "second is highest on the mean over the 1 task that all", True),
        ((0.084, 0.05, 0.05), "second cannot be told from first (+8.3 points [−0.1, +16.7]) on the mean", False),
        ((0.05, 0.05, 0.25), "second cannot be told from third (+20.8 points [−4.2, +45.8]) on the mean", False),
        ((0.2, 0.05, 0.25), "from first (+8.3 points [−11.7, +28.3]) or third (+20.8 points [−4.2, +45.8])", False),
    ],
)  # fmt: skip
def test_the_headline_names_a_winner_only_where_every_difference_is_decided(
    half_widths: tuple[float, ...], said: str, winner: bool, tmp_path: Path
) -> None:
    text = " ".join(page_of(tmp_path, results(*half_widths)).text.split())
    assert said in text
    assert ("is highest on" in text, "cannot be told" in text) == (winner, not winner)


def test_encoders_that_are_all_equal_are_not_marked_as_best(tmp_path: Path) -> None:
    header, *rows = page_of(tmp_path, results(0.05, 0.05, 0.05)).tables["tasks-table"]
    names = [cell[2].strip() for cell in header]
    marked = {
        row[0][2]: {name for name, cell in zip(names, row, strict=True) if "best" in str(cell[1].get("class"))}
        for row in rows
    }
    assert marked["toy linear"] == {"second"}
    assert marked["toy kNN"] == set()
    assert marked["toy finetuned"] == {"first", "second"}
    assert best_of({"alone": 0.5}) == best_of({}) == set()


def test_the_user_s_own_runs_and_sets_are_shown_as_what_they_are(tmp_path: Path) -> None:
    page = page_of(tmp_path, results(0.05, 0.05, 0.05))
    cells = {name: [[cell[2] for cell in row] for row in table] for name, table in page.tables.items()}
    assert cells["baselines-table"][:2] == [
        ["Encoder", "Network", "Parameters", "Images", "Folder"],
        ["first", "width 32, depth 2, patch 8", "32.2 k", "32 x 32 px", "runs/first"],
    ]
    assert "Measured encoders" in page.text
    assert "Baselines" not in page.text
    (data,) = [table for table in cells.values() if table[0][0] == "Collection"]
    assert data == [
        ["Collection", "Images", "Train", "Test", "Families", "Classes", "Unusable"],
        ["toy", "20", "12", "8", "20", "3", "0"],
    ]
    assert [row[:2] for row in cells["tasks-table"][:2]] == [["Task", "Tested on"], ["toy linear", "8"]]
    assert "underpaint study transfer" in page.text
    assert "__main__.py study" not in page.text


@pytest.mark.parametrize(
    ("number", "text"), [(12, "12"), (32_224, "32.2 k"), (85_798_656, "85.8 M"), (6_444_000_000, "6.4 G")]
)
def test_a_number_of_parameters_has_a_unit_that_leaves_digits(number: int, text: str) -> None:
    assert thousands(number) == text
