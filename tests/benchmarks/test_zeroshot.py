"""The zero-shot benchmark: what it holds out, by plain search in all texts, and its whole path on OpenMoji."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from underpaint.models.weights import load_tokenizer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(ROOT)  # its images are a function of the user's own, found from here
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import zeroshot

    return zeroshot


def _padded(text: str) -> str:
    return f" {' '.join(text.lower().replace('_', ' ').split())} "


@pytest.mark.slow
def test_no_training_image_shows_or_names_a_held_out_class(benchmark: ModuleType) -> None:
    import zeroshot_images

    trained, tested = zeroshot_images.few_drawings(), zeroshot_images.few_unseen()
    names = zeroshot_images.classes().names
    assert len(names) == 14
    assert len(names["en"]) > 100
    rows = trained.rows("pretrain")
    shown = {tested.path[row] for row in tested.rows("test")}
    assert not shown & {trained.path[row] for row in rows}
    assert {tested.label[row] for row in tested.rows("test")} == names["en"].keys()
    assert not {trained.family[row].partition("/")[2] for row in rows} & names["en"].keys()
    named = {
        language: re.compile("|".join(re.escape(_padded(name)) for name in names[language].values()))
        for language in names
    }
    for row in rows:
        texts = [(caption.language, caption.text) for caption in trained.captions[row]]
        texts += [("en", tag) for tag in trained.tags[row]]
        said = [text for language, text in texts if named[language].search(_padded(text))]
        assert not said, (trained.path[row], said)


def test_photographs_of_held_out_classes_and_their_words_are_left_out(benchmark: ModuleType, tmp_path: Path) -> None:
    import photographs_data

    out = tmp_path / "out"
    out.mkdir()
    photographs_data.write_photographs(_photographs(tmp_path / "given"), out)
    held = {folder.name for folder in (out / "unseen").iterdir()}
    assert 0 < len(held) < 20
    names = json.loads((out / "names.json").read_text())
    assert names["eng"] == {wnid: [f"thing {wnid}"] for wnid in held}
    assert names["fra"] == {wnid: [f"chose {wnid}"] for wnid in held}
    assert sum(1 for _ in (out / "unseen").rglob("*.jpg")) == 2 * len(held), "both splits"
    with tarfile.open(out / "photographs-00000.tar") as tar:
        trained = {name.removeprefix("train_").removesuffix(".jpg") for name in tar.getnames()}
    assert trained == {f"n{number:02}" for number in range(20)} - held, "the training images of the others"
    written = (out / "tags.csv").read_text()
    for wnid in held:
        assert f"#thing{wnid}" not in written.lower()
        assert f"#chose{wnid}" not in written.lower()
    for wnid in trained:
        assert f"#Thing{wnid}s" in written


def _photographs(folder: Path) -> Path:
    """Twenty classes of a training and a validation image; each image also has the tags of the class after its own."""
    wnids = [f"n{number:02}" for number in range(20)]
    classes = {wnid: {"lemmas": [f"thing {wnid}"], "hypernyms": []} for wnid in wnids}
    names = {"eng": {w: [f"thing {w}", "second"] for w in wnids}, "fra": {w: [f"chose {w}"] for w in wnids}}
    (folder / "photos").mkdir(parents=True)
    (folder / "names").mkdir()
    (folder / "photos" / "classes.json").write_text(json.dumps(classes))
    full = names | {language: {} for language in ("deu", "ita", "por", "spa", "nld", "pol", "rus", "tur", "cmn")}
    full |= {language: {} for language in ("jpn", "kor", "arb", "tha")}
    (folder / "names" / "tiny_imagenet.json").write_text(json.dumps(full))
    rows = ["key,tags"]
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        labels = {f"{split}_{w}": {"wnid": w, "split": split} for w in wnids}
        (folder / "photos" / f"{split}-00000.json").write_text(json.dumps(labels))
        with tarfile.open(folder / "photos" / f"{split}-00000.tar", "w") as tar:
            for key in labels:
                image = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(image, "JPEG", quality=95)
                entry = tarfile.TarInfo(f"{key}.jpg")
                entry.size = len(image.getvalue())
                tar.addfile(entry, io.BytesIO(image.getvalue()))
    for place, wnid in enumerate(wnids):
        after = wnids[(place + 1) % len(wnids)]
        rows.append(f"train_{wnid},#Thing{wnid}s #thing{after} #Chose{after} #nature")
    (folder / "photos" / "hashtags.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.slow
def test_arms_are_trained_measured_and_continued(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--size", "smoke", "--seeds", "5", "--arms", "mae", "mae_wsp", "--out", str(tmp_path)]
    assert benchmark.main(command) == 0
    table = (tmp_path / "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [row[:3] for row in rows[:2]] == [["en", "mae", "1"], ["en", "mae_wsp", "1"]]
    assert len(rows) == 14 * 2
    scores = json.loads((tmp_path / "scores-mae_wsp-seed5.json").read_text())
    english = next(score for score in scores if (score["language"], score["split"]) == ("en", "test"))
    hits = sum(english["correct"]) / len(english["correct"])
    assert next(row[3] for row in rows if row[:2] == ["en", "mae_wsp"]) == f"{100 * hits:.2f}"
    starts = [json.loads((tmp_path / f"lit-{arm}-seed5" / "run.json").read_text()) for arm in ("mae", "mae_wsp")]
    assert len({json.dumps(start["identity"]["init_from"]) for start in starts}) == 2
    pieces = load_tokenizer(tmp_path / "lit-mae-seed5")
    assert pieces.vocabulary <= 2_000
    before = (tmp_path / "mae-seed5" / "result.json").stat().st_mtime_ns
    assert benchmark.main(command) == 0
    assert (tmp_path / "mae-seed5" / "result.json").stat().st_mtime_ns == before
    assert capsys.readouterr().out
