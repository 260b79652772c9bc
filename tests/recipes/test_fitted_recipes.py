"""Recipes fitted to images: the rule, with times that are set, and a run that keeps what was chosen for it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.small_runs import make_textures
from underpaint import fitted_recipes
from underpaint.cli.main import main
from underpaint.core import DataInfo
from underpaint.data.reading_time import BOUND, Images, seen
from underpaint.fitted_recipes import NETWORKS, fewest_images, fit
from underpaint.recipes import find_recipe
from underpaint.run import Run
from underpaint.run.idle_fields import override_run
from underpaint.training import devices

DATA = "data=sets/none"
PHOTOS = Images(count=10_000, side=600, decoding=0.008, cropping=0.002)
PARAMETERS = {48: 1_000_000, 96: 1_200_000, 224: 90_000_000}
"""About those of networks for images of so many pixels."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A machine with so many training FLOPs a second, whatever the network is."""

    def make(rate: float) -> None:
        def measure(run: Run, data_info: DataInfo) -> tuple[float, int]:
            return run.objective.flops_per_sample(data_info) / rate, PARAMETERS[run.objective.encoder.size[0]]  # type: ignore[attr-defined]

        monkeypatch.setattr(fitted_recipes, "measure", measure)

    return make


def chosen(fields: Sequence[str], recipe: str = "mae_laptop") -> Run:
    """The run of a recipe with these fields, all of which must be settable and have an effect."""
    return override_run(find_recipe(recipe)(), [DATA, *fields])


def test_budgets_fill_the_time_and_fit_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted_recipes, "measure", lambda run, data_info: (0.01, 10**9))
    fitted = fit("mae", PHOTOS, seconds=1_000.0, given=[DATA])
    assert fitted.recipe == "mae_laptop", "a billion parameters are too many for 50,000 views"
    assert fitted.fields[:2] == ("budget.samples=49984", "budget.warmup=4998"), "1,000 s of 0.02 s"
    assert fitted.seconds == pytest.approx(49_984 * 0.02)
    assert chosen(fitted.fields).budget.batch_size == 64
    short = fit("mae", PHOTOS, seconds=400.0, given=[DATA])
    assert chosen(short.fields).budget.batch_size == 32, "64 would leave 312 steps"
    few = fit("mae", replace(PHOTOS, count=20), seconds=1_000.0, given=[DATA])
    batch = ("budget.batch_size=8", "budget.microbatch=8")
    assert few.fields[:4] == ("budget.samples=16000", "budget.warmup=1600", *batch), "800 views of each of 20 images"
    hours = fit("mae", PHOTOS, seconds=36_000.0, given=[DATA])
    assert chosen(hours.fields, hours.recipe).cadence.evaluate == 12_800, "the recipe's, every 256 s"
    slow = fit("mae", replace(PHOTOS, decoding=0.09), seconds=36_000.0, given=[DATA])
    assert chosen(slow.fields, slow.recipe).cadence.save == pytest.approx(300 / 0.102, abs=1)


@pytest.mark.parametrize(
    ("images", "rate", "seconds", "recipe", "pixels"),
    [
        (PHOTOS, 1e9, 60, "mae_laptop", 48),
        (PHOTOS, 2e10, 20_000, "mae_small", 96),
        (replace(PHOTOS, side=64), 2e10, 20_000, "mae_small", 48),
        (replace(PHOTOS, count=200), 2e10, 20_000, "mae_laptop", 48),
        (replace(PHOTOS, count=10**6, decoding=1e-6, cropping=1e-6), 1e14, 20_000, "mae_vit_b16", 224),
        (replace(PHOTOS, count=50_000), 1e14, 20_000, "mae_small", 96),
    ],
    ids=["a minute", "an evening", "small images", "few images", "a fast machine", "slow reading"],
)
def test_the_network_follows_from_time_images_and_machine(
    images: Images,
    rate: float,
    seconds: float,
    recipe: str,
    pixels: int,
    machine: Callable[[float], None],
) -> None:
    machine(rate)
    fitted = fit("mae", images, seconds=seconds, given=[DATA])
    assert fitted.recipe == recipe
    run = chosen(fitted.fields, recipe)
    assert run.objective.encoder.size == (pixels, pixels)  # type: ignore[attr-defined]
    assert run.budget.samples <= 800 * images.count
    assert fitted.seconds <= 1.01 * seconds
    assert run.budget.steps >= 500 or run.budget.batch_size == 8


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: " ".join([network.recipe, *network.encoder]))
def test_both_stages_of_a_network_have_one_encoder(network: fitted_recipes.Network) -> None:
    mae, wsp = (override_run(find_recipe(f"{s}_{network.recipe}")(), network.fields(s)) for s in fitted_recipes.STAGES)
    names = (*fitted_recipes.FORM, "size")
    first, second = (run.objective.encoder for run in (mae, wsp))  # type: ignore[attr-defined]
    assert all(getattr(first, name) == getattr(second, name) for name in names)


def test_what_is_given_stays(machine: Callable[[float], None]) -> None:
    machine(1e9)
    given = [DATA, "budget.samples=64", "budget.batch_size=16", "objective.mask_ratio=0.5"]
    fitted = fit("mae", PHOTOS, seconds=60, given=given)
    assert not {field.partition("=")[0] for field in fitted.fields} & {each.partition("=")[0] for each in given}
    budget = chosen([*given[1:], *fitted.fields]).budget
    assert (budget.samples, budget.batch_size, budget.warmup) == (64, 16, 6)


def test_an_accelerator_reads_beside_the_steps_and_ends_at_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(run: Run, data_info: DataInfo) -> tuple[float, int]:
        if run.objective.encoder.size[0] > 48:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError
        return 1e-5, 1_000

    monkeypatch.setattr(fitted_recipes, "measure", measure)
    monkeypatch.setattr(fitted_recipes, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(fitted_recipes, "usual_workers", lambda: 4)
    fitted = fit("mae", PHOTOS, seconds=1_000.0, given=[DATA])
    assert (fitted.recipe, fitted.device) == ("mae_small", "cuda")
    run = chosen(fitted.fields, "mae_small")
    assert run.data.workers == 4  # type: ignore[attr-defined]
    assert fitted.seconds == pytest.approx(run.budget.samples * 0.01 / 4)


def test_reading_is_measured_and_small_images_stay_in_memory(tmp_path: Path) -> None:
    folder = make_textures(tmp_path / "photos", 12)
    reads = [path.read_bytes for path in sorted(folder.rglob("*.png"))]
    images = seen(reads, count=1_000)
    assert (images.side, images.cached) == (20, 1.0)
    assert images.seconds == images.cropping > 0
    assert seen(reads, count=10**9).cached < 0.001
    with pytest.raises(ValueError, match="none of 1 images can be read"):
        seen([lambda: b"no image"], count=1)


def test_jpegs_are_decoded_small_where_that_is_quicker_and_within_the_bound(tmp_path: Path) -> None:
    """A gentle gradient, and hard squares, whose edges a small decoding moves."""
    rng, difference = np.random.default_rng(0), list[float]()
    gentle, hard = rng.integers(100, 156, (6, 9, 3)), 255 * rng.integers(0, 2, (24, 36, 3))
    for pixels, how in ((gentle, Image.Resampling.BICUBIC), (hard, Image.Resampling.NEAREST)):
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).resize((1_800, 1_200), how).save(file, "JPEG", quality=90)
        difference.append(seen([file.getvalue], count=1).difference)
    assert difference[0] < BOUND < difference[1]
    timed = replace(PHOTOS, scaled=0.005, difference=difference[0])
    assert (timed.by_rule().uses, timed.by_rule().seconds) == ("scaled", 0.005)
    assert replace(timed, difference=difference[1]).by_rule().uses == "full"
    assert replace(timed, scaled=0.0095).by_rule().uses == "full", "5% are not worth it"
    assert replace(timed, cached=1.0).by_rule().uses == "full", "nothing is decoded again"
    textures = make_textures(tmp_path / "photos", 1)
    assert seen([path.read_bytes for path in textures.rglob("*.png")], count=10**9).by_rule().uses == "full"


def test_the_decoding_is_a_field_and_the_time_has_the_heldout_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted_recipes, "measure", lambda run, data_info: (0.01, 10**9))
    large = replace(PHOTOS, scaled=0.001, difference=0.001)
    fitted = fit("mae", large, seconds=1_000.0, given=[DATA])
    assert "data.decoding=scaled" in fitted.fields
    assert fitted.seconds == pytest.approx(chosen(fitted.fields).budget.samples * 0.011)
    kept = fit("mae", large, seconds=1_000.0, given=[DATA, "data.decoding=full"])
    assert kept.seconds == pytest.approx(chosen(kept.fields).budget.samples * 0.02)
    held = fit("mae", replace(PHOTOS, heldout=300), seconds=1_000.0, given=[DATA])
    run = chosen(held.fields)
    every = run.cadence.steps(run.cadence.evaluate, run.budget)
    times = len([step for step in range(1, run.budget.steps + 1) if step % every == 0 or step == run.budget.steps])
    assert held.seconds == pytest.approx(run.budget.samples * 0.02 + 300 * (0.008 + times * 0.01 / 3))
    assert run.cadence.evaluations(run.budget) == times


def test_labels_of_few_images_are_kept_where_there_are_few_labels() -> None:
    assert fewest_images([9] * 10) == 5
    assert fewest_images([9] * 9 + [4] * 50) == 1
    assert devices.usual_workers() >= 1


def test_a_run_keeps_what_was_fitted_at_its_first_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    machine: Callable[[float], None],
) -> None:
    machine(1e9)
    monkeypatch.chdir(tmp_path)
    make_textures(tmp_path / "photos", 40)
    first = ["budget.samples=16", "budget.batch_size=8", "threads=1", "precision=fp32"]
    assert main(["train", "mae", "--data", "photos", "--minutes", "1", *first]) == 0
    said = capsys.readouterr().err
    assert "mae fitted to 39 images and 1 min 00 s on cpu, expected to take" in said
    assert f"underpaint train mae_laptop {' '.join(first)} data=./photos budget.warmup=1 " in said
    assert said.index("expected to take") < said.index("2 steps of 8")
    machine(1e12)  # a faster machine, or another evening, would choose another network
    assert main(["train", "mae", "--data", "photos", "--minutes", "500"]) == 0
    said = capsys.readouterr().err
    assert "runs/photos_mae keeps mae_laptop as it was fitted at its first start; --minutes 500 changes nothing" in said
    assert "finished already" in said
    start = ["init_from=runs/photos_mae", *first]
    assert main(["train", "wsp", "--data", "photos", *start, "--plan"]) == 0
    planned = json.loads(capsys.readouterr().out)["run"]
    assert (planned["name"], planned["data"]["min_count"]) == ("wsp_laptop", 1)
    assert planned["objective"]["encoder"]["width"] == 96, "that of the encoder to start from"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mae"], "train mae fits a recipe to your images: add --data FOLDER, or name a recipe such as mae_laptop"),
        (["mae", "--data", "photos", "--minutes", "0"], "--minutes 0.0 must be a positive number"),
        (["mae_laptop", "--minutes", "3"], "--minutes 3 is for `train mae` and `train wsp`"),
        (
            ["mae_smoke", "--data", "photos"],
            "to train on; add budget.batch_size=32 budget.microbatch=32, or at most 39",
        ),
        (["mae", "--data", "nowhere"], "nowhere is not a folder"),
        (["wsp", "--data", "photos", "init_from=other"], "has an encoder 32 wide with 2 blocks for 32x32 pixels"),
        (["mae", "--data", "photos", "--out", "other"], "other holds a run of mae_smoke, not one of `train mae`"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_a_line(
    words: list[str],
    message: str,
    other: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(other)
    assert main(["train", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, and a run ``other`` of a recipe that nothing is fitted with."""
    folder = tmp_path_factory.mktemp("other")
    make_textures(folder / "photos", 40)
    fields = ["budget.samples=16", "budget.warmup=0", "budget.batch_size=8", "budget.microbatch=8", "threads=1"]
    assert main(["train", "mae_smoke", f"data={folder}/photos", *fields, "--out", str(folder / "other")]) == 0
    return folder
