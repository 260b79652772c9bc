"""The study ``transfer``: encoders from elsewhere on datasets as they lie on disk, against the protocols themselves."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.html_page import Page
from underpaint import verbs
from underpaint.__main__ import main
from underpaint.core import DataInfo
from underpaint.data.open_source import open_source
from underpaint.data.reading_time import Images
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.knn import Knn
from underpaint.evals.lowshot_vpt import LowShotVPT
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import load_encoder, save_encoder
from underpaint.report.arms import SPARE
from underpaint.report.radar import CENTRE, RADIUS, radar
from underpaint.results.transfer import AxisValue
from underpaint.run.outputs import load_model
from underpaint.studies import cost
from underpaint.studies.parts import TrainPart
from underpaint.studies.transfer import transfer
from underpaint.studies.transfer_protocols import seen_in_training

COLOURS = {"red": (220, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 220)}
NARROW = ViTConfig(size=(16, 16), patch=8, width=16, depth=1, heads=2)
WIDE = ViTConfig(size=(24, 24), patch=8, width=32, depth=2, heads=2)


def write_images(folder: Path, classes: list[str], count: int, *, seed: int) -> None:
    """So many textures of the colour of each class."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shade = rng.integers(0, 256, size=(6, 6, 1)) / 255
            texture = (shade * np.array(COLOURS[name])).astype(np.uint8)
            Image.fromarray(texture).resize((24, 24), Image.Resampling.BILINEAR).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three colours to train on, two of them from elsewhere, and one set that only tests a third pair."""
    folder = tmp_path_factory.mktemp("data")
    for name, classes, halves in (
        ("colours", list(COLOURS), {"train": 8, "val": 6}),
        ("warm", ["red", "green"], {"train": 9, "test": 4}),
    ):
        for seed, (half, count) in enumerate(halves.items()):
            write_images(folder / name / half, classes, count, seed=seed + 10 * len(classes))
    return folder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two of different shapes and sizes."""
    folder = tmp_path_factory.mktemp("runs")
    for name, shape in (("narrow", NARROW), ("wide", WIDE)):
        torch.manual_seed(len(name))
        save_encoder(folder / name / "encoder", ViT(shape))
    return [str(folder / "narrow"), str(folder / "wide")]


def asked(encoders: list[str], data: Path, out: Path, **more: Any) -> dict[str, Any]:
    datasets = [str(data / "colours"), str(data / "warm")]
    return {"size": "smoke", "out": out, "encoders": encoders, "datasets": datasets, **more}


@pytest.mark.slow
def test_encoders_of_two_shapes_are_measured_by_all_protocols(
    encoders: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = asked(encoders, data, tmp_path / "study")
    out = verbs.run_study("transfer", **arguments)
    said = capsys.readouterr()
    assert "left out: zero-shot of narrow, wide: no text tower" in said.out + said.err
    results = json.loads((out / "results.json").read_text())
    shown = [row for row in results["rows"] if row["split"] in ("test", "mean")]
    frozen = ("linear", "knn", "attentive", "lowshot", "lowshot_linear", "lowshot_vpt", "finetune")
    expected = {(dataset, protocol) for dataset in ("colours", "warm") for protocol in frozen}
    expected.add(("colours→warm", "robustness"))
    for arm in ("narrow", "wide"):
        assert {(row["dataset"], row["protocol"]) for row in shown if row["arm"] == arm} == expected
    assert {line["task"] for line in results["summary"]} >= {"warm 1-shot", "warm 1-shot vpt", "warm 1-shot linear"}
    assert {row["split"] for row in results["rows"] if row["protocol"] == "robustness"} == {"test", "restricted"}

    def value(arm: str, dataset: str, protocol: str, split: str) -> float:
        keys = ("arm", "dataset", "protocol", "split")
        (row,) = [row for row in results["rows"] if tuple(row[key] for key in keys) == (arm, dataset, protocol, split)]
        return row["value"]

    # the encoder where it was, by the protocols themselves
    encoder, source, cpu = load_encoder(encoders[1]), open_source(str(data / "colours")), torch.device("cpu")
    (knn,) = Knn(dataset="colours")(encoder, source=source, device=cpu, seed=0)
    assert value("wide", "colours", "knn", "test") == pytest.approx(knn.value)
    *_, prompts = LowShotVPT(dataset="colours", shots=1, splits=2, epochs=2)(encoder, source=source, device=cpu, seed=0)
    assert value("wide", "colours", "lowshot_vpt", "mean") == pytest.approx(prompts.value)
    model: Any = load_model(out / "finetune-wide-colours-seed0")
    assert (model.encoder.config.width, model.encoder.config.size) == (32, (24, 24))
    (accuracy,) = Accuracy(dataset="warm")(model, source=open_source(str(data / "warm")), device=cpu, seed=0)
    assert value("wide", "colours→warm", "robustness", "test") == pytest.approx(accuracy.value)
    assert value("wide", "colours→warm", "robustness", "restricted") >= accuracy.value, "the easier rule"

    page = Page(out / "report.html")
    names = [row[0][2] for row in page.tables["protocols-table"][1:]]
    assert {"linear", "kNN", "attentive (EP)", "1-shot vpt", "finetuned", "robustness"} <= set(names)
    assert "No text tower" not in page.text
    assert "zero-shot of narrow, wide: no text tower" in page.text
    assert "width 32, depth 2, patch 8" in page.text

    before = {path: path.stat().st_mtime_ns for path in (out / "evals").iterdir()}
    verbs.run_study("transfer", **arguments)
    assert {path: path.stat().st_mtime_ns for path in (out / "evals").iterdir()} == before


def test_a_plan_lists_training_and_what_takes_long(encoders: list[str], data: Path, tmp_path: Path) -> None:
    rows = {row.part: row for row in verbs.plan_study("transfer", **asked(encoders, data, tmp_path / "study"))}
    assert {
        "finetune-wide-warm-seed0",
        "lowshot_vpt-1-wide-warm-seed0",
        "attentive-narrow-colours-seed0",
    } <= rows.keys()
    assert rows["finetune-narrow-colours-seed0"].samples == 64
    # two splits of two epochs on one image of each of three classes, and both see the 18 test images
    assert rows["lowshot_vpt-1-narrow-colours-seed0"].samples == 2 * 2 * 3 + 2 * 18
    # and two shots have half the epochs
    longer = verbs.plan_study("transfer", **asked(encoders, data, tmp_path / "study"), overrides=["shots=2"])
    assert {row.part: row.samples for row in longer}["lowshot_vpt-2-narrow-colours-seed0"] == 2 * 1 * 6 + 2 * 18
    assert all(row.seconds > 0 for row in rows.values())
    assert not (tmp_path / "study").exists()


def test_a_plan_counts_the_reading_of_evaluations(
    encoders: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of all images are made once, and those of the tests for a finetuned model."""
    read = Images(count=9, side=24, decoding=3.0, cropping=0.5, resizing=2.0)
    monkeypatch.setattr(cost, "measure", lambda run, info: (1e-9, 10))
    monkeypatch.setattr(cost, "images_of", lambda *_, **__: read)
    options = asked(encoders, data, tmp_path / "study")
    rows = {row.part: row for row in verbs.plan_study("transfer", **options, overrides=["protocols=linear,finetune"])}
    task = open_source(str(data / "warm"))
    tested, every = len(task.rows("test")), len(task.rows("test")) + len(task.rows("train"))
    assert rows["linear-wide-warm-seed0"].seconds == pytest.approx(every * 5.0, abs=1e-3)
    assert rows["accuracy-wide-warm-seed0"].seconds == pytest.approx(tested * 5.0, abs=1e-3)
    assert rows["finetune-wide-warm-seed0"].seconds == pytest.approx(64 * 3.5, abs=1e-3)


def test_seeds_of_a_name_are_one_arm(encoders: list[str], data: Path, tmp_path: Path) -> None:
    folders = []
    for seed in (3, 5):
        save_encoder(tmp_path / f"mae-seed{seed}" / "encoder", load_encoder(encoders[0]))
        folders.append(str(tmp_path / f"mae-seed{seed}"))
    options = asked([*folders, encoders[1]], data, tmp_path / "study")
    options.pop("out")
    study = verbs.build_study("transfer", **options, seeds=(3,), overrides=["protocols=knn"])
    names = {part.name for part in study.parts if part.name.startswith("knn")}
    arms = {"mae": (3, 5), "wide": (3,)}
    # "wide" has no seed in its name, so --seeds says which splits it is measured on; 5 is the other arm's alone
    wanted = {f"knn-{arm}-{d}-seed{seed}" for arm, seeds in arms.items() for seed in seeds for d in ("colours", "warm")}
    assert names == wanted


def test_folders_of_datasets_are_looked_into(encoders: list[str], data: Path) -> None:
    options = {"size": "smoke", "encoders": encoders[:1], "datasets": [str(data)], "overrides": ["protocols=knn"]}
    study = verbs.build_study("transfer", **options)
    assert list(study.settings["data"]) == ["colours", "warm"]  # pyright: ignore[reportArgumentType]


def test_a_folder_with_test_images_alone_only_tests(encoders: list[str], data: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "dim" / "test", ["red", "blue"], 3, seed=1)
    options = {"size": "smoke", "encoders": encoders[:1], "datasets": [str(data / "colours"), str(tmp_path / "dim")]}
    study = verbs.build_study("transfer", **options, overrides=["protocols=finetune,robustness"])
    assert {part.name.removesuffix("-seed0") for part in study.parts} == {
        "baseline-narrow",
        "finetune-narrow-colours",
        "accuracy-narrow-colours",
        "robustness-narrow-colours-dim",
    }


def test_a_folder_of_datasets_takes_those_that_only_test_and_names_what_is_none(
    encoders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = tmp_path / "sets"
    for seed, half in enumerate(("train", "test")):
        write_images(sets / "colours" / half, ["red", "green", "blue"], 6, seed=seed)
    write_images(sets / "noisy" / "test", ["red", "blue"], 3, seed=2)
    write_images(sets / "drafts", ["red"], 3, seed=3)
    options = {"size": "smoke", "encoders": encoders[:1], "datasets": [str(sets)]}
    study = verbs.build_study("transfer", **options, overrides=["protocols=finetune,robustness"])
    assert "robustness-narrow-colours-noisy-seed0" in {part.name for part in study.parts}
    lines = [line for line in capsys.readouterr().err.splitlines() if "passed over" in line]
    assert len(lines) == 1
    assert f"left out: {sets / 'drafts'}: passed over" in lines[0]


def test_finetuning_on_less_than_a_batch_is_left_out_and_the_rest_measured(
    encoders: list[str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"size": "smoke", "encoders": encoders[:1], "datasets": [str(data / "colours"), str(data / "warm")]}
    batch = ["finetune.budget.batch_size=20", "finetune.budget.microbatch=20", "finetune.budget.samples=80"]
    study = verbs.build_study("transfer", **options, overrides=["protocols=knn,finetune", *batch])
    names = {part.name for part in study.parts}  # colours has 24 images to train on, warm has 18
    assert {"finetune-narrow-colours-seed0", "knn-narrow-warm-seed0"} <= names
    assert "finetune-narrow-warm-seed0" not in names
    reason = "left out: finetuning on warm: 18 training images are fewer than one batch of 20"
    assert reason in capsys.readouterr().err


def test_probes_that_have_no_image_to_choose_by_are_left_out_and_the_rest_measured(
    encoders: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One training image a class; the study ended there, after hours perhaps."""
    for half, count in (("train", 1), ("test", 2)):
        write_images(tmp_path / "one" / half, list(COLOURS), count, seed=count)
    options = {"size": "smoke", "encoders": encoders, "datasets": [str(tmp_path / "one"), str(data / "warm")]}
    study = verbs.build_study("transfer", **options, overrides=["protocols=linear,knn,attentive,lowshot"])
    kinds = {name: {p.name.split("-")[0] for p in study.parts if f"-{name}-" in p.name} for name in ("one", "warm")}
    assert kinds == {"one": {"knn", "lowshot"}, "warm": {"linear", "knn", "attentive", "lowshot"}}
    said = capsys.readouterr().err
    for key in ("linear", "attentive"):
        assert f"left out: {key} on one: a probe is tuned on a part of the training images, but 3 unrelated" in said
    options["datasets"] = [str(tmp_path / "one")]
    with pytest.raises(ValueError, match="nothing can be measured: linear on one: a probe is tuned on a part"):
        verbs.build_study("transfer", **options, overrides=["protocols=linear"])


def test_near_duplicates_of_test_images_are_not_finetuned_on(encoders: list[str], tmp_path: Path) -> None:
    """And on another dataset they are counted in a remark of its score."""
    rng = np.random.default_rng(0)

    def picture(path: Path, of: Image.Image | None = None) -> Image.Image:
        blobs = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        shown = of or blobs.resize((48, 48), Image.Resampling.BICUBIC)
        path.parent.mkdir(parents=True, exist_ok=True)
        shown.save(path)
        return shown

    for name in "ab":
        trained = [picture(tmp_path / "own" / "train" / name / f"{n}.png") for n in range(9)]
        tested = [picture(tmp_path / "own" / "test" / name / f"{n}.png") for n in range(3)]
        picture(tmp_path / "own" / "train" / name / "again.jpg", of=tested[0])  # other bytes, the same picture
        picture(tmp_path / "leak" / "test" / name / "new.png")
        for n in (0, 1):
            picture(tmp_path / "leak" / "test" / name / f"{n}.jpg", of=trained[n])
    options = {"size": "smoke", "encoders": encoders[:1], "datasets": [str(tmp_path / "own"), str(tmp_path / "leak")]}
    study = verbs.build_study("transfer", **options, overrides=["protocols=finetune,robustness"])
    run = next(part.run for part in study.parts if isinstance(part, TrainPart))
    opened = run.data.open()
    assert opened.images == 18
    trained, tested = open_source(str(tmp_path / "own")), open_source(str(tmp_path / "leak"))
    assert seen_in_training(trained, tested) == ("4 of its 6 test images are near duplicates of images trained on",)
    assert seen_in_training(open_source(str(tmp_path / "leak")), trained) == ()


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (("x", "x-y"), [], "give two parts the name knn-.*rename one"),
        ((), ["shots=1,1"], "shots=1,1 names 1 twice"),
        ((), ["protocols=zeroshot"], "nothing can be measured: .*zero-shot"),
    ],
)
def test_parts_are_told_apart_and_there_are_some(
    encoders: list[str], data: Path, tmp_path: Path, names: tuple[str, ...], more: list[str], message: str
) -> None:
    folders = [str(data / "colours")]
    froms = encoders[:1]
    for name in names:
        save_encoder(tmp_path / name / "encoder", load_encoder(encoders[0]))
        froms = [str(tmp_path / each) for each in names]
    if names:
        shutil.copytree(data / "colours", tmp_path / "sets" / "y-z")
        shutil.copytree(data / "colours", tmp_path / "sets" / "z")
        folders = [str(tmp_path / "sets" / name) for name in ("y-z", "z")]
    with pytest.raises(ValueError, match=message):
        verbs.build_study(
            "transfer", size="smoke", encoders=froms, datasets=folders, overrides=["protocols=knn", *more][-1:]
        )


def test_bad_input_is_refused_before_anything_runs(
    encoders: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished, twin, one, five = (tmp_path / name for name in ("unfinished", "twin/narrow", "one", "five"))
    unfinished.mkdir()
    (unfinished / "run.json").write_text("{}")
    save_encoder(twin / "encoder", ViT(NARROW))
    linked = tmp_path / "linked"
    linked.symlink_to(encoders[0])
    save_encoder(five / "encoder", ViT(replace(NARROW, channels=5, mean=(0.5,) * 5, std=(0.2,) * 5)))
    write_images(one / "train", ["red"], 3, seed=1)
    write_images(one / "val", ["red"], 3, seed=2)
    colours = str(data / "colours")
    narrow = encoders[0]
    for arguments, complaint in (
        (["--data", colours], "give --from RUN"),
        (["--from", narrow], "give the datasets to measure on: --data DIR"),
        (["--from", str(unfinished), "--data", colours], "is a run that has not finished"),
        (["--from", str(tmp_path / "no"), "--data", colours], "holds no encoder"),
        (["--from", narrow, str(twin), "--data", colours], "both called 'narrow'"),
        (["--from", narrow, str(linked), "--data", colours], "linked are the same encoder; leave one of them out"),
        (["--from", narrow, f"{narrow}/encoder", "--data", colours], "are the same encoder; leave one of them out"),
        (["--from", str(five), "--data", colours], "takes images of 5 channels"),
        (["--from", narrow, "--data", str(one)], "has no test images of two classes or more"),
        (["--from", narrow, "--data", colours, colours], "both called 'colours'"),
        (["--from", narrow, "--data", str(tmp_path / "nothing")], "is not a folder"),
        (["--from", narrow, "--data", colours, "--tags", "t.csv"], "`transfer` has none"),
        (["--from", narrow, "--data", colours, "protocols=knn", "shots=5"], "no protocol is low-shot"),
        (
            ["--from", narrow, "--data", colours, "finetune.objective.encoder.width=64"],
            "the encoders of --from bring it",
        ),
        (["--from", narrow, "--data", colours, "protocols=robustness"], "add finetune"),
    ):
        out = tmp_path / "study"
        assert main(["study", "transfer", "--size", "smoke", "--out", str(out), *arguments]) == 2, arguments
        assert complaint in " ".join(capsys.readouterr().err.split()), arguments
        assert not out.exists()
    assert main(["study", "stages", "--from", narrow]) == 2
    assert "--from names the encoders that the study `transfer` measures; `stages` has none" in capsys.readouterr().err


def test_a_radar_goes_from_zero_to_the_best_of_each_axis() -> None:
    means = {
        "a": {"linear": 0.4, "knn": 0.2, "1-shot": 0.1, "finetune": 0.9},
        "b": {"linear": 0.2, "knn": 0.4, "1-shot": 0.1},
    }
    values: list[AxisValue] = [
        {"arm": arm, "protocol": axis, "datasets": 1, "mean": mean, "low": mean - 0.05, "high": mean + 0.05}
        for arm, of_arm in means.items()
        for axis, mean in of_arm.items()
    ]
    marks = {arm: replace(SPARE[number], label=arm) for number, arm in enumerate(means)}
    drawn = radar(values, marks)
    assert drawn is not None
    assert [spoke.label for spoke in drawn.spokes] == ["linear", "kNN", "1-shot", "finetuned"]
    assert [spoke.best for spoke in drawn.spokes] == ["40.0", "40.0", "10.0", "90.0"]
    x, y = CENTRE
    assert [tip.at for tip in drawn.tips if tip.mark.label == "a"] == [
        (x, y - RADIUS), (x + RADIUS / 2, y), (x + 4.5, y + RADIUS), (x - RADIUS, y),
    ]  # fmt: skip
    assert [tip.at for tip in drawn.tips if tip.mark.label == "b"] == [
        (x, y - RADIUS / 2), (x + RADIUS, y), (x - 4.5, y + RADIUS),
    ], "no corner where it was not measured"  # fmt: skip
    assert len({line.dash for line in drawn.polygons}) == 2, "the first is seen through the gaps of the second"
    assert len({(line.mark.shape, line.mark.colour) for line in drawn.polygons}) == 2
    assert SPARE[0].shape != SPARE[1].shape
    bottom = drawn.spokes[2]
    assert bottom.text[1] - 12 > y + RADIUS + 6, "the text is below the corner's marker"
    assert drawn.spokes[0].text[1] + 14 < y - RADIUS - 6, "and above it at the top"
    assert radar(values[:2], marks) is None


def test_data_info_is_what_finetuning_trains_on(encoders: list[str], data: Path, tmp_path: Path) -> None:
    options = asked(encoders[:1], data, tmp_path, overrides=["protocols=finetune"])
    options.pop("out")
    study = verbs.build_study("transfer", **options)
    (part,) = [part for part in study.parts if part.name == "finetune-narrow-warm-seed0"]
    assert part.data_info == DataInfo(seed=0, labels=("green", "red"), images=18)  # pyright: ignore[reportAttributeAccessIssue]


def test_the_tiny_size_says_that_it_has_no_prompts(
    encoders: list[str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs: Any = {"size": "tiny", "encoders": encoders, "datasets": [str(data / "warm")]}
    batch = ["finetune.budget.batch_size=8", "finetune.budget.microbatch=8"]
    names = [part.name for part in transfer(**inputs, overrides=batch).parts]
    assert not any("vpt" in name for name in names)
    assert "left out: lowshot_vpt: the published 50 epochs of prompts" in capsys.readouterr().err
    transfer(**inputs, overrides=["protocols=lowshot"])
    assert "lowshot_vpt" not in capsys.readouterr().err, "who names protocols knows what is left out"
    parts = transfer(**inputs, overrides=["protocols=lowshot_vpt", "shots=2"]).parts
    assert [part.name for part in parts if "vpt" in part.name] == [
        "lowshot_vpt-2-narrow-warm-seed0",
        "lowshot_vpt-2-wide-warm-seed0",
    ]
