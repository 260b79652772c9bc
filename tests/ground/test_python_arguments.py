"""Arguments as people write them in Python: one path or several, and the names that ``dir`` shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import underpaint
from underpaint import files
from underpaint.config import record
from underpaint.inference import find_images
from underpaint.one_run import require_outside
from underpaint.verbs import plan_run


@pytest.mark.parametrize("given", ["photos", Path("photos"), ["photos"], (Path("photos"),)])
def test_one_path_is_a_list_of_one(given: files.OneOrMany) -> None:
    assert files.paths_of(given) == [Path("photos")]


def test_a_text_is_one_folder_and_not_its_letters(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert find_images(str(tmp_path)) == find_images([tmp_path]) == [tmp_path / "a.png"]
    with pytest.raises(ValueError, match="nowhere does not exist"):
        find_images("nowhere")


def test_an_image_that_two_paths_name_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / "pets" / f"{name}.png")
    (tmp_path / "linked").symlink_to(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    given = ["pets", "./pets/b.png", tmp_path / "pets" / "a.png", "pets/../pets/a.png", "linked"]
    assert find_images(given) == [Path("pets/a.png"), Path("pets/b.png")]


@pytest.mark.parametrize("source", ["train=pets/train,val=pets/test", "caltech101:pets", "pets"])
def test_an_output_folder_among_the_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "pets" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"--out pets/train/out and the source .*pets.* lie in each other"):
        require_outside(source, Path("pets/train/out"))
    require_outside(source, Path("out"))


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
