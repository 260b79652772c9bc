"""Runs under torchrun itself: a killed rank, and the signals that schedulers send."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.ranks import losses

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 40


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    code, err = finish(start(images, folder))
    assert code == 0, err
    return folder


def start(images: Path, folder: Path, *options: str, sleep: float = 0.0) -> subprocess.Popen[str]:
    """Two ranks; each of their evaluations, every three steps, takes ``sleep`` seconds."""
    here = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
        "OMP_NUM_THREADS": "1",
        "SMALL_IMAGES": str(images),
        "SMALL_SLEEP": str(sleep),
    }
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options, "-m", "underpaint")
    train = (
        "train",
        "support.small_runs:recipe",
        f"budget.samples={16 * STEPS}",
        "parallel.layout=fsdp",
        "--out",
        str(folder),
    )
    return subprocess.Popen(
        [sys.executable, *launch, *train], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, err = process.communicate(timeout=300)
        return process.returncode, err
    finally:
        process.kill()


def wait_for_checkpoint(folder: Path) -> None:
    deadline = time.monotonic() + 200
    while not list(folder.glob("checkpoints/step-????????")):
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)


def workers(process: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [pid for pid in map(int, listed.split()) if b"underpaint" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_torchrun_starts_again_after_a_killed_rank(images: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(images, folder, "--max-restarts", "1", sleep=0.2)
    wait_for_checkpoint(folder)
    os.kill(workers(process)[1], signal.SIGKILL)
    code, err = finish(process)
    assert code == 0, err
    assert "continues from step" in err
    assert losses(folder) == losses(whole)
    assert (folder / "result.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_torchrun_saves_and_ends(images: Path, whole: Path, tmp_path: Path, number: int) -> None:
    """With the options of examples/slurm/train.sbatch: by itself torchrun dies of SIGUSR1, and kills after 30 s."""
    folder = tmp_path / "run"
    options = ("--shutdown-timeout", "150", "--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
    process = start(images, folder, *options, sleep=0.2)
    wait_for_checkpoint(folder)
    process.send_signal(number)
    code, err = finish(process)
    assert code != 0
    assert "the state is saved in" in err
    assert not (folder / "result.json").exists()
    code, err = finish(start(images, folder))
    assert code == 0, err
    assert "continues from step" in err
    assert losses(folder) == losses(whole)
