"""A finished folder of the study ``ablations``, its numbers made up by a seed, and images that a study can run on."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from support.report_example import data_entry, environment_entry, make_run, meaning, write_json

ARMS = ("mae", "mae_wsp", "wsp", "wsp_equal_compute")
CONTRASTS = (("wsp_equal_compute", "mae_wsp"), ("wsp", "mae_wsp"), ("mae", "mae_wsp"))
TASKS = {
    "openmoji linear": 0.33,
    "openmoji 5-shot": 0.21,
    "openmoji knn": 0.27,
    "digits linear": 0.9,
    "digits knn": 0.7,
}
AXES: dict[str, dict[str, float]] = {  # values and where they are drawn
    "mae_share": {"0": 0.0, "0.2": 0.2, "0.4": 0.4, "0.6": 0.6, "0.8": 0.8, "1": 1.0},
    "tagged": {"0.05": math.log2(0.05), "0.25": -2.0, "1": 0.0},
    "pixels": {"32/8": 16.0, "48/8": 36.0, "48/6": 64.0},
}
BASE = {"mae_share": "0.4", "tagged": "1", "pixels": "48/8"}
COLOURS = ("red", "green", "blue")
T_HALF = {2: 12.706, 3: 4.303}
"""97.5% quantiles of Student's t over as many seeds."""


def make_ablations(folder: Path, *, seeds: Sequence[int] = (0, 1, 2)) -> Path:
    """Write results.json and one run of the study."""
    rows, stages, summary = [], [], []
    for axis, values in AXES.items():
        for at, x in values.items():
            place, scores = {"axis": axis, "at": at, "x": x}, _scores(axis, at, x, seeds)
            rows += [{**place, **row} for (arm, seed), tasks in scores.items() for row in _rows(arm, seed, tasks)]
            stages += [{**place, **_stage(arm, seed)} for arm, seed in scores]
            summary += [{**place, **line} for line in _summary(scores, seeds)]
    make_run(folder / "base-mae-seed0", stage="mae", samples=20_000, flops=4.2e7, speed=900)
    axes = [
        {"axis": axis, "title": f"Title of {axis}", "label": f"values of {axis}", "note": "One changes.", "base": base}
        for axis, base in BASE.items()
    ]
    write_json(
        folder / "results.json",
        {
            "format": 2,
            "study": "ablations",
            "page": "axes",
            **meaning(ARMS, CONTRASTS),
            "baselines": [],
            "arm_means": [],
            "dataset_summary": [],
            "tag_summary": [],
            "rows": rows,
            "stages": stages,
            "summary": summary,
            "data": {**data_entry(), "axes": axes},
            "environment": environment_entry(["underpaint", "study", "ablations"]),
        },
    )
    return folder


def _scores(axis: str, at: str, x: float, seeds: Sequence[int]) -> dict[tuple[str, int], dict[str, float]]:
    """By arm and seed, what each task gives; the base point is the same on every axis."""
    base = at == BASE[axis]
    chance = random.Random("base" if base else f"{axis}{at}")
    arms = [arm for arm in ARMS if (axis, at, arm) not in {("mae_share", "0", "mae"), ("mae_share", "1", "wsp")}]
    slope = 0.0 if base else {"mae_share": -0.1 * (x - 0.4), "tagged": -0.012 * x, "pixels": 0.0004 * (x - 36)}[axis]
    level = {"mae": -0.02, "mae_wsp": 0.015 + slope, "wsp": -0.01, "wsp_equal_compute": 0.004}
    found = {}
    for arm in arms:
        for seed in seeds:
            found[arm, seed] = {task: mean + level[arm] + chance.gauss(0, 0.008) for task, mean in TASKS.items()}
    return found


def _rows(arm: str, seed: int, tasks: Mapping[str, float]) -> list[dict[str, Any]]:
    rows = []
    for task, value in tasks.items():
        dataset, protocol = task.split()
        shots = 5 if protocol == "5-shot" else 0
        protocol, split = ("lowshot", "mean") if shots else (protocol, "test")
        common = {"arm": arm, "seed": seed, "dataset": dataset, "protocol": protocol, "shots": shots, "language": ""}
        rows.append({**common, "split": split, "metric": "top1", "value": value, "n_test": 400})
        if shots:  # single draws are in the file and not on the page
            rows.append({**common, "split": "0", "metric": "top1", "value": 0.123456789, "n_test": 400})
    return rows


def _stage(arm: str, seed: int) -> dict[str, Any]:
    cost = {"samples": 20_000, "train_flops": 8.4e11 + seed, "wall_seconds": 22.0, "images_per_second": 909.0}
    run = "base-mae-seed0" if arm == "mae" else f"{arm}-seed{seed}"
    return {"arm": arm, "seed": seed, "stage": "mae" if arm == "mae" else "wsp", **cost, "run": run}


def _summary(scores: Mapping[tuple[str, int], Mapping[str, float]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    lines = []
    for first, second in CONTRASTS:
        if (first, seeds[0]) not in scores or (second, seeds[0]) not in scores:
            continue
        per_seed = {task: [scores[second, seed][task] - scores[first, seed][task] for seed in seeds] for task in TASKS}
        means = [sum(per_seed[task][k] for task in TASKS) / len(TASKS) for k in range(len(seeds))]
        for task, values in {**per_seed, "mean over tasks": means}.items():
            lines.append({"contrast": f"{second} - {first}", "task": task, **_interval(values)})
    return lines


def _interval(values: Sequence[float]) -> dict[str, Any]:
    n = len(values)
    mean = sum(values) / n
    if n == 1:
        noise = ["test images"]
        half, method = 0.013, "paired bootstrap over 400 test images, 2000 resamples, one seed"
    else:
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
        noise = ["seeds", "test images"]
        half, method = T_HALF[n] * deviation / math.sqrt(n), f"paired t over {n} seeds"
    return {"mean": mean, "low": mean - half, "high": mean + half, "n_seeds": n, "method": method, "noise": noise}


def make_patterns(folder: Path, count: int = 240) -> Path:
    """Images of coloured cells, no two alike; ``tags.csv`` names the main colour and the brightness, ``labels.csv``
    has the colour as the class.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    tags, labels = [("path", "tags")], [("path", "class")]
    for index in range(count):
        colour, light = index % 3, index // 3 % 2
        cells = rng.integers(0, 120, size=(6, 6, 3))
        cells[..., colour] += 70
        cells += 60 * light
        name = f"{index:03d}.png"
        Image.fromarray(cells.astype(np.uint8)).resize((24, 24), Image.Resampling.NEAREST).save(folder / name)
        tags.append((name, f"{COLOURS[colour]};{'light' if light else 'dark'}"))
        labels.append((name, COLOURS[colour]))
    for file, rows in (("tags.csv", tags), ("labels.csv", labels)):
        with (folder / file).open("w", newline="") as out:
            csv.writer(out).writerows(rows)
    return folder
