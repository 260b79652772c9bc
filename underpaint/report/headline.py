"""Say in plain sentences what the contrasts of a study show, and no more than they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from underpaint.report.arms import title_of
from underpaint.report.html_tables import task_name
from underpaint.results.intervals import with_all_noise
from underpaint.results.study import (
    MEAN_TASK,
    ArmEntry,
    ContrastEntry,
    ContrastRow,
    DataEntry,
    Equal,
    Noise,
    Role,
    StudyResults,
)

CONDITIONS: dict[Equal, str] = {
    "steps": "at equal WSP steps",
    "compute": "at equal compute",
    "time": "at equal wall time",
    "nothing": "",
}
CONTROLS: tuple[Role, ...] = ("wsp", "equal_compute", "equal_time")
"""Arms that MAE then WSP is measured against to say what MAE brought."""
FEW_SEEDS = 3

Verdict = Literal["above", "across", "below"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One line of ``summary``: first arm minus second arm, as a fraction of correct images."""

    contrast: str
    task: str
    mean: float
    low: float | None  # None where no interval could be computed
    high: float | None
    method: str
    detectable: float | None = None  # what so many seeds would find in 8 of 10 studies; None with one seed

    @property
    def verdict(self) -> Verdict:
        """Position of the interval relative to zero; a difference without an interval counts as "across"."""
        if self.low is None or self.high is None:
            return "across"
        return "above" if self.low > 0 else "below" if self.high < 0 else "across"

    def turned(self) -> Difference:
        """Second arm minus first arm."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return replace(self, mean=-self.mean, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One comparison of two arms: per task, and on average where the study computed that."""

    name: str
    first_arm: ArmEntry
    second_arm: ArmEntry
    equal: Equal
    tasks: tuple[Difference, ...]
    mean: Difference | None
    method: str
    n_seeds: int
    noise: frozenset[Noise]  # that every interval covers
    against: str = ""  # "against the imported NAME" in the contrast with a baseline that is asked about
    datasets: tuple[Difference, ...] = ()  # the mean over the tasks of each dataset, where there are several

    @property
    def first(self) -> str:
        return self.first_arm["arm"]

    @property
    def baseline(self) -> str:
        """The second arm: the one that the first is measured against."""
        return self.second_arm["arm"]

    @property
    def imported(self) -> bool:
        return self.second_arm["role"] == "baseline"

    @property
    def asks_about_mae(self) -> bool:
        """Whether it tells what MAE before WSP brings, with something else held equal."""
        roles = self.first_arm["role"] == "treatment" and self.second_arm["role"] in CONTROLS
        return roles and self.equal != "nothing"

    def between(self, first: Role, second: Role) -> bool:
        return (self.first_arm["role"], self.second_arm["role"]) == (first, second)

    @property
    def condition(self) -> str:
        """Under which the question of the study is asked; "" where it is not."""
        return CONDITIONS[self.equal] if self.asks_about_mae else self.against

    @property
    def title(self) -> str:
        """Both arms in words."""
        return f"{title_of(self.first_arm)} − {self.second_arm['label']}"

    @property
    def differences(self) -> tuple[Difference, ...]:
        return self.tasks if self.mean is None else (*self.tasks, self.mean)

    def count(self, verdict: Verdict) -> int:
        return sum(task.verdict == verdict for task in self.tasks)

    def difference(self, task: str) -> Difference | None:
        return next((task_difference for task_difference in self.differences if task_difference.task == task), None)


def study_contrasts(results: StudyResults) -> list[Contrast]:
    """All contrasts of a study."""
    return read_contrasts(results, results["summary"], by_dataset=results["dataset_summary"])


def read_contrasts(
    results: StudyResults, summary: Sequence[ContrastRow], *, by_dataset: Sequence[ContrastRow] = ()
) -> list[Contrast]:
    """Group some lines of ``summary`` by contrast, in the order in which they come.

    The first of the contrasts with each baseline is the one that is asked about.
    """
    arms = {entry["arm"]: entry for entry in results["arms"]}
    meaning = {entry["contrast"]: entry for entry in results["contrasts"]}
    lines: dict[str, list[ContrastRow]] = {}
    for line in summary:
        lines.setdefault(line["contrast"], []).append(line)
    contrasts: list[Contrast] = []
    for name, group in lines.items():
        contrast = _contrast(meaning[name], arms, group, [line for line in by_dataset if line["contrast"] == name])
        if contrast.imported and contrast.baseline not in {earlier.baseline for earlier in contrasts}:
            contrast = replace(contrast, against=f"against the imported {contrast.baseline}")
        contrasts.append(contrast)
    return contrasts


def _contrast(
    meaning: ContrastEntry, arms: Mapping[str, ArmEntry], lines: Sequence[ContrastRow], datasets: Sequence[ContrastRow]
) -> Contrast:
    differences = [_difference(line, line.get("task", "")) for line in lines]
    alone = tuple(_difference(line, line.get("dataset", "")) for line in datasets)
    return Contrast(
        name=meaning["contrast"],
        first_arm=arms.get(meaning["first"], _unmeasured(meaning["first"])),
        second_arm=arms.get(meaning["second"], _unmeasured(meaning["second"])),
        equal=meaning["equal"],
        tasks=tuple(difference for difference in differences if difference.task != MEAN_TASK),
        mean=next((difference for difference in differences if difference.task == MEAN_TASK), None),
        # "paired t over 5 seeds": its kind; each task says what it goes over
        method=lines[0]["method"].partition(" over ")[0],
        n_seeds=min(line["n_seeds"] for line in lines),
        noise=frozenset[Noise].intersection(*(frozenset(with_all_noise(line)[2]) for line in lines)),
        datasets=alone if len(alone) > 1 else (),
    )


def _unmeasured(name: str) -> ArmEntry:
    """An arm that a contrast names and no row."""
    return {"arm": name, "label": name, "description": "", "role": "variant", "stages": [], "ladder": ""}


def _difference(line: ContrastRow, task: str) -> Difference:
    low, high, _ = with_all_noise(line)
    return Difference(
        contrast=line["contrast"],
        task=task,
        mean=line["mean"],
        low=low,
        high=high,
        method=line["method"],
        detectable=line.get("detectable"),
    )


def lead(contrasts: Sequence[Contrast]) -> str:
    """The one sentence at the top: what pre-pretraining bought here."""
    against = [_against(contrast) for contrast in contrasts if contrast.imported and contrast.condition]
    return " ".join([_lead_of_the_question(contrasts), *against])


def subject(data: DataEntry) -> str:
    """Clause on the images, for the title: how many there are, and how many of them have tags that are used."""
    images = data.get("stage_images", {})
    if not images:
        return ""
    every = max(images.values())
    tagged = images.get("wsp", every)
    if tagged == every:
        return f"{every:,} images{' with tags' if 'wsp' in images else ''}"
    return f"{every:,} images, and the tags of {tagged:,} of them"


def asked_contrasts(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Those that answer what the study asks, which are drawn; comparisons with the other arms stand in the table."""
    question = any(contrast.asks_about_mae for contrast in contrasts)
    return [contrast for contrast in contrasts if contrast.condition or not (question or contrast.imported)]


def _lead_of_the_question(contrasts: Sequence[Contrast]) -> str:
    known = [contrast for contrast in contrasts if contrast.asks_about_mae]
    if not known:
        return _lead_without_tags(contrasts)
    clauses = [_clause(contrast, "it" if number else "pre-pretraining") for number, contrast in enumerate(known)]
    averaged = any(contrast.mean is not None for contrast in known)
    tail = f" Points are percentage points, averaged over {len(known[0].tasks)} tasks." if averaged else ""
    return capital("; ".join(clauses)) + "." + _provisional(known) + tail + _exceptions(known)


def _provisional(known: Sequence[Contrast]) -> str:
    """A warning after a gain or loss by so few seeds that the next one may undo it."""
    seeds = min(contrast.n_seeds for contrast in known)
    decided = any(contrast.mean is not None and contrast.mean.verdict != "across" for contrast in known)
    if seeds >= FEW_SEEDS or not decided:
        return ""
    return " One seed makes this provisional." if seeds == 1 else f" {seeds} seeds make this provisional."


def _exceptions(known: Sequence[Contrast]) -> str:
    """Datasets on which by themselves the mean's verdict does not stand, and what stands there."""
    said = {
        "above": "pre-pretraining gained",
        "across": "no gain or loss can be told from noise",
        "below": "pre-pretraining lost",
    }
    where: dict[tuple[str, Verdict], list[str]] = {}
    for contrast in known:
        for difference in contrast.datasets:
            if contrast.mean is not None and difference.low is not None and difference.verdict != contrast.mean.verdict:
                where.setdefault((difference.task, difference.verdict), []).append(contrast.condition)
    alike: dict[str, list[str]] = {}
    for (dataset, verdict), conditions in where.items():
        when = ", ".join(conditions[:-1]) + " and " * (len(conditions) > 1) + conditions[-1]
        alike.setdefault(f"{said[verdict]} {when}", []).append(dataset)
    return "".join(f" On the tasks of {' or '.join(names)} alone {verdict}." for verdict, names in alike.items())


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lead_without_tags(contrasts: Sequence[Contrast]) -> str:
    trained = next((contrast.mean for contrast in contrasts if contrast.between("mae", "untrained")), None)
    if trained is None:
        return (
            "This study compared no arm with and without pre-pretraining, so it cannot say what pre-pretraining buys."
        )
    return (
        f"No arm learned from tags, so this says nothing about pre-pretraining for WSP; MAE alone differs from the "
        f"untrained encoder by {points(trained.mean)} percentage points on average over the tasks."
    )


def _clause(contrast: Contrast, subject: str) -> str:
    if contrast.mean is None:
        return f"{contrast.condition} {subject} won on {contrast.count('above')} of {len(contrast.tasks)} tasks"
    size = points(contrast.mean.mean)
    match contrast.mean.verdict:
        case "above":
            return f"{contrast.condition} {subject} gained {size.lstrip('+')} points"
        case "below":
            return f"{contrast.condition} {subject} lost {size.lstrip('−')} points"
        case _:
            return f"{contrast.condition} {subject} made no difference that can be told from noise ({size})"


def _against(contrast: Contrast) -> str:
    """Sentence on training with these images against an encoder that was not trained on them."""
    start = f"Trained on these images, {contrast.first_arm['label']}"
    end = f"the imported {contrast.second_arm['label']}"
    if contrast.mean is None:
        return f"{start} won against {end} on {contrast.count('above')} of {len(contrast.tasks)} tasks."
    size = points(contrast.mean.mean)
    match contrast.mean.verdict:
        case "above":
            return f"{start} came out {size.lstrip('+')} points above {end}."
        case "below":
            return f"{start} came out {size.lstrip('−')} points below {end}."
        case _:
            return f"{start} cannot be told from {end} ({size})."


def over_mae(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Contrasts of WSP after MAE, and of each way to forget less, with MAE alone."""
    return [
        contrast
        for contrast in contrasts
        if contrast.second_arm["role"] == "mae" and contrast.first_arm["stages"] == ["mae", "wsp"]
    ]


def forgotten(contrast: Contrast) -> str:
    """Clause on the tasks that gain by WSP, and those whose features it makes worse."""
    gained, lost = (
        [difference.task for difference in contrast.tasks if difference.verdict == verdict]
        for verdict in ("above", "below")
    )
    mean = "" if contrast.mean is None else f", {points(contrast.mean.mean)} points on average"
    return f"gains on {_listed(gained)} and forgets on {_listed(lost)}{mean}"


def _listed(tasks: Sequence[str]) -> str:
    if not tasks:
        return "no task"
    return f"{len(tasks)} {'task' if len(tasks) == 1 else 'tasks'} ({', '.join(map(task_name, tasks))})"


def counts(contrast: Contrast) -> str:
    """Sentence with the numbers of tasks above, across and below zero."""
    total = len(contrast.tasks)
    above, across, below = (contrast.count(verdict) for verdict in ("above", "across", "below"))
    better = f"Better on {above} of {total} {'task' if total == 1 else 'tasks'} (interval above zero)"
    return f"{better}, not decided on {across} (interval across zero), worse on {below} (interval below zero)"


def caveat(contrasts: Sequence[Contrast]) -> str:
    """Sentences on the noise that the intervals cover: with one seed, that of the test images and nothing else."""
    if not contrasts:
        return ""
    methods = ", ".join(dict.fromkeys(contrast.method for contrast in contrasts))
    seeds = min(contrast.n_seeds for contrast in contrasts)
    if seeds == 1:
        return (
            f"One seed: the intervals ({methods}) cover the noise of the test images only. Another initialisation, "
            "another order of the data or another MAE run could move every number by more than they show."
        )
    if all("test images" in contrast.noise for contrast in contrasts):
        covered = "the intervals cover what a new seed and other test images change"
    else:
        covered = f"intervals by {methods} over seeds, without the noise of the test images"
    few = ""
    if seeds < FEW_SEEDS:
        few = f" Fewer than {FEW_SEEDS} seeds hardly say how far the next one lies: take these verdicts as provisional."
    return f"{seeds} seeds: {covered}. Each task is judged on its own.{few}"


def floor(at_floor: int, tasks: int) -> str:
    """A warning where training taught nothing that a task can see; "" where every task rises above the floor."""
    if not at_floor:
        return ""
    return (
        f"On {at_floor} of {tasks} tasks no trained arm beats the untrained encoder. There this study is too "
        "small, or the task asks for nothing that training gives: differences between its arms mean little."
    )


def below_the_floor(contrasts: Sequence[Contrast]) -> str:
    """A warning where WSP from scratch ends below the untrained encoder: a gain over it may be harm avoided."""
    contrast = next((contrast for contrast in contrasts if contrast.between("wsp", "untrained")), None)
    known = (contrast.datasets or (contrast.mean,)) if contrast else ()
    below = [difference for difference in known if difference is not None and difference.verdict == "below"]
    if not below:
        return ""
    named = ", ".join(
        f"the tasks of {difference.task} ({points(difference.mean)})"
        for difference in below
        if difference.task != MEAN_TASK
    )
    where = named or f"the mean over tasks ({points(below[0].mean)})"
    assert contrast is not None
    label = contrast.first_arm["label"]
    return (
        f"On {where} {label} ends below the untrained encoder. There a gain over {label} may be harm that was avoided, "
        f"and not something that was learned.{_over_the_floor(contrasts)}"
    )


def _over_the_floor(contrasts: Sequence[Contrast]) -> str:
    """Sentence on MAE then WSP against the untrained encoder itself, where it is above it."""
    contrast = next((contrast for contrast in contrasts if contrast.between("treatment", "untrained")), None)
    if contrast is None or contrast.mean is None or contrast.mean.verdict != "above":
        return ""
    label = capital(contrast.first_arm["label"])
    return f" {label} is above the untrained encoder, by {points(contrast.mean.mean).lstrip('+')} points on average."


def points(fraction: float) -> str:
    """A difference in percentage points, with its sign and a true minus."""
    return f"{100 * fraction:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")
