"""Arguments as people write them in Python: one path or several, and the names that ``dir`` shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import underpaint
from underpaint import files
from underpaint.config import record
from underpaint.inference import find_images
from underpaint.verbs import plan_run


@pytest.mark.parametrize("given", ["photos", Path("photos"), ["photos"], (Path("photos"),)])
def test_one_path_is_a_list_of_one(given: files.OneOrMany) -> None:
    assert files.paths_of(given) == [Path("photos")]


def test_a_text_is_one_folder_and_not_its_letters(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert find_images(str(tmp_path)) == find_images([tmp_path]) == [tmp_path / "a.png"]
    with pytest.raises(ValueError, match="nowhere does not exist"):
        find_images("nowhere")


def test_a_dict_sets_the_fields_that_texts_set() -> None:
    texts = plan_run("mae_laptop", ["optim.base_lr=2e-3", "objective.encoder.size=64,64", "data=./photos"])
    values = {"optim.base_lr": 2e-3, "objective.encoder.size": (64, 64), "data": Path("./photos")}
    assert plan_run("mae_laptop", {**values, "data": "./photos"}) == texts
    assert plan_run(underpaint.recipes.mae_laptop(), "optim.base_lr=2e-3")["run"] != record(
        underpaint.recipes.mae_laptop()
    )


def test_dir_shows_the_verbs() -> None:
    assert {"train", "prepare", "predict", "embed", "evaluate", "run_study"} <= set(dir(underpaint))
    assert set(dir(underpaint)) == set(underpaint.__all__)
    assert all(getattr(underpaint, name) is not None for name in dir(underpaint))
