"""Both towers of a run of LiT or of an imported MAWS-CLIP in safetensors, ONNX and open_clip, loaded there."""

from __future__ import annotations

import json
import math
import shutil
from importlib import util
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from support import clip_examples as clips
from support.tower_examples import LIT_CONFIGS, lit_folder
from underpaint import files
from underpaint.data.loader import read_files
from underpaint.objectives.contrast import LARGEST_SCALE
from underpaint.run.towers import load_towers
from underpaint.weights import to_open_clip
from underpaint.weights.export_model import open_subject
from underpaint.weights.exporting import export_weights
from underpaint.weights.importing import import_weights

SENTENCES = ["a red cat in the snow", "dog words", "", "the snow a cats", "unheard word"]
KINDS = [*LIT_CONFIGS, "clip"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("towers")
    import_weights(clips.clip_folder(folder / "source"), folder / "clip", clips.GIVEN)
    return {"clip": folder / "clip"} | {kind: lit_folder(folder / kind, kind) for kind in LIT_CONFIGS}


def close(value: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(value, expected, rtol=0, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_safetensors_come_back_as_the_same_model(runs: dict[str, Path], kind: str, tmp_path: Path) -> None:
    result = export_weights(runs[kind], "safetensors", tmp_path / "export")
    assert result["verified"]
    stored = load_file(tmp_path / "export" / "model.safetensors")
    assert stored["logit_scale"].shape == ()
    assert float(stored["logit_scale"]) <= math.log(LARGEST_SCALE) + 1e-6
    import_weights(tmp_path / "export", tmp_path / "again")
    first, second = load_towers(runs[kind]), load_towers(tmp_path / "again")
    close(second.embed_texts(SENTENCES), first.embed_texts(SENTENCES), 1e-7)
    image = open_subject(runs[kind], texts=True).images()
    close(second.model.embed_image(image), first.model.embed_image(image), 1e-7)
    assert second.tokenizer.xxh3 == first.tokenizer.xxh3


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_has_a_graph_for_each_tower(runs: dict[str, Path], kind: str, tmp_path: Path) -> None:
    assert export_weights(runs[kind], "onnx", tmp_path / "onnx")["verified"]
    towers, image = load_towers(runs[kind]), open_subject(runs[kind], texts=True).images()
    graphs: dict[str, Any] = {
        name: onnxruntime.InferenceSession(tmp_path / "onnx" / f"{name}.onnx") for name in ("image", "text")
    }
    (value,) = graphs["image"].run(None, {"image": image[:1].numpy()})
    close(torch.from_numpy(value), towers.model.embed_image(image[:1]), 1e-4)
    for texts in (SENTENCES, SENTENCES[1:2]):
        ids = towers.tokenizer(texts, context=towers.model.context)
        (value,) = graphs["text"].run(None, {"ids": ids.numpy()})
        close(torch.from_numpy(value), towers.model.embed_text(ids), 1e-4)
    record = files.read_json(tmp_path / "onnx" / "config.json")["underpaint"]
    scale = min(float(towers.model.logit_scale.exp()), LARGEST_SCALE)
    assert record["logit_scale"] == pytest.approx(scale, rel=1e-5)
    assert (tmp_path / "onnx" / towers.tokenizer.file.name).read_bytes() == towers.tokenizer.file.read_bytes()


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.skipif(util.find_spec("open_clip") is None, reason="open_clip is not installed")
@pytest.mark.filterwarnings("ignore")  # those of open_clip's own imports
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ngrams"])
def test_open_clip_gives_the_same_logits(runs: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """As the card says to load it, from an image file and sentences to logits."""
    import open_clip

    folder = tmp_path / "export"
    assert export_weights(runs[kind], "open_clip", folder)["verified"]
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    loaded: Any = open_clip.create_model_and_transforms(
        f"local-dir:{folder}", text_cfg=config | {"hf_model_name": str(folder)}
    )
    theirs, preprocess, tokenize = loaded[0].eval(), loaded[2], open_clip.get_tokenizer(f"local-dir:{folder}")
    towers = load_towers(runs[kind])
    size = towers.image_input.size
    texture = Image.effect_noise((40, 30), 90).convert("RGB").resize((57, 43), Image.Resampling.BICUBIC)
    texture.save(tmp_path / "texture.png")
    ours_image = read_files([tmp_path / "texture.png"], format=towers.image_input)[0]
    their_image = preprocess(texture)[None]
    assert their_image.shape[-2:] == size
    assert float((their_image - ours_image).abs().mean()) < 0.01  # Pillow rounds to 8 bits
    text = theirs.encode_text(tokenize(SENTENCES), normalize=True)
    close(text, towers.embed_texts(SENTENCES))
    close(theirs.encode_image(ours_image, normalize=True), towers.model.embed_image(ours_image))
    logits = theirs.get_logits(ours_image, tokenize(SENTENCES))[0]
    scale = towers.model.logit_scale.exp().clamp(max=LARGEST_SCALE)
    bias = -3.5 if kind == "word_pieces" else 0.0
    expected = scale * towers.model.embed_image(ours_image) @ towers.embed_texts(SENTENCES).T + bias
    close(logits, expected, 1e-3)
    assert "open_clip.create_model_and_transforms" in (folder / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(util.find_spec("open_clip") is None, reason="open_clip is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_export_to_open_clip_is_noticed(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the bias of the patches forgotten, or the tokenizer another one, nothing would be written."""
    subject = open_subject(runs["sentencepiece"], texts=True)
    to_open_clip.TOOL.write(tmp_path, subject)
    stored = load_file(tmp_path / "open_clip_model.safetensors")
    stored["visual.positional_embedding"][1:] -= subject.tensors.read("encoder.patch_embed.proj.bias")
    save_file(stored, tmp_path / "open_clip_model.safetensors")
    assert to_open_clip.TOOL.compare(tmp_path, subject)[0] > 1e-3
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Lowercase"}
    tokenizer["pre_tokenizer"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="gives other ids in transformers, such as for"):
        to_open_clip.TOOL.compare(tmp_path, subject)


def test_what_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="open_clip takes models for images and texts; name a run of LiT"):
        export_weights(runs["clip"] / "encoder", "open_clip", tmp_path / "a")
    with pytest.raises(ValueError, match=r"no such text tower; export .* to onnx, safetensors, open_clip"):
        export_weights(runs["clip"] / "model", "timm", tmp_path / "a")
    with pytest.raises(ValueError, match="open_clip has transformers for texts, this network a tower of n-grams"):
        export_weights(runs["ngrams"], "open_clip", tmp_path / "a")
    moved = shutil.copytree(runs["sentencepiece"], tmp_path / "moved")
    record = files.read_json(moved / "model" / "config.json")
    record["config"]["encoder"] |= {"view": "crop", "crop_share": 0.875}
    files.write_json(moved / "model" / "config.json", record)
    with pytest.raises(ValueError, match=r"resizes the short side to 16, this network sees 0\.875 of it"):
        export_weights(moved, "open_clip", tmp_path / "a")
    assert not (tmp_path / "a").exists()
