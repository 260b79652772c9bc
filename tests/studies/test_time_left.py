"""The time left of a study counts training by its FLOPs, also inside a part that is under way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from underpaint.core import DataInfo
from underpaint.recipes import mae_smoke
from underpaint.results.run import last_samples
from underpaint.studies.parts import TrainPart
from underpaint.studies.time_left import TimeLeft


def part(name: str, samples: int) -> TrainPart:
    run = mae_smoke()
    return TrainPart(
        name=name, run=replace(run, budget=replace(run.budget, samples=samples)), data_info=DataInfo(seed=0)
    )


def log(folder: Path, samples: int) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": samples // 64, "samples": samples}) + "\n")


def test_a_part_under_way_counts_with_what_it_has_done(tmp_path: Path) -> None:
    now = [100.0]
    left = TimeLeft([part("long", 9_600), part("short", 640)], tmp_path, clock=lambda: now[0])
    assert left.seconds() is None, "nothing has moved yet"
    now[0] = 200.0
    log(tmp_path / "long", 640)
    assert left.seconds() is None, "until here, images were opened"
    now[0] = 210.0
    log(tmp_path / "long", 3_200)
    assert left.seconds() == pytest.approx((9_600 + 640 - 3_200) / 256)  # 256 images a second
    now[0] = 220.0
    (tmp_path / "long" / "result.json").write_text("{}")
    assert left.seconds() == pytest.approx(640 / ((9_600 - 640) / 20))
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "result.json").write_text("{}")
    assert left.seconds() == 0


def test_training_of_earlier_commands_says_nothing_about_the_speed(tmp_path: Path) -> None:
    now = [0.0]
    log(tmp_path / "long", 6_400)
    left = TimeLeft([part("long", 9_600)], tmp_path, clock=lambda: now[0])
    assert left.seconds() is None
    for now[0], samples in ((5.0, 7_200), (10.0, 8_000)):
        log(tmp_path / "long", samples)
        seconds = left.seconds()
    assert seconds == pytest.approx(10)


@pytest.mark.parametrize("end", ["", '{"step": 9, "samp', "{}\n", "\xff\n", '{"samples": "many"}\n', "3\n"])
def test_a_torn_or_damaged_last_line_is_no_error(tmp_path: Path, end: str) -> None:
    log(tmp_path, 640)
    with (tmp_path / "log.jsonl").open("a", encoding="latin-1") as file:
        file.write(end)
    assert last_samples(tmp_path) == (0 if end.endswith("\n") else 640)
    assert last_samples(tmp_path / "missing") == 0


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    for samples in range(0, 640 * 5_000, 640):
        log(tmp_path, samples)
    assert last_samples(tmp_path) == 640 * 4_999
