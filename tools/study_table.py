"""The tables of a finished study ``stages`` for ``docs/results/stages_small.md``: arms, contrasts, detection.

    python tools/study_table.py runs/stages_small

Scores are per cent of test images classified correctly, averaged over groups of tasks in which every task weighs the
same. Arms: mean and standard deviation over seeds. Contrasts: the mean of the differences per seed with Student's 95%
interval over seeds (rows hold no single test images), and the smallest true difference that so many seeds find in 8 of
10 studies.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from underpaint.evals.statistics import detectable_effect, paired_t
from underpaint.results.study import COMPARED_SPLITS, ScoreRow
from underpaint.results.study_file import read_results

Values = Mapping[tuple[str, int], Mapping[str, float]]
"""By arm and seed, then by group of tasks; in per cent."""

LOW = "1, 5, 10-shot"
KINDS: Mapping[str, Callable[[ScoreRow], bool]] = {
    "all": lambda row: True,
    "linear": lambda row: row["protocol"] == "linear",
    LOW: lambda row: row["protocol"] == "lowshot",
    "kNN": lambda row: row["protocol"] == "knn",
    "finetuned": lambda row: row["protocol"] == "finetune",
    "linear and low-shot": lambda row: row["protocol"] in ("linear", "lowshot"),
}


def group_values(rows: Sequence[ScoreRow]) -> Values:
    """The mean over the tasks of each kind, and of each dataset."""
    tasks = [row for row in rows if row["split"] in COMPARED_SPLITS and row["protocol"] != "tags"]
    datasets = dict.fromkeys(row["dataset"] for row in tasks)
    groups = {**KINDS, **{name: (lambda row, name=name: row["dataset"] == name) for name in datasets}}
    values: dict[tuple[str, int], dict[str, float]] = {}
    for key in dict.fromkeys((row["arm"], row["seed"]) for row in tasks):
        measured = [row for row in tasks if (row["arm"], row["seed"]) == key]
        values[key] = {
            name: 100 * statistics.fmean(row["value"] for row in measured if belongs(row))
            for name, belongs in groups.items()
            if any(map(belongs, measured))
        }
    return values


def arm_lines(values: Values) -> Iterator[str]:
    groups = list(next(iter(values.values())))
    yield _line("arm", *groups)
    yield _line("---", *["---"] * len(groups))
    for arm in dict.fromkeys(arm for arm, _ in values):
        cells = []
        for group in groups:
            reached = [scores[group] for (name, _), scores in values.items() if name == arm]
            spread = f" ± {statistics.stdev(reached):.1f}" if len(reached) > 1 else ""
            cells.append(f"{statistics.fmean(reached):.1f}{spread}")
        yield _line(arm, *cells)


def contrast_lines(values: Values, contrasts: Sequence[str]) -> Iterator[str]:
    """One line per contrast and group, named as ``tested - reference``; needs two or more seeds."""
    yield _line("contrast", "tasks", "points", "95% interval", "would be found")
    yield _line(*["---"] * 5)
    for contrast in contrasts:
        tested, reference = contrast.split(" - ")
        seeds = [seed for arm, seed in values if arm == reference]
        for group in values[reference, seeds[0]]:
            differences = [values[tested, seed][group] - values[reference, seed][group] for seed in seeds]
            mean, low, high = paired_t(differences)
            detectable = detectable_effect(differences)
            yield _line(contrast, group, f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}", f"{detectable:.1f}")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    results = read_results(Path(sys.argv[1]))
    values = group_values(results["rows"])
    contrasts = list(dict.fromkeys(line["contrast"] for line in results["summary"]))
    print("\n".join([*arm_lines(values), "", *contrast_lines(values, contrasts)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
