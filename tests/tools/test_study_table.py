"""The tables for the page of results, against numbers worked out by hand and by scipy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from study_table import arm_lines, contrast_lines, group_values


def row(arm: str, seed: int, protocol: str, value: float, *, dataset: str = "toy", split: str = "test") -> dict:
    return {"arm": arm, "seed": seed, "protocol": protocol, "dataset": dataset, "split": split, "value": value}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_groups_weigh_every_task_alike() -> None:
    rows = [
        row("wsp", 0, "linear", 0.5),
        row("wsp", 0, "linear", 0.9, dataset="other"),
        row("wsp", 0, "lowshot", 0.3, split="mean"),
        row("wsp", 0, "lowshot", 0.0, split="0"),
        row("wsp", 0, "tags", 0.0, split="head"),
    ]
    found = group_values(rows)["wsp", 0]
    assert found["all"] == pytest.approx(100 * (0.5 + 0.9 + 0.3) / 3)
    assert found["linear"] == pytest.approx(70)
    assert found["toy"] == pytest.approx(40)
    assert found["other"] == pytest.approx(90)
    assert "kNN" not in found


def test_contrasts_are_paired_over_seeds() -> None:
    first, second = [0.50, 0.61, 0.55, 0.70], [0.52, 0.66, 0.59, 0.71]
    rows = [row(arm, s, "knn", v) for arm, own in (("wsp", first), ("mae_wsp", second)) for s, v in enumerate(own)]
    values = group_values(rows)
    oracle = scipy.stats.ttest_rel(second, first).confidence_interval(0.95)
    line = next(line for line in map(cells, contrast_lines(values, ["mae_wsp - wsp"])) if line[1] == "kNN")
    assert line[2] == f"{100 * np.mean(np.subtract(second, first)):+.1f}"
    assert line[3] == f"{100 * oracle.low:+.1f} to {100 * oracle.high:+.1f}"
    table = [cells(line) for line in arm_lines(values)]
    assert table[2][:2] == ["wsp", f"{100 * np.mean(first):.1f} ± {100 * np.std(first, ddof=1):.1f}"]
