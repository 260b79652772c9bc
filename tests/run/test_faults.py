"""Rows of the fault table (docs/reliability.md) that have no test beside the part they strike; and the table itself."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import stat
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.small_runs import assert_same_bits, log_lines, mae_run, python
from underpaint import import_weights
from underpaint.cli.main import RESUMABLE
from underpaint.data.open_source import open_source
from underpaint.run import OutOfSpace, execute, record

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "reliability.md"

SIGNALLED_IN_THE_SAVE = """
import os, signal, sys
from underpaint import files
from underpaint.__main__ import main
sync, saves = files.sync_file, []
def signalled(path):
    if "checkpoints" in str(path):
        saves.append(path)
    if saves and len(saves) in (1, 2):  # in the first checkpoint: the run hears one, the second ends it
        os.kill(os.getpid(), signal.SIGTERM)
    sync(path)
files.sync_file = signalled
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def half(finished_mae: Path, tmp_path: Path) -> Path:
    """A run of 6 steps with the checkpoint of step 4."""
    folder = Path(shutil.copytree(finished_mae, tmp_path / "half"))
    for path in (folder / "model", folder / "encoder", folder / "checkpoints" / "step-00000006"):
        shutil.rmtree(path)
    (folder / "result.json").unlink()
    return folder


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_second_sigterm_in_the_save_leaves_what_can_be_continued(
    images: Path, finished_mae: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = ("train", "support.small_runs:recipe", "--out", folder)
    process = python(SIGNALLED_IN_THE_SAVE, *command, SMALL_IMAGES=str(images))
    _, err = process.communicate(timeout=120)
    assert process.returncode == RESUMABLE, err
    assert "Traceback" not in err
    assert steps(folder) == ["step-00000002.part"], "it was struck while it wrote"
    execute(mae_run(images), folder)
    assert not [name for name in steps(folder) if name.endswith(".part")]
    assert_same_bits(folder, finished_mae)


def test_a_read_only_folder_ends_the_run_and_keeps_what_is_there(images: Path, finished_mae: Path, half: Path) -> None:
    (half / "checkpoints").chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(half / "checkpoints", os.W_OK):
        pytest.skip("nothing is read-only for root")
    with pytest.raises(OutOfSpace, match="were not saved"):
        execute(mae_run(images), half)
    (half / "checkpoints").chmod(stat.S_IRWXU)
    assert steps(half) == ["step-00000004"]
    execute(mae_run(images), half)
    assert_same_bits(half, finished_mae)


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_pickles_in_a_checkpoint_are_not_read(images: Path, finished_mae: Path, half: Path, tmp_path: Path) -> None:
    """``.metadata`` is what torch's own reader of checkpoints unpickles, which runs what it says (infra 9)."""
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists(), "the canary sings"
    canary.unlink()
    for name in (".metadata", "model-00000.pkl", "model-00000.pt", "__0_0.distcp"):
        (half / "checkpoints" / "step-00000004" / name).write_bytes(pickle.dumps(Canary(canary)))
    execute(mae_run(images), half)
    assert not canary.exists()
    assert_same_bits(half, finished_mae)


def test_a_source_is_no_command(tmp_path: Path) -> None:
    """What webdataset would hand to a shell."""
    canary = tmp_path / "canary"
    for source in (f"pipe:touch {canary}", f"./pipe:touch {canary}", "pipe:touch canary", f"|touch {canary}"):
        with pytest.raises(ValueError, match=r"pipe|not a folder"):
            open_source(source)
    assert not canary.exists()
    assert not Path("canary").exists()


@pytest.mark.parametrize("second", [[0, 8], [4, 12], [12, 20]], ids=["twice", "overlapping", "past the end"])
def test_tensors_of_a_file_that_share_or_miss_bytes_are_refused(tmp_path: Path, second: list[int]) -> None:
    header = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": place} for name, place in (("a", [0, 8]), ("b", second))
    }
    text = json.dumps(header).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(ValueError, match=r"weights\.safetensors.*damaged"):
        import_weights(path, tmp_path / "out", ["heads=2"])


@pytest.mark.parametrize("jump", [-(10**9), 10**9])
def test_a_jump_of_the_clock_changes_nothing(
    images: Path, finished_mae: Path, half: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + jump)
    execute(mae_run(images), half)
    assert_same_bits(half, finished_mae)
    lines = log_lines(half)
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)


def test_ranks_with_other_data_or_code_are_named(images: Path) -> None:
    run = mae_run(images)
    one = record.fingerprint(run, record.identity(run, data="11", init_from=""))
    for other, named in (
        ({**one, "data": "22"}, "data is '22', on rank 0 '11'"),
        ({**one, "code": "0000"}, "code is '0000', on rank 0"),
        ({**one, "torch": "2.13.0"}, "torch is '2.13.0'"),
        (record.fingerprint(replace(run, seed=1), record.identity(run, data="11", init_from="")), "seed is 1, on"),
    ):
        with pytest.raises(ValueError, match=rf"rank 1 differs from rank 0: .*{named}.*start all ranks with the same"):
            record.require_agreement([one, other])


@pytest.mark.slow
def test_the_code_is_part_of_what_ranks_compare(tmp_path: Path) -> None:
    """The same package with one comment more is another code."""
    copy = Path(shutil.copytree(ROOT / "underpaint", tmp_path / "underpaint"))
    found = []
    for _ in range(2):
        code = "from underpaint.run.record import _code; print(_code())"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        found.append(done.stdout)
        (copy / "core.py").write_text((copy / "core.py").read_text() + "# changed\n")
    assert found[0] != found[1]


def test_the_table_names_what_exists() -> None:
    """Every row has a test or a script, and every one that is named is there."""
    text = TABLE.read_text()
    rows = {int(number): line for number, line in re.findall(r"^\| (\d+) \|(.*)$", text, re.MULTILINE)}
    assert sorted(rows) == list(range(1, 24))
    tests, scripts = r"`(\w+/test_\w+)\.(test_\w+)`", r"`(benchmarks/faults/\w+\.py)[^`]*`"
    for number, line in rows.items():
        assert re.search(tests, line) or re.search(scripts, line), f"row {number} names neither a test nor a script"
    for module, name in re.findall(tests, text):
        assert f"def {name}(" in (ROOT / "tests" / f"{module}.py").read_text(), f"{module}.{name}"
    for script in re.findall(scripts, text):
        assert (ROOT / script).is_file(), script
