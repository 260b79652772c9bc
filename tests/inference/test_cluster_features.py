"""Features by the workers of a cluster, against those of this process: equal in every bit, and stopped and continued.

The fast tests have threads as workers, who get what Daft would pickle for them; one slow test starts a Ray.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch

from support.small_runs import mae_run, make_images
from underpaint import cluster_features, inference
from underpaint.data import view_batches
from underpaint.data.feature_store import FeatureMaker
from underpaint.data.source import Folder
from underpaint.evals.feature_makers import StoredEncoder
from underpaint.inference import embed
from underpaint.preparation import engine as engines
from underpaint.run import execute

REPOSITORY = Path(__file__).resolve().parents[2]
Function = Callable[[str], dict[str, int]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    execute(mae_run(make_images(folder / "images", count=40), steps=2), folder / "mae")
    return folder / "mae"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Forty images, of which one is broken, one empty, and one a copy of another."""
    folder = make_images(tmp_path / "images", count=40)
    (folder / "a/004.png").write_bytes(b"no image")
    (folder / "a/005.png").write_bytes(b"")
    (folder / "a/007.png").write_bytes((folder / "a/001.png").read_bytes())
    return folder


class Workers:
    """Two threads, who take the last part first."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.stop_after = 1000
        self.before: Callable[[], object] = lambda: None

    def map(self, function: Function, items: Sequence[str]) -> Iterator[dict[str, int]]:
        self.before()
        function = pickle.loads(pickle.dumps(function))
        self.parts += items
        with ThreadPoolExecutor(max_workers=2) as pool:
            yield from pool.map(function, items[::-1][: self.stop_after])
        if self.stop_after < len(items):
            raise KeyboardInterrupt


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workers:
    """The workers in the place of Ray's; small batches, parts of two of them, and a cache of its own."""
    workers = Workers()

    @contextmanager
    def opened(name: str) -> Iterator[Workers]:
        assert name == "ray"
        yield workers

    monkeypatch.setattr(cluster_features, "open_engine", opened)
    monkeypatch.setattr(cluster_features, "BATCHES_OF_PART", 2)
    monkeypatch.setattr(inference, "BATCH", 8)
    monkeypatch.setattr(inference, "FEWEST_KEPT", 1)
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    return workers


def rows_of(table: Path) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(table).to_pylist()


def native(run: Path, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> list[dict[str, Any]]:
    """The rows by this process, with a cache of its own."""
    with monkeypatch.context() as patch:
        patch.setenv("UNDERPAINT_CACHE", str(out.with_suffix(".cache")))
        embed(run, images, out, **how)
    return rows_of(out)


def refuse_one(monkeypatch: pytest.MonkeyPatch, refused: Path) -> None:
    read = Folder.read

    def reads(self: Folder, path: str) -> bytes:
        if self.root / path == refused:
            raise OSError(13, "Permission denied")
        return read(self, path)

    monkeypatch.setattr(Folder, "read", reads)


@pytest.mark.parametrize("how", [{}, {"pooling": "mean", "view": "stretch@48"}], ids=["as usual", "another view"])
def test_workers_give_the_table_of_this_process(
    run: Path, images: Path, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    refuse_one(monkeypatch, images / "a/008.png")
    expected = native(run, images, tmp_path / "native.parquet", monkeypatch, **how)
    out = tmp_path / "ray.parquet"
    assert embed(run, images, out, engine="ray", **how) == {"images": 40, "bad": 3, "width": 16}
    assert rows_of(out) == expected
    bad = {Path(row["path"]).name: row["problem"] for row in expected if row["problem"]}
    assert bad.keys() == {"004.png", "005.png", "008.png"}
    assert [len(json.loads(part)) for part in workers.parts] == [16, 16, 7], "the copy is encoded once"

    def never(*_: object, **__: object) -> None:
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(view_batches, "read_encoded", never)
    monkeypatch.setattr(cluster_features, "open_engine", never)
    embed(run, images, tmp_path / "again.parquet", engine="ray", **how)
    assert rows_of(tmp_path / "again.parquet") == expected
    embed(run, images, tmp_path / "native again.parquet", **how)
    assert rows_of(tmp_path / "native again.parquet") == expected, "the cache is the same for both engines"


def test_a_stopped_table_goes_on(
    run: Path, images: Path, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = native(run, images, tmp_path / "native.parquet", monkeypatch)
    out = tmp_path / "ray.parquet"
    workers.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        embed(run, images, out, engine="ray")
    assert not out.exists()
    assert len(workers.parts) == 3
    first = workers.parts.pop(0)
    workers.parts.clear()
    workers.stop_after = 1000
    embed(run, images, out, engine="ray")
    assert workers.parts == [first], "the two other parts were written"
    assert rows_of(out) == expected


def test_machines_that_do_not_share_the_images_are_told_so(
    run: Path, images: Path, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken for unreadable, the images would stay so in the cache."""
    expected = native(run, images, tmp_path / "native.parquet", monkeypatch)
    lost, kept = images / "a/010.png", (images / "a/010.png").read_bytes()
    for change in (lost.unlink, lambda: lost.write_bytes(b"another")):
        workers.before = change
        with pytest.raises(ValueError, match=rf"{lost} is another file .*, or none: .* must share their folder"):
            embed(run, images, tmp_path / "ray.parquet", engine="ray")
        lost.write_bytes(kept)
    workers.before = lambda: None
    embed(run, images, tmp_path / "ray.parquet", engine="ray")
    assert [row["problem"] for row in rows_of(tmp_path / "ray.parquet")] == [row["problem"] for row in expected]


def test_machines_that_do_not_share_encoder_or_cache_are_told_so(
    run: Path, images: Path, workers: Workers, tmp_path: Path
) -> None:
    copy, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(run, copy)
    execute(mae_run(make_images(tmp_path / "others", count=40), steps=3), other)

    def exchange() -> None:
        shutil.rmtree(copy / "encoder")
        shutil.copytree(other / "encoder", copy / "encoder")

    workers.before = exchange
    with pytest.raises(ValueError, match=rf"{copy} holds another encoder for a worker"):
        embed(copy, images, tmp_path / "x.parquet", engine="ray")
    workers.before = lambda: None
    workers.stop_after = 0
    workers.map = lambda function, items: iter([{"images": len(json.loads(item))} for item in items])
    with pytest.raises(ValueError, match=r"39 features that other processes computed are not in .* UNDERPAINT_CACHE"):
        embed(run, images, tmp_path / "x.parquet", engine="ray")


def test_each_gpu_of_a_worker_has_an_encoder_and_one_batch_at_a_time(
    run: Path, images: Path, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With encoders on a CPU in the places of those on two GPUs."""
    expected = native(run, images, tmp_path / "native.parquet", monkeypatch)
    make, batches = StoredEncoder.maker, dict[torch.device, list[int]]()

    def counted(self: StoredEncoder, device: torch.device, *, batch: int) -> FeatureMaker:
        made = make(self, torch.device("cpu"), batch=batch)
        if device.type == "cpu":  # the process that starts
            return made
        free, sizes = threading.Lock(), batches.setdefault(device, [])

        def encode(image: torch.Tensor) -> torch.Tensor:
            assert free.acquire(blocking=False), "a second batch on this GPU"
            sizes.append(len(image))
            time.sleep(0.05)
            try:
                return made.encode(image)
            finally:
                free.release()

        return replace(made, encode=encode)

    monkeypatch.setattr(StoredEncoder, "maker", counted)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    embed(run, images, tmp_path / "ray.parquet", engine="ray")
    assert rows_of(tmp_path / "ray.parquet") == expected
    assert batches.keys() == {torch.device("cuda", 0), torch.device("cuda", 1)}
    assert all(batches.values()), "both have worked"
    assert sorted(size for sizes in batches.values() for size in sizes) == [7, 8, 8, 8, 8]


def test_what_the_user_can_mend(
    run: Path, images: Path, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"engine": "ray"}
    with pytest.raises(ValueError, match="workers=2 is for the processes of one machine; leave it out"):
        embed(run, images, tmp_path / "x.parquet", workers=2, **how)

    class Two:
        rank, world = 0, 2

        def exchange(self, value: Any, /) -> list[Any]:
            raise AssertionError("nothing is exchanged")

    here = inference.engine_for(0)
    with monkeypatch.context() as patch:
        patch.setattr(inference, "engine_for", lambda _: replace(here, staff=replace(here.staff, group=Two())))
        with pytest.raises(ValueError, match="start it without torchrun"):
            embed(run, images, tmp_path / "x.parquet", **how)
    for absent in ("daft", "ray"):
        monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name, absent=absent: name != absent or None)
        with pytest.raises(ValueError, match=r"--engine ray needs Daft and Ray: pip install '\.\[ray\]'"):
            embed(run, tmp_path / "absent", tmp_path / "x.parquet", **how)
    assert not workers.parts


@pytest.mark.slow
def test_ray_gives_the_table_of_the_native_engine(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every bit, as Ray's workers compute with one thread each, and the tests do too."""
    assert torch.get_num_threads() == 1
    monkeypatch.setattr(inference, "FEWEST_KEPT", 1)
    monkeypatch.setattr(inference, "BATCH", 8)
    expected = native(run, images, tmp_path / "native.parquet", monkeypatch)
    small = "from underpaint import cluster_features, inference; inference.BATCH = 8; cluster_features.BATCHES_OF_PART"
    line = f"{small} = 2; from underpaint.cli.main import main; import sys; sys.exit(main())"
    shown = os.path.relpath(images, tmp_path)  # workers are in another folder
    command = [sys.executable, "-c", line, "embed", str(run), shown, "--engine", "ray", "--out", "ray.parquet"]
    known = {**os.environ, "PYTHONPATH": str(REPOSITORY), "UNDERPAINT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=known, cwd=tmp_path, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "ray.parquet: 40 images, 16 numbers each; 2 have none" in done.stdout
    rows = rows_of(tmp_path / "ray.parquet")
    assert [{**row, "path": str(tmp_path / row["path"])} for row in rows] == expected
    assert len(list((tmp_path / "cache" / "features").rglob("*.safetensors"))) == 3, "a file for each part"
