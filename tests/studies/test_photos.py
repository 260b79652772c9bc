"""The size ``photos`` of the study ``stages``: its values, what it refuses, and a shortened run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.small_runs import make_textures
from underpaint import verbs
from underpaint.cli.main import main
from underpaint.data.dataset import ImageData
from underpaint.models.weights import read_encoder_config
from underpaint.run import encoder_of
from underpaint.studies import stages
from underpaint.studies.cost import IMAGE_BYTES, memory_sentence
from underpaint.studies.designs import Size, design_of, require_images
from underpaint.studies.parts import read_output

pytestmark = pytest.mark.usefixtures("images_opened_once")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_textures(tmp_path_factory.mktemp("own") / "images")


def test_values_of_the_size() -> None:
    """What the guides state: 96 pixels, three seeds, canonical labels, and the same budgets on every folder."""
    design = design_of("photos", own_images=True)
    runs = (design.mae, design.wsp, design.finetune)
    assert {(encoder_of(run).size, encoder_of(run).patch) for run in runs} == {((96, 96), 8)}
    assert [run.budget.samples for run in runs] == [128_000, 64_000, 8_000]
    assert all(run.budget.samples % run.budget.batch_size == 0 for run in runs)
    data = [run.data for run in runs if isinstance(run.data, ImageData)]
    assert {(each.tag_rules, each.decoding, each.share) for each in data} == {("canonical", "scaled", 1.0)}
    assert design.seeds == (0, 1, 2)
    assert design.fewest_images == 1_000


def test_built_in_collections_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "stages", "--size", "photos", "--plan"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "give --images DIR, or --data SET of `underpaint prepare`" in said[0]


@pytest.mark.parametrize("study", ["ablations", "convergence", "scaling", "transfer"])
def test_other_studies_lack_the_size(study: str) -> None:
    with pytest.raises(ValueError, match=f"size of the study `stages`; `{study}` has smoke, tiny and small"):
        verbs.plan_study(study, size="photos")


@pytest.mark.parametrize(("count", "size"), [(999, "tiny"), (128, "tiny"), (127, "smoke"), (12, "smoke")])
def test_too_few_images_name_the_size_whose_batch_they_fill(count: int, size: Size) -> None:
    design = design_of("photos", own_images=True)
    with pytest.raises(ValueError, match=rf"'few' has {count} images .* needs 1,000: .* take --size {size}, or set"):
        require_images(design, count, name="few")
    assert count >= design_of(size).mae.budget.batch_size or size == "smoke"
    require_images(design, 1_000, name="enough")


def test_a_small_folder_is_refused_before_anything_is_timed_or_trained(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "relative_seconds", lambda *_: pytest.fail("a step was timed"))
    for verb in (verbs.plan_study, verbs.run_study):
        with pytest.raises(ValueError, match="take --size tiny"):
            verb("stages", size="photos", images=str(images), out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_small_folder_that_is_asked_for_all_the_same(images: Path) -> None:
    settled = {"measured": {"mae_seconds": 0.5}, "precision": "fp32"}
    study = verbs.build_study("stages", size="photos", images=str(images), overrides=["fewest_images=100"], **settled)
    assert {part.name.rpartition("-seed")[2] for part in study.parts if "-seed" in part.name} == {"0", "1", "2"}


def test_the_memory_that_a_plan_tells_holds_what_the_process_has() -> None:
    """Beside what the system says of this process."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("this system has no /proc")
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024  # pyright: ignore[reportOptionalSubscript]
    told = re.fullmatch(
        r"memory: about (\S+) GiB for each .* most 0\.75 more for .*: (\S+) GiB for 2 at a time", memory_sentence(2)
    )
    assert told is not None
    assert float(told[1]) == pytest.approx(peak / 2**30, abs=0.06)
    assert float(told[2]) == pytest.approx(2 * (peak + IMAGE_BYTES) / 2**30, abs=0.11)
    assert "at a time:" not in memory_sentence(1)


SHORT = (
    *("fewest_images=10", "mae_seconds=0.5"),
    *(
        f"{run}.objective.encoder.{field}"
        for run in ("mae", "wsp", "finetune")
        for field in ("width=32", "depth=1", "heads=2")
    ),
    *(
        f"{run}.budget.{field}"
        for run in ("mae", "wsp")
        for field in ("samples=64", "batch_size=16", "microbatch=16", "warmup=16")
    ),
    *(
        "finetune.budget.samples=64",
        "finetune.budget.batch_size=16",
        "finetune.budget.microbatch=16",
        "finetune.budget.warmup=16",
    ),
    *(f"{run}.precision=fp32" for run in ("mae", "wsp", "finetune")),
)
"""Overrides by which the study takes seconds; pixels, patches, data and arms stay those of the size."""


@pytest.mark.slow
def test_canonical_labels_and_own_classes_in_one_study(tmp_path: Path) -> None:
    """Words of one meaning become one label, function words none, and class folders beside the tags are the task."""
    folder, out = tmp_path / "own", tmp_path / "study"
    files = sorted(make_textures(tmp_path / "plain", 48).rglob("*.png"))
    rows = ["path,tags"]
    for number, file in enumerate(files):
        name = f"{('cats', 'dogs')[number % 2]}/{file.name}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        file.rename(folder / name)
        rows.append(f"{name},{('#Kittens;the', 'kitten', 'puppies;the', 'Puppy')[number % 4]}")
    (folder / "tags.csv").write_text("\n".join(rows))
    measured = ("transfer", "finetune", "accuracy")
    only = ["mae-seed0", "mae_wsp-seed0", "tags-mae_wsp-seed0", *(f"{part}-mae_wsp-own-seed0" for part in measured)]
    asked = {"size": "photos", "images": str(folder), "labels": "folders", "overrides": SHORT}
    assert verbs.run_study("stages", out=out, only=only, **asked) == out
    labels = json.loads((out / "mae_wsp-seed0" / "model" / "labels.json").read_text())["labels"]
    assert sorted(labels) == ["kitten", "puppy"]
    assert read_encoder_config(out / "mae_wsp-seed0").size == (96, 96)
    scores = [*read_output("transfer-mae_wsp-own-seed0", out), *read_output("accuracy-mae_wsp-own-seed0", out)]
    assert {score["protocol"] for score in scores} == {"linear", "lowshot", "knn", "finetune"}
    assert {score["dataset"] for score in scores} == {"own"}
