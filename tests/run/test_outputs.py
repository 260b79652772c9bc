"""What a finished run hands over, loaded again: the same outputs, and nothing damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import underpaint
from support.small_runs import ENCODER, RUNS, mae_run, make_images
from underpaint.core import Classifier, DataInfo
from underpaint.models.vit import ViTConfig
from underpaint.objectives.mae import MAE, MAEConfig
from underpaint.run import execute
from underpaint.run.outputs import load_model, write_sheet


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of each stage."""
    root = tmp_path_factory.mktemp("products")
    images = make_images(root / "images")
    for name, build in RUNS.items():
        run = build(images, steps=3)
        execute(run if name == "mae" else replace(run, init_from=str(root / "mae")), root / name)
    return root


def pictures(count: int = 3) -> Tensor:
    return torch.randn(count, 3, *ENCODER.size, generator=torch.Generator().manual_seed(0))


def last_checkpoint(folder: Path, group: str) -> dict[str, Tensor]:
    return load_file(folder / "checkpoints" / "step-00000003" / f"{group}-00000.safetensors")


@pytest.mark.parametrize(("name", "group"), [("mae", "model"), ("wsp", "average"), ("finetune", "model")])
def test_the_product_is_the_last_state_and_its_average_where_one_is_kept(runs: Path, name: str, group: str) -> None:
    trained = last_checkpoint(runs / name, group)
    product = load_file(runs / name / "model" / "model.safetensors")
    assert trained.keys() == product.keys()
    assert all(torch.equal(value, product[key]) for key, value in trained.items())
    if group == "average":
        raw = last_checkpoint(runs / name, "model")
        assert any(not torch.equal(value, product[key]) for key, value in raw.items())
    encoder = load_file(runs / name / "encoder" / "model.safetensors")
    assert encoder.keys() == {key.removeprefix("encoder.") for key in product if key.startswith("encoder.")}
    assert all(torch.equal(value, product[f"encoder.{key}"]) for key, value in encoder.items())


@pytest.mark.parametrize("name", RUNS)
def test_encoder_and_model_give_the_same_tokens(runs: Path, name: str) -> None:
    model: Any = underpaint.load_model(runs / name)
    encoder = underpaint.load_encoder(runs / name)
    assert not model.training
    assert not encoder.training
    assert not any(part.training for part in model.modules())
    with torch.no_grad():
        tokens = encoder(pictures())
        assert torch.equal(tokens, model.encoder(pictures()))
        assert torch.equal(underpaint.load_encoder(runs / name / "encoder")(pictures()), tokens)
        assert torch.equal(underpaint.load_encoder(str(runs / name))(pictures()), tokens)
    assert tokens.shape == (3, 1 + ENCODER.num_patches, ENCODER.width)
    assert tokens.dtype == torch.float32


@pytest.mark.parametrize("name", ["wsp", "finetune", "linear"])
def test_a_loaded_classifier_scores_by_hand(runs: Path, name: str) -> None:
    model = load_model(runs / name)
    assert isinstance(model, Classifier)
    weights = load_file(runs / name / "model" / "model.safetensors")
    with torch.no_grad():
        feature = underpaint.load_encoder(runs / name)(pictures())[:, 0]
        if name == "linear":
            feature = (feature - weights["batch_norm.running_mean"]) / (weights["batch_norm.running_var"] + 1e-6).sqrt()
        expected = feature @ weights["head.weight"].T + weights["head.bias"]
        torch.testing.assert_close(model.logits(pictures()), expected)
    labels = json.loads((runs / name / "model" / "labels.json").read_text())
    colours = ["black", "blue", "green", "red"]
    if name == "wsp":  # tags, the most frequent first
        assert sorted(labels["labels"]) == sorted([*colours, "tall", "wide"])
        assert set(labels["labels"][:2]) == {"tall", "wide"}
        assert labels["count"] == sorted(labels["count"], reverse=True)
    else:
        assert labels["labels"] == colours
    assert len(labels["labels"]) == expected.shape[1]


def test_the_encoder_config_says_how_to_feed_it(runs: Path) -> None:
    encoder = underpaint.load_encoder(runs / "mae")
    assert isinstance(encoder.config, ViTConfig)
    assert encoder.config == ENCODER
    with pytest.raises(ValueError, match=r"shape \(1, 3, 20, 16\) .* takes normalised floats \(b, 3, 16, 16\)"):
        encoder(torch.zeros(1, 3, 20, 16))


def test_a_later_stage_starts_from_the_earlier_one(runs: Path) -> None:
    """The linear probe does not touch its encoder: it is the one of MAE, bit for bit."""
    mae, linear = (load_file(runs / name / "encoder" / "model.safetensors") for name in ("mae", "linear"))
    assert mae.keys() == linear.keys()
    assert all(torch.equal(value, linear[name]) for name, value in mae.items())


def test_the_preview_shows_images_masks_and_reconstructions(runs: Path) -> None:
    with Image.open(runs / "mae" / "preview.png") as sheet:
        assert sheet.mode == "RGB"
        side = 16 * (144 // 16) + 8  # enlarged, with a white border of 4
        assert sheet.size == (8 * side, 3 * side)
        first, second = sheet.crop((0, 0, side, side)), sheet.crop((0, side, side, 2 * side))
        assert first.getpixel((0, 0)) == (255, 255, 255)
        assert first.tobytes() != second.tobytes()
        grey = np.isin(np.asarray(second)[..., 0], (127, 128)).sum() / (16 * 9) ** 2
        assert grey == pytest.approx(0.75, abs=0.02), "three quarters are hidden"
    assert not (runs / "wsp" / "preview.png").exists(), "classifiers have nothing to show"


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_sheet_of_any_channels(tmp_path: Path, channels: int) -> None:
    rows = torch.zeros(2, 3, channels, 6, 10)
    rows[0, 1] = 1.0
    write_sheet(tmp_path / "sheet.png", rows)
    with Image.open(tmp_path / "sheet.png") as sheet:
        factor = 144 // 10
        width, height = 10 * factor + 8, 6 * factor + 8
        assert sheet.size == (3 * width, 2 * height)
        pixels = [sheet.getpixel((width * column + width // 2, height // 2)) for column in range(3)]
    assert pixels == [(0, 0, 0), (255, 255, 255), (0, 0, 0)]


def flip_bit(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def cut_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-8])


def edit(name: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config[name] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["config"] |= {"width": 32} if "width" in config["config"] else {}
    config["config"].get("encoder", {})["width"] = 32
    (folder / "config.json").write_text(json.dumps(config))


DAMAGES: list[tuple[Callable[[Path], Any], str]] = [
    (flip_bit, "does not match the checksum"),
    (cut_weights, "the file is damaged"),
    (lambda folder: (folder / "model.safetensors").unlink(), "no encoder|holds no saved network"),
    (lambda folder: (folder / "config.json").unlink(), "holds no saved network"),
    (lambda folder: (folder / "config.json").write_text("{"), "is not valid JSON"),
    (lambda folder: (folder / "config.json").write_text("[]"), "is not of format 1"),
    (edit("format", 2), "may come from a newer release"),
    (edit("weights", None), "the file is damaged"),
    (edit("config", {}), "missing or unknown fields"),
    (edit("type", "resnet"), "resnet"),
    (another_width, "has shape"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
@pytest.mark.parametrize("part", ["encoder", "model"])
def test_damaged_folders_are_refused(
    runs: Path, tmp_path: Path, part: str, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(runs / "wsp", folder)
    damage(folder / part)
    load: Callable[[Path], Any] = underpaint.load_encoder if part == "encoder" else underpaint.load_model
    with pytest.raises(ValueError, match=message):
        load(folder / part)


def test_folders_that_hold_nothing_are_told_apart(tmp_path: Path, runs: Path) -> None:
    with pytest.raises(ValueError, match="holds no encoder; give a finished run folder"):
        underpaint.load_encoder(tmp_path)
    with pytest.raises(ValueError, match="holds no encoder"):
        underpaint.load_encoder(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="has not finished"):
        underpaint.load_encoder(tmp_path)
    with pytest.raises(ValueError, match="holds no saved network"):
        underpaint.load_model(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"mae:MAEConfig', not an encoder; give the run's encoder/ folder",
    ):
        underpaint.load_encoder(runs / "mae" / "model")


@dataclass(frozen=True, kw_only=True)
class OwnConfig(MAEConfig):
    """An objective of one's own, known to nobody."""

    def build(self, data_info: DataInfo) -> MAE:
        return MAE(self, seed=data_info.seed)


def test_an_objective_of_ones_own_loads_by_its_class(tmp_path: Path) -> None:
    run = mae_run(make_images(tmp_path / "images"), steps=2)
    assert isinstance(run.objective, MAEConfig)
    run = replace(run, objective=OwnConfig(encoder=run.objective.encoder, decoder=run.objective.decoder))
    execute(run, tmp_path / "run")
    with pytest.raises(ValueError, match=r":OwnConfig, which is not one of this package; name its class"):
        load_model(tmp_path / "run")
    assert isinstance(load_model(tmp_path / "run", config_type=OwnConfig), MAE)


@pytest.mark.parametrize(
    "name", ["os:system", "underpaint.files:write_json", "underpaint.objectives.mae:MAE", "evil:Config", ""]
)
def test_a_file_names_no_module_to_import(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also where such a module is there: only objectives of this package are found by their recorded name."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(runs / "mae" / "model", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"type": name}))
    with pytest.raises(ValueError, match="which is not one of this package"):
        load_model(tmp_path / "model")


def test_folders_from_before_names_had_modules_load(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "mae" / "model", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"type": "MAEConfig"}))
    assert isinstance(load_model(tmp_path / "model"), MAE)
