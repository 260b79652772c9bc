"""Detection through the one training loop: starts, resumes, several processes, and outputs."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support.detection_examples import BATCH, ENCODER, detect_run, make_objects
from support.ranks import finish, losses, start
from support.small_runs import SendSignal, assert_same_bits, log_lines
from underpaint import config, core
from underpaint.models.init import initialise_encoder
from underpaint.models.vit import ViT
from underpaint.models.weights import save_encoder
from underpaint.objectives.detect import DetectConfig
from underpaint.objectives.detection_network import Detect
from underpaint.run import execute
from underpaint.run.idle_fields import override_run
from underpaint.run.outputs import load_model
from underpaint.training.signals import Interrupted


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_objects(tmp_path_factory.mktemp("objects"))


def test_a_run_resumes_to_the_same_bits(annotations: Path, tmp_path: Path) -> None:
    run = detect_run(annotations)
    result = execute(run, tmp_path / "whole")
    stop = replace(run, evals=(SendSignal(number=signal.SIGTERM),))
    with pytest.raises(Interrupted):
        execute(stop, tmp_path / "stopped")
    execute(run, tmp_path / "stopped")
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")
    assert {"proposals", "boxes", "masks"} <= set(log_lines(tmp_path / "whole")[0])
    assert result["stage"] == "detect"


def test_the_model_is_handed_over_without_an_encoder_of_its_own(annotations: Path, tmp_path: Path) -> None:
    """Another stage cannot start from an encoder with windows, and nothing pretends that it could."""
    run = replace(detect_run(annotations, steps=1), data=replace(detect_run(annotations).data, keep_empty=True))
    execute(run, tmp_path / "run")
    assert not (tmp_path / "run" / "encoder").exists()
    model = load_model(tmp_path / "run")
    assert isinstance(model, Detect)
    assert model.labels == ("red", "blue")
    detections = model.find(torch.randn(2, 3, 64, 64), torch.tensor([[64.0, 64.0], [40.0, 64.0]]))
    for each in detections:
        assert len(each.boxes) == len(each.scores) == len(each.classes) <= 100
        assert each.masks is not None
        assert each.masks.shape[1:] == (28, 28)
    assert float(detections[1].boxes[:, 3].max()) <= 40


def test_a_run_starts_from_a_pretrained_encoder_with_other_patches(annotations: Path, tmp_path: Path) -> None:
    plain = ViT(replace(ENCODER, size=(24, 24), patch=6, final_norm=True))
    initialise_encoder(plain, scheme="swag", seed=5)
    save_encoder(tmp_path / "start", plain)
    run = replace(detect_run(annotations, steps=1), init_from=str(tmp_path / "start"))
    run = replace(run, optim=replace(run.optim, base_lr=1e-9))
    execute(run, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert isinstance(model, Detect)
    torch.testing.assert_close(model.encoder.blocks[0].mlp.fc1.weight, plain.blocks[0].mlp.fc1.weight)  # pyright: ignore
    bad = replace(run, objective=replace(run.objective, encoder=replace(ENCODER, heads=4)))
    with pytest.raises(ValueError, match="has heads=2, the detector has heads=4"):
        execute(bad, tmp_path / "bad")


LAYOUTS = ("ddp", "fsdp")
ON_RANKS = """
import sys
from pathlib import Path
from support.detection_examples import detect_run
from underpaint import config
from underpaint.run import execute
annotations, out, layouts, *overrides = sys.argv[1:]
for layout in layouts.split():
    run = detect_run(Path(annotations), steps=3)
    execute(config.override(run, [*overrides, f"parallel.layout={layout}"]), Path(out) / layout)
"""


@pytest.fixture(scope="module")
def alone_and_on_ranks(annotations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of plain SGD from a pretrained encoder, in every layout by one group of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    plain = ViT(replace(ENCODER, size=(24, 24), patch=6, final_norm=True))
    initialise_encoder(plain, scheme="swag", seed=5)
    save_encoder(folder / "start", plain)
    common = ["optim.name=sgd", "optim.clip=inf", "optim.base_lr=0.5", "data.keep_empty=true"]
    common += [f"init_from={folder / 'start'}", "budget.microbatch=2"]
    execute(config.override(detect_run(annotations, steps=3), common), folder / "alone")
    for status, err in finish(start(2, ["-c", ON_RANKS, str(annotations), str(folder), " ".join(LAYOUTS), *common])):
        assert status == 0, err[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_do_what_one_does(alone_and_on_ranks: Path, layout: str) -> None:
    """Losses and weights; one image has no objects."""
    alone, ranks = alone_and_on_ranks / "alone", alone_and_on_ranks / layout
    assert losses(ranks) == pytest.approx(losses(alone), rel=1e-4)
    mine, theirs = (load_model(folder).state_dict() for folder in (ranks, alone))
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
def test_it_learns(annotations: Path, tmp_path: Path) -> None:
    """Proposals are found at once; the loss of boxes rises meanwhile, since more of them overlap an object."""
    execute(detect_run(annotations, steps=40), tmp_path / "run")
    losses = [line["proposals"] for line in log_lines(tmp_path / "run") if "proposals" in line]
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])


@pytest.mark.parametrize(
    "override",
    ["objective.encoder.view=crop", "objective.encoder.final_norm=true", "objective.encoder.positions=learned"],
)
def test_fields_that_a_detector_does_not_read_are_refused(annotations: Path, override: str) -> None:
    with pytest.raises(ValueError, match="does nothing"):
        override_run(detect_run(annotations), [override])


def test_the_config_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="drop_path=1"):
        DetectConfig(encoder=ENCODER, detector=detect_run(Path("x")).objective.detector, drop_path=1)  # pyright: ignore
    with pytest.raises(ValueError, match="blocks 0 to 1"):
        DetectConfig(encoder=ENCODER)


def test_placeholders_add_nothing_to_the_loss(annotations: Path) -> None:
    run = detect_run(annotations)
    torch.manual_seed(0)
    network = run.objective.build(core.DataInfo(seed=0, labels=("a", "b"), label_count=(3, 1)))
    batch = core.example_batch(run.objective.inputs, BATCH)
    both = network(batch).loss
    batch["weight"][1:] = 0
    alone = network({name: value[:1] for name, value in batch.items()}).loss
    torch.testing.assert_close(network(batch).loss, alone / BATCH)
    assert both > alone / BATCH
