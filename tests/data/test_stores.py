"""Shards in an object store: copied whole, bounded, once; and a store that fails, stalls or lies."""

from __future__ import annotations

import gc
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from support.prepared_example import image_bytes, prepare_example
from underpaint.core import ImageInput
from underpaint.data.dataset import ImageData
from underpaint.data.decode.limits import BadImage
from underpaint.data.shards.lanes import Lanes
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.shard_dataset import ShardDataset
from underpaint.data.shards.shard_files import Patience, Shards, ShardUnavailable
from underpaint.data.shards.shard_samples import ShardSampleIndex
from underpaint.data.stream import Batching

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]

FORMAT = ImageInput(size=(8, 8), channels=3, value_range=(0.0, 255.0), mean=(0.5,) * 3, std=(0.25,) * 3)
EAGER = Patience(attempts=2, wait=0.0, timeout=60.0)  # moto is slow on a busy machine


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """moto's S3 on loopback."""
    server_of = pytest.importorskip("moto.server").ThreadedMotoServer
    server = server_of(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    gc.collect()  # its sockets, which it leaves to the collector, must not be found in the middle of another test


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A client of it with an empty bucket; the environment of the process leads there."""
    import boto3

    _lead_to(endpoint, monkeypatch, tmp_path)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="bucket")
    for one in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=one["Key"])
    return client


def _lead_to(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))


def remote_set(folder: Path, bucket: Any, **how: Any) -> None:
    """A prepared set whose shards are in the bucket alone."""
    prepare_example(folder, address="s3://bucket/shards", **how)
    for tar in (folder / "shards").iterdir():
        bucket.upload_file(str(tar), "bucket", f"shards/{tar.name}")
        tar.unlink()


def shards_at(folder: Path, *, cache_bytes: int = 10**9, patience: Patience = EAGER) -> Shards:
    return Shards(folder, cache=folder / "copies", cache_bytes=cache_bytes, patience=patience)


def read(folder: Path, shards: Shards, shard: int, row: int) -> bytes:
    rows = PreparedSet(folder).rows(shard)
    return shards.read(rows.shard, int(rows.offset[row]), int(rows.size[row]), rows.content_hash[row].tobytes())


def test_training_reads_a_store_as_it_reads_files(tmp_path: Path, bucket: Any) -> None:
    prepare_example(tmp_path / "local")
    remote_set(tmp_path / "remote", bucket)
    batches = []
    for folder in (tmp_path / "local", tmp_path / "remote"):
        found = ImageData(source=str(folder), lanes=Lanes(count=4, window=20)).open()
        assert isinstance(found, ShardDataset)
        stream = found.stream(
            {"image": FORMAT}, Batching(batch_size=16, microbatch=16), seed=0, quarantine=folder / "bad.jsonl"
        )
        assert isinstance(stream.items, ShardSampleIndex)
        batches.append(list(itertools.islice(iter(stream), 8)))
    assert all(torch.equal(mine["image"], theirs["image"]) for mine, theirs in zip(*batches, strict=True))
    copies = sorted((tmp_path / "cache" / "shards").glob("*.tar"))
    assert len(copies) == 5


def test_a_shard_is_fetched_once_and_the_copies_stay_within_their_bound(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote_set(tmp_path, bucket, sizes=(20,) * 4)
    one = bucket.head_object(Bucket="bucket", Key="shards/000000.tar")["ContentLength"]
    shards = shards_at(tmp_path, cache_bytes=2 * one + 100)
    fetched: list[str] = []
    fetch = Shards._fetch
    monkeypatch.setattr(Shards, "_fetch", lambda self, shard, copy: fetched.append(shard) or fetch(self, shard, copy))
    for shard, row in ((0, 0), (0, 5), (1, 1), (0, 3), (2, 2), (0, 4), (1, 1)):
        assert read(tmp_path, shards, shard, row) == image_bytes(20 * shard + row)
        assert sum(file.stat().st_size for file in (tmp_path / "copies").glob("*.tar")) <= 2 * one + 100
        time.sleep(0.01)
    assert [int(name[-5]) for name in fetched] == [0, 1, 2, 1], "the one not read for the longest time goes first"
    assert not list((tmp_path / "copies").glob("*.part"))
    with pytest.raises(ValueError, match=r"raise data\.cache_gib"):
        read(tmp_path, shards_at(tmp_path / ".", cache_bytes=100), 3, 0)


def test_a_copy_that_was_damaged_is_fetched_anew_and_a_changed_object_is_a_bad_record(
    tmp_path: Path, bucket: Any
) -> None:
    remote_set(tmp_path, bucket)
    shards = shards_at(tmp_path)
    expected = read(tmp_path, shards, 0, 0)
    (copy,) = (tmp_path / "copies").glob("*.tar")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:700])
    assert read(tmp_path, shards, 0, 0) == expected
    assert copy.read_bytes() == whole
    bucket.put_object(Bucket="bucket", Key="shards/000000.tar", Body=whole[:600])
    copy.write_bytes(bytes(len(whole)))
    with pytest.raises(BadImage, match="was cut off"):
        read(tmp_path, shards, 0, 0)


def test_what_a_killed_process_left_half_is_no_copy_and_takes_no_space(tmp_path: Path, bucket: Any) -> None:
    remote_set(tmp_path, bucket)
    shards = shards_at(tmp_path, cache_bytes=200_000)
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "dead.part").write_bytes(bytes(190_000))
    (copies / shards._copy_of("s3://bucket/shards/000000.tar").with_suffix(".part").name).write_bytes(b"half")
    assert read(tmp_path, shards, 0, 0) == image_bytes(0)
    assert not list(copies.glob("*.part"))


def test_a_shard_that_vanishes_from_the_store_is_named(tmp_path: Path, bucket: Any) -> None:
    remote_set(tmp_path, bucket)
    bucket.delete_object(Bucket="bucket", Key="shards/000000.tar")
    with pytest.raises(ShardUnavailable, match=r"000000.tar could not be read in 2 attempts.*FileNotFound"):
        read(tmp_path, shards_at(tmp_path), 0, 0)


class Store(BaseHTTPRequestHandler):
    """A store that has one object and a fault."""

    fault: ClassVar[str]
    failures: ClassVar[int]
    """Requests that meet the fault before all is well."""
    content: ClassVar[bytes]
    asked: ClassVar[int]

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        cls = type(self)
        cls.asked += 1
        faulty, start, end = cls.asked <= cls.failures, 0, len(cls.content)
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1
        if faulty and cls.fault.isdigit():
            self.send_response(int(cls.fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if faulty and cls.fault == "stalls":
            time.sleep(4)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Last-Modified", "Wed, 25 Nov 2026 12:00:00 GMT")
        self.send_header("ETag", '"x"')
        self.end_headers()
        if body:
            data = cls.content[start:end]
            self.wfile.write(data[: len(data) // 2] if faulty and cls.fault == "short" else data)
            self.close_connection = faulty and cls.fault == "short"


@pytest.mark.parametrize("fault", ["403", "500", "stalls", "short"])
@pytest.mark.parametrize("heals", [True, False])
def test_a_store_with_a_fault_is_asked_again_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, fault: str, heals: bool
) -> None:
    pytest.importorskip("s3fs")
    prepare_example(tmp_path, address="s3://bucket/shards")
    content = (tmp_path / "shards" / "000000.tar").read_bytes()
    names = {"fault": fault, "failures": 1 if heals else 10**6, "content": content, "asked": 0}
    handler = type("Faulty", (Store,), names)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False  # so that closing waits for them
    request.addfinalizer(lambda: _end(server))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _lead_to(f"http://127.0.0.1:{server.server_port}", monkeypatch, tmp_path)
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    timeout = 2.0 if fault == "stalls" else 60.0  # a busy machine may be slow where nothing stalls
    patience = Patience(attempts=3 if heals else 2, wait=0.01, timeout=timeout)
    shards = shards_at(tmp_path, patience=patience)
    if heals:
        if fault == "short":
            handler.failures = 2  # the first is the question for the size, which has no body  # type: ignore[attr-defined]
        assert read(tmp_path, shards, 0, 0) == image_bytes(0)
    else:
        with pytest.raises(ShardUnavailable, match=r"^the shard s3://bucket/shards/000000.tar could not be"):
            read(tmp_path, shards, 0, 0)
        assert not list((tmp_path / "copies").glob("*.tar"))


def _end(server: ThreadingHTTPServer) -> None:
    """Also the answers that still stall: else their sockets are found unclosed in the middle of another test."""
    server.shutdown()
    server.server_close()
    gc.collect()


def test_no_store_at_all_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    prepare_example(tmp_path, address="s3://bucket/shards")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _lead_to(f"http://127.0.0.1:{port}", monkeypatch, tmp_path)
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    with pytest.raises(ShardUnavailable, match="2 attempts"):
        read(tmp_path, shards_at(tmp_path), 0, 0)
