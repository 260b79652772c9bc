"""The tables of a finished study ``stages`` for ``docs/results/stages_small.md``: arms, contrasts, detection.

    python tools/study_table.py runs/stages_small/results.json

Scores are per cent of test images classified correctly, averaged over groups of tasks in which every task weighs the
same. Arms: mean and standard deviation over seeds. Contrasts: the mean of the differences per seed with Student's 95%
interval, and the smallest true difference that so many seeds find in 8 of 10 studies.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from underpaint.evals.statistics import detectable_effect, paired_t

Row = Mapping[str, Any]
Values = Mapping[tuple[str, int], Mapping[str, float]]
"""By arm and seed, then by group of tasks; in per cent."""

LOW = "1, 5, 10-shot"
KINDS: Mapping[str, Callable[[Row], bool]] = {
    "all": lambda row: True,
    "linear": lambda row: row["protocol"] == "linear",
    LOW: lambda row: row["protocol"] == "lowshot",
    "kNN": lambda row: row["protocol"] == "knn",
    "finetuned": lambda row: row["protocol"] == "finetune",
    "linear and low-shot": lambda row: row["protocol"] in ("linear", "lowshot"),
}


def group_values(rows: Sequence[Row]) -> Values:
    """The mean over the tasks of each kind, and of each dataset."""
    tasks = [row for row in rows if row["split"] in ("test", "mean") and row["protocol"] != "tags"]
    datasets = dict.fromkeys(row["dataset"] for row in tasks)
    groups = {**KINDS, **{name: (lambda row, name=name: row["dataset"] == name) for name in datasets}}
    found: dict[tuple[str, int], dict[str, float]] = {}
    for key in dict.fromkeys((row["arm"], row["seed"]) for row in tasks):
        own = [row for row in tasks if (row["arm"], row["seed"]) == key]
        found[key] = {
            name: 100 * statistics.fmean(row["value"] for row in own if belongs(row))
            for name, belongs in groups.items()
            if any(map(belongs, own))
        }
    return found


def arm_lines(values: Values) -> Iterator[str]:
    groups = list(next(iter(values.values())))
    yield _line("arm", *groups)
    yield _line("---", *["---"] * len(groups))
    for arm in dict.fromkeys(arm for arm, _ in values):
        cells = []
        for group in groups:
            own = [scores[group] for (name, _), scores in values.items() if name == arm]
            spread = f" ± {statistics.stdev(own):.1f}" if len(own) > 1 else ""
            cells.append(f"{statistics.fmean(own):.1f}{spread}")
        yield _line(arm, *cells)


def contrast_lines(values: Values, contrasts: Sequence[str]) -> Iterator[str]:
    """One line per contrast and group, named as ``second - first``; needs two or more seeds."""
    yield _line("contrast", "tasks", "points", "95% interval", "would be found")
    yield _line(*["---"] * 5)
    for contrast in contrasts:
        second, first = contrast.split(" - ")
        seeds = [seed for arm, seed in values if arm == first]
        for group in values[first, seeds[0]]:
            differences = [values[second, seed][group] - values[first, seed][group] for seed in seeds]
            mean, low, high = paired_t(differences)
            found = detectable_effect(differences)
            yield _line(contrast, group, f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}", f"{found:.1f}")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    results = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    values = group_values(results["rows"])
    contrasts = list(dict.fromkeys(line["contrast"] for line in results["summary"]))
    print("\n".join([*arm_lines(values), "", *contrast_lines(values, contrasts)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
