"""A whole study, killed at random moments and continued: every output is that of an undisturbed one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "faults" / "kill_study.py"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_study_ends_in_the_same_bits() -> None:
    """The smoke study, with one kill in a training part and two elsewhere; ``--kills 20`` is run by hand."""
    command = [sys.executable, str(SCRIPT), "--kills", "3", "--seed", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    struck, compared = int(done.stdout.split(" kills, ")[0].split()[-1]), done.stdout.split(" kills, ")[1]
    assert struck >= 2, done.stdout
    assert int(compared.split()[0]) >= 60, done.stdout
    assert ", 0 differ" in compared
