"""The study ``stages`` on a small folder of one's own: the contract of its results, skipping, plans and parts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.small_runs import make_textures
from underpaint import verbs
from underpaint.core import DataInfo
from underpaint.data.open_source import open_source
from underpaint.data.reading_time import Images
from underpaint.run import Run
from underpaint.studies import cost, parts
from underpaint.studies.cost import PlanRow
from underpaint.studies.designs import design_of
from underpaint.studies.parts import TrainPart
from underpaint.studies.stages import stages

ARMS = {"random", "mae", "wsp", "mae_wsp", "wsp_equal_compute"}
ROW = {"arm", "seed", "dataset", "protocol", "shots", "split", "language", "metric", "value", "n_test"}
STAGE = {"arm", "stage", "seed", "samples", "train_flops", "wall_seconds", "images_per_second"}
SUMMARY = {"contrast", "task", "mean", "low", "high", "n_seeds", "method"}

pytestmark = pytest.mark.usefixtures("images_opened_once")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_textures(tmp_path_factory.mktemp("own") / "images")


def untagged(images: Path, folder: Path) -> Path:
    """The same images without tags.csv; labels.csv stays a file that nobody named."""
    copy = folder / "untagged"
    for file in images.rglob("*.png"):
        target = copy / file.relative_to(images)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return copy


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_study_on_own_images(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "study"
    arguments = {"size": "smoke", "out": out, "images": str(images), "labels": str(images / "labels.csv")}
    assert verbs.run_study("stages", seeds=(3,), **arguments) == out
    results = json.loads((out / "results.json").read_text())
    assert results["format"] == 2
    assert results["study"] == "stages"
    assert {"data", "environment", "rows", "stages", "summary"} <= results.keys()
    assert all(row.keys() >= ROW for row in results["rows"])
    assert all(stage.keys() >= STAGE for stage in results["stages"])
    assert all(line.keys() >= SUMMARY for line in results["summary"])
    assert {row["arm"] for row in results["rows"]} == ARMS
    assert {row["dataset"] for row in results["rows"]} == {"images", "digits"}
    assert {row["protocol"] for row in results["rows"]} == {"linear", "lowshot", "knn", "finetune", "tags"}
    assert {(stage["arm"], stage["stage"]) for stage in results["stages"]} >= {("mae_wsp", "mae"), ("mae_wsp", "wsp")}
    value = {(r["arm"], r["dataset"], r["protocol"]): r["value"] for r in results["rows"] if r["split"] == "test"}
    line = next(s for s in results["summary"] if (s["contrast"], s["task"]) == ("mae_wsp - wsp", "digits knn"))
    assert line["mean"] == pytest.approx(value["mae_wsp", "digits", "knn"] - value["wsp", "digits", "knn"])
    assert line["low"] <= line["mean"] <= line["high"]
    assert line["n_seeds"] == 1
    assert {line["dataset"] for line in results["dataset_summary"]} == {"images", "digits"}
    for line in results["dataset_summary"]:  # every task of a dataset weighs the same
        lines = [one for one in results["summary"] if one["contrast"] == line["contrast"]]
        own = [one["mean"] for one in lines if one["task"].startswith(line["dataset"])]
        assert line["mean"] == pytest.approx(sum(own) / len(own))
    assert (out / "report.html").stat().st_size > 10_000

    before = times(out)
    verbs.run_study("stages", seeds=(3,), **arguments)  # everything is there already
    assert times(out) == before
    verbs.run_study("stages", seeds=(4,), **arguments)  # what a run leaves out it does not delete
    both = json.loads((out / "results.json").read_text())
    assert {row["seed"] for row in both["rows"]} == {3, 4}
    assert [row for row in both["rows"] if row["seed"] == 3] == results["rows"]
    assert {line["n_seeds"] for line in both["summary"]} == {2}
    with pytest.raises(ValueError, match="size="):
        verbs.run_study("stages", size="tiny", out=out, images=str(images))


@pytest.mark.slow
def test_without_tags_only_the_floor_and_mae(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    verbs.run_study("stages", size="smoke", out=out, images=str(untagged(images, tmp_path)))
    results = json.loads((out / "results.json").read_text())
    assert {row["arm"] for row in results["rows"]} == {"random", "mae"}
    assert any("no tags" in line for line in results["data"]["not_measured"])
    assert any("no labels" in line or "Transfer on these images" in line for line in results["data"]["not_measured"])


def flops(rows: list[PlanRow], start: str) -> float:
    return next(row.flops for row in rows if row.part.startswith(start))


@pytest.mark.slow
def test_the_plan_and_single_parts(images: Path, tmp_path: Path) -> None:
    arguments = {
        "size": "smoke",
        "out": tmp_path / "study",
        "images": str(images),
        "labels": str(images / "labels.csv"),
    }
    plan = verbs.plan_study("stages", **arguments)
    assert not (tmp_path / "study").exists()
    assert {row.part for row in plan if not row.part.startswith("finetune")} == {
        f"{arm}-seed0" for arm in ARMS - {"random"}
    }
    assert len(plan) == 4 + 5 * 2
    assert all(row.samples > 0 and row.seconds > 0 and row.bytes > 0 and not row.done for row in plan)
    # by definition of the arm, to within half a batch of WSP
    both = flops(plan, "mae-") + flops(plan, "wsp-")
    batch = 64 * flops(plan, "wsp-") / design_of("smoke").wsp.budget.samples
    assert flops(plan, "wsp_equal_compute-") == pytest.approx(both, abs=batch / 2 * 1.001)

    verbs.run_study("stages", only=("random-*", "mae-seed0"), **arguments)
    assert {path.parent.name for path in (tmp_path / "study").glob("*/encoder")} == {"mae-seed0", "random-seed0"}
    assert (tmp_path / "study" / "mae-seed0" / "result.json").is_file()
    assert not (tmp_path / "study" / "results.json").exists()
    assert [row.part for row in verbs.plan_study("stages", **arguments) if row.done] == ["mae-seed0"]
    with pytest.raises(ValueError, match="unknown part 'mae'"):
        verbs.run_study("stages", only=("mae",), **arguments)


def test_overrides_change_the_recipes_and_belong_to_the_folder(images: Path, tmp_path: Path) -> None:
    arguments = {"size": "smoke", "out": tmp_path / "study", "images": str(images)}
    changed = ["wsp.budget.samples=2560", "mae.budget.samples=640"]
    usual, other = (verbs.plan_study("stages", overrides=given, **arguments) for given in ((), changed))
    assert flops(other, "wsp-") == pytest.approx(2560 / design_of("smoke").wsp.budget.samples * flops(usual, "wsp-"))
    assert flops(other, "mae-") == pytest.approx(640 / design_of("smoke").mae.budget.samples * flops(usual, "mae-"))
    verbs.run_study("stages", overrides=changed, only=("random-seed0",), **arguments)
    with pytest.raises(ValueError, match="holds a study with overrides="):
        verbs.run_study("stages", only=("random-seed0",), **arguments)
    with pytest.raises(ValueError, match=r"did you mean wsp\.budget\.samples"):
        verbs.plan_study("stages", overrides=["wsp.budget.sample=1"], **arguments)
    with pytest.raises(ValueError, match=r"wsp\.budget\.samples=1: the study `ablations` takes no overrides"):
        verbs.plan_study("ablations", overrides=["wsp.budget.samples=1"], **arguments)


def test_the_small_study_is_complete() -> None:
    """Five seeds, and transfer to drawings, photographs, another vendor's emoji and digits."""
    design = design_of("small")
    assert len(design.seeds) == 5
    assert design.transfer == ("openclipart", "emoji-google", "tuxpaint", "digits")
    assert design.shots == (1, 5, 10)
    assert {arm.name for arm in design.arms} >= {*ARMS, "wsp_equal_time"}
    starts = {arm.start for arm in design.arms} - {""}
    order = [arm.name for arm in design.arms]
    assert all(order.index(arm.start) < order.index(arm.name) for arm in design.arms if arm.start), starts


def test_the_arms_of_the_small_study_change_what_their_names_say(images: Path) -> None:
    batch = [f"{stage}.budget.{field}=64" for stage in ("mae", "wsp") for field in ("batch_size", "microbatch")]
    batch += ["mae_seconds=0.5"]
    built = stages(size="small", images=str(images), seeds=(7,), overrides=batch)
    runs = {part.name.removesuffix("-seed7"): part for part in built.parts if isinstance(part, TrainPart)}
    budgets = {name: part.run.budget for name, part in runs.items()}
    for whole, part, share in (("mae", "mae_tenth", 0.1), ("wsp", "mae_wsp_half", 0.5)):
        assert budgets[part].samples == pytest.approx(share * budgets[whole].samples, abs=32)
        assert budgets[part].warmup == pytest.approx(share * budgets[whole].warmup, abs=1)
    assert budgets["mae_tenth_wsp"] == budgets["mae_wsp"] == budgets["wsp"]
    assert runs["mae_tenth_wsp"].init_from == "mae_tenth-seed7"
    assert runs["mae_wsp_low_rate"].run.optim.base_lr == runs["wsp"].run.optim.base_lr / 4
    alike = ("wsp", "mae_wsp", "mae_wsp_half", "mae_tenth_wsp", "wsp_equal_compute", "wsp_equal_time")
    assert len({runs[name].run.optim for name in alike}) == 1, "tuned on wsp alone, and reused unchanged"


def test_joined_sources_are_those_of_their_parts(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two.py").write_text(
        "from pathlib import Path\nfrom dataclasses import replace\n"
        "from underpaint.data.folders.folder import open_folder\n"
        f"def first():\n    return open_folder(Path({str(images)!r}), tags='', labels='')\n"
        "def second():\n    return replace(first(), name='second')\n"
        "def nothing():\n    return None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    one, both = open_source("two:first"), open_source("two:first+two:second")
    assert len(both.path) == 2 * len(one.path)
    assert len(both.rows("pretrain")) == 2 * len(one.rows("pretrain"))
    assert not both.rows("test")
    assert all((both.root / path).is_file() for path in both.path)
    assert len(set(both.family)) == 2 * len(set(one.family))
    assert both.content_hash not in (one.content_hash, open_source("two:second+two:first").content_hash)
    for name, message in (
        ("two:first+two:first", "names a collection twice"),
        ("two:nothing", "returns NoneType, neither a Source nor a dataset"),
        ("two:absent", "cannot be imported"),
        ("absent:first", "cannot be imported"),
        ("two:Path", "returns PosixPath, neither a Source nor a dataset"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(name)


def test_a_plan_times_equal_work_once(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three arms of WSP do the same work, and so do the finetunings of all arms on one dataset."""
    timed: list[str] = []

    def measure(run: Run, data_info: DataInfo) -> tuple[float, int]:
        timed.append(run.name)
        return float(len(timed)), 100

    monkeypatch.setattr(cost, "measure", measure)
    monkeypatch.setattr(cost, "images_of", lambda *_, **__: Images(count=9, side=24, decoding=0.0, cropping=0.0))
    labels = str(images / "labels.csv")
    rows = verbs.plan_study("stages", size="smoke", out=tmp_path / "study", images=str(images), labels=labels)
    speed = {row.part: row.seconds / row.samples for row in rows}
    assert len(timed) == len(set(speed.values())) == 4
    assert speed["wsp-seed0"] == speed["mae_wsp-seed0"] == speed["wsp_equal_compute-seed0"] != speed["mae-seed0"]
    assert speed["finetune-mae-images-seed0"] == speed["finetune-random-images-seed0"]


def test_a_plan_counts_the_reading_of_images(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "measure", lambda *_, **__: (2.0, 10))
    monkeypatch.setattr(cost, "images_of", lambda *_, **__: Images(count=9, side=24, decoding=3.0, cropping=0.5))
    asked = {"size": "smoke", "out": tmp_path / "study", "images": str(images), "labels": str(images / "labels.csv")}
    rows = {row.part: row for row in verbs.plan_study("stages", **asked)}
    assert {row.seconds / row.samples for row in rows.values()} == {2.0 + 3.0 + 0.5}
    assert "finetune-mae-images-seed0" in rows


@pytest.mark.parametrize(
    "change",
    ["mae.objective.encoder.width=64", "wsp.objective.encoder.depth=3", "finetune.objective.encoder.width=64"],
)
def test_stages_that_do_not_fit_are_found_before_anything_runs(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(parts, "execute", lambda *_, **__: pytest.fail("a part was trained"))
    monkeypatch.setattr(cost, "measure", lambda *_, **__: pytest.fail("a part was timed"))
    out = tmp_path / "study"
    arguments = {"size": "smoke", "images": str(images), "labels": str(images / "labels.csv"), "overrides": [change]}
    field = change.rpartition(".")[2]
    message = rf"\S+-seed0 has {field.partition('=')[0]}=\S+, \S+-seed0, which starts from it, has .*; make them equal"
    for verb in (verbs.plan_study, verbs.run_study):
        with pytest.raises(ValueError, match=message) as raised:
            verb("stages", out=out, **arguments)
        assert field in str(raised.value)
    assert not out.exists()


def test_a_batch_larger_than_the_images_of_a_later_stage_is_found_before_anything_runs(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "execute", lambda *_, **__: pytest.fail("a part was trained"))
    monkeypatch.setattr(cost, "measure", lambda *_, **__: pytest.fail("a part was timed"))
    out = tmp_path / "study"
    change = ["finetune.budget.batch_size=512", "finetune.budget.microbatch=64", "finetune.budget.samples=1024"]
    message = r"finetune-\S+ has \d+ images to train on, fewer than one batch of 512; give more images, or add (.*)"
    asked: Any = {"size": "smoke", "out": out, "images": str(images), "labels": str(images / "labels.csv")}
    for verb in (verbs.plan_study, verbs.run_study):
        with pytest.raises(ValueError, match=message) as raised:
            verb("stages", overrides=change, **asked)
    assert not out.exists()
    named = re.fullmatch(message, str(raised.value))
    assert named is not None
    monkeypatch.setattr(cost, "measure", lambda *_, **__: (1.0, 10))
    assert verbs.plan_study("stages", overrides=[*change, *named[1].split()], **asked), "the fields named mend it"


def test_another_image_size_of_a_later_stage_is_planned(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions are resized, so it fits."""
    monkeypatch.setattr(cost, "measure", lambda *_, **__: (1.0, 10))
    larger = ["finetune.objective.encoder.size=48,48"]
    given = {"size": "smoke", "images": str(images), "out": tmp_path / "study"}
    assert verbs.plan_study("stages", overrides=larger, **given)
