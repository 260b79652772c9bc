"""Features and tags of images, against the network called by hand; stopped and continued."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms

from support.small_runs import mae_run, make_images, wsp_run
from underpaint import files, inference
from underpaint.data import feature_store, view_batches
from underpaint.data.decode.transforms import eval_view
from underpaint.feature_tables import new_parts
from underpaint.inference import embed, find_images, predict
from underpaint.models.pieces import InMemory
from underpaint.models.weights import load_encoder, save_tensors
from underpaint.run import execute
from underpaint.run.outputs import load_model


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images", count=40)


@pytest.fixture(scope="module")
def runs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    execute(mae_run(images, steps=2), folder / "mae")
    execute(wsp_run(images, steps=2), folder / "wsp")
    return folder


def crop(path: Path, config: Any) -> torch.Tensor:
    """One image as frozen features see it, by torchvision's transforms."""
    size = config.size[0]
    steps = [
        transforms.Resize(size * 256 // 224, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(config.mean, config.std),
    ]
    cropped: Any = transforms.Compose(steps)(Image.open(path).convert("RGB"))
    return cropped[None]


def view(path: Path, config: Any) -> torch.Tensor:
    """One image as a network takes it, read with Pillow and numpy."""
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(value)[:, None, None] for value in (config.mean, config.std))
    return ((eval_view(pixels, size=config.size) - mean) / std)[None]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_table_holds_the_encoder_s_features(images: Path, runs: Path, tmp_path: Path, pooling: str) -> None:
    out = tmp_path / "features.parquet"
    done = embed(runs / "mae", [images], out, pooling=pooling)  # pyright: ignore[reportArgumentType]
    assert done == {"images": 40, "bad": 0, "width": 16}
    table = pyarrow.parquet.read_table(out).to_pylist()
    assert [Path(row["path"]) for row in table] == sorted(images.rglob("*.png"))
    encoder = load_encoder(runs / "mae")
    for row in table[::7]:
        with torch.no_grad():
            tokens = encoder(crop(Path(row["path"]), encoder.config))[0]
        expected = tokens[0] if pooling == "cls" else tokens[1:].mean(dim=0)
        torch.testing.assert_close(torch.tensor(row["embedding"]), expected, atol=1e-5, rtol=1e-5)
        assert row["problem"] == ""
    assert not list(tmp_path.glob("*.part"))


def test_the_name_of_the_table_chooses_its_form(
    images: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.jpg").touch()
    monkeypatch.setattr(inference, "PART_IMAGES", 16)
    given = [images, tmp_path / "empty.jpg"]
    for suffix in ("parquet", "csv", "npy"):
        assert embed(runs / "mae", given, tmp_path / f"x.{suffix}") == {"images": 41, "bad": 1, "width": 16}
    rows = pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pylist()
    expected = np.array([row["embedding"] or [np.nan] * 16 for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)
    listed = json.loads((tmp_path / "x.paths.json").read_text())
    assert [(row["path"], row["problem"]) for row in listed] == [(row["path"], row["problem"]) for row in rows]
    with (tmp_path / "x.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["path", "problem", *(f"feature_{number}" for number in range(16))]
    assert [row[:2] for row in table[1:]] == [[row["path"], row["problem"]] for row in rows]
    written = np.array([[float(value or "nan") for value in row[2:]] for row in table[1:]], dtype=np.float32)
    np.testing.assert_array_equal(written, expected)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(ValueError, match=r"x\.paths\.json exists already"):
        embed(runs / "mae", given, tmp_path / "x.npy")


def test_a_stopped_table_goes_on(images: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "features.parquet"
    embed(runs / "mae", [images], whole)
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    for name, value in (("PART_IMAGES", 16), ("FEWEST_KEPT", 8), ("BATCH", 8)):
        monkeypatch.setattr(inference, name, value)
    monkeypatch.setattr(feature_store, "IMAGES_OF_FILE", 16)
    real, read = view_batches.read_encoded, list[int]()

    def stops(reads: list[object], **how: object) -> object:
        if len(read) == 3:
            raise KeyboardInterrupt
        read.append(len(reads))
        return real(reads, **how)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(view_batches, "read_encoded", stops)
    with pytest.raises(KeyboardInterrupt):
        embed(runs / "mae", [images], out)
    assert not out.exists()
    read.clear()
    embed(runs / "mae", [images], out)
    assert read == [8, 8, 8], "all but the two batches whose file was written"
    table = pyarrow.parquet.read_table(out)
    assert table.drop(["embedding"]).equals(pyarrow.parquet.read_table(whole).drop(["embedding"]))
    for row, expected in zip(table.to_pylist(), pyarrow.parquet.read_table(whole).to_pylist(), strict=True):
        assert row["embedding"] == pytest.approx(expected["embedding"], abs=1e-6)


def test_parts_of_a_killed_call_are_not_used(images: Path, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    parts = tmp_path / "features.parquet.part"
    parts.mkdir()
    (parts / "000000009.parquet").write_bytes(b"of other weights")
    assert embed(runs / "mae", [images], out)["images"] == 40


def test_a_table_takes_nobody_else_s_place(
    images: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the same name, a call that writes the same table, and a file that comes meanwhile."""
    out, parts = tmp_path / "features.parquet", tmp_path / "features.parquet.part"
    parts.mkdir()
    (parts / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is for the parts of the table and holds mine.txt; choose another --out"):
        embed(runs / "mae", [images], out)
    (parts / "mine.txt").rename(tmp_path / "mine.txt")
    with new_parts(out), pytest.raises(BlockingIOError, match=r"another call writes .*features.parquet; wait for it"):
        embed(runs / "mae", [images], out)
    real = inference.join_parts

    def late(*given: Any, **how: Any) -> None:
        raise AssertionError("joined over another file")

    monkeypatch.setattr(inference, "join_parts", late)
    read = inference._problems  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(inference, "_problems", lambda *given: out.write_text("other") and read(*given))
    with pytest.raises(ValueError, match=r"features.parquet exists already"):
        embed(runs / "mae", [images], out)
    assert out.read_text() == "other"
    monkeypatch.setattr(inference, "_problems", read)
    monkeypatch.setattr(inference, "join_parts", real)
    out.unlink()
    assert embed(runs / "mae", [images], out)["images"] == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.parquet", "mine.txt"]


def test_bad_images_are_named(images: Path, runs: Path, tmp_path: Path) -> None:
    good = sorted(images.rglob("*.png"))[0]
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "empty.jpg").touch()
    out = tmp_path / "features.parquet"
    done = embed(runs / "mae", [tmp_path / "cut.png", good, tmp_path / "empty.jpg"], out)
    assert (done["images"], done["bad"]) == (3, 2)
    cut, fine, empty = pyarrow.parquet.read_table(out).to_pylist()
    assert cut["embedding"] is empty["embedding"] is None
    assert cut["problem"]
    assert empty["problem"] == "the file is empty"
    assert len(fine["embedding"]) == 16
    found = list(predict(runs / "wsp", [tmp_path / "empty.jpg", good], top=2))
    assert (found[0].labels, found[0].problem) == ((), "the file is empty")
    assert len(found[1].labels) == 2


def test_predictions_are_the_best_probabilities(images: Path, runs: Path) -> None:
    model = load_model(runs / "wsp")
    found = list(predict(runs / "wsp", [images], top=3))
    assert len(found) == 40
    for one in found[::9]:
        with torch.no_grad():
            scores = model.logits(view(one.path, model.encoder.config))[0].numpy()  # pyright: ignore
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        order = np.argsort(-shares)[:3]
        assert [name for name, _ in one.labels] == [model.labels[k] for k in order]  # pyright: ignore
        assert [value for _, value in one.labels] == pytest.approx(shares[order].tolist(), abs=1e-5)


def test_what_the_user_can_mend(images: Path, runs: Path, tmp_path: Path) -> None:
    for call, message in (
        (lambda: embed(runs / "mae", [tmp_path / "absent"], tmp_path / "x.parquet"), "does not exist"),
        (lambda: embed(runs / "mae", [tmp_path], tmp_path / "x.parquet"), "no images in"),
        (lambda: embed(runs / "mae", [images], images / "tags.csv"), "exists already"),
        (lambda: embed(runs / "mae", [images], tmp_path / "x.xlsx"), r"must end in .parquet, .csv or .npy"),
        (lambda: embed(tmp_path, [images], tmp_path / "x.parquet"), "encoder"),
        (lambda: predict(runs / "mae", [images]), "gives no labels"),
        (lambda: predict(runs / "wsp", [images], top=0), "top=0"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            call()
    one = sorted(images.rglob("*.png"))[0]
    assert find_images([one, images]) == [one, *(p for p in sorted(images.rglob("*.png")) if p != one)]


def overflowing(folder: Path, source: Path, *, scale: float) -> Path:
    """A copy of a run whose weights are finite and, multiplied, go beyond what a float holds."""
    shutil.copytree(source, folder)
    for part in ("encoder", "model"):
        tensors = load_file(folder / part / "model.safetensors")
        name = next(key for key in tensors if key.endswith("patch_embed.proj.weight"))
        tensors[name] *= scale
        assert tensors[name].isfinite().all()
        description = files.read_json(folder / part / "config.json")
        shutil.rmtree(folder / part)
        description.pop("weights")
        description.pop("format")
        save_tensors(folder / part, InMemory(tensors), description)
    (folder / "model" / "labels.json").write_bytes((source / "model" / "labels.json").read_bytes())
    return folder


def test_an_embedding_that_is_not_finite_is_a_problem(images: Path, runs: Path, tmp_path: Path) -> None:
    """On a grey image the scaled weights stay finite, on the others they overflow."""
    run = overflowing(tmp_path / "run", runs / "wsp", scale=1e21)
    config = load_encoder(run).config
    grey = tuple(round(255 * mean) for mean in config.mean)
    Image.new("RGB", (40, 40), grey).save(tmp_path / "grey.png")
    sharp = sorted(images.rglob("*.png"))[:3]
    out = tmp_path / "features.parquet"
    with torch.no_grad():
        expected = [bool(load_encoder(run)(crop(p, config)).isfinite().all()) for p in (tmp_path / "grey.png", *sharp)]
    assert expected == [True, False, False, False], "the pictures of this test"
    done = embed(run, [tmp_path / "grey.png", *sharp], out)
    rows = pyarrow.parquet.read_table(out).to_pylist()
    assert [row["problem"] == "" for row in rows] == expected
    assert [row["embedding"] is not None for row in rows] == expected
    assert all("not finite" in row["problem"] for row in rows[1:])
    assert done["bad"] == 3
    predictions = list(predict(run, [tmp_path / "grey.png", *sharp]))
    assert [row.labels != () for row in predictions] == expected
    assert all("not finite" in row.problem for row in predictions[1:])


def test_no_embedding_at_all_is_an_error(images: Path, runs: Path, tmp_path: Path) -> None:
    run = overflowing(tmp_path / "run", runs / "wsp", scale=1e38)
    out = tmp_path / "features.parquet"
    first = sorted(images.rglob("*.png"))[0]
    message = rf"none of the 40 images gave anything; the first, {first}: the network's output is not finite"
    with pytest.raises(ValueError, match=message):
        embed(run, [images], out)
    with pytest.raises(ValueError, match=message):
        list(predict(run, [images]))
    for number in range(5):
        (tmp_path / f"{number}.png").touch()
    empty = sorted(tmp_path.glob("*.png"))
    with pytest.raises(ValueError, match=r"none of the 5 images .* the file is empty"):
        embed(runs / "mae", empty, out)
    with pytest.raises(ValueError, match=r"none of the 5 images .* the file is empty"):
        list(predict(runs / "wsp", empty))
    assert not list(tmp_path.glob("*.parquet*")), "no table, and no parts of one"
