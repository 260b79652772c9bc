"""Several processes against one: the same weights at the start, the same losses and weights after, and nothing lost.

Plain SGD without clipping shows a wrong scale of the gradient at once; AdamW with clipping hides one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from support.ranks import SGD, Case, checkpoint, finish, losses, run_cases, start, weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ADAMW = ("optim.base_lr=2e-2", "optim.clip=0.5")
FIRST_STEP = "cadence.save_at=16"
STAGES = ("mae", "wsp")
LAYOUTS = {
    "ddp2": (2, ("parallel.layout=ddp",)),
    "fsdp2": (2, ("parallel.layout=fsdp", "parallel.checkpoint_activations=true")),
    "ddp4": (4, ("parallel.layout=ddp", "parallel.checkpoint_activations=true")),
    "fsdp4": (4, ("parallel.layout=fsdp", "parallel.recompute_pointwise=true")),
    "hsdp4": (4, ("parallel.layout=hsdp", "parallel.node=2")),
}
OPTIMIZERS = {"sgd": (*SGD, FIRST_STEP), "adamw": ADAMW}
MOVES = {2: ("parallel.layout=fsdp",), 4: ("parallel.layout=hsdp", "parallel.node=2"), 1: ()}
"""The numbers of ranks on which a run that was begun alone goes on, one after another."""


def compared(layout: str) -> tuple[str, ...]:
    """The optimizers it is run with; four processes take their time."""
    return ("sgd",) if layout in ("ddp4", "hsdp4") else ("sgd", "adamw")


def compared_runs(folder: Path, world: int) -> list[Case]:
    layouts = {"single": (1, ())} if world == 1 else {n: given for n, given in LAYOUTS.items() if given[0] == world}
    return [
        Case(out=str(folder / f"{layout}-{stage}-{optimizer}"), stage=stage, overrides=(*chosen, *overrides))
        for layout, (_, overrides) in layouts.items()
        for stage in STAGES
        for optimizer, chosen in OPTIMIZERS.items()
        if optimizer in compared(layout)
    ]


@pytest.fixture(scope="module")
def root(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage with every optimizer, alone and on ranks, and a run of each stage that moves between the worlds.

    All runs of a world are made in one group of processes, whose start takes longer than the runs.
    """
    folder = tmp_path_factory.mktemp("runs")
    run_cases(1, images, compared_runs(folder, 1))
    for stage in STAGES:
        shutil.copytree(folder / f"single-{stage}-adamw", folder / f"moved-{stage}")
    for move, (world, overrides) in enumerate(MOVES.items(), start=1):
        moved = [Case(out=str(folder / f"moved-{s}"), stage=s, overrides=(*ADAMW, *overrides)) for s in STAGES]
        for case in moved:
            go_back(Path(case.out), step=5 * move)
        run_cases(world, images, [*(compared_runs(folder, world) if world > 1 else []), *moved])
        for case in moved:
            shutil.copytree(case.out, f"{case.out}-{world}")
    return folder


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("layout", "optimizer"), [(n, optimizer) for n in LAYOUTS for optimizer in compared(n)])
def test_ranks_equal_one_process(root: Path, layout: str, stage: str, optimizer: str) -> None:
    one, many = root / f"single-{stage}-{optimizer}", root / f"{layout}-{stage}-{optimizer}"
    assert len(losses(one)) == 20
    assert losses(many) == pytest.approx(losses(one), rel=1e-6)
    first, last = losses(one)[0], losses(one)[-1]
    assert abs(first - last) > 1e-2, "it must have trained"
    expected, found = weights(one), weights(many)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if optimizer == "adamw" and name.endswith("attn.qkv.bias"):  # the true gradient of key biases is zero
            query, key, score = value.chunk(3)
            keep = torch.cat([torch.ones_like(query), torch.zeros_like(key), torch.ones_like(score)]) > 0
            torch.testing.assert_close(found[name][keep], value[keep], rtol=0, atol=1e-5)
        else:
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stage", STAGES)
def test_the_initial_weights_are_the_same_bits(root: Path, layout: str, stage: str) -> None:
    """The first step of a warm-up has rate 0, so the checkpoint after it holds them."""
    one, many = (checkpoint(root / f"{which}-{stage}-sgd", 1) for which in ("single", layout))
    assert one.keys() == many.keys()
    for name, value in one.items():
        assert torch.equal(value, many[name]), name


def test_shards_are_written_by_their_ranks(root: Path) -> None:
    for layout, ranks in (("ddp4", {0}), ("fsdp4", {0, 1, 2, 3}), ("hsdp4", {0, 1})):
        path = root / f"{layout}-mae-sgd" / "checkpoints" / "step-00000020"
        assert {int(file.stem.rpartition("-")[2]) for file in path.glob("model-*.safetensors")} == ranks, layout
        numbers = json.loads((path / "state.json").read_text())
        assert (numbers["step"], numbers["ranks"]) == (20, 4)
    for group in ("model", "average", "optimizer"):
        one, many = (checkpoint(root / f"{which}-wsp-adamw", 20, group) for which in ("single", "fsdp4"))
        assert {name: value.shape for name, value in one.items()} == {n: value.shape for n, value in many.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_checkpoints_move_between_any_numbers_of_ranks(root: Path, stage: str) -> None:
    """1 -> 2 -> 4 -> 1 at the steps 5, 10 and 15 of 20, against one process; sharded and plain."""
    whole, last = root / f"single-{stage}-adamw", root / f"moved-{stage}-1"
    for world in MOVES:
        assert losses(root / f"moved-{stage}-{world}") == pytest.approx(losses(whole), rel=1e-5)
    states = [last / "checkpoints" / f"step-{step:08d}" / "state.json" for step in (5, 10, 15, 20)]
    assert [json.loads(state.read_text())["ranks"] for state in states] == [1, *MOVES], "each went on, none began anew"
    mine, theirs = weights(last), weights(whole)
    for name in theirs:
        if not name.endswith("attn.qkv.bias"):
            torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=1e-4)


def go_back(folder: Path, *, step: int) -> None:
    """Make a finished run one that was stopped after a step."""
    shutil.rmtree(folder / "model", ignore_errors=True)
    (folder / "result.json").unlink()
    for path in (folder / "checkpoints").iterdir():
        if int(path.name[5:]) > step:
            shutil.rmtree(path)


def test_ranks_that_disagree_are_named(images: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from support.ranks import Case; from underpaint.run import execute\n"
        "rate = '0.1' if os.environ['RANK'] == '1' else '0.2'\n"
        "case = Case(out=sys.argv[2], overrides=(f'optim.base_lr={rate}',))\n"
        "try: execute(case.run(Path(sys.argv[1])), Path(case.out))\n"
        "except ValueError as error: sys.exit(str(error))"
    )
    for code_, err in finish(start(2, ["-c", code, str(images), str(tmp_path / "run")])):
        assert code_ == 1
        assert "rank 1 differs from rank 0: configuration.optim.base_lr is 0.1, on rank 0 0.2" in err
    assert not (tmp_path / "run" / "run.json").exists()
