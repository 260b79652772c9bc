"""A whole study, ended at any moment and continued, also in two jobs: every output is that of an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "faults" / "kill_study.py"
COMMAND = [sys.executable, "-m", "underpaint", "study", "stages", "--size", "smoke"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke study, one part after another, where it lies unless ``--out`` is given."""
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run([*COMMAND, "--jobs", "1"], check=True, capture_output=True, cwd=folder)
    return folder / "runs" / "stages_smoke"


def test_without_images_of_the_user_the_default_folder_is_below_the_working_folder(undisturbed: Path) -> None:
    """What ``make demo`` does; the working folder was once taken for the images, and refused."""
    assert (undisturbed / "random-seed0" / "encoder").is_dir()
    assert (undisturbed / "results.json").is_file()


def test_a_killed_study_ends_in_the_same_bits(undisturbed: Path) -> None:
    """One kill in a training part and two elsewhere; ``--kills 20`` is run by hand."""
    command = [sys.executable, str(SCRIPT), "--kills", "3", "--seed", "4", "--reference", str(undisturbed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    struck, compared = int(done.stdout.split(" kills, ")[0].split()[-1]), done.stdout.split(" kills, ")[1]
    assert struck >= 2, done.stdout
    assert int(compared.split()[0]) >= 60, done.stdout
    assert ", 0 differ" in compared


def two_jobs_at_work(out: Path) -> subprocess.Popen[str]:
    """The study in two jobs, once the part of MAE writes its log."""
    began, log = time.time_ns(), out / "mae-seed0" / "log.jsonl"
    command = [*COMMAND, "--jobs", "2", "--out", str(out)]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while started.poll() is None and not (log.exists() and log.stat().st_mtime_ns > began):
        time.sleep(0.05)
    return started


def children_of(started: subprocess.Popen[str]) -> list[Path]:
    listed = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text()
    return [Path(f"/proc/{pid}") for pid in listed.split()]


def weights_and_rows(folder: Path) -> tuple[dict[str, str], list[object]]:
    weights = {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("encoder/*.safetensors"))
    }
    return weights, json.loads((folder / "results.json").read_text())["rows"]


def test_two_jobs_killed_stopped_and_continued_have_the_bits_of_one(undisturbed: Path, tmp_path: Path) -> None:
    """The processes of the jobs end with the main one, else the next command would find parts that are worked on."""
    killed = two_jobs_at_work(tmp_path)
    children = children_of(killed)
    assert len(children) >= 2
    killed.kill()
    killed.wait()
    deadline = time.monotonic() + 30
    while any(child.exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [child for child in children if child.exists()]
    killed.communicate()

    stopped = two_jobs_at_work(tmp_path)
    stopped.send_signal(signal.SIGTERM)
    _, printed = stopped.communicate(timeout=120)
    assert stopped.returncode == 75, printed
    assert "continue with\n  underpaint study stages" in printed
    assert "Traceback" not in printed

    subprocess.run([*COMMAND, "--jobs", "2", "--out", str(tmp_path)], check=True, capture_output=True)
    assert weights_and_rows(tmp_path) == weights_and_rows(undisturbed)
