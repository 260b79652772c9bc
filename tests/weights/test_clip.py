"""MAWS-CLIP: both towers, projections and tokenizer imported; images tagged with labels that are named on the spot."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import underpaint as package
from support import clip_examples as clips
from support import weights_examples as examples
from support.small_runs import make_images
from support.weights_examples import images
from underpaint import files
from underpaint.__main__ import main
from underpaint.inference import predict
from underpaint.models.image_text import ImageText
from underpaint.models.text_tower import TextConfig, TextTower
from underpaint.models.weights import TOKENIZER, load_tokenizer
from underpaint.texts.tokenizer import Tokenizer
from underpaint.weights.exporting import export_weights
from underpaint.weights.importing import import_weights

TEXTS = ["a photo of a dog", "犬", "Hund", "", "a red cat  in   the snow zzz 123", "neige " * 60]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def tokenizer() -> bytes:
    return clips.sentencepiece_bytes()


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    import_weights(clips.clip_folder(folder / "source"), folder / "out", clips.GIVEN)
    return folder / "out"


def model(folder: Path) -> ImageText:
    found = package.load_model(folder)
    assert isinstance(found, ImageText)
    return found


@torch.no_grad()
@pytest.mark.parametrize("older", [False, True])
def test_both_namings_against_a_plain_forward_pass(tmp_path: Path, older: bool, tokenizer: bytes) -> None:
    source = clips.clip_folder(tmp_path / "source", older=older)
    result = import_weights(source, tmp_path / "out", clips.GIVEN)
    tensors = clips.clip_tensors(clips.vocabulary(tokenizer))
    ours, tokenize = model(tmp_path / "out"), load_tokenizer(tmp_path / "out")
    close(ours.embed_image(images()), clips.plain_embed_image(tensors, images()))
    close(ours.embed_text(tokenize(TEXTS)), clips.plain_embed_text(tensors, tokenizer, TEXTS))
    close(ours.logit_scale, tensors["logit_scale"])
    alone = package.load_encoder(tmp_path / "out")
    encoder = {name: tensors[f"vision_encoder.{name}"] for name in alone.state_dict()}
    close(alone(images()), examples.plain_forward(encoder, images()))
    assert (result["format"], result["licence"]) == ("model in the layout of MAWS-CLIP", "CC-BY-NC-4.0")
    assert any("xlmr.sentencepiece.bpe.model" in line for line in result["assumed"])
    assert (tmp_path / "out" / "model" / "tokenizer" / "sentencepiece.bpe.model").read_bytes() == tokenizer


@torch.no_grad()
def test_the_text_tower_is_xlm_r_of_transformers() -> None:
    """The same weights under both names, in texts of different lengths."""
    settings: dict[str, Any] = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.XLMRobertaConfig(
        **settings, intermediate_size=96, max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5
    )
    theirs = examples.shake(transformers.XLMRobertaModel(config, add_pooling_layer=False))
    theirs.embeddings.token_type_embeddings.weight.zero_()  # torchtext has none
    t = theirs.state_dict()
    tensors = {
        "token_embed.weight": t["embeddings.word_embeddings.weight"],
        "pos_embed.weight": t["embeddings.position_embeddings.weight"],
        **{f"norm.{kind}": t[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias")},
    }
    for i in range(3):
        for kind in ("weight", "bias"):
            layer = f"encoder.layer.{i}."
            qkv = [t[f"{layer}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            tensors[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat(qkv)
            for ours, name in {
                "attn.proj": "attention.output.dense",
                "norm1": "attention.output.LayerNorm",
                "mlp.fc1": "intermediate.dense",
                "mlp.fc2": "output.dense",
                "norm2": "output.LayerNorm",
            }.items():
                tensors[f"blocks.{i}.{ours}.{kind}"] = t[f"{layer}{name}.{kind}"]
    tower = TextTower(TextConfig(vocabulary=50, positions=40, width=24, depth=3, heads=2)).eval()
    tower.load_state_dict(tensors)
    ids = torch.tensor([[0, 9, 8, 7, 2, 1, 1], [0, 5, 2, 1, 1, 1, 1], [0, 5, 6, 7, 8, 9, 2]])
    real = ids != 1
    expected = theirs(ids, attention_mask=real.long()).last_hidden_state
    close(tower(ids)[real], expected[real])
    close(tower(ids[1:2, :3]), tower(ids)[1:2, :3])  # whatever padding follows
    with pytest.raises(ValueError, match="39 tokens, but this text tower takes 38"):
        tower(torch.zeros(1, 39, dtype=torch.int64))


def test_the_tokenizer_is_maws(imported: Path, tokenizer: bytes) -> None:
    tokenize = load_tokenizer(imported)
    found = tokenize(TEXTS)
    assert found.shape == (6, 102)  # the longest was cut to 100 pieces
    for row, text in zip(found.tolist(), TEXTS, strict=True):
        assert row == clips.plain_ids(tokenizer, text)
    assert tokenize(["Hund", ""]).shape[1] == len([i for i in clips.plain_ids(tokenizer, "Hund") if i != 1])
    assert tokenize([]).shape == (0, 2)
    assert 3 in tokenize(["z"])[0]  # unknown, moved from SentencePiece's 0
    assert tokenize.vocabulary == len(clips.fairseq_vocabulary(clips.processor(tokenizer)))


def test_the_tokenizer_of_transformers_gives_the_same_ids(tmp_path: Path, tokenizer: bytes) -> None:
    """Built from the pieces and their scores, since transformers has an implementation of its own."""
    pieces = clips.processor(tokenizer)
    score = {pieces.id_to_piece(n): pieces.get_score(n) for n in range(pieces.get_piece_size())}
    listed = [(piece, score.get(piece, 0.0)) for piece in clips.fairseq_vocabulary(pieces)]
    theirs = transformers.XLMRobertaTokenizer(vocab=listed)
    (tmp_path / "x.model").write_bytes(tokenizer)
    ours = Tokenizer(tmp_path / "x.model")
    for text in ("a photo of a dog", "犬の写真", "Hund zzz", "neige dans la neige"):
        assert ours([text])[0].tolist() == theirs(text)["input_ids"]


@pytest.mark.parametrize("older", [False, True])
def test_import_export_import_gives_the_same_bits(tmp_path: Path, older: bool) -> None:
    import_weights(clips.clip_folder(tmp_path / "source", older=older), tmp_path / "first", clips.GIVEN)
    result = export_weights(tmp_path / "first" / "model", "safetensors", tmp_path / "export")
    assert result["verified"]
    assert result["licence"] == "CC-BY-NC-4.0"
    stored = load_file(tmp_path / "export" / "model.safetensors")
    tensors = clips.clip_tensors(len(stored[f"{clips.T}token_embedding.weight"]))
    assert stored.keys() == tensors.keys()  # of MAWS itself, in torchtext's newer naming
    assert all(torch.equal(stored[name], value) for name, value in tensors.items())
    import_weights(tmp_path / "export", tmp_path / "second")
    for part in ("encoder", "model"):
        first, second = (load_file(tmp_path / name / part / "model.safetensors") for name in ("first", "second"))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
        records = [files.read_json(tmp_path / name / part / "config.json") for name in ("first", "second")]
        assert records[0]["config"] == records[1]["config"]
        assert records[0]["origin"]["licence"] == records[1]["origin"]["licence"]
    assert (tmp_path / "first" / "model" / TOKENIZER).read_bytes() == (
        tmp_path / "second" / "model" / TOKENIZER
    ).read_bytes()
    card = (tmp_path / "export" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\npipeline_tag: zero-shot-image-classification\n")
    assert "text tower (width 24, depth 3)" in card


def test_the_image_tower_goes_to_the_other_tools(imported: Path, tmp_path: Path) -> None:
    import timm

    export_weights(imported, "timm", tmp_path / "timm")
    theirs: Any = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    with torch.no_grad():
        close(theirs.forward_features(images()), package.load_encoder(imported)(images()))
    for to in ("timm", "hf", "torchvision"):
        with pytest.raises(ValueError, match="no such text tower; export the encoder/ folder"):
            export_weights(imported / "model", to, tmp_path / "no")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_projection": None}, "it lacks text_projection"),
        ({"vision_projection": None}, "it lacks vision_projection"),
        ({"logit_scale": None, "vision_encoder.norm.bias": None}, "it lacks logit_scale, vision_encoder.norm.bias"),
        ({f"{clips.T}layers.layers.1.linear2.bias": None}, r"it lacks text_encoder\..*layers\.1\.linear2\.bias"),
        ({f"{clips.T}token_embedding.weight": None}, r"it lacks text_encoder\..*token_embedding\.weight"),
        ({"text_encoder.head.weight": torch.ones(2)}, r"no place in a plain ViT: text_encoder\.head\.weight"),
        ({"vision_projection": torch.ones(31, 20)}, r"vision_projection has \(31, 20\), not \(32, 20\)"),
        ({"text_projection": torch.ones(24, 21)}, r"text_projection has \(24, 21\), not \(24, 20\)"),
        ({f"{clips.T}token_embedding.weight": torch.ones(40, 24)}, "tokens, the text tower 40"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    path = clips.clip_folder(tmp_path / "in")
    tensors = torch.load(path, weights_only=True) | change
    torch.save({name: value for name, value in tensors.items() if value is not None}, path)
    with pytest.raises(ValueError, match=message):
        import_weights(path, tmp_path / "out", clips.GIVEN)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_what_the_file_does_not_tell(tmp_path: Path, tokenizer: bytes) -> None:
    path = clips.clip_folder(tmp_path / "in")
    with pytest.raises(ValueError, match="not XLM-R's: add text_heads=N"):
        import_weights(path, tmp_path / "out", clips.GIVEN[:1])
    beside = tmp_path / "in" / "xlmr.sentencepiece.bpe.model"
    beside.rename(tmp_path / "elsewhere.model")
    with pytest.raises(ValueError, match=r"needs its tokenizer: put sentencepiece\.bpe\.model or xlmr"):
        import_weights(path, tmp_path / "out", clips.GIVEN)
    given = [*clips.GIVEN, f"tokenizer={tmp_path / 'elsewhere.model'}"]
    assert not any("tokenizer" in line for line in import_weights(path, tmp_path / "out", given)["assumed"])
    for content, message in (
        (b"", "not a SentencePiece model, or is damaged"),
        (tokenizer[: len(tokenizer) // 2], "not a SentencePiece model, or is damaged"),
        (None, "is not a file"),
    ):
        (tmp_path / "elsewhere.model").unlink()
        if content is not None:
            (tmp_path / "elsewhere.model").write_bytes(content)
        else:
            (tmp_path / "elsewhere.model").mkdir()
        with pytest.raises(ValueError, match=message):
            import_weights(path, tmp_path / "other", given)


def test_a_missing_package_is_said(imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ValueError, match=r"sentencepiece: pip install '\.\[text\]'"):
        load_tokenizer(imported)


def test_a_changed_tokenizer_is_noticed(imported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model" / "tokenizer"
    folder.mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_bytes((imported / "model" / "config.json").read_bytes())
    content = bytearray((imported / "model" / TOKENIZER).read_bytes())
    content[-3] ^= 1
    (tmp_path / "model" / TOKENIZER).write_bytes(content)
    with pytest.raises(ValueError, match="does not match the checksum"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load_tokenizer(imported / "encoder")


class Doctored:
    """Unpickled by anything but weights-only loading, it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def test_a_doctored_pickle_runs_nothing(tmp_path: Path) -> None:
    path = clips.clip_folder(tmp_path / "in")
    torch.save(torch.load(path, weights_only=True) | {"text_tokenizer": Doctored(tmp_path / "canary")}, path)
    with pytest.raises(ValueError, match=r"needs more than tensors .*posix\.mkdir"):
        import_weights(path, tmp_path / "out", clips.GIVEN)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def pillow_view(path: Path, size: int) -> Tensor:
    """As MAWS prepares an image for zero-shot: short side to the size, bicubic, centre cut; ImageNet's normalisation.

    On 32-bit channels, which Pillow does not round between its two passes.
    """
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    resized = tuple(int(size * side / short) for side in image.size)
    channels = [
        np.asarray(Image.fromarray(np.asarray(channel, np.float32)).resize(resized, Image.Resampling.BICUBIC))
        for channel in image.split()
    ]
    left, top = (round((side - size) / 2) for side in resized)
    pixels = np.stack(channels)[:, top : top + size, left : left + size].clip(0, 255) / 255
    mean, std = (np.array(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return torch.from_numpy((pixels - mean) / std).float()[None]


def test_zero_shot_from_pixels_to_probabilities(imported: Path, tokenizer: bytes, tmp_path: Path) -> None:
    """Everything between the file of an image and the probability of a label, against Pillow and plain arithmetic."""
    pictures = make_images(tmp_path / "images", count=8)
    labels, prompts = ["dog; chien", "cat", "snow"], ["a photo of a {}", "un {}"]
    tensors = clips.clip_tensors(clips.vocabulary(tokenizer))
    embedded = []
    for names in (["dog", "chien"], ["cat"], ["snow"]):
        texts = [prompt.format(name) for prompt in prompts for name in names]
        mean = clips.plain_embed_text(tensors, tokenizer, texts).mean(dim=0)
        embedded.append(mean / mean.norm())
    found = list(predict(imported, [pictures], top=2, labels=labels, prompts=prompts))
    assert len(found) == 8
    for one in found:
        view = clips.plain_embed_image(tensors, pillow_view(one.path, examples.PIXELS))
        scores = (view @ torch.stack(embedded).T)[0] * tensors["logit_scale"].exp()
        shares = torch.softmax(scores, dim=0)
        best = shares.argsort(descending=True)[:2]
        assert [name for name, _ in one.labels] == [("dog", "cat", "snow")[k] for k in best]
        assert [value for _, value in one.labels] == pytest.approx(shares[best].tolist(), abs=1e-5)


def test_the_command(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = make_images(tmp_path / "images", count=4)
    (tmp_path / "labels.txt").write_text("\ufeffdog; chien\n\ncat\n", encoding="utf-8")
    (tmp_path / "prompts.txt").write_text("a photo of a {}\na {}\n")
    common = ["predict", str(imported), str(pictures), "--labels", str(tmp_path / "labels.txt")]
    assert main(common) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all("dog " in line and "cat " in line for line in lines)
    prompts = ["--prompts", "a {}", str(tmp_path / "prompts.txt")]
    assert main([*common, *prompts, "--json", str(tmp_path / "found.json")]) == 0
    rows = files.read_json(tmp_path / "found.json")["predictions"]
    said = ["a {}", "a photo of a {}", "a {}"]
    expected = predict(imported, [pictures], labels=["dog; chien", "cat"], prompts=said)
    assert [row["labels"] for row in rows] == [dict(one.labels) for one in expected]
    assert main(common[:3]) == 2
    assert "chooses among labels" in capsys.readouterr().err
    assert main([*common, "--prompts", "a photo"]) == 2
    assert "a photo is not a file" in capsys.readouterr().err


def test_the_example_of_the_docs_runs(imported: Path, tokenizer: bytes) -> None:
    page = (Path(__file__).parents[2] / "docs" / "weights.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    scope: dict[str, Any] = {}
    exec(code.replace("weights/maws_clip", str(imported)), scope)
    tensors = clips.clip_tensors(clips.vocabulary(tokenizer))
    texts = clips.plain_embed_text(tensors, tokenizer, ["a dog", "un chat"])
    with torch.no_grad():
        close(scope["cosine"], clips.plain_embed_image(tensors, scope["image"]) @ texts.T)


def test_what_the_user_can_mend(imported: Path, tmp_path: Path) -> None:
    picture = sorted(make_images(tmp_path / "images", count=1).rglob("*.png"))
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for call, message in (
        (lambda: predict(imported, picture, labels=["dog"]), "two or more, not 1"),
        (lambda: predict(imported, picture, labels=["dog", " ; "]), "a label has no name"),
        (lambda: predict(imported, picture, labels=["dog", "dog; chien"]), "twice there: dog"),
        (lambda: predict(imported, picture, labels=["a", "b"], prompts=["a photo"]), "needs {} where the label goes"),
        (lambda: predict(imported, picture, labels=["a", "b"], prompts=[]), "needs {} where the label goes"),
        (lambda: files.read_lines(tmp_path / "empty.txt"), "is empty"),
        (lambda: files.read_lines(tmp_path / "binary.txt"), "is not UTF-8 text"),
        (lambda: files.read_lines(tmp_path), "is not a file"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
