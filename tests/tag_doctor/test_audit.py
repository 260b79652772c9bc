"""The audit of tags: its posterior against rejection sampling, coverage on simulated labels, page, answers, command."""

from __future__ import annotations

import csv
import importlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.prepared_example import image_bytes, rows_of, write_tar
from underpaint.cli.main import main
from underpaint.data.shards.index import IndexWriter
from underpaint.tag_doctor.audit.design import PARTS, Part, drawing_order, parts_of, shared
from underpaint.tag_doctor.audit.estimate import Stratum, draw_counts, estimate_shares
from underpaint.tag_doctor.audit.labels import chosen_labels
from underpaint.tag_doctor.labelled_set import LabelledSet

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<img src=x onerror=document.title='hacked'>"


def by_rejection(parts: Sequence[Stratum], carriers: int) -> np.ndarray:
    """Counts by the definition: rates by the prior, images by the rates, and samples kept where they are as seen."""
    random, draws = np.random.default_rng(0), 1_500_000
    common = random.exponential(size=draws)
    kept, count = np.ones(draws, dtype=bool), np.zeros(draws)
    for part in parts:
        rate = carriers * random.gamma(1 / len(parts), size=draws) / common / part.images
        inside = random.binomial(part.images, np.minimum(rate, 1))
        kept &= rate <= 1
        kept &= random.hypergeometric(inside, part.images - inside, part.judged) == part.positive
        count += inside
    return count[kept]


@pytest.mark.parametrize(
    ("parts", "carriers"),
    [
        ([Stratum(12, 4, 1)], 3),
        ([Stratum(8, 3, 1), Stratum(30, 5, 0)], 6),
        ([Stratum(6, 2, 2), Stratum(9, 3, 1), Stratum(20, 4, 0)], 10),
    ],
)
def test_the_posterior_is_that_of_rejection(parts: list[Stratum], carriers: int) -> None:
    wanted = by_rejection(parts, carriers)
    assert len(wanted) > 5_000
    counts = draw_counts(parts, carriers, np.random.default_rng(0), 20_000)
    at = np.arange(sum(part.images for part in parts))[:, None]
    assert np.abs((counts <= at).mean(axis=1) - (wanted <= at).mean(axis=1)).max() < 0.02


def test_ends_of_intervals() -> None:
    wrong, missing = estimate_shares([Stratum(50, 50, 10)], [Stratum(9, 9, 0), Stratum(90, 90, 40)], seed=0)
    assert wrong == pytest.approx((0.2, 0.2, 0.2))  # all images judged
    assert missing == pytest.approx((0.5, 0.5, 0.5))
    wrong, missing = estimate_shares([Stratum(100, 20, 0)], [Stratum(10_000, 0, 0)], seed=0)
    assert wrong.low == missing.low == 0
    assert 0.05 < wrong.high < 0.15
    assert 0.3 < missing.value < 0.7
    assert missing.high > 0.9  # nothing known
    assert estimate_shares([Stratum(100, 20, 20)], [], seed=0)[0].high == 1


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("tag_audit")


@pytest.mark.parametrize(("head", "wrong", "missing"), [("good", 0.2, 0.45), ("boastful", 0.25, 0.65)])
def test_intervals_cover_the_truth(benchmark: ModuleType, head: str, wrong: float, missing: float) -> None:
    judged = benchmark.judge_labels(40, head, 66, seed=11)
    for side, width in enumerate((wrong, missing)):
        assert benchmark.coverage(judged, side) >= 0.85
        assert benchmark.median_width(judged, side) < width


def test_parts_are_those_of_the_weights() -> None:
    random = np.random.default_rng(0)
    score = random.random(1000) ** 4
    rows = random.permutation(1000)
    carriers, others = rows[:100], rows[100:]
    parts = parts_of(carriers, others, score, 90)
    assert [part.side for part in parts] == ["wrong"] * PARTS["wrong"] + ["missing"] * PARTS["missing"]
    assert sum(part.drawn for part in parts) == 90
    assert sorted(row for part in parts for row in part.rows) == list(range(1000))
    missing = [part for part in parts if part.side == "missing"]
    for part, following in pairwise(missing):
        assert score[part.rows].min() >= score[following.rows].max()
    for part in missing:  # half by score, half uniform; one image more or less at each end
        weight = score[part.rows].sum() / score[others].sum() / 2 + len(part.rows) / len(others) / 2
        assert weight == pytest.approx(1 / len(missing), abs=0.01)
        assert part.drawn / len(part.rows) >= 0.5 * 60 / len(others) * 0.95
    assert [(part.side, len(part.rows), part.drawn) for part in parts_of(carriers[:9], others, None, 90)] == [
        ("wrong", 9, 9),
        ("missing", 900, 81),
    ]
    assert [part.drawn for part in parts_of(others, carriers[:5], None, 90)] == [85, 5]


def test_shares_are_as_equal_as_can_be() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        most = random.integers(0, 9, size=4).tolist()
        total = int(random.integers(0, 30))
        one_by_one = [0] * 4
        for _ in range(min(total, sum(most))):
            free = [place for place in range(4) if one_by_one[place] < most[place]]
            one_by_one[min(free, key=lambda place: one_by_one[place])] += 1
        assert sorted(shared(total, most)) == sorted(one_by_one)


def test_drawing_depends_on_seed_and_label() -> None:
    part = Part("wrong", np.arange(50), 5)
    orders = {tuple(drawing_order(part, seed=seed, label=label)) for seed in (0, 1) for label in ("heron", "oak")}
    assert len(orders) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)


def labelled(counts: dict[str, int]) -> LabelledSet:
    """A set of 100 images, of which the first ones have each label."""
    rows = [[label for label, count in enumerate(counts.values()) if image < count] for image in range(100)]
    return LabelledSet(
        name="example",
        content_hash="a" * 16,
        names=tuple(counts),
        synsets=("",) * len(counts),
        tags=tuple((name, f"{name}s") for name in counts),
        first=np.cumsum([0, *map(len, rows)]),
        labels=np.array([label for row in rows for label in row], dtype=np.int32),
    )


def test_labels_of_an_audit() -> None:
    made = labelled({"oak": 5, "heron": 40, "boat": 20, "sea": 30, "rare": 0})
    assert chosen_labels(made, [], 200) == [1, 3, 2]
    assert chosen_labels(made, [], 59) == [1]
    assert chosen_labels(made, [], 200, ["oak", "boat"]) == [2, 0]
    assert chosen_labels(made, ["boats", "oak"], 20) == [2, 0]
    for named, images, message in (
        (["herron"], 200, "'herron' is not a label of example; did you mean heron"),
        (["heron", "herons"], 200, "names the label of 'herons' twice"),
        (["rare"], 200, "no image of example has the label 'rare'"),
        (["heron", "oak"], 19, "2 labels need 20 images, and the page has 19; name at most 1"),
        ([], 0, "--images 0 must lie between 10 and 200"),
        ([], 201, "--images 201 must lie"),
    ):
        with pytest.raises(ValueError, match=message):
            chosen_labels(made, named, images)
    with pytest.raises(ValueError, match="the run does not know the label 'sea'"):
        chosen_labels(made, ["sea"], 50, ["oak"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 41 images: a tag on 16, and a hostile one on each; the last image cannot be read."""
    root = tmp_path_factory.mktemp("audit") / "photos"
    root.mkdir()
    vocabulary = {
        "label": pa.array([0, 1], pa.int32()),
        "name": [HOSTILE, "beacon"],
        "synset": [None, "n02814860"],
        "count": pa.array([41, 16], pa.int64()),
        "tags": [["x"], ["lighthouse", "beacon"]],
    }
    pq.write_table(pa.table(vocabulary), root / "vocabulary.parquet")
    pixels = [image_bytes(number) for number in range(40)]
    write_tar(root / "images.tar", [(f"{number:02d}.png", data) for number, data in enumerate([*pixels, b"broken"])])
    with IndexWriter(root) as writer:
        labels = [[0, 1] if number < 16 else [0] for number in range(41)]
        writer.add(rows_of(root / "images.tar", "images.tar", labels=labels))
        writer.finish(name="photos", licence="none", attribution="nobody")
    return root


def content_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def write_answers(file: Path, design: dict[str, Any], answers: Sequence[tuple[str, str]]) -> Path:
    given = [{"id": id_, "answer": answer} for id_, answer in answers]
    file.write_text(json.dumps({"format": 1, "design": design, "answers": given}))
    return file


def test_the_command_from_page_to_shares(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tags", "audit", str(folder), "--labels", "lighthouse", "--images", "30", "--out", str(tmp_path)]
    assert main(command) == 0
    assert "30 images to judge: lighthouse (beacon)\n" in capsys.readouterr().out
    page = (tmp_path / "audit.html").read_bytes()
    assert main(command) == 0
    assert (tmp_path / "audit.html").read_bytes() == page
    design = content_of(tmp_path / "audit.html")["design"]
    sides = [part["side"] for part in design["labels"][0]["parts"]]
    of_side = {side: [q["id"] for q in design["questions"] if sides[q["part"]] == side] for side in sides}
    assert {side: len(ids) for side, ids in of_side.items()} == {"wrong": 10, "missing": 20}
    answers = [(id_, "no" if place < 4 else "yes") for place, id_ in enumerate(of_side["wrong"])]
    answers += [(id_, "yes" if place < 5 else "no") for place, id_ in enumerate(of_side["missing"][:18])]
    answers.append((of_side["missing"][18], "cannot tell"))
    file = write_answers(tmp_path / "answers.json", design, answers)
    capsys.readouterr()
    assert main([*command, "--seed", "0", "--answers", str(file)]) == 0
    line, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"lighthouse \(beacon\): \d+% wrong \(±\d+\), \d+% missing \(±\d+\); 1 cannot be told; 1 unanswered", line
    )
    with (tmp_path / "audit.csv").open(encoding="utf-8-sig") as opened:
        (row,) = csv.DictReader(opened)
    wanted = estimate_shares([Stratum(16, 10, 4)], [Stratum(25, 18, 5)], seed=0)
    for name, share in zip(("wrong", "missing"), wanted, strict=True):
        assert [float(row[name + end]) for end in ("", "_low", "_high")] == pytest.approx(share, abs=1e-4)
    with (tmp_path / "judged.csv").open(encoding="utf-8-sig") as opened:
        judged = [(row["tagged"], row["shown"]) for row in csv.DictReader(opened)]
    assert judged.count(("yes", "no")) == 4
    assert judged.count(("no", "yes")) == 5
    assert len(judged) == 29


def test_answers_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tags", "audit", str(folder), "--labels", "lighthouse", "--images", "12", "--out", str(tmp_path)]) == 0
    design = content_of(tmp_path / "audit.html")["design"]
    first = design["questions"][0]
    fitting = [(first["id"], "yes")]

    def edited(**fields: object) -> dict[str, Any]:
        return {**design, **fields}

    label = design["labels"][0]
    parts = [{**label["parts"][0], "images": 15}, {**label["parts"][1], "images": 26}]
    for changed, answers, options, message in (
        (design, [], [], "answers nothing; judge some"),
        (design, [*fitting, (first["id"], "no")], [], f"answers '{first['id']}' twice"),
        (design, [(first["id"], "perhaps")], [], "is 'perhaps'; known are yes, no, cannot tell"),
        (design, [("abc", "yes")], [], "'abc' is not a question of its page (seed 0, no run, labels beacon)"),
        (edited(content_hash="b" * 32, set="birds"), fitting, [], "is of the set birds (bbbbbbbb), and not of photos"),
        (edited(seed=1), fitting, [], "its questions are not those of a page about photos"),
        (edited(labels=[{**label, "parts": parts}]), fitting, [], "its questions are not those"),
        (edited(labels=[label, label]), fitting, [], "its questions are not those"),
        (edited(labels=[]), fitting, [], "its questions are not those"),
        (edited(questions=[{**first, "part": 7}]), fitting, [], "its questions are not those"),
        (edited(questions=[first, first]), fitting, [], "its questions are not those"),
        (edited(questions="all"), fitting, [], "design.questions is 'all', expected a list"),
        (design, fitting, ["--seed", "1"], "seed 0, no run, labels beacon, and --seed 1 was given"),
        (design, fitting, ["--seed", "-1"], "--seed -1 must be 0 or more"),
        (design, fitting, ["--images", "20"], "and --images 20 was given"),
        (design, fitting, ["--run", "runs/wsp"], "and --run wsp was given"),
        (design, fitting, ["--labels", HOSTILE], "was given; leave it out"),
        (design, fitting, ["--accepted", "a.csv"], "--accepted does nothing with audit"),
    ):
        file = write_answers(tmp_path / "answers.json", changed, answers)
        assert main(["tags", "audit", str(folder), "--answers", str(file), *options]) == 2, message
        assert message in capsys.readouterr().err
    assert not (folder / "tag_audit").exists()
    assert main(["tags", "audit", str(folder), "--answers", str(tmp_path / "none.json")]) == 2
    assert "none.json does not exist" in capsys.readouterr().err
    assert main(["tags", "doctor", str(folder), "--answers", "a", "--seed", "1"]) == 2
    assert "--seed and --answers does nothing with doctor" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_not_asked_about(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tags", "audit", str(folder), "--labels", "lighthouse", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "40 images to judge" in printed.out
    assert "images.tar/40 cannot be judged" in printed.err


@pytest.mark.slow
def test_scores_are_the_probabilities_of_the_run(folder: Path, tmp_path: Path) -> None:
    from support.small_runs import wsp_run
    from underpaint.data.shards.prepared_set import PreparedSet
    from underpaint.data.shards.prepared_source import prepared_source
    from underpaint.inference import predict
    from underpaint.run import execute
    from underpaint.tag_doctor.audit.scores import head_scores
    from underpaint.tag_doctor.head import read_classifier

    run, out = wsp_run(folder, steps=2), tmp_path / "run"
    execute(replace(run, data=replace(run.data, labels="", max_bad=0.1)), out)
    scores = head_scores(read_classifier(out), prepared_source(PreparedSet(folder)), ["beacon"])
    files = [tmp_path / f"{number:02d}.png" for number in range(40)]
    for number, file in enumerate(files):
        file.write_bytes(image_bytes(number))
    for number, predicted in enumerate(predict(out, files, top=2)):
        assert scores[number, 0] == pytest.approx(dict(predicted.labels)["beacon"], abs=1e-5)
    assert scores[40, 0] == 0
    command = ["tags", "audit", str(folder), "--run", str(out), "--images", "25", "--out", str(tmp_path)]
    assert main([*command, "--labels", "beacon"]) == 0
    design = content_of(tmp_path / "audit.html")["design"]
    assert design["run"] == "run"
    assert len(design["questions"]) == 25
    assert len(design["labels"][0]["parts"]) > 2


@pytest.mark.slow
def test_the_page_saves_what_is_answered(
    browser: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tags", "audit", str(folder), "--out", str(tmp_path)]
    assert main([*command, "--images", "20", "--labels", HOSTILE, "lighthouse"]) == 0
    page = browser.new_context(viewport={"width": 380, "height": 800}).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "audit.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]", state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") == 380
    for press in ("y", "n", "c", "ArrowRight", "y", "ArrowLeft", "u"):
        page.keyboard.press(press)
    page.click("li:nth-child(7) button:has-text('No')")
    assert page.inner_text("output") == "4 judged, 16 left"
    with page.expect_download() as download:
        page.click("text=Save answers.json")
    file = tmp_path / "saved.json"
    download.value.save_as(file)
    design = content_of(tmp_path / "audit.html")["design"]
    saved = json.loads(file.read_text())
    assert saved["design"] == design
    places = {question["id"]: place for place, question in enumerate(design["questions"])}
    answers = {places[each["id"]]: each["answer"] for each in saved["answers"]}
    assert answers == {0: "yes", 1: "no", 2: "cannot tell", 6: "no"}
    assert not complaints
    assert "hacked" not in page.title()
    assert main([*command, "--answers", str(file)]) == 0
    assert "lighthouse (beacon): not judged" in capsys.readouterr().out
