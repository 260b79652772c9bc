"""The 2B shape in fp32 from a sparse file: imported in a fraction of its size, in pieces of 4 GiB."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from underpaint import files
from underpaint.models.pieces import PIECE_BYTES, SafetensorsFiles
from underpaint.models.sizes import SIZES
from underpaint.models.vit import ViT, ViTConfig

NEEDED = 12 * 1024**3
"""Bytes on disk: the output, and some room."""
IMPORT = """
import sys, threading, time

peak, done = 0, threading.Event()

def watch():
    global peak
    while not done.is_set():
        with open("/proc/self/status") as file:
            anonymous = next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
        peak = max(peak, anonymous * 1024)
        time.sleep(0.01)

watcher = threading.Thread(target=watch)
watcher.start()
try:
    from underpaint.weights.importing import import_weights
    import_weights(sys.argv[1], sys.argv[2])
finally:
    done.set()
    watcher.join()
print(peak)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="anonymous memory is read from Linux's /proc")
def test_the_2b_shape_is_imported_within_4_gib(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < NEEDED:
        pytest.skip(f"needs {NEEDED / 1024**3:.0f} GiB of disk")
    config = replace(SIZES["vit_2b14"], positions="learned")
    with FakeTensorMode(), torch.serialization.skip_data(materialize_fake_tensors=True):
        shapes = {name: tuple(value.shape) for name, value in _meta(config).state_dict().items()}
        torch.save({name: torch.empty(shape) for name, shape in shapes.items()}, tmp_path / "vit_2b14.pt")
    source = (tmp_path / "vit_2b14.pt").stat()
    assert source.st_size > 7 * 1024**3
    assert source.st_blocks * 512 < 64 * 1024**2, "the file system keeps no sparse files"
    command = [sys.executable, "-c", IMPORT, str(tmp_path / "vit_2b14.pt"), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 4 * 1024**3
    print(f"peak of anonymous memory: {int(run.stdout) / 1024**2:.0f} MiB")
    pieces = sorted((tmp_path / "out" / "encoder").glob("*.safetensors"))
    assert len(pieces) == 2
    assert all(path.stat().st_size <= PIECE_BYTES + 1024**2 for path in pieces)
    assert {name: info.shape for name, info in SafetensorsFiles(pieces).info.items()} == shapes
    described = files.read_json(tmp_path / "out" / "encoder" / "config.json")
    assert described["config"]["heads"] == 32
    assert set(described["weights"]["pieces"]) == {path.name for path in pieces}
    shutil.rmtree(tmp_path / "out")


def _meta(config: ViTConfig) -> ViT:
    with torch.device("meta"):
        return ViT(config)
