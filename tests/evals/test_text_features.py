"""Embeddings of texts in batches: equal to those of each text alone, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from support import clip_examples as clips
from underpaint.evals.text_features import Towers
from underpaint.models.image_text import ImageText, ImageTextConfig
from underpaint.models.text_tower import TextConfig
from underpaint.run.towers import load_towers
from underpaint.texts.tokenizer import JsonTokenizer
from underpaint.weights.importing import import_weights


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Towers:
    folder = tmp_path_factory.mktemp("clip")
    import_weights(clips.clip_folder(folder / "source"), folder / "out", clips.GIVEN)
    return load_towers(folder / "out")


@torch.no_grad()
def test_batches_and_repeats_change_nothing(towers: Towers) -> None:
    texts = [f"{name} {number % 70}" for number in range(150) for name in ("a red cat", "neige dans la neige", "")]
    embedding = towers.embed_texts(texts)
    first = texts.index("a red cat 3")
    assert torch.equal(embedding[first], embedding[texts.index("a red cat 3", first + 1)])
    for row in (0, first, len(texts) - 1):
        alone = towers.model.embed_text(towers.tokenizer([texts[row]]))[0]
        torch.testing.assert_close(embedding[row], alone, rtol=0, atol=1e-6)
    assert towers.embed_texts([]).shape == (0, clips.JOINT)
    assert towers.texts_cut(["neige " * 100, "neige", "neige"]) == 1
    assert towers.languages is None


def test_a_tower_that_gives_nothing_finite_and_a_tokenizer_with_more_ids(towers: Towers) -> None:
    text = TextConfig(vocabulary=20, width=8, depth=1, heads=1)
    small = ImageText(ImageTextConfig(encoder=towers.model.config.encoder, text=text, width=4))
    with pytest.raises(ValueError, match="tokens, the text tower 20: it is another model's tokenizer"):
        Towers(small, towers.tokenizer)
    scale = towers.model.text_projection.data.clone()
    towers.model.text_projection.data.fill_(float("inf"))
    with pytest.raises(ValueError, match="not finite for 'snow'; it has diverged"):
        towers.embed_texts(["snow"])
    towers.model.text_projection.data.copy_(scale)


@pytest.mark.parametrize(
    ("unknown", "last", "message"),
    [
        ("[UNK]", 4, ""),
        ("absent", 4, r"tokenizer\.json cannot read 'a b': .*UNK"),
        ("[UNK]", 9, "has 5 tokens, and one with the id 9: its ids have gaps"),
    ],
)
def test_a_tokenizer_json_that_cannot_read_a_text_is_named(
    tmp_path: Path, unknown: str, last: int, message: str
) -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": last}
    form = {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    pieces = form | {"unk_token": unknown, "vocab": vocabulary}
    content = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": pieces}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    if not message:
        assert JsonTokenizer(tmp_path / "tokenizer.json")(["a b"]).tolist() == [[0, 4, 3, 2]]
        return
    with pytest.raises(ValueError, match=message):
        JsonTokenizer(tmp_path / "tokenizer.json")(["a b"])
