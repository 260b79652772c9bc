"""A run of a study deletes nothing that an earlier run of it finished, and knows folders of its old name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from underpaint import verbs
from underpaint.files import write_json
from underpaint.studies.jobs import run_parts
from underpaint.studies.parts import ComputePart, Study, claim, finished_seeds, output_of


def parts_of(seed: int) -> list[ComputePart]:
    return [
        ComputePart(name=f"{name}-seed{seed}", compute=lambda folder: {}, settings=seed) for name in ("random", "knn")
    ]


def study(*seeds: int, name: str = "stages") -> Study:
    def results(folder: Path, seeds: Any) -> Any:
        return {}

    parts = tuple(part for seed in seeds for part in parts_of(seed))
    return Study(name=name, settings={"size": "smoke"}, parts=parts, seeds=seeds, parts_of=parts_of, results=results)


def test_seeds_that_a_run_leaves_out_stay(tmp_path: Path) -> None:
    run_parts(study(0, 10), tmp_path)
    for seed in (0, 10):
        (tmp_path / f"random-seed{seed}").mkdir()
    assert finished_seeds(study(0), tmp_path) == [0, 10]
    assert finished_seeds(study(3), tmp_path) == [0, 3, 10]
    output_of("knn-seed10", tmp_path).unlink()
    assert finished_seeds(study(0), tmp_path) == [0], "seed 10 is not finished any more"
    (tmp_path / "notes-seed1x").mkdir()
    (tmp_path / "random-seed007").mkdir()
    assert finished_seeds(study(0), tmp_path) == [0]


def test_a_folder_of_the_old_name_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    write_json(path, {"format": 1, "settings": {"study": "pays", "size": "smoke"}})
    claim(study(0, name="ablations"), tmp_path)
    with pytest.raises(ValueError, match="holds a study with"):
        claim(study(0, name="stages"), tmp_path)


def test_the_default_folder_of_the_old_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert verbs._study_folder("ablations", "", {}) == Path("runs/ablations_tiny")  # pyright: ignore[reportPrivateUsage]
    (tmp_path / "runs" / "pays_tiny").mkdir(parents=True)
    assert verbs._study_folder("ablations", "", {}) == Path("runs/pays_tiny")  # pyright: ignore[reportPrivateUsage]
