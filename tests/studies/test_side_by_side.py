"""Whether parts side by side are faster: measured in processes of its own, and said in a sentence."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from support.part_examples import build
from underpaint.core import DataInfo
from underpaint.recipes import mae_smoke
from underpaint.studies import side_by_side
from underpaint.studies.cost import PlanRow
from underpaint.studies.parts import Study, TrainPart
from underpaint.studies.side_by_side import SideBySide, default_jobs, measure_side_by_side


def study_of(*parts: TrainPart) -> Study:
    return Study(name="x", settings={}, parts=parts, seeds=(), parts_of=lambda seed: parts, results=build().results)


def row(name: str, seconds: float, *, done: bool = False) -> PlanRow:
    return PlanRow(part=name, samples=1, flops=1.0, seconds=seconds, bytes=1, done=done)


def part(name: str) -> TrainPart:
    return TrainPart(name=name, run=replace(mae_smoke(), threads=1), data_info=DataInfo(seed=0))


def test_nothing_is_measured_for_one_job_or_nothing_left() -> None:
    study = study_of(part("a"))
    assert measure_side_by_side(study, [row("a", 1.0)], jobs=1) is None
    assert measure_side_by_side(study, [row("a", 1.0, done=True)], jobs=2) is None


@pytest.mark.parametrize(
    ("speedup", "words"),
    [
        (
            1.8,
            "2 parts at a time do 1.80 times as much as one, .*: about 50 min .* instead of 1 h 30 min with --jobs 2",
        ),
        (1.02, "2 parts at a time do 1.02 times as much as one, .*: that is not faster, so the default is one .*"),
    ],
)
def test_the_sentence_gives_the_ratio_and_what_follows(speedup: float, words: str) -> None:
    assert re.fullmatch(words + ".*", SideBySide(jobs=2, speedup=speedup).sentence(5_400))


def test_the_median_of_alternating_ratios_of_the_longest_part_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes and clocks are replaced: three rounds of two together and one alone, after one that starts them."""
    trained: list[tuple[str, bool]] = []
    alone, together = iter([100.0, 50.0, 200.0]), iter([1.0, 190.0, 100.0, 300.0])

    def speed(pool: object, work: tuple[object, DataInfo], *, processes: int) -> float:
        trained.append((work[0].name, processes == 1))  # pyright: ignore[reportAttributeAccessIssue]
        return next(alone if processes == 1 else together)

    monkeypatch.setattr(side_by_side, "_speed", speed)
    parts = tuple(replace(part(name), run=replace(mae_smoke(), name=name)) for name in ("short", "long"))
    measured = measure_side_by_side(study_of(*parts), [row("short", 1.0), row("long", 9.0)], jobs=2)
    assert measured == SideBySide(jobs=2, speedup=1.9)  # of 1.9, 2.0 and 1.5
    assert trained == [("long", False), *[("long", False), ("long", True)] * 3]


@pytest.mark.parametrize(("speedups", "jobs"), [((), 2), ((1.9,), 2), ((1.0,), 1), ((1.0, 1.9), 2), ((1.9, 1.0), 1)])
def test_a_study_runs_as_many_parts_at_a_time_as_its_last_plan_found_faster(
    speedups: tuple[float, ...], jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path))
    monkeypatch.setattr(side_by_side, "usual_jobs", lambda study: 2)
    study, other = study_of(part("a")), study_of(replace(part("a"), run=replace(part("a").run, precision="bf16")))
    for speedup in speedups:
        alone = 1 / speedup
        monkeypatch.setattr(side_by_side, "_speed", lambda *_, processes, alone=alone: alone if processes == 1 else 1.0)
        measure_side_by_side(study, [row("a", 1.0)], jobs=2)
    assert default_jobs(study) == jobs
    assert default_jobs(other) == 2, "another network was not measured"


@pytest.mark.parametrize(
    "content", ["", "{}", '{"format": 1}', '{"format": 2, "speedups": {}}', '{"format": 1, "speedups": []}']
)
def test_a_damaged_file_of_measurements_counts_as_none(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path))
    monkeypatch.setattr(side_by_side, "usual_jobs", lambda study: 2)
    (tmp_path / "side_by_side.json").write_text(content)
    assert default_jobs(study_of(part("a"))) == 2


@pytest.mark.slow
def test_processes_are_timed_together() -> None:
    measured = measure_side_by_side(study_of(part("a")), [row("a", 1.0)], jobs=2)
    assert measured is not None
    assert 0.3 < measured.speedup < 3.0, "neither double counted nor one that waits for the other"
