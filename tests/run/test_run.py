"""A run as a whole, on real images: interrupted and continued, refused, recorded, and the same bits every time."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import underpaint
from support.small_runs import BATCH, ENCODER, RUNS, SendSignal, assert_same_bits, log_lines, mae_run, tensors, wsp_run
from underpaint import config
from underpaint.core import Classifier, Objective, Step
from underpaint.data.quarantine import TooManyBadRecords
from underpaint.models.vit import ViTConfig
from underpaint.objectives.mae import MAE
from underpaint.run import Run, execute, record
from underpaint.training.checkpoint import Checkpoints, DamagedCheckpoint
from underpaint.training.log import read_log
from underpaint.training.loop import NonFiniteLoss
from underpaint.training.signals import Interrupted

STOP = 3


@pytest.fixture(scope="module")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Undisturbed runs of every stage."""
    root = tmp_path_factory.mktemp("finished")
    for name, build in RUNS.items():
        execute(build(images), root / name)
    return root


def interrupt(run: Run, folder: Path, number: int = signal.SIGTERM) -> None:
    """Run until the first evaluation, in step 3, where a signal comes."""
    with pytest.raises(Interrupted, match=rf"stopped at step {STOP}; the state is saved in .*{folder.name}"):
        execute(replace(run, evals=(SendSignal(number=number),)), folder)
    assert not (folder / "result.json").exists()
    assert not (folder / "encoder").exists()


@pytest.fixture(scope="module")
def interrupted(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MAE run that stopped in the middle; tests copy it."""
    folder = tmp_path_factory.mktemp("interrupted") / "mae"
    interrupt(mae_run(images), folder)
    return folder


@pytest.fixture
def half(interrupted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(interrupted, tmp_path / "half"))


# The same bits


@pytest.mark.parametrize("stage", RUNS)
def test_interrupted_and_continued_is_the_same(images: Path, finished: Path, tmp_path: Path, stage: str) -> None:
    """Weights, moments, averages, BatchNorm's statistics and every number logged, for every stage and optimizer."""
    run, folder = RUNS[stage](images), tmp_path / "run"
    interrupt(run, folder, signal.SIGINT if stage == "wsp" else signal.SIGTERM)
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == ["step-00000002", "step-00000003"]
    execute(run, folder)
    for checkpoint in (folder / "checkpoints").glob("step-00000003"):
        shutil.rmtree(checkpoint)
    assert_same_bits(folder, finished / stage)


def test_a_lost_checkpoint_costs_time_and_no_bit(
    images: Path, half: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = half / "checkpoints" / "step-00000003" / "model-00000.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    execute(mae_run(images), half)
    said = capsys.readouterr().err
    assert "ALARM: checkpoint step-00000003 is damaged, renamed and passed over: model-00000.safetensors" in said
    assert "continues from step 2" in said
    assert_same_bits(half, finished / "mae")


def test_killed_between_the_last_checkpoint_and_the_product(
    images: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished / "mae", tmp_path / "run"))
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "model")
    (folder / "encoder" / "model.safetensors").write_bytes(b"")
    execute(mae_run(images), folder)
    assert "continues from step 6" in capsys.readouterr().err
    assert_same_bits(folder, finished / "mae")


def test_workers_change_no_bit(images: Path, finished: Path, tmp_path: Path) -> None:
    run = wsp_run(images)
    execute(replace(run, data=config.override(run.data, ["workers=2"])), tmp_path / "run")
    assert_same_bits(tmp_path / "run", finished / "wsp")


def test_seeds_change_everything_random(images: Path, finished: Path, tmp_path: Path) -> None:
    execute(replace(mae_run(images), seed=1), tmp_path / "run")
    mine, theirs = log_lines(tmp_path / "run"), log_lines(finished / "mae")
    assert len(mine) == len(theirs)
    assert all(a["loss"] != b["loss"] for a, b in zip(mine, theirs, strict=True) if "loss" in a)


def test_the_microbatch_changes_rounding_alone(images: Path, finished: Path, tmp_path: Path) -> None:
    run = mae_run(images)
    execute(replace(run, budget=replace(run.budget, microbatch=BATCH)), tmp_path / "run")
    for mine, theirs in zip(log_lines(tmp_path / "run"), log_lines(finished / "mae"), strict=True):
        if "loss" in mine:
            assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
            assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def test_training_learns(images: Path, tmp_path: Path) -> None:
    """To tell colours and shapes: from ln 6, equal scores of six labels, towards ln 2, the right two of them."""
    run = wsp_run(images, steps=60)
    run = config.override(run, ["optim.base_lr=0.2", "budget.microbatch=16", "cadence.save=10_000"])
    result = execute(run, tmp_path / "run")
    losses = [line["loss"] for line in read_log(tmp_path / "run" / "log.jsonl") if "loss" in line]
    assert losses[0] == pytest.approx(math.log(6), abs=0.1)
    assert math.log(2) < losses[-1] < 1.2
    assert result["metrics"]["hit"] > 0.8


def test_bf16_trains_to_about_the_same_loss(images: Path, finished: Path, tmp_path: Path) -> None:
    result = execute(replace(mae_run(images), precision="bf16"), tmp_path / "run")
    plain = json.loads((finished / "mae" / "result.json").read_text())
    assert result["metrics"]["loss"] != plain["metrics"]["loss"]
    assert result["metrics"]["loss"] == pytest.approx(plain["metrics"]["loss"], rel=0.02)
    assert {value.dtype for value in load_file(tmp_path / "run" / "model" / "model.safetensors").values()} == {
        torch.float32
    }


# Whose folder


IDENTITY = [
    ("optim.base_lr=1e-3", r"optim\.base_lr: was 0\.02, is 0\.001"),
    ("budget.samples=160", r"budget\.samples: was 96, is 160"),
    ("budget.batch_size=8", r"budget\.batch_size: was 16, is 8"),
    ("data.scale=0.2,1.0", r"data\.scale: was \[0\.4, 1\.0\], is \[0\.2, 1\.0\]"),
    ("objective.mask_ratio=0.5", r"objective\.mask_ratio: was 0\.75, is 0\.5"),
    ("precision=bf16", r"precision: was 'fp32', is 'bf16'"),
    ("seed=7", r"seed: was 0, is 7"),
    ("ema_decay=0.9", r"ema_decay: was 0\.0, is 0\.9"),
]


@pytest.mark.parametrize(("override", "message"), IDENTITY)
def test_another_configuration_is_refused_by_name(images: Path, half: Path, override: str, message: str) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in half.rglob("*") if path.name != ".lock")
    with pytest.raises(ValueError, match=f"holds a run of another configuration .*{message}.*; choose another --out"):
        execute(config.override(mae_run(images), [override]), half)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in half.rglob("*") if p.name != ".lock") == before


def test_moved_data_are_the_same_data(images: Path, half: Path, finished: Path, tmp_path: Path) -> None:
    """Content decides: a run goes on from a new mount point, to the same bits, and run.json says where its data are."""
    moved = Path(shutil.copytree(images, tmp_path / "moved"))
    again = Path(shutil.copytree(half, tmp_path / "again"))
    execute(mae_run(moved), again)
    assert_same_bits(again, finished / "mae")
    recorded = json.loads((again / "run.json").read_text())
    assert recorded["run"]["data"]["source"] == str(moved)
    assert "source" not in recorded["identity"]["run"]["data"]


def test_a_run_from_before_paths_were_operational_goes_on(
    images: Path, half: Path, finished: Path, tmp_path: Path
) -> None:
    again = Path(shutil.copytree(half, tmp_path / "again"))
    recorded = json.loads((again / "run.json").read_text())
    recorded["identity"]["run"]["data"] |= {"source": "/gone/images", "tags": "", "labels": ""}
    (again / "run.json").write_text(json.dumps(recorded))
    execute(mae_run(images), again)
    assert_same_bits(again, finished / "mae")


def test_other_data_are_refused(images: Path, half: Path, tmp_path: Path) -> None:
    run = mae_run(images)
    shutil.copy(images / "a" / "001.png", images / "a" / "zzz.png")
    try:
        with pytest.raises(ValueError, match=r"another configuration \(data: was '[0-9a-f]+', is '[0-9a-f]+'\)"):
            execute(run, half)
    finally:
        (images / "a" / "zzz.png").unlink()


def test_other_initial_weights_are_refused(images: Path, finished: Path, tmp_path: Path) -> None:
    run = replace(wsp_run(images), init_from=str(finished / "mae"))
    interrupt(run, tmp_path / "run")
    copy = Path(shutil.copytree(finished / "mae" / "encoder", tmp_path / "elsewhere"))
    assert execute(replace(run, init_from=str(copy)), tmp_path / "run")["steps"] == 6, "the same weights elsewhere"
    with pytest.raises(ValueError, match=r"another configuration \(init_from: was '[0-9a-f]+', is ''\)"):
        execute(replace(run, init_from=""), tmp_path / "run")


def test_operation_may_change_and_is_said(
    images: Path, half: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["threads=2", "cadence.save=48", "cadence.keep=32", "device=any"]
    execute(config.override(mae_run(images), overrides), half)
    said = capsys.readouterr().err
    assert "was started with 1 threads and keeps them (asked for: 2)" in said
    assert "cadence.save was 32, is now 48" in said
    assert torch.get_num_threads() == 1
    recorded = json.loads((half / "run.json").read_text())
    assert recorded["derived"]["threads"] == 1
    assert torch.equal(
        load_file(half / "model" / "model.safetensors")["decoder.mask_token"],
        load_file(finished / "mae" / "model" / "model.safetensors")["decoder.mask_token"],
    )


def test_a_folder_in_use_is_refused(images: Path, tmp_path: Path) -> None:
    with record.lock(tmp_path), pytest.raises(BlockingIOError, match=f"another process is working in {tmp_path}"):
        execute(mae_run(images), tmp_path)
    with record.lock(tmp_path):  # and free again
        pass


def test_somebody_elses_folder_is_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"is not empty and holds no run \(thesis\.tex\); choose another --out"):
        execute(mae_run(images), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_finished_run_is_returned(images: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "mae").rglob("*") if path.name != ".lock"}
    result = execute(mae_run(images), finished / "mae")
    assert result == json.loads((finished / "mae" / "result.json").read_text())
    assert "finished already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before


# Bad input


def test_a_batch_larger_than_the_data_and_its_mending(images: Path, tmp_path: Path) -> None:
    run = mae_run(images)
    large = replace(run, budget=replace(run.budget, samples=2000, batch_size=1000, microbatch=1000))
    with pytest.raises(ValueError, match=r"batch_size=1000 is more than the \d+ images that 'images' has"):
        execute(large, tmp_path / "run")
    assert execute(run, tmp_path / "run")["steps"] == 6, "what never trained keeps no folder from the mended run"


def test_a_microbatch_that_does_not_divide(images: Path, tmp_path: Path) -> None:
    run = mae_run(images)
    with pytest.raises(ValueError, match=r"microbatch=5.* divide batch_size=16"):
        execute(replace(run, budget=replace(run.budget, microbatch=5)), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: replace(run, init_from="nowhere/at/all"), "nowhere/at/all holds no encoder"),
        (lambda run: config.override(run, ["objective.encoder.width=32"]), "has width=16, this run has width=32"),
        (lambda run: config.override(run, ["objective.encoder.depth=3"]), "has depth=2, this run has depth=3"),
        (lambda run: config.override(run, ["objective.encoder.patch=8"]), "has patch=4, this run has patch=8"),
    ],
)
def test_weights_that_do_not_fit(
    images: Path, finished: Path, tmp_path: Path, change: Callable[[Run], Run], message: str
) -> None:
    run = change(replace(wsp_run(images), init_from=str(finished / "mae")))
    with pytest.raises(ValueError, match=message):
        execute(run, tmp_path / "run")


def test_an_unfinished_run_hands_nothing_over(images: Path, half: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a run that has not finished: it has no encoder/ yet; continue it first"):
        execute(replace(wsp_run(images), init_from=str(half)), tmp_path / "run")


def test_an_encoder_may_be_started_from_at_another_size(images: Path, finished: Path, tmp_path: Path) -> None:
    run = replace(wsp_run(images, steps=2), init_from=str(finished / "mae"))
    assert isinstance(run.objective.encoder, ViTConfig)
    wide = config.override(run, ["objective.encoder.size=16,24"])
    execute(wide, tmp_path / "run")
    assert underpaint.load_encoder(tmp_path / "run")(torch.zeros(1, 3, 16, 24)).shape == (1, 1 + 4 * 6, ENCODER.width)


def test_an_evaluation_that_cannot_be_recorded_says_how(images: Path, tmp_path: Path) -> None:
    class Plain:
        needs: ClassVar[type] = Objective

        def __call__(self, objective: nn.Module) -> dict[str, float]:
            return {}

    with pytest.raises(ValueError, match=r"Plain.* cannot be recorded in run\.json; make it a frozen dataclass"):
        execute(replace(mae_run(images), evals=(Plain(),)), tmp_path / "run")


def test_an_evaluation_that_does_not_fit_ends_it_before_the_first_step(images: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Accuracy:
        needs: ClassVar[type] = Classifier

        def __call__(self, objective: nn.Module) -> dict[str, float]:
            pytest.fail("it was asked")

    with pytest.raises(ValueError, match="Accuracy needs a Classifier, mae_test is not one"):
        execute(replace(mae_run(images), evals=(Accuracy(),)), tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"device=cuda is not available here; this machine has .*cpu"):
        execute(replace(mae_run(images), device="cuda"), tmp_path / "run")


@pytest.mark.parametrize(
    "change", [{"ema_decay": 1.0}, {"ema_decay": -0.1}, {"threads": 0}], ids=["ema 1", "ema -", "threads"]
)
def test_values_out_of_range(images: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(mae_run(images), **change)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"samples": 8}, r"budget\.samples=8 is less than one batch of batch_size=16"),
        ({"warmup": 96}, r"budget\.warmup=96 must be shorter than budget\.samples=96"),
        ({"warmup": -1}, r"budget\.warmup=-1"),
        ({"microbatch": 0}, r"budget\.microbatch=0 must be at least 1"),
    ],
)
def test_budgets_are_checked(images: Path, budget: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(mae_run(images).budget, **budget)


def test_bad_records_are_counted_and_too_many_end_the_run(images: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(images, tmp_path / "images"))
    names = [f"a/{number:03d}.png" for number in (1, 2, 4, 5, 7, 8)]
    (mine / names[0]).write_bytes((mine / names[0]).read_bytes()[:300])
    result = execute(mae_run(mine, steps=12), tmp_path / "run")  # several epochs: it is met and counted once
    bad = [json.loads(line) for line in (tmp_path / "run" / "bad_records.jsonl").read_text().splitlines()]
    assert [record["key"] for record in bad] == [names[0]]
    assert result["bad_records"] == 1
    for name in names:
        (mine / name).write_bytes(b"no image")
    with pytest.raises(TooManyBadRecords, match=r"bad_records\.jsonl"):
        execute(mae_run(mine, steps=12), tmp_path / "other")


def test_numbers_that_explode_end_the_run(images: Path, tmp_path: Path) -> None:
    run = replace(mae_run(images, steps=60), max_skipped=3)
    run = replace(run, optim=replace(run.optim, base_lr=1e30))
    with pytest.raises(NonFiniteLoss, match=r"3 steps in a row, up to step \d+; a lower optim\.base_lr"):
        execute(run, tmp_path / "run")
    assert [line["loss"] for line in read_log(tmp_path / "run" / "log.jsonl") if "loss" in line][-3:] == [None] * 3


# The disk


def test_a_full_disk_alarms_and_keeps_the_old_checkpoint(
    images: Path, half: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One failure in the middle costs nothing but an alarm."""
    save = Checkpoints.save

    def failing_once(self: Checkpoints, state: Any) -> Path:
        if state.step == 4:
            raise OSError(28, "No space left on device")
        return save(self, state)

    monkeypatch.setattr(Checkpoints, "save", failing_once)
    execute(mae_run(images), half)
    alarms = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ALARM")]
    assert len(alarms) == 1
    assert "the checkpoint of step 4 was not saved" in alarms[0]
    assert "the newest good one is step-00000003" in alarms[0]
    assert tensors(half).keys() == tensors(finished / "mae").keys()


def test_without_a_good_checkpoint_nothing_starts_over(images: Path, half: Path) -> None:
    for manifest in half.glob("checkpoints/*/manifest.json"):
        manifest.write_text("")
    for _ in range(2):
        with pytest.raises(DamagedCheckpoint, match=r"no checkpoint in .* is usable"):
            execute(mae_run(images), half)


# The record


def test_the_records_of_a_run(images: Path, finished: Path) -> None:
    folder, run = finished / "mae", mae_run(images)
    names = {path.name for path in folder.iterdir()}
    assert names - {".lock"} == {
        *("run.json", "env.json", "log.jsonl", "result.json", "preview.png"),
        *("checkpoints", "model", "encoder", "tensorboard"),
    }
    assert not [path for path in folder.rglob("*") if path.name.endswith((".part", ".old"))]
    recorded = json.loads((folder / "run.json").read_text())
    assert recorded["format"] == 1
    assert recorded["run"] == json.loads(json.dumps(config.record(run)))
    derived = recorded["derived"]
    source = underpaint_source(images)
    assert derived["images"] == len(source)
    assert derived["steps"] == 6
    assert derived["accumulation"] == 2
    assert derived["epochs"] == pytest.approx(96 / len(source))
    assert derived["peak_lr"] == pytest.approx(0.02 * 16 / 256)
    assert derived["device"] == "cpu"
    assert derived["threads"] == 1
    result = json.loads((folder / "result.json").read_text())
    assert result["format"] == 1
    assert (result["name"], result["stage"], result["seed"]) == ("mae_test", "mae", 0)
    assert (result["samples"], result["steps"], result["bad_records"]) == (96, 6, 0)
    assert result["train_flops"] == derived["train_flops"] > 0
    assert result["wall_seconds"] > 0
    assert result["images_per_second"] == pytest.approx(96 / result["wall_seconds"])
    lines = read_log(folder / "log.jsonl")
    last = [line for line in lines if "loss" in line][-1]
    assert result["metrics"] == {
        "loss": last["loss"],
        "lr": last["lr"],
        "grad_norm": last["grad_norm"],
        "flat_patches": last["flat_patches"],
        "heldout_loss": [line for line in lines if "eval" in line][-1]["eval"]["heldout_loss"],
    }
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "eval" in line] == [3, 6]
    assert all(line["samples"] == BATCH * line["step"] for line in lines)
    assert last["train_flops"] == result["train_flops"]


def underpaint_source(images: Path) -> list[int]:
    opened = mae_run(images).data.open()
    return opened.source.rows("pretrain")


def test_every_start_is_recorded_with_its_lineage(images: Path, finished: Path, tmp_path: Path) -> None:
    run = replace(wsp_run(images), init_from=str(finished / "mae"))
    interrupt(run, tmp_path / "run")
    execute(run, tmp_path / "run", overrides=["optim.base_lr=2e-2"])
    environment = json.loads((tmp_path / "run" / "env.json").read_text())
    assert environment["format"] == 1
    weights = json.loads((finished / "mae" / "encoder" / "config.json").read_text())["weights"]
    assert environment["lineage"] == {"init_from": str(finished / "mae"), "weights": weights["xxh3"]}
    assert len(environment["starts"]) == 2
    for start in environment["starts"]:
        assert start["versions"]["torch"] == torch.__version__
        assert start["versions"]["underpaint"] == underpaint.__version__
        assert start["cores"] == os.cpu_count()
        assert {"time", "command", "python", "platform", "processor", "gpu"} <= start.keys()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["overrides"] == ["optim.base_lr=2e-2"]


def test_images_without_a_label_are_left_out_and_said(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = wsp_run(images, steps=2)
    few = replace(run, data=config.override(run.data, ["vocabulary_size=2"]))  # wide and tall: on every image
    execute(few, tmp_path / "few")
    assert "no label of the vocabulary" not in capsys.readouterr().err
    rows = (images / "tags.csv").read_text().splitlines()
    (tmp_path / "tags.csv").write_text("\n".join(row for n, row in enumerate(rows) if n % 2 == 0))
    half = replace(run, data=config.override(run.data, [f"tags={tmp_path / 'tags.csv'}"]))
    execute(half, tmp_path / "half")
    derived = json.loads((tmp_path / "half" / "run.json").read_text())["derived"]
    assert derived["untagged_images"] > 10
    said = f"{derived['untagged_images']} images have no label of the vocabulary and are left out"
    assert said in capsys.readouterr().err


def test_a_foreign_record_is_no_run(images: Path, tmp_path: Path) -> None:
    """A run.json of somebody else's keeps us out, and nothing beside it is touched."""
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "precious.txt").write_text("mine")
    for content in ('{"my": "own file"}', "[]", "5"):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(ValueError, match="is not a record of a run"):
            execute(mae_run(images), tmp_path)
        assert (tmp_path / "run.json").read_text() == content
    assert (tmp_path / "encoder" / "precious.txt").read_text() == "mine"


def test_a_lock_of_somebody_else_is_neither_followed_nor_emptied(images: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to("../thesis.tex")
    with pytest.raises(OSError, match="symbolic"):
        execute(mae_run(images), tmp_path / "out")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_diverged_run_hands_nothing_over(images: Path, tmp_path: Path) -> None:
    run = mae_run(images, steps=3)
    with pytest.raises(ValueError, match="has diverged"):
        execute(replace(run, optim=replace(run.optim, weight_decay=1e30)), tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "encoder").exists()


def poison(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> dict[str, torch.Tensor]:
    """Make the loss of MAE no number at some positions of the stream; the weights as they are there, once it came."""
    plain, weights = MAE.forward, dict[str, torch.Tensor]()

    def forward(network: MAE, batch: Any) -> Step:
        step = plain(network, batch)
        if not bad & set(batch["position"].tolist()):
            return step
        weights.update({name: value.clone() for name, value in network.state_dict().items()})
        return Step(step.loss * math.nan, step.scalars)

    monkeypatch.setattr(MAE, "forward", forward)
    return weights


def test_a_run_whose_last_step_was_skipped_hands_over_what_it_has(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights are those before the last step."""
    before = poison(monkeypatch, {16 * 5})
    run = replace(mae_run(images, steps=6), ema_decay=0.0)
    result = execute(run, tmp_path / "run")
    assert result["skipped_windows"] == [[80, 96]]
    assert "its last 1 steps were skipped; it saves the weights of the steps before" in capsys.readouterr().err
    product = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in product.items())
    assert execute(run, tmp_path / "run") == result, "it is finished"


def test_a_run_that_took_hardly_a_step_at_last_has_diverged(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {16 * step for step in range(1, 10) if step != 5})
    with pytest.raises(NonFiniteLoss, match=r"has diverged: 8 of its last 10 steps were skipped"):
        execute(replace(mae_run(images, steps=10), max_skipped=9), tmp_path / "run")
    assert not (tmp_path / "run" / "encoder").exists()
