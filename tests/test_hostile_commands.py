"""Wrong and hostile input to the commands: one line that names the value, exit code 2, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import make_images

from underpaint.__main__ import INPUT, main


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command ends with."""
    code = main(arguments)
    last = capsys.readouterr().err.splitlines()[-1]
    assert code == INPUT, last
    assert last.startswith("underpaint: ")
    return last


@pytest.mark.parametrize(
    "override",
    [
        "threads=1000000",  # OpenMP would end the process with a fault of memory
        "data.workers=100000",  # as many processes
        "data.workers=-1",
        "data.max_bad=2.0",
        "optim.base_lr=inf",
        "optim.betas=(1.0, 2.0)",
        "budget.batch_size=0",
        "budget.samples=5",
        "budget.warmup=1000000",
        "cadence.log=0",
        "cadence.save=-1",
        "max_skipped=0",
        "objective.encoder.width=-4",
        "objective.encoder.depth=0",
        "objective.encoder.depth=1000000000",
        "objective.encoder.width=1000000000",
        "objective.encoder.size=(1000000, 1000000)",
        "objective.encoder.heads=0",
        "objective.encoder.patch=0",
        "objective.encoder.mlp_ratio=0",
        "objective.decoder.heads=0",
        "objective.decoder.depth=-1",
        "name=../../elsewhere",
        "name=..",
    ],
)
def test_a_value_that_no_run_can_have_is_named(
    override: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = refused(["train", "mae_smoke", f"data.source={images}", override, "--out", str(out)], capsys)
    name, _, value = override.partition("=")
    assert name.rpartition(".")[2] in line
    assert value in line
    assert not out.exists()
