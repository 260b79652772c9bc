"""The zero-shot benchmark: what it holds out, by plain search in all texts, and its whole path on OpenMoji."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

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
