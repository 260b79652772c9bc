"""Exports, loaded by the tools they are for: the same outputs, and imported again the same bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import VisionTransformer

from support import weights_examples as examples
from support.small_runs import RUNS, make_images
from support.weights_examples import CLASSES, HEADS, images
from underpaint import config as configs
from underpaint import files
from underpaint.core import DataInfo
from underpaint.data.loader import read_images
from underpaint.data.open_source import open_source
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import save_encoder, save_module
from underpaint.objectives.classify import ClassifyConfig
from underpaint.run import execute
from underpaint.weights import exporting
from underpaint.weights.exporting import export_weights
from underpaint.weights.importing import import_weights

TOKENS = ["timm", "hf", "torchvision", "onnx", "safetensors"]
FOLDERS = [tool for tool in TOKENS if tool != "onnx"]
"""Those whose exports can be imported again."""


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def maws(folder: Path, classes: int = 0) -> Path:
    torch.save(examples.swag_tensors(classes), folder / "vit.torch")
    import_weights(folder / "vit.torch", folder / "in", [f"heads={HEADS}"])
    return folder / "in"


def expected(classes: int = 0) -> Tensor:
    plain = examples.maws_tensors(classes=classes)
    found = examples.plain_forward(plain, images())
    return found[:, 0] @ plain["head.weight"].T + plain["head.bias"] if classes else found


@torch.no_grad()
@pytest.mark.parametrize("classes", [0, CLASSES])
def test_timm(tmp_path: Path, classes: int) -> None:
    result = export_weights(maws(tmp_path, classes), "timm", tmp_path / "timm")
    model: Any = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    close(model(images()) if classes else model.forward_features(images()), expected(classes))
    assert result["verified"]
    assert result["difference"] <= 1e-5 * 10
    data = timm.data.resolve_model_data_config(model)
    assert (data["crop_pct"], data["interpolation"], data["input_size"]) == (1.0, "bicubic", (3, 32, 32))


@torch.no_grad()
def test_timm_by_the_name_of_a_usual_size(tmp_path: Path) -> None:
    """``create_model`` with a checkpoint_path needs neither config.json nor code."""
    theirs = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=32)
    torch.save({"model": examples.shake(theirs).state_dict()}, tmp_path / "x.pth")
    import_weights(tmp_path / "x.pth", tmp_path / "in")
    export_weights(tmp_path / "in", "timm", tmp_path / "out")
    assert files.read_json(tmp_path / "out" / "config.json")["architecture"] == "vit_tiny_patch16_224"
    path = tmp_path / "out" / "model.safetensors"
    again: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, checkpoint_path=path)
    assert torch.equal(again.eval()(images()), theirs.eval()(images()))


@torch.no_grad()
def test_hf_encoder(tmp_path: Path) -> None:
    export_weights(maws(tmp_path), "hf", tmp_path / "hf")
    model = transformers.AutoModel.from_pretrained(tmp_path / "hf").eval()
    assert isinstance(model, transformers.ViTModel)
    close(model(images()).last_hidden_state, expected())


@torch.no_grad()
def test_hf_classifier(tmp_path: Path) -> None:
    export_weights(maws(tmp_path, CLASSES), "hf", tmp_path / "hf")
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "hf").eval()
    close(model(images()).logits, expected(CLASSES))
    assert model.config.id2label[3] == "3"


@torch.no_grad()
def test_hf_mae(tmp_path: Path) -> None:
    """The run folder gives the encoder, its ``model/`` the network with the decoder."""
    examples.hf_mae(tmp_path / "theirs", layer_norm_eps=1e-6)
    import_weights(tmp_path / "theirs", tmp_path / "in")
    export_weights(tmp_path / "in", "hf", tmp_path / "encoder")
    assert isinstance(transformers.AutoModel.from_pretrained(tmp_path / "encoder"), transformers.ViTModel)
    export_weights(tmp_path / "in" / "model", "hf", tmp_path / "mae")
    first = transformers.ViTMAEForPreTraining.from_pretrained(tmp_path / "theirs").eval()
    again = transformers.ViTMAEForPreTraining.from_pretrained(tmp_path / "mae").eval()
    noise = torch.rand(3, 16)
    assert torch.equal(first(images(), noise=noise).logits, again(images(), noise=noise).logits)


@torch.no_grad()
@pytest.mark.parametrize("classes", [0, CLASSES])
def test_torchvision(tmp_path: Path, classes: int) -> None:
    export_weights(maws(tmp_path, classes), "torchvision", tmp_path / "tv")
    arguments = files.read_json(tmp_path / "tv" / "config.json")["torchvision"]
    model = VisionTransformer(**arguments, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6)).eval()
    if not classes:
        model.heads = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    model.load_state_dict(load_file(tmp_path / "tv" / "model.safetensors"))
    close(model(images()), expected(classes) if classes else expected()[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("classes", [0, CLASSES])
def test_onnx(tmp_path: Path, classes: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    result = export_weights(maws(tmp_path, classes), "onnx", tmp_path / "onnx")
    assert result["verified"]
    assert b".py" not in (tmp_path / "onnx" / "model.onnx").read_bytes()  # no stack traces with paths of this machine
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    for count in (1, 3):
        (found,) = session.run(None, {"image": images()[:count].numpy()})
        close(torch.from_numpy(found), expected(classes)[:count], 1e-4)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("source", ["timm mean", "hf", "hf classifier"])
def test_onnx_of_other_forms(tmp_path: Path, source: str) -> None:
    """A norm of the mean, an epsilon of 1e-12: the graph against the network that it was imported from."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    theirs = PEERS[source](tmp_path / "source")
    import_weights(tmp_path / "source", tmp_path / "in")
    assert export_weights(tmp_path / "in", "onnx", tmp_path / "onnx")["difference"] <= 1e-4
    (found,) = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx").run(None, {"image": images().numpy()})
    out = theirs(images())
    close(torch.from_numpy(found), out if source == "timm mean" else out[0], 1e-4)


def timm_mean(folder: Path) -> Any:
    model = examples.timm_model(num_classes=CLASSES, global_pool="avg")
    examples.timm_folder(folder, model, crop_mode="squash")
    return model


PEERS: dict[str, Callable[[Path], Any]] = {
    "timm mean": timm_mean,
    "hf": examples.hf_vit,
    "hf classifier": examples.hf_classifier,
}
SOURCES: dict[str, Callable[[Path], Any]] = {
    "bare": lambda folder: torch.save(examples.maws_tensors(), folder / "vit_x.pt"),
    "finetuned": lambda folder: torch.save(examples.swag_tensors(CLASSES), folder / "vit.torch"),
    "timm": lambda folder: examples.timm_folder(folder, examples.timm_model(num_classes=CLASSES)),
    **PEERS,
    "hf mae": lambda folder: examples.hf_mae(folder),
    "mae": lambda folder: torch.save({"model": examples.mae_tensors()}, folder / "mae_pretrain_vit_full.pth"),
    "torchvision": lambda folder: torch.save(examples.torchvision_model().state_dict(), folder / "vit.pth"),
}
GOES_TO = {
    "bare": FOLDERS,
    "finetuned": FOLDERS,
    "timm": FOLDERS,
    "timm mean": ["timm", "safetensors"],
    "hf": ["hf", "safetensors"],
    "hf classifier": ["hf", "safetensors"],
    "hf mae": ["hf", "safetensors"],
    "mae": ["hf", "safetensors"],
    "torchvision": FOLDERS,
}
BACK = [(source, to) for source, tools in GOES_TO.items() for to in tools]


@pytest.mark.parametrize(("source", "to"), BACK)
def test_import_export_import_gives_the_same_bits(tmp_path: Path, source: str, to: str) -> None:
    (tmp_path / "source").mkdir()
    SOURCES[source](tmp_path / "source")
    given = [] if "timm" in source or "hf" in source else examples.TOLD[:]
    given += ["decoder_heads=2"] if source == "mae" else []
    single = list((tmp_path / "source").iterdir())
    import_weights(single[0] if len(single) == 1 else tmp_path / "source", tmp_path / "first", given)
    whole = tmp_path / "first" / "model" if (tmp_path / "first" / "model").is_dir() else tmp_path / "first"
    result = export_weights(whole, to, tmp_path / "export")
    assert result["verified"]
    import_weights(tmp_path / "export", tmp_path / "second")
    for part in ("encoder", "model"):
        assert (tmp_path / "first" / part).is_dir() == (tmp_path / "second" / part).is_dir()
        if (tmp_path / "first" / part).is_dir():
            first, second = (load_file(tmp_path / name / part / "model.safetensors") for name in ("first", "second"))
            assert first.keys() == second.keys()
            assert all(torch.equal(first[name], second[name]) for name in first)
            records = [files.read_json(tmp_path / name / part / "config.json") for name in ("first", "second")]
            assert with_whole_pixels(records[0]["config"]) == with_whole_pixels(records[1]["config"])
    licence = files.read_json(tmp_path / "second" / "encoder" / "config.json")["origin"]["licence"]
    assert licence.lower() == result["licence"].lower()


def with_whole_pixels(config: dict[str, Any]) -> dict[str, Any]:
    """A record with the short side before the crop instead of its share: transformers knows whole pixels only."""
    if "encoder" in config:
        return config | {"encoder": with_whole_pixels(config["encoder"])}
    return config | {"crop_share": int(32 / config.get("crop_share", 1.0))}


def save(folder: Path, config: ViTConfig) -> Path:
    torch.manual_seed(0)
    vit = examples.shake(ViT(config))
    save_encoder(folder / "encoder", vit)
    return folder


SMALL: dict[str, Any] = {"size": (32, 32), "patch": 8, "width": 32, "depth": 2, "heads": 4, "positions": "learned"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "refusals"),
    [
        ({"size": (24, 40)}, {"hf": "square images", "torchvision": "square images"}),
        (
            {"channels": 5, "mean": (0.5,) * 5, "std": (0.5,) * 5},
            {"hf": "3 channels, this network 5", "torchvision": "3 channels, this network 5"},
        ),
        pytest.param(
            {"norm_eps": 1e-12},
            {"timm": "epsilon 1e-06", "torchvision": "epsilon 1e-06"},
        ),
        ({"final_norm": False}, {"timm": "no final norm", "torchvision": "no final norm", "hf": "mean of the patches"}),
        pytest.param({"value_range": (10.0, 200.0)}, {"hf": "values from 0"}),
    ],
)
def test_shapes_that_a_tool_cannot_express_are_refused_and_the_others_work(
    tmp_path: Path, change: dict[str, Any], refusals: dict[str, str]
) -> None:
    folder = save(tmp_path / "run", ViTConfig(**(SMALL | change)))
    for to in TOKENS:
        out = tmp_path / to
        if to in refusals:
            with pytest.raises(ValueError, match=refusals[to]):
                export_weights(folder, to, out)
            assert not out.exists()
        else:
            assert export_weights(folder, to, out)["verified"]


@torch.no_grad()
def test_the_batch_norm_of_a_linear_probe_goes_into_the_head(tmp_path: Path) -> None:
    encoder = ViTConfig(**SMALL)
    config = ClassifyConfig(encoder=encoder, stage="linear", frozen_encoder=True, batch_norm=True, head_init_std=0.1)
    model: Any = config.build(DataInfo(seed=0, labels=("a", "b", "c")))
    model.batch_norm.running_mean.uniform_(-1, 1)
    model.batch_norm.running_var.uniform_(0.5, 2)
    description = {"type": "ClassifyConfig", "config": configs.record(config), "facts": {"seed": 0, "images": 0}}
    labels = {"labels.json": {"format": 1, "labels": ["a", "b", "c"], "count": []}}
    save_module(tmp_path / "run" / "model", model, description, labels)
    export_weights(tmp_path / "run", "timm", tmp_path / "timm")
    theirs: Any = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    close(theirs(images()), model.eval().logits(images()))


def test_nothing_is_overwritten_and_unknown_tools_are_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "run", ViTConfig(**SMALL))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        export_weights(folder, "timm", tmp_path / "out")
    with pytest.raises(ValueError, match=r"did you mean torchvision\?"):
        export_weights(folder, "torchvison", tmp_path / "other")
    with pytest.raises(ValueError, match="holds no encoder"):
        export_weights(tmp_path / "out", "timm", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_an_export_that_differs_is_not_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "run", ViTConfig(**SMALL))
    broken = replace(exporting.TIMM, compare=lambda part, subject: (2e-5, 1.0))
    monkeypatch.setitem(exporting.TOOLS, "timm", broken)
    with pytest.raises(ValueError, match=r"outputs that differ by 2\.0e-05"):
        export_weights(folder, "timm", tmp_path / "out")
    unknown = replace(exporting.TIMM, compare=lambda part, subject: (float("nan"), 1.0))
    monkeypatch.setitem(exporting.TOOLS, "timm", unknown)
    with pytest.raises(ValueError, match="differ by nan"):
        export_weights(folder, "timm", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_missing_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "run", ViTConfig(**SMALL))
    absent = replace(exporting.TIMM, packages=("no_such_package",))
    monkeypatch.setitem(exporting.TOOLS, "timm", absent)
    result = export_weights(folder, "timm", tmp_path / "out")
    assert not result["verified"]
    assert "not verified: no_such_package is not installed" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("view", ["stretch", "crop"])
@pytest.mark.parametrize("shape", [(50, 80), (90, 40)])
def test_the_image_processor_of_transformers_prepares_images_as_we_do(
    tmp_path: Path, view: Any, shape: tuple[int, int]
) -> None:
    config = ViTConfig(**SMALL, view=view, crop_share=0.8)
    export_weights(save(tmp_path / "run", config), "hf", tmp_path / "hf")
    smooth = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(smooth).resize(shape[::-1], Image.Resampling.BILINEAR)
    (tmp_path / "images").mkdir()
    picture.save(tmp_path / "images" / "a.png")
    ours, _ = read_images(open_source(str(tmp_path / "images")), [0], format=config.image_input)
    processor: Any = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf")
    theirs = processor(images=picture, return_tensors="pt")["pixel_values"]
    assert (ours - theirs).abs().max() < 3 / 255 / min(config.std)


def test_a_card_tells_lineage_data_licence_and_results(tmp_path: Path) -> None:
    """Through a run that started from imported weights, also after these are gone."""
    source = tmp_path / "vit_x.pt"
    pictures = make_images(tmp_path / "images")
    base = RUNS["mae"](pictures, steps=2)
    c = base.objective.encoder
    twin = examples.timm_model(
        img_size=c.size[0], patch_size=c.patch, embed_dim=c.width, depth=c.depth, num_heads=c.heads
    )
    torch.save(twin.state_dict(), source)
    given = [f"heads={c.heads}", *examples.TOLD[1:], "licence=CC-BY-NC-4.0"]
    import_weights(source, tmp_path / "imported", given)
    execute(replace(base, init_from=str(tmp_path / "imported")), tmp_path / "mae")
    wsp = replace(RUNS["wsp"](pictures, steps=2), init_from=str(tmp_path / "mae"))
    execute(wsp, tmp_path / "wsp")
    origin = files.read_json(tmp_path / "wsp" / "encoder" / "config.json")["origin"]
    assert origin == files.read_json(tmp_path / "imported" / "encoder" / "config.json")["origin"]
    assert files.read_json(tmp_path / "wsp" / "model" / "config.json")["origin"] == origin
    result = export_weights(tmp_path / "wsp", "timm", tmp_path / "timm")
    assert result["licence"] == "CC-BY-NC-4.0"
    card = (tmp_path / "timm" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\nlibrary_name: timm\n")
    assert card.index("wsp run") < card.index("mae run") < card.index("imported from `vit_x.pt`")
    assert "images" in card
    assert "outputs differ by at most" in card
    assert json.loads((tmp_path / "timm" / "config.json").read_text())["pretrained_cfg"]["license"] == "cc-by-nc-4.0"
    (tmp_path / "mae").rename(tmp_path / "moved")
    assert export_weights(tmp_path / "wsp", "timm", tmp_path / "again")["licence"] == "CC-BY-NC-4.0"
    assert "which is not there any more" in (tmp_path / "again" / "README.md").read_text()


@pytest.mark.slow
def test_the_snippet_of_every_card_runs(tmp_path: Path) -> None:
    for classes in (0, CLASSES):
        (tmp_path / str(classes)).mkdir()
        folder = maws(tmp_path / str(classes), classes)
        for to in TOKENS:
            out = tmp_path / str(classes) / to
            export_weights(folder, to, out)
            card = (out / "README.md").read_text()
            code = card.split("```python\n")[1].split("```")[0].replace("DIR", str(out))
            picture = Image.new("RGB", (40, 40))
            exec(code, {"image": images(), "images": images().numpy(), "picture": picture})
