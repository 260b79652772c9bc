"""Files that other tools made, imported: the same features, everything accounted for, nothing run."""

from __future__ import annotations

import argparse
import json
import mmap
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import underpaint
from support import weights_examples as examples
from support.weights_examples import CLASSES, HEADS, TOLD, images
from underpaint import files
from underpaint.models import weights
from underpaint.models.pieces import InMemory, write_pieces
from underpaint.models.vit import IMAGENET_MEAN
from underpaint.weights.importing import import_weights


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def tokens(folder: Path, image: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return underpaint.load_encoder(folder)(images() if image is None else image)


def logits(folder: Path, image: Tensor | None = None) -> Tensor:
    model: Any = underpaint.load_model(folder)
    with torch.no_grad():
        return model.logits(images() if image is None else image)


@torch.no_grad()
def test_a_folder_of_timm(tmp_path: Path) -> None:
    model = examples.timm_model(num_classes=CLASSES)
    source = examples.timm_folder(tmp_path / "timm", model, license="mit", label_names=list("abcde"))
    result = import_weights(source, tmp_path / "out")
    close(tokens(tmp_path / "out"), model.forward_features(images()))
    close(logits(tmp_path / "out"), model(images()))
    config = underpaint.load_encoder(tmp_path / "out").config
    assert config.mean == (0.5, 0.5, 0.5)
    assert (config.view, config.crop_share, config.interpolation) == ("crop", 0.9, "bicubic")
    assert config.positions == "learned"
    assert result["licence"] == "mit"
    assert result["assumed"] == []
    assert underpaint.load_model(tmp_path / "out").labels == tuple("abcde")
    for part in ("encoder", "model"):
        assert files.read_json(tmp_path / "out" / part / "config.json")["origin"]["licence"] == "mit"


@torch.no_grad()
def test_a_mean_pooled_classifier_of_timm(tmp_path: Path) -> None:
    model = examples.timm_model(num_classes=CLASSES, global_pool="avg")
    source = examples.timm_folder(tmp_path / "timm", model)
    import_weights(source, tmp_path / "out")
    close(logits(tmp_path / "out"), model(images()))
    assert not underpaint.load_encoder(tmp_path / "out").config.final_norm


@torch.no_grad()
def test_a_bare_state_dict_of_timm_needs_to_be_told_its_normalisation(tmp_path: Path) -> None:
    model = examples.timm_model(num_classes=CLASSES)
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    with pytest.raises(ValueError, match="does not say how many attention heads"):
        import_weights(tmp_path / "timm.pth", tmp_path / "out")
    with pytest.raises(ValueError, match="does not say how its images are normalised"):
        import_weights(tmp_path / "timm.pth", tmp_path / "out", [f"heads={HEADS}"])
    assert not (tmp_path / "out").exists()
    given = [f"heads={HEADS}", "mean=0.5,0.5,0.5", "std=0.5,0.5,0.5"]
    result = import_weights(tmp_path / "timm.pth", tmp_path / "out", given)
    close(logits(tmp_path / "out"), model(images()))
    assert any("no names" in line for line in result["assumed"])


@torch.no_grad()
def test_hf_vit(tmp_path: Path) -> None:
    model = examples.hf_vit(tmp_path / "hf")
    result = import_weights(tmp_path / "hf", tmp_path / "out")
    close(tokens(tmp_path / "out"), model(images()).last_hidden_state)
    config = underpaint.load_encoder(tmp_path / "out").config
    assert config.norm_eps == 1e-12
    assert (config.mean, config.view, config.interpolation) == ((0.5, 0.5, 0.5), "stretch", "bilinear")
    assert result["left_out"] == ["pooler.dense.bias", "pooler.dense.weight"]
    assert not (tmp_path / "out" / "model").exists()


@torch.no_grad()
def test_hf_classifier_with_its_labels(tmp_path: Path) -> None:
    model = examples.hf_classifier(tmp_path / "hf")
    (tmp_path / "hf" / "README.md").write_text("---\nlicense: apache-2.0\ntags:\n- vision\n---\n# A model\n")
    result = import_weights(tmp_path / "hf", tmp_path / "out")
    close(logits(tmp_path / "out"), model(images()).logits)
    assert underpaint.load_model(tmp_path / "out").labels[2] == "kind 2"
    assert result["licence"] == "apache-2.0"


@torch.no_grad()
def test_hf_names_in_memory(tmp_path: Path) -> None:
    """A state dict saved beside the config has the names of version 5."""
    model = examples.hf_vit(tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "hf" / "pytorch_model.bin")
    import_weights(tmp_path / "hf", tmp_path / "out")
    close(tokens(tmp_path / "out"), model(images()).last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("layer", ["decoder_layers", "decoder_encoder.layer"])
def test_hf_mae_with_its_decoder(tmp_path: Path, layer: str) -> None:
    """Released files call the decoder's blocks ``decoder_layers``; version 5.23 saves them as ``decoder_encoder``."""
    model = examples.hf_mae(tmp_path / "hf")
    path = tmp_path / "hf" / "model.safetensors"
    names = {name.replace("decoder_encoder.layer", layer): value for name, value in load_file(path).items()}
    save_file(names, path, metadata={"format": "pt"})
    import_weights(tmp_path / "hf", tmp_path / "out")
    ours: Any = underpaint.load_model(tmp_path / "out")
    assert (ours.config.norm_pix, ours.config.mask_ratio) == (False, 0.75)
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(1))
    order = noise.argsort(dim=1)
    keep, hidden = order[:, :4], order[:, 4:]
    predicted = ours.decoder(ours.encoder(images(), keep=keep), keep, hidden)
    expected = model(images(), noise=noise).logits
    close(predicted, expected.gather(1, hidden[:, :, None].expand(-1, -1, expected.shape[-1])))


@torch.no_grad()
def test_torchvision(tmp_path: Path) -> None:
    model = examples.torchvision_model()
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    result = import_weights(tmp_path / "vit.pth", tmp_path / "out", [f"heads={HEADS}"])
    close(logits(tmp_path / "out"), model(images()))
    config = underpaint.load_encoder(tmp_path / "out").config
    assert (config.view, config.crop_share, config.interpolation) == ("crop", 0.875, "bilinear")
    assert (result["format"], result["licence"]) == ("ViT of torchvision", "")
    older = {
        k.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): v
        for k, v in model.state_dict().items()
    }
    torch.save(older, tmp_path / "vit_swag.pth")
    result = import_weights(tmp_path / "vit_swag.pth", tmp_path / "swag", [f"heads={HEADS}"])
    close(logits(tmp_path / "swag"), model(images()))
    assert result["licence"] == ""


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_swag_against_a_plain_forward_pass(tmp_path: Path, classes: int) -> None:
    torch.save(examples.swag_tensors(classes), tmp_path / "vit.torch")
    import_weights(tmp_path / "vit.torch", tmp_path / "out", [f"heads={HEADS}"])
    plain = examples.maws_tensors(classes=classes)
    expected = examples.plain_forward(plain, images())
    close(tokens(tmp_path / "out"), expected)
    if classes:
        close(logits(tmp_path / "out"), expected[:, 0] @ plain["head.weight"].T + plain["head.bias"])


def test_a_bare_encoder_of_no_published_size_against_a_plain_forward_pass(tmp_path: Path) -> None:
    torch.save(examples.maws_tensors(), tmp_path / "vit_b16.pt")
    result = import_weights(tmp_path / "vit_b16.pt", tmp_path / "out", TOLD)
    close(tokens(tmp_path / "out"), examples.plain_forward(examples.maws_tensors(), images()))
    config = underpaint.load_encoder(tmp_path / "out").config
    assert (config.view, config.crop_share, config.mean) == ("crop", 0.9, IMAGENET_MEAN)
    assert result["format"] == "ViT in the naming of timm"
    assert result["licence"] == ""


@pytest.mark.parametrize(("pixels", "patch"), [(512, 16), (518, 14)])
def test_a_classifier_of_large_images_straight_to_the_square(tmp_path: Path, pixels: int, patch: int) -> None:
    tensors = examples.maws_tensors(pixels, patch=patch, classes=1000)
    assert tensors["pos_embed"].shape[1] == {512: 1025, 518: 1370}[pixels]
    torch.save(tensors, tmp_path / "vit_ft.pt")
    result = import_weights(tmp_path / "vit_ft.pt", tmp_path / "out", [*TOLD, "view=stretch"])
    config = underpaint.load_encoder(tmp_path / "out").config
    assert (config.size, config.view, config.interpolation) == ((pixels, pixels), "stretch", "bicubic")
    image = images(1, pixels)
    expected = examples.plain_forward(tensors, image)
    close(logits(tmp_path / "out", image), expected[:, 0] @ tensors["head.weight"].T + tensors["head.bias"])
    labels = underpaint.load_model(tmp_path / "out").labels
    assert labels[0] == "tench"
    assert len(set(labels)) == 1000
    assert any("ImageNet-1k" in line for line in result["assumed"])


def test_mae_encoder_as_its_repository_saves_it(tmp_path: Path) -> None:
    tensors = examples.maws_tensors() | {"pos_embed": examples.mae_tensors()["pos_embed"]}
    torch.save({"model": tensors}, tmp_path / "mae_pretrain_vit_x.pth")
    result = import_weights(tmp_path / "mae_pretrain_vit_x.pth", tmp_path / "out", [f"heads={HEADS}"])
    close(tokens(tmp_path / "out"), examples.plain_forward(tensors, images()))
    config = underpaint.load_encoder(tmp_path / "out").config
    assert (config.positions, config.crop_share) == ("sincos", 0.875)
    assert (result["format"], result["licence"]) == ("encoder in MAE's layout", "")


def test_a_training_checkpoint_of_mae_with_its_decoder(tmp_path: Path) -> None:
    tensors = examples.mae_tensors()
    saved = {
        "model": {f"module.{name}": value for name, value in tensors.items()},
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]},
        "epoch": 7,
        "scaler": {"scale": 65536.0},
        "args": examples.mae_arguments(mask_ratio=0.5),
    }
    torch.save(saved, tmp_path / "checkpoint-7.pth")
    given = [f"heads={HEADS}", "decoder_heads=2"]
    result = import_weights(tmp_path / "checkpoint-7.pth", tmp_path / "out", given)
    assert result["left_out"] == ["optimizer", "epoch", "scaler", "args"]
    ours: Any = underpaint.load_model(tmp_path / "out")
    assert (ours.config.norm_pix, ours.config.mask_ratio) == (True, 0.5)
    shown = [3, 0, 9, 14]
    hidden = [index for index in range(16) if index not in shown]
    keep, rest = (torch.tensor([ids] * 3) for ids in (shown, hidden))
    with torch.no_grad():
        found = ours.decoder(ours.encoder(images(), keep=keep), keep, rest)
    close(found, examples.plain_reconstruction(tensors, images(), shown, decoder_heads=2)[:, hidden])


@pytest.mark.parametrize(
    ("name", "normalised"), [("mae_visualize_vit_x.pth", False), ("mae_pretrain_vit_x_full.pth", True)]
)
def test_what_a_decoder_predicts_is_told_by_the_names_of_the_released_files(
    tmp_path: Path, name: str, normalised: bool
) -> None:
    torch.save({"model": examples.mae_tensors()}, tmp_path / name)
    import_weights(tmp_path / name, tmp_path / "out", [f"heads={HEADS}", "decoder_heads=2"])
    assert underpaint.load_model(tmp_path / "out").config.norm_pix is normalised
    (tmp_path / name).rename(tmp_path / "own.pth")
    with pytest.raises(ValueError, match="add norm_pix=true or norm_pix=false"):
        import_weights(tmp_path / "own.pth", tmp_path / "other", [f"heads={HEADS}", "decoder_heads=2"])


@torch.no_grad()
def test_a_classifier_finetuned_with_maes_code(tmp_path: Path) -> None:
    """It norms the mean of the patches, as timm's ViT with global_pool=avg does."""
    model = examples.timm_model(num_classes=CLASSES, global_pool="avg")
    torch.save({"model": model.state_dict()}, tmp_path / "mae_finetuned.pth")
    result = import_weights(tmp_path / "mae_finetuned.pth", tmp_path / "out", [f"heads={HEADS}"])
    close(logits(tmp_path / "out"), model(images()))
    assert (result["format"], result["licence"]) == ("classifier in MAE's layout", "")


def test_known_sizes_need_no_telling_and_it_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = examples.timm_model(embed_dim=192, depth=12, num_heads=3)
    torch.save(model.state_dict(), tmp_path / "vit_ti16.pt")
    import_weights(tmp_path / "vit_ti16.pt", tmp_path / "out", ["mean=0.5,0.5,0.5", "std=0.5,0.5,0.5"])
    with torch.no_grad():
        close(tokens(tmp_path / "out"), model.forward_features(images()))
    printed = capsys.readouterr().err
    assert "assumed: heads=3" in printed
    assert "licence: unknown: find it out" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm.bias": None}, "it lacks norm.bias"),
        ({"blocks.1.rest": torch.ones(32)}, "no place in a plain ViT: blocks.1.rest"),
        ({"patch_embed.proj.weight": None}, "of no known format"),
        ({"pos_embed": torch.zeros(1, 12, 32)}, "add size=HEIGHT,WIDTH"),
        ({"blocks.1.norm1.weight": torch.ones(31)}, r"blocks.1.norm1.weight has \(31,\), not \(32,\)"),
        ({"blocks.0.mlp.fc1.weight": torch.ones(100, 32)}, "MLP of 100 for a width of 32"),
        ({"patch_embed.proj.weight": torch.ones(32, 3, 8, 4)}, "only square ones"),
        ({"patch_embed.proj.weight": torch.ones(32, 4, 8, 8)}, "images of 4 channels; add mean="),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    tensors = {name: value for name, value in (examples.maws_tensors() | change).items() if value is not None}
    torch.save(tensors, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=message):
        import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD[:1] if "channels" in message else TOLD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pt"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["head=4"], "did you mean heads=?"),
        (["width=4"], "unknown 'width=4'"),
        (["heads=four"], "is not a whole number"),
        (["heads=5"], "not divisible by heads=5"),
        (["heads=4", "size=32,64"], "size=32,64 has others"),
    ],
)
def test_what_is_told_is_checked(tmp_path: Path, given: list[str], message: str) -> None:
    torch.save(examples.maws_tensors(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match=message):
        import_weights(tmp_path / "x.pt", tmp_path / "out", given)


def test_labels_are_read_from_a_file(tmp_path: Path) -> None:
    save_file(examples.swag_tensors(CLASSES), tmp_path / "x.safetensors")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    given = [f"heads={HEADS}", f"labels={tmp_path / 'names.txt'}", "licence=MIT"]
    assert import_weights(tmp_path / "x.safetensors", tmp_path / "out", given)["licence"] == "MIT"
    assert underpaint.load_model(tmp_path / "out").labels == tuple("abcde")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\nd\n")
    with pytest.raises(ValueError, match="4 different names, the classifier has 5"):
        import_weights(tmp_path / "x.safetensors", tmp_path / "other", given)


def test_an_out_with_files_in_it_is_left_alone(tmp_path: Path) -> None:
    torch.save(examples.maws_tensors(), tmp_path / "x.pt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_type_of_the_numbers_is_kept(tmp_path: Path) -> None:
    half = {name: value.to(torch.bfloat16) for name, value in examples.maws_tensors().items()}
    torch.save(half, tmp_path / "x.pt")
    import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD)
    stored = load_file(tmp_path / "out" / "encoder" / "model.safetensors")
    assert all(torch.equal(stored[name], value) and stored[name].dtype == value.dtype for name, value in half.items())
    assert underpaint.load_encoder(tmp_path / "out").cls_token.dtype == torch.float32


@torch.no_grad()
def test_a_sharded_folder_of_transformers(tmp_path: Path) -> None:
    model = examples.hf_vit(tmp_path / "hf")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / "shards" / name).write_bytes((tmp_path / "hf" / name).read_bytes())
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    import_weights(tmp_path / "shards", tmp_path / "out")
    close(tokens(tmp_path / "out"), model(images()).last_hidden_state)
    victim = sorted((tmp_path / "shards").glob("*.safetensors"))[1]
    victim.unlink()
    with pytest.raises(ValueError, match=f"lacks {victim.name}"):
        import_weights(tmp_path / "shards", tmp_path / "other")


def test_an_index_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(ValueError, match="does not name the files that lie beside it"):
        import_weights(tmp_path, tmp_path / "out")


def test_transformers_without_config_is_refused(tmp_path: Path) -> None:
    examples.hf_vit(tmp_path / "hf")
    with pytest.raises(ValueError, match=r"give the folder with its config\.json"):
        import_weights(tmp_path / "hf" / "model.safetensors", tmp_path / "out")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu_new"}))
    with pytest.raises(ValueError, match="hidden_act='gelu_new'"):
        import_weights(tmp_path / "hf", tmp_path / "out")


class Doctored:
    """Unpickled by anything but weights-only loading, it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("place", ["beside", "inside", "legacy", "plain"])
def test_a_doctored_pickle_runs_nothing(tmp_path: Path, place: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / "x.pth"
    tensors: dict[str, Any] = examples.maws_tensors()
    evil = Doctored(canary)
    if place == "plain":
        path.write_bytes(pickle.dumps({"model": evil}))
    elif place == "legacy":
        torch.save({"model": tensors, "args": evil}, path, _use_new_zipfile_serialization=False)
    else:
        content = {"model": tensors, "args": evil} if place == "beside" else {"model": tensors | {"x": evil}}
        torch.save(content, path)
    message = "older than 1.6" if place in ("legacy", "plain") else r"needs more than tensors .*posix.mkdir"
    with pytest.raises(ValueError, match=message):
        import_weights(path, tmp_path / "out", [f"heads={HEADS}"])
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


def test_namespaces_are_allowed_for_one_call_only(tmp_path: Path) -> None:
    torch.save({"model": examples.maws_tensors(), "args": examples.mae_arguments()}, tmp_path / "x.pth")
    import_weights(tmp_path / "x.pth", tmp_path / "out", [f"heads={HEADS}"])
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "x.pth", weights_only=True)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    good = tmp_path / f"good{suffix}"
    if suffix == ".pt":
        torch.save(examples.maws_tensors(), good)
    else:
        save_file(examples.maws_tensors(), good)
    content = good.read_bytes()
    cases = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "text": b"hello" * 10,
        "length": b"\xff" * 8 + content[8:],
    }
    for name, damaged in cases.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged") as raised:
            import_weights(path, tmp_path / "out", [f"heads={HEADS}"])
        assert "\n" not in str(raised.value)
        assert path.name in str(raised.value)


def hostile(header: bytes, values: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with this header, however wrong."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + values


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (hostile(b"{}", length=2**60), "damaged"),
        (hostile(b"{}", length=2**63 + 1), "damaged"),
        (
            hostile(json.dumps({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}).encode(), bytes(12)),
            "damaged",
        ),
        (hostile(json.dumps({"a": entry("F32", [3], 0, 8)}).encode(), bytes(8)), "damaged"),
        (hostile(json.dumps({"a": entry("F32", [2], 0, 8)}).encode(), bytes(4)), "damaged"),
        (hostile(json.dumps({"a": entry("F32", [2], 0, 8)}).encode(), bytes(16)), "damaged"),
        (hostile(json.dumps({"a": entry("F99", [2], 0, 8)}).encode(), bytes(8)), "damaged"),
        (hostile(json.dumps({"a": entry("F32", [2**40, 2**40], 0, 8)}).encode(), bytes(8)), "damaged"),
        (hostile(json.dumps({"a": entry("F32", [-2], 0, 8)}).encode(), bytes(8)), "damaged"),
        (hostile(b"[" * 100_000), "damaged"),
        (hostile(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]'), "damaged"),
        (hostile(json.dumps({"a": entry("F8_E4M3", [8], 0, 8)}).encode(), bytes(8)), "a is of type F8_E4M3"),
        (hostile(json.dumps({"a": entry("F32", [2], 0, 8)}).encode(), bytes(8)), "of no known format"),
    ],
)
def test_hostile_safetensors_are_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    """Headers of 2^60 bytes, overlapping offsets, wrong types and shapes; the last is well-formed, and no ViT."""
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        import_weights(tmp_path / "x.safetensors", tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ValueError, match=r"x\.pt is damaged"):
        import_weights(tmp_path / "x.pt", tmp_path / "out")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        import_weights(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(ValueError, match="is not a file of weights"):
        import_weights(tmp_path / "x.txt", tmp_path / "out")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list"):
        import_weights(tmp_path / "list.pt", tmp_path / "out")


def test_large_networks_come_in_pieces(tmp_path: Path) -> None:
    tensors = examples.maws_tensors()
    written = write_pieces(tmp_path, InMemory(tensors), limit=20_000)
    assert len(written) > 3
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    read = {}
    for name, entry in written.items():
        assert (tmp_path / name).stat().st_size == entry["size"]
        assert files.xxh3(tmp_path / name) == entry["xxh3"]
        piece = load_file(tmp_path / name)
        assert all(index["weight_map"][key] == name for key in piece)
        assert sum(value.nbytes for value in piece.values()) <= 20_000 or len(piece) == 1
        read |= piece
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], value) for name, value in tensors.items())


def test_an_encoder_in_pieces_loads_and_damage_to_any_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PIECE_BYTES", 20_000)
    torch.save(examples.maws_tensors(), tmp_path / "x.pt")
    import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD)
    close(tokens(tmp_path / "out"), examples.plain_forward(examples.maws_tensors(), images()))
    pieces = sorted((tmp_path / "out" / "encoder").glob("*.safetensors"))
    assert len(pieces) > 3
    content = bytearray(pieces[2].read_bytes())
    content[-5] ^= 1
    pieces[2].write_bytes(content)
    with pytest.raises(ValueError, match="does not match the checksum"):
        underpaint.load_encoder(tmp_path / "out")


def test_transformers_takes_our_pieces(tmp_path: Path) -> None:
    model = examples.hf_vit(tmp_path / "hf")
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    (tmp_path / "hf" / "model.safetensors").unlink()
    write_pieces(tmp_path / "hf", InMemory(tensors), limit=20_000)
    again = transformers.ViTModel.from_pretrained(tmp_path / "hf")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_file_larger_than_memory_is_mapped_shared_and_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pt"
    torch.save(examples.maws_tensors(), path)
    before, load, mappings = path.read_bytes(), torch.load, []

    def refuse_private(*args: Any, **kwargs: Any) -> Any:
        mappings.append(torch.serialization.get_default_mmap_options())
        if mappings[-1] == mmap.MAP_PRIVATE:
            raise RuntimeError("unable to mmap 25790655939 bytes from file <x.pt>: Cannot allocate memory (12)")
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", refuse_private)
    import_weights(path, tmp_path / "out", TOLD)
    assert mappings == [mmap.MAP_PRIVATE, mmap.MAP_SHARED]
    close(tokens(tmp_path / "out"), examples.plain_forward(examples.maws_tensors(), images()))
    assert path.read_bytes() == before
