"""Every command that the pages print, started in a folder that has files of the names used there.

A command starts if it comes to its first step of training, to the first part of its study, to the scores of its
evaluation, or to its end; otherwise it says in one line what to change. Runs leave the weights that they begin with,
so that commands further down a page find them. What test_tutorials, test_extend and test_scale run is left out.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from support.clip_examples import clip_folder
from support.detection_examples import make_objects
from support.prepare_examples import write_tars
from support.search_examples import save_lit
from support.shown_commands import PAGES, ROOT, commands_of
from support.small_runs import COLOURS, make_textures
from support.video_examples import make_videos
from support.weights_examples import hf_vit, mae_arguments, mae_tensors, maws_tensors
from underpaint import fitted_recipes, verbs
from underpaint.cli.main import main
from underpaint.data.collections import catalog
from underpaint.evals import scoring
from underpaint.studies import cost, jobs

RUN_ELSEWHERE = ("docs/extend.md", "docs/scale.md")
WALKED = {
    str(page.relative_to(ROOT)): commands
    for page in PAGES
    if str(page.relative_to(ROOT)) not in RUN_ELSEWHERE
    and (commands := commands_of(page, longer_only="tutorials" in page.parts))
}
SAYS = (
    r"budget\.batch_size=\d+ is more than the \d+ images that '\w+' has to train on; add budget\.batch_size=\d+ ",
    r"has \d+ images to train on, fewer than one batch of \d+; give more images, or add mae\.budget\.batch_size=\d+ ",
    r"'\w+' has \d+ images to train on, and this size needs 1,000: .* take --size (?:tiny|smoke), or set ",
    r"--labels folders: \S+/photos has no class folders; every image must lie in one of two or more folders",
    r"posts\.csv has no column 'Datei' among the columns 'path', 'tags'",
    r"log_to=(mlflow|wandb) needs the package \1: pip install 'underpaint\[\1\]'",
    r"--config plan\.json is not a file; print one with `underpaint train RECIPE --plan`",
    r"sets/mine has no classes; add them with underpaint prepare --labels FILE",
    r"--data \./\w+ has no test images of two classes or more; its folders must be train/ and val/ or test/",
    r"sets/motions/train\.csv is missing; name a list of videos with their classes",
    r"holds no (encoder|saved network)",
    r"holds a run of another configuration \(.*\); choose another --out",
    r"mine\.csv exists already; choose another --mapping, or delete it",
    r"/data/imagenet is not a folder; ImageNet-1k lies in one with train/",
    r"(motions|/data/images) is not a folder; images are read from a folder, or name a collection",
    r"scenes/train\.json is not a file of annotations; give a JSON file in the format of COCO or LVIS",
    r"'heron' is not a label of photos; vocabulary\.parquet has its labels",
    r"answers\.json does not exist; save the answers on the page audit\.html",
    r"holds nothing to undo: no tags were written from there",
    r"does not say how many attention heads it has, and width 32 .*: add heads=N",
    r"runs/\w+/results\.json is missing: the study is not finished",
)
"""The only messages that commands which do not start may end with."""
MADE_BEFORE = """\
train mae_laptop data.source=./photos --out runs/mae
train wsp_laptop data.source=./photos data.tags=tags.csv init_from=runs/mae --out runs/mae_wsp
train finetune_laptop data.source=./photos data.labels=labels.csv init_from=runs/mae_wsp --out runs/finetuned
prepare ./photos --out sets/photos
train wsp_laptop data=sets/photos --out runs/wsp
"""
"""Runs and sets for the pages that name them and do not make them."""


class Started(Exception):
    """A command has come to its work."""


def start(*_: Any, **__: Any) -> Any:
    raise Started


def no_step(state: Any, batches: Iterator[Any], *, config: Any, save: Any, **_: Any) -> None:
    """The training loop with its first batch and its checkpoints, and without its steps."""
    state.clock.enter("data")
    next(batches)
    for step in sorted({*config.save_at, config.steps}):
        state.step = step
        save(state)
    state.clock.stop()


def stop_at_work(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys.modules["underpaint.run.execute"], "train", no_step)
    for module, name in ((jobs, "run_one_by_one"), (jobs, "run_side_by_side"), (scoring, "scored")):
        patch.setattr(module, name, start)
    for module in (cost, fitted_recipes):
        patch.setattr(module, "measure", lambda *_: (0.01, 1000))
    patch.setattr(verbs, "measure_side_by_side", lambda *_, **__: None)
    patch.setattr("underpaint.plan.calibrate", start)
    patch.setattr("underpaint.search.page.embed_pictures", start)
    opened = catalog.open_collection
    patch.setattr(catalog, "open_collection", lambda name: opened(name) if name == "digits" else start())


def make_pictures(folder: Path) -> None:
    """Folders of images and their tables, as all pages name them."""
    photos = make_textures(folder / "photos")
    with (photos / "tags.csv").open(newline="") as table:
        tags = {row["path"]: row["tags"].split(";") for row in csv.DictReader(table)}
    for table in ("tags.csv", "labels.csv"):
        shutil.copy(photos / table, folder / table)
    posts = (
        f"photos/{name},{';'.join(words)}\n" for name, words in tags.items()
    )  # a source names images from its place
    (folder / "posts.csv").write_text("".join(("path,tags\n", *posts)))
    shutil.copy(photos / next(iter(tags)), folder / "photo.jpg")
    for number, name in enumerate(tags):
        copies = [folder / "animals" / list(COLOURS)[number % 4], folder / "birds" / list(COLOURS)[number % 4]]
        copies += [folder / "more_photos", folder / "phone"] if number < 8 else []
        for copy in copies:
            copy.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / name, copy / f"{number}{Path(name).suffix}")
    write_tars(folder / "img2dataset_shards", {name: (photos / name).read_bytes() for name in list(tags)[:8]}, tags)


def make_files(folder: Path) -> None:
    """Files of words, weights, objects and videos that no command makes."""
    (folder / "mine.csv").write_text("tag,label\nred,colour red\n")
    (folder / "names.txt").write_text("red\nblue; azure\n")
    (folder / "animals.txt").write_text("red\nblue\n")
    (folder / "names.json").write_text(json.dumps({code: {name: [name] for name in COLOURS} for code in ("en", "de")}))
    (folder / "templates.txt").write_text("a photo of a {}.\n")
    torch.save({"model": mae_tensors(), "args": mae_arguments()}, folder / "mae_pretrain_vit_base.pth")
    torch.save(maws_tensors(), folder / "encoder.pth")
    hf_vit(folder / "vit-base-patch16-224")
    clip_folder(folder).rename(folder / "vit_b16_xlmr_b.pt")
    for name in ("train", "val"):
        make_objects(folder / name).rename(folder / f"{name}.json")
    make_videos(folder / "clips", count=16)
    for name in ("train.csv", "val.csv"):
        (folder / "clips" / name).rename(folder / name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with the files that pages name, and one with runs and sets."""
    pictures, before = tmp_path_factory.mktemp("walk") / "files", tmp_path_factory.mktemp("before")
    make_pictures(pictures)
    make_files(pictures)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(pictures)
        stop_at_work(patch)
        for command in MADE_BEFORE.splitlines():
            assert main(shlex.split(command)) == 0
    save_lit(pictures / "runs" / "lit", languages={"en": 1, "de": 1})
    for name in ("runs", "sets"):
        (pictures / name).rename(before / name)
    return pictures, before


def bring(words: list[str], before: Path) -> None:
    """Link the runs and sets that a command names into the working folder, unless it or another makes them there."""
    named = [part for word in words for part in word.split("=")]
    for path in before.glob("*/*"):
        name = str(path.relative_to(before))
        makes = ("--out", name) in itertools.pairwise(words)
        if makes and not (Path(name) / "run.json").exists():
            shutil.rmtree(name, ignore_errors=True)
        there = (Path(name) / "model").exists() or (Path(name) / "prepare.json").exists()
        if not makes and not there and any(f"{part}/".startswith(f"{name}/") for part in named):
            shutil.rmtree(name, ignore_errors=True)  # of a command that started
            shutil.copytree(path, name, copy_function=os.link)


def message_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message that a command ends with; "" where it starts or is done."""
    capsys.readouterr()
    try:
        if main(words) == 0:
            return ""
    except Started:
        return ""
    said = capsys.readouterr().err
    return said[said.index("underpaint: ") :].removesuffix("\n")


@pytest.mark.slow
@pytest.mark.parametrize("page", WALKED)
def test_the_commands_of_a_page_start_or_say_what_to_change(
    page: str,
    made: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, before = made
    shutil.copytree(files, tmp_path / "own", copy_function=os.link)
    monkeypatch.chdir(tmp_path / "own")
    stop_at_work(monkeypatch)
    wrong = {}
    for command in WALKED[page]:
        words = shlex.split(command, comments=True)[1:]
        bring(words, before)
        message = message_of(words, capsys)
        if message and ("\n" in message or not re.search("|".join(SAYS), message)):
            wrong[command] = message
    assert not wrong, "\n".join(f"{command}\n  {message}" for command, message in wrong.items())
