"""Retrieval: ranks and ties against NumPy over all pairs, captions of a folder by hand, and the memory it takes."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support import clip_examples as clips
from underpaint import verbs
from underpaint.data.captions.source_captions import source_captions
from underpaint.data.loader import read_images
from underpaint.data.open_source import open_source
from underpaint.evals import ranking
from underpaint.evals.ranking import hits, hits_by_chance, rank
from underpaint.run.towers import load_towers
from underpaint.weights.importing import import_weights

MEMORY = """
import json, sys, torch
from pathlib import Path
from underpaint.evals.ranking import hits, rank
images, texts, width = map(int, sys.argv[1:])
generator = torch.Generator().manual_seed(0)
image = torch.randn(images, width, generator=generator)
owner = torch.arange(texts) % images
text = image[owner] + 4 * torch.randn(texts, width, generator=generator)
right = torch.stack([torch.arange(texts), owner], dim=1)
kept = torch.arange(min(images, texts))
recall = hits(rank(text, image, right=right), 10).pessimistic.mean()
back = hits(rank(image[kept], text, right=right.flip(1)), 10).pessimistic.mean()
# ru_maxrss will not do: a child takes over that of the process that started it
(line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([float(recall), float(back), int(line.split()[1]) / 1024]))
"""


def brute_force(similarity: np.ndarray, right: np.ndarray, k: int) -> tuple[float, float, float]:
    """One query: the share of orders of its ties with a right candidate among the first k, worst, mean and best."""

    def hit(order: list[int]) -> bool:
        return bool(right[order[:k]].any())

    worst = sorted(range(len(right)), key=lambda c: (-similarity[c], right[c]))
    best = sorted(range(len(right)), key=lambda c: (-similarity[c], not right[c]))
    top = similarity[right].max()
    above = int((similarity > top).sum())
    tied = int((similarity == top).sum())
    places = list(itertools.combinations(range(tied), int((right & (similarity == top)).sum())))
    mean = np.mean([above + min(chosen) < k for chosen in places])
    return float(hit(worst)), float(mean), float(hit(best))


@pytest.mark.parametrize("block", [1, 50, 1 << 22])
def test_ranks_equal_a_sort_of_all_pairs(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers from -1 to 1 give many ties and equal candidates; products of them are exact."""
    monkeypatch.setattr(ranking, "BLOCK", block)
    rng = np.random.default_rng(0)
    seen_ties = 0
    for _ in range(12):
        queries = rng.integers(-1, 2, size=(9, 3)).astype(np.float32)
        candidates = rng.integers(-1, 2, size=(14, 3)).astype(np.float32)
        candidates[:2] *= -1  # with negative zeros
        right = rng.random((9, 14)) < 0.15
        right[np.arange(9), rng.integers(0, 14, size=9)] = True
        pairs = np.argwhere(right)
        rng.shuffle(pairs)
        ranks = rank(torch.from_numpy(queries), torch.from_numpy(candidates), right=torch.from_numpy(pairs))
        similarity = queries @ candidates.T
        for k in (1, 2, 5, 14):
            share = hits(ranks, k)
            for query in range(9):
                values = [float(part[query]) for part in share]
                assert values == pytest.approx(brute_force(similarity[query], right[query], k))
                seen_ties += values[0] < values[1] < values[2]
    assert seen_ties > 100


def test_chance_is_the_share_of_random_orders() -> None:
    rng = np.random.default_rng(0)
    wrong, right = torch.tensor([7, 3, 0]), torch.tensor([1, 2, 4])
    for k in (1, 3, 5):
        drawn = [
            np.mean([rng.permutation(w + r)[:k].max() >= w for _ in range(4000)]) for w, r in ((7, 1), (3, 2), (0, 4))
        ]
        assert hits_by_chance(wrong, right, k).tolist() == pytest.approx(drawn, abs=0.03)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    import_weights(clips.clip_folder(folder / "source"), folder / "out", clips.GIVEN)
    return folder / "out"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight textures with one to three captions each; the captions of two images are equal, one image has none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(1)
    captions = ["a red cat\na dog", "snow", "snow", "a photo of a dog", "un chien", "neige\nun chat\nrouge", "Hund", ""]
    for index, caption in enumerate(captions):
        texture = rng.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
        Image.fromarray(texture).resize((40, 36), Image.Resampling.BILINEAR).save(folder / f"{index}.png")
        if caption:
            lines = caption.split("\n")
            (folder / f"{index}.json").write_text(
                json.dumps({"caption": lines, "language": "en" if index < 4 else "fr"})
            )
    return folder


def write(folder: Path, index: int, caption: str | list[str], language: str) -> None:
    (folder / f"{index}.json").write_text(json.dumps({"caption": caption, "language": language}))


def evaluate(folder: Path, pictures: Path, *overrides: str) -> list[Any]:
    return verbs.evaluate("retrieval", folder, [f"dataset={pictures}", "images=all", *overrides])


@torch.no_grad()
@pytest.mark.parametrize("broken", [(), (0, 4)])
def test_both_directions_equal_numpy_over_all_pairs(imported: Path, pictures: Path, broken: tuple[int, ...]) -> None:
    """Broken images miss and are missed; their captions stay among the candidates of the others."""
    for index in broken:
        (pictures / f"{index}.png").write_bytes(b"no image")
    rows = evaluate(imported, pictures)
    towers = load_towers(imported)
    texts, owner = captions_by_hand(pictures)
    source = open_source(str(pictures))
    images = read_images(source, range(7), format=towers.image_input)[0]
    similarity = (towers.embed_texts(texts) @ towers.model.embed_image(images).T).numpy()
    right = np.array(owner)[:, None] == np.arange(7)
    there = [image for image in range(7) if image not in broken]
    matrices = {"text_to_image": (similarity[:, there], right[:, there]), "image_to_text": (similarity.T, right.T)}
    for row in rows:
        matrix, truth = matrices[row["split"]]
        k, queried = int(row["metric"].partition("@")[2]), owner if row["split"] == "text_to_image" else range(7)
        expected = [
            (0.0, 0.0, 0.0) if image in broken else brute_force(scores, answers, k)
            for image, scores, answers in zip(queried, matrix, truth, strict=True)
        ]
        values = [row["value"], row["settings"]["average"], row["settings"]["optimistic"]]
        assert values == pytest.approx(np.mean(expected, axis=0), abs=1e-6)
        assert row["n_test"] == (10 if row["split"] == "text_to_image" else 7)
        assert row["versions"].keys() == {"captions"}
    assert len(rows) == 6
    if broken:
        told = "2 of 7 captioned images could not be read and count as wrong: '0.png', '4.png'"
        assert all(told in row["remarks"] for row in rows)
        return
    first = rows[0]
    assert (first["split"], first["chance"]) == ("text_to_image", pytest.approx(1 / 7))


def captions_by_hand(pictures: Path) -> tuple[list[str], list[int]]:
    texts, owner = list[str](), list[int]()
    for index in range(7):
        lines = json.loads((pictures / f"{index}.json").read_text())["caption"]
        texts += lines
        owner += [index] * len(lines)
    return texts, owner


def test_equal_captions_are_told_and_languages_chosen(imported: Path, pictures: Path) -> None:
    for index in range(8):
        (pictures / f"{index}.json").write_text(
            json.dumps({"caption": "snow", "language": "de" if index < 6 else "fra"})
        )
    rows = evaluate(imported, pictures)
    back = [row for row in rows if row["split"] == "image_to_text"]
    assert [row["value"] for row in back] == [0.0, 0.0, 1.0]
    assert back[0]["settings"]["average"] == pytest.approx(1 / 8)
    assert back[0]["settings"]["optimistic"] == 1.0
    assert "equal similarities count against it: 12.5% in random order, 100.0% at best" in back[0]["remarks"]
    assert all(row["n_test"] == 2 for row in evaluate(imported, pictures, "languages=fr"))
    with pytest.raises(ValueError, match="no image of 'pictures' has a caption in fi: put a text beside each image"):
        evaluate(imported, pictures, "languages=fi")


def test_captions_per_image_damage_and_what_is_refused(imported: Path, pictures: Path) -> None:
    assert {row["settings"]["captions"] for row in evaluate(imported, pictures, "captions_per_image=1")} == {7.0}
    (pictures / "0.png").write_bytes(b"no image")
    (pictures / "6.json").write_text(json.dumps({"caption": "x" * 100_000}))
    remarks = evaluate(imported, pictures)[0]["remarks"]
    assert "1 of 6 captioned images could not be read and count as wrong: '0.png'" in remarks
    assert any(
        line.startswith("1 captions cannot be used, such as that of '6.png': 6.json: a caption of") for line in remarks
    )
    with pytest.raises(ValueError, match="captions_per_image=-1 must be 1 or more, or 0 for all"):
        evaluate(imported, pictures, "captions_per_image=-1")
    for index in range(1, 8):
        (pictures / f"{index}.png").unlink()
    (pictures / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="none of the images to evaluate on could be read"):
        evaluate(imported, pictures)
    with pytest.raises(ValueError, match=r"openmoji brings its captions: leave out captions=c\.csv"):
        source_captions(open_source(str(pictures)), "openmoji", table="c.csv")


@pytest.mark.slow
@pytest.mark.parametrize(("images", "texts"), [(25_000, 5_000), (5_000, 25_000)])
def test_it_takes_less_than_a_gibibyte(images: int, texts: int) -> None:
    command = [sys.executable, "-c", MEMORY, str(images), str(texts), "512"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=250)
    recall, back, mebibytes = json.loads(done.stdout)
    assert 0.95 < recall <= 1
    assert 0.95 < back <= 1
    assert mebibytes < 1024
