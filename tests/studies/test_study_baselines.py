"""Imported encoders as arms of the study: measured as the others are, each shown the images as it was made for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support import weights_examples as examples
from support.html_page import Page
from support.small_runs import make_textures
from underpaint import files, verbs
from underpaint.__main__ import main
from underpaint.data.near_duplicates.removal import without_duplicates
from underpaint.data.open_source import open_source
from underpaint.evals.knn import Knn
from underpaint.evals.transfer import transfer
from underpaint.models.weights import load_encoder
from underpaint.run.outputs import load_model
from underpaint.studies.baselines import open_baselines
from underpaint.studies.designs import design_of
from underpaint.weights.importing import import_weights

GIVEN = examples.TOLD
OVERRIDES = ["mae.budget.samples=320", "mae.budget.warmup=64"]
OVERRIDES += ["finetune.budget.samples=64", "finetune.budget.warmup=32", "mae.threads=1", "finetune.threads=1"]

pytestmark = pytest.mark.usefixtures("images_opened_once")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without tags, for a study without WSP."""
    folder = make_textures(tmp_path_factory.mktemp("own") / "images")
    (folder / "tags.csv").unlink()
    return folder


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another size, width and normalisation than the arms of the study."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(examples.maws_tensors(40), folder / "vit_x.pt")
    import_weights(folder / "vit_x.pt", folder / "maws tiny", [*GIVEN, "licence=MIT"])
    return folder / "maws tiny"


def study(images: Path, out: Path, **more: Any) -> dict[str, Any]:
    """The smoke study without tags, at a few batches."""
    labels = {"images": str(images), "labels": str(images / "labels.csv")}
    return {"size": "smoke", "out": out, **labels, "overrides": OVERRIDES, **more}


@pytest.mark.slow
def test_a_baseline_is_measured_and_reported(images: Path, baseline: Path, tmp_path: Path) -> None:
    arguments = study(images, tmp_path / "study", baselines=[str(baseline)])
    out = verbs.run_study("stages", seeds=(1,), **arguments)
    results = json.loads((out / "results.json").read_text())
    rows = [row for row in results["rows"] if row["arm"] == "maws_tiny"]
    assert {row["protocol"] for row in rows} == {"linear", "lowshot", "knn", "finetune"}
    assert len(rows) == len([row for row in results["rows"] if row["arm"] == "mae"])
    assert "maws_tiny" not in {stage["arm"] for stage in results["stages"]}
    (told,) = results["baselines"]
    assert (told["arm"], told["file"], told["licence"]) == ("maws_tiny", "vit_x.pt", "MIT")

    # its own images, against the protocol called by hand on the encoder where it was imported
    encoder = load_encoder(baseline)
    assert load_encoder(out / "baseline-maws_tiny").config == encoder.config
    digits, _ = without_duplicates(open_source("digits"), ())
    (score,) = transfer(
        encoder, digits, protocols=(Knn(dataset="digits", view="crop_oblong"),), seed=1, device=torch.device("cpu")
    )
    (row,) = [r for r in rows if (r["dataset"], r["protocol"], r["seed"]) == ("digits", "knn", 1)]
    assert row["value"] == pytest.approx(score.value)
    finetuned: Any = load_model(out / "finetune-maws_tiny-digits-seed1")
    c = finetuned.encoder.config
    assert (c.size, c.mean, c.view, c.width) == ((40, 40), encoder.config.mean, "crop", examples.WIDTH)
    recorded = files.read_json(out / "finetune-maws_tiny-digits-seed1" / "run.json")["run"]
    assert recorded["budget"]["samples"] == 64

    assert {s["contrast"] for s in results["summary"]} == {"mae - random", "mae - maws_tiny"}
    page = Page(out / "report.html")
    assert "Against the imported maws_tiny" in page.text
    table = page.tables["baselines-table"]
    assert [text for _, _, text in table[1]][:3] == [
        "maws_tiny",
        "ViT in the naming of timm (vit_x.pt)",
        "width 32, depth 2, patch 8",
    ]
    assert "40 x 40 px, centre cut" in page.text
    assert "no training cost here" in page.text
    assert "Training images of the baselines (maws_tiny)" in page.text
    assert "maws_tiny" in files.read_json(out / "pictures" / "pictures.json")["neighbours"]

    before = (out / "mae-seed1" / "result.json").stat().st_mtime_ns
    other = verbs.run_study("stages", seeds=(1,), **arguments | {"baselines": []})  # the rest stays as it is
    assert (other / "mae-seed1" / "result.json").stat().st_mtime_ns == before
    kept = json.loads((other / "results.json").read_text())
    assert [entry["arm"] for entry in kept["baselines"]] == ["maws_tiny"], "what a run leaves out it does not delete"
    assert kept["rows"] == results["rows"]
    assert kept["summary"] == results["summary"]


def test_the_plan_holds_a_baseline_s_finetuning(images: Path, baseline: Path, tmp_path: Path) -> None:
    arguments = study(images, tmp_path / "study", baselines=[str(baseline / "encoder")])
    plan = verbs.plan_study("stages", **arguments)
    parts = [row.part for row in plan]
    assert "finetune-maws_tiny-digits-seed0" in parts
    assert "baseline-maws_tiny" not in parts  # nothing is trained for it
    flops = {row.part: row.flops for row in plan}
    assert flops["finetune-maws_tiny-digits-seed0"] > 1.5 * flops["finetune-mae-digits-seed0"]
    verbs.run_study("stages", only=["baseline-maws_tiny"], **arguments)
    copied = load_encoder(tmp_path / "study" / "baseline-maws_tiny").state_dict()
    assert all(torch.equal(value, copied[name]) for name, value in load_encoder(baseline).state_dict().items())


def test_the_command_takes_a_folder_and_baselines(
    images: Path, baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(images), "--labels", str(images / "labels.csv"), "--baseline", str(baseline)]
    command = ["study", "stages", *OVERRIDES, "--size", "smoke", *given, "--out", str(tmp_path / "study"), "--plan"]
    assert main(command) == 0
    parts = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {"finetune-maws_tiny-images-seed0", "finetune-mae-images-seed0"} <= parts
    assert not [part for part in parts if part.startswith("wsp")], "the folder has no tags"


def test_what_the_user_can_mend(images: Path, baseline: Path, tmp_path: Path) -> None:
    tensors = examples.maws_tensors()
    grey = {name: value for name, value in tensors.items() if name != "patch_embed.proj.weight"}
    torch.save(grey | {"patch_embed.proj.weight": torch.ones(32, 1, 8, 8)}, tmp_path / "grey.pt")
    import_weights(tmp_path / "grey.pt", tmp_path / "grey", [GIVEN[0], "mean=0.5", "std=0.5"])
    torch.save(tensors, tmp_path / "x.pt")
    import_weights(tmp_path / "x.pt", tmp_path / "wsp", GIVEN)
    for given, message in (
        ([str(tmp_path / "wsp")], "is called 'wsp', as is an arm of the study"),
        ([str(baseline), str(baseline / "encoder")], "is called 'maws_tiny', as is another baseline"),
        ([str(tmp_path / "grey")], "takes images of 1 channels, those of the study have 3"),
        ([str(images)], "holds no encoder"),
    ):
        with pytest.raises(ValueError, match=message):
            verbs.plan_study("stages", **study(images, tmp_path / "study", baselines=given))
    with pytest.raises(ValueError, match="the study `ablations` compares with none"):
        verbs.plan_study("ablations", size="smoke", images=str(images), baselines=[str(baseline)])


def test_the_stored_values_are_those_of_the_study(baseline: Path) -> None:
    like = replace(design_of("smoke").mae.objective.encoder, value_range=(0.0, 65535.0))
    (one,) = open_baselines([str(baseline)], taken=(), like=like)
    assert one.config.value_range == (0.0, 65535.0)
    assert one.config.mean == load_encoder(baseline).config.mean
