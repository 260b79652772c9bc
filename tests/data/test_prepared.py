"""A prepared set as training data: the same batches whatever the ranks and workers, and hostile shards."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from support.image_files import noise
from support.prepared_example import NAMES, image_bytes, prepare_example, rows_of, write_tar
from underpaint import keyed_random
from underpaint.core import PAD_LABEL, ImageInput, LabelBatch, LabelInput
from underpaint.data.dataset import ImageData
from underpaint.data.decode.transforms import train_view
from underpaint.data.loader import ImageStream
from underpaint.data.open_source import open_source
from underpaint.data.quarantine import TooManyBadRecords
from underpaint.data.shards.index import IndexWriter, index_schema
from underpaint.data.shards.lanes import Lanes
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.shard_dataset import ShardDataset
from underpaint.data.shards.shard_files import Patience, Shards, ShardUnavailable, scheme_of
from underpaint.data.shards.shard_samples import ShardSampleIndex
from underpaint.data.stream import Batching
from underpaint.run.rank_stream import RankStream
from underpaint.training.ranks import Ranks

FORMAT = ImageInput(size=(8, 8), channels=3, value_range=(0.0, 255.0), mean=(0.5,) * 3, std=(0.25,) * 3)
INPUTS = {"image": FORMAT, "labels": LabelInput()}
BATCH = 16
EAGER = Patience(attempts=2, wait=0.0, timeout=5.0)


def opened(folder: Path, **fields: Any) -> ShardDataset:
    config: dict[str, Any] = {"source": str(folder), "lanes": Lanes(count=4, window=20), "targets": "tags"}
    found = ImageData(**config | {"resample": "sqrt", "max_bad": 0.5} | fields).open()
    assert isinstance(found, ShardDataset)
    return found


def stream_of(found: ShardDataset, file: Path, *, microbatch: int = BATCH) -> ImageStream:
    inputs = {"image": FORMAT} if found.config.targets == "none" else INPUTS
    stream = found.stream(inputs, Batching(batch_size=BATCH, microbatch=microbatch), seed=3, quarantine=file)
    assert isinstance(stream.items, ShardSampleIndex)
    stream.items.shards.patience = EAGER
    return stream


def take(stream: ImageStream | RankStream, count: int) -> list[Any]:
    batches: Iterator[Any] = iter(stream)
    taken = list(itertools.islice(batches, count))
    batches.close()  # type: ignore[attr-defined]
    return taken


def global_batches(folder: Path, *, world: int, workers: int, start: int, count: int) -> list[LabelBatch]:
    """What the ranks of a run see together, from a global batch on."""
    parts: list[list[LabelBatch]] = []
    for rank in range(world):
        stream = stream_of(opened(folder, workers=workers), folder / "bad.jsonl", microbatch=BATCH // world)
        share = RankStream(stream, ranks=Ranks(rank=rank, world=world), batch_size=BATCH) if world > 1 else stream
        share.position = start * BATCH
        parts.append(take(share, count))
        assert share.position == (start + count) * BATCH
    return [
        {name: torch.cat([part[name] for part in batch]) for name in batch[0]}  # pyright: ignore
        for batch in zip(*parts, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
def test_ranks_and_workers_change_no_bit_and_may_change_at_every_stop(tmp_path: Path) -> None:
    prepare_example(tmp_path)
    whole = take(stream_of(opened(tmp_path), tmp_path / "a.jsonl"), 45)  # three and a half epochs
    start = 0
    for world, workers in itertools.cycle(itertools.product((1, 2, 4), (0, 1, 3))):
        for mine, theirs in zip(
            global_batches(tmp_path, world=world, workers=workers, start=start, count=5),
            whole[start : start + 5],
            strict=True,
        ):
            for name in ("image", "position", "weight", "labels"):
                assert torch.equal(mine[name], theirs[name]), (world, workers, name)
        start += 5
        if start == len(whole):
            return


def test_a_batch_is_what_its_positions_say(tmp_path: Path) -> None:
    tables = prepare_example(tmp_path)
    stream = stream_of(opened(tmp_path), tmp_path / "bad.jsonl")
    items = stream.items
    assert isinstance(items, ShardSampleIndex)
    numbers = [[int(key) for key in table["key"].to_pylist()] for table in tables]
    for batch in take(stream, 6):
        for position, image, labels in zip(batch["position"].tolist(), batch["image"], batch["labels"], strict=True):
            place = items.order.at(position)
            drawn = items._shard(place.shard)
            number = numbers[place.shard][int(drawn.chosen[np.searchsorted(drawn.running, place.reach)])]
            assert number % 10 != 3, "held out"
            seed = keyed_random.sample_seed(keyed_random.key(3, "crop"), position)
            stored = torch.from_numpy(noise(number)).permute(2, 0, 1)
            view = train_view(stored, size=(8, 8), scale=(0.2, 1.0), flip=number % 3 != 0, seed=seed)
            assert torch.allclose(image, (view - 0.5) / 0.25, atol=1e-6)
            expected = list(dict.fromkeys([number % 4, number // 4 % 4]))
            assert labels.tolist() == expected + [PAD_LABEL] * (2 - len(expected))


@pytest.mark.parametrize("resample", ["sqrt", "none"])
def test_images_are_drawn_as_often_as_their_repeat_factors_say(tmp_path: Path, resample: str) -> None:
    """Of each of four epochs the factor rounded down or up; held out and unlabelled images never."""
    rows = [row for table in prepare_example(tmp_path) for row in table.to_pylist()]
    rows = [row for row in rows if row["split"] == "pretrain" and row["labels"]]
    factor = {row["key"]: row["repeat"] if resample == "sqrt" else 1.0 for row in rows}
    items = stream_of(opened(tmp_path, resample=resample), tmp_path / "bad.jsonl").items
    assert isinstance(items, ShardSampleIndex)
    positions = (p for p in range(round(5 * sum(factor.values()))) if items.order.at(p).epoch < 4)
    drawn = Counter(items.at(position).key.rpartition("/")[2] for position in positions)
    assert drawn.keys() == factor.keys()
    for key, repeat in factor.items():
        assert 4 * math.floor(repeat) <= drawn[key] <= 4 * math.ceil(repeat), key
    assert abs(drawn.total() - 4 * sum(factor.values())) < 4


def test_a_rank_opens_only_the_shards_of_its_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_example(tmp_path, sizes=(16,) * 16)
    opened_shards: list[str] = []
    read = Shards.read

    def recorded(self: Shards, shard: str, *rest: Any) -> bytes:
        opened_shards.append(shard)
        return read(self, shard, *rest)

    monkeypatch.setattr(Shards, "read", recorded)
    found = opened(tmp_path, resample="none", targets="none")
    epoch = found.images // BATCH
    seen: list[set[str]] = []
    for rank in range(4):
        opened_shards.clear()
        stream = stream_of(found, tmp_path / "bad.jsonl", microbatch=BATCH // 4)
        take(RankStream(stream, ranks=Ranks(rank=rank, world=4), batch_size=BATCH), epoch)
        items = stream.items
        assert isinstance(items, ShardSampleIndex)
        lane = {items.order.in_lane(rank, position).shard for position in range(epoch * 4)}
        assert set(opened_shards) == {f"shards/{shard:06d}.tar" for shard in lane}
        seen.append(set(opened_shards))
    assert sum(map(len, seen)) <= 16 + 3


def test_processes_must_divide_the_lanes(tmp_path: Path) -> None:
    prepare_example(tmp_path)
    stream = stream_of(opened(tmp_path), tmp_path / "bad.jsonl", microbatch=2)
    with pytest.raises(ValueError, match=r"8 processes cannot share the 4 lanes"):
        RankStream(stream, ranks=Ranks(rank=0, world=8), batch_size=BATCH)


def test_views_are_drawn_from_one_image_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_example(tmp_path)
    reads: list[int] = []
    read = Shards.read

    def counted(self: Shards, shard: str, offset: int, *rest: Any) -> bytes:
        reads.append(offset)
        return read(self, shard, offset, *rest)

    monkeypatch.setattr(Shards, "read", counted)
    stream = stream_of(opened(tmp_path, views=4, decoding="scaled"), tmp_path / "bad.jsonl", microbatch=8)
    batches = take(stream, 4)
    assert len(reads) == 4 * 8 // 4
    for batch in batches:
        assert (batch["labels"].reshape(2, 4, -1) == batch["labels"].reshape(2, 4, -1)[:, :1]).all()
        image = batch["image"].reshape(2, 4, -1)
        assert not torch.equal(image[:, 0], image[:, 1]), "each view has a crop of its own"
    with pytest.raises(ValueError, match=r"data.views=3 must divide"):
        stream_of(opened(tmp_path, views=3), tmp_path / "bad.jsonl")


@pytest.mark.parametrize("views", [1, 2])
def test_eight_bits_between_processes_are_the_floats_of_one(tmp_path: Path, views: int) -> None:
    """More batches than there are slots for them, with bad records among them."""
    _jpegs(tmp_path)
    alone, beside = (
        take(
            stream_of(
                opened(tmp_path, decoding="scaled", workers=workers, views=views, targets="none"),
                tmp_path / f"{workers}.jsonl",
                microbatch=8,
            ),
            24,
        )
        for workers in (0, 2)
    )
    assert not all(batch["weight"].all() for batch in alone)
    for mine, theirs in zip(beside, alone, strict=True):
        for name in ("image", "position", "weight"):
            assert torch.equal(mine[name], theirs[name])
    assert alone[0]["image"].dtype == torch.float32
    assert len({batch["image"].data_ptr() for batch in beside}) == len(beside), "each batch has memory of its own"


def _jpegs(folder: Path) -> None:
    """A set of JPEGs, with one that is none and a PNG that is decoded in full."""
    members = [(f"{k:03d}.jpg", image_bytes(k, format="jpeg", size=(40, 50))) for k in range(40)]
    members[7] = ("007.jpg", b"\xff\xd8\xff no image")
    members[9] = ("009.png", image_bytes(9))
    write_tar(folder / "shards" / "x.tar", members)
    with IndexWriter(folder) as writer:
        writer.add(rows_of(folder / "shards" / "x.tar", "shards/x.tar"))
        writer.finish(name="jpegs", licence="none", attribution="nobody")


def test_a_share_lies_within_a_larger_one_and_counts_what_it_draws(tmp_path: Path) -> None:
    prepare_example(tmp_path)
    drawn: list[set[str]] = []
    for share in (0.3, 0.6, 1.0):
        found = opened(tmp_path, share=share, resample="none")
        stream = stream_of(found, tmp_path / "bad.jsonl")
        keys = {stream.items.at(position).key for position in range(4 * found.images)}
        assert len(keys) == found.images
        drawn.append(keys)
    assert drawn[0] < drawn[1] < drawn[2]


def test_the_set_is_a_source_for_studies_too(tmp_path: Path) -> None:
    prepare_example(tmp_path)
    source = open_source(str(tmp_path))
    assert len(source.path) == 113
    assert source.tags[6] == (NAMES[2], NAMES[1])
    assert source.rows("heldout") == list(range(3, 113, 10))
    assert source.files.read(source.path[40]) == image_bytes(40)
    found = opened(tmp_path)
    heldout = list(found.heldout(INPUTS, batch_size=4))
    assert sum(len(batch["weight"]) for batch in heldout) == len([k for k in range(3, 113, 10) if k % 5 != 4])
    assert found.heldout_images == len([k for k in range(3, 113, 10) if k % 5 != 4])
    assert all(batch["weight"].all() for batch in heldout)


@pytest.mark.slow
def test_near_duplicates_of_test_images_are_not_drawn(tmp_path: Path) -> None:
    prepare_example(tmp_path / "set")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "copy.png").write_bytes(image_bytes(40))
    found = opened(tmp_path / "set", exclude=str(tmp_path / "test"), targets="none", resample="none")
    everything = opened(tmp_path / "set", targets="none", resample="none")
    assert found.images == everything.images - 1
    assert found.content_hash != everything.content_hash
    drawn, of_all = (
        {stream_of(one, tmp_path / "bad.jsonl").items.at(position).key for position in range(2 * one.images)}
        for one in (found, everything)
    )
    assert of_all - drawn == {"shards/000001.tar/00040"}


# ---- what may be wrong with a set -------------------------------------------------------------------------------


def test_a_record_that_changed_is_a_bad_one(tmp_path: Path) -> None:
    prepare_example(tmp_path)
    tar = tmp_path / "shards" / "000002.tar"
    data = bytearray(tar.read_bytes())
    offset = pq.read_table(tmp_path / "index.parquet", filters=[("key", "=", "00060")])["offset"][0].as_py()
    data[offset + 100] ^= 1
    tar.write_bytes(data)
    stream = stream_of(opened(tmp_path, targets="none"), tmp_path / "bad.jsonl")
    batches = take(stream, 30)
    assert any(not batch["weight"].all() for batch in batches)
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["shards/000002.tar/00060"]
    assert "holds other bytes" in lines[0]["reason"]


def test_a_truncated_tar_spoils_its_last_records_and_too_many_end_the_run(tmp_path: Path) -> None:
    prepare_example(tmp_path)
    tar = tmp_path / "shards" / "000002.tar"
    tar.write_bytes(tar.read_bytes()[:20_000])
    with pytest.raises(TooManyBadRecords):
        take(stream_of(opened(tmp_path, max_bad=0.01), tmp_path / "bad.jsonl"), 40)
    assert "was cut off" in (tmp_path / "bad.jsonl").read_text()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_vanishes_ends_the_run_by_name(tmp_path: Path, workers: int) -> None:
    prepare_example(tmp_path)
    (tmp_path / "shards" / "000002.tar").unlink()
    with pytest.raises(ShardUnavailable, match=r"^the shard shards/000002.tar could not be read in 2 attempts"):
        take(stream_of(opened(tmp_path, workers=workers), tmp_path / "bad.jsonl"), 40)


def test_a_shard_that_comes_back_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_example(tmp_path)
    whole = take(stream_of(opened(tmp_path), tmp_path / "a.jsonl"), 12)
    tar, away = tmp_path / "shards" / "000002.tar", tmp_path / "away"
    tar.rename(away)
    monkeypatch.setattr("underpaint.data.shards.shard_files.time.sleep", lambda _: away.exists() and away.rename(tar))
    for mine, theirs in zip(take(stream_of(opened(tmp_path), tmp_path / "b.jsonl"), 12), whole, strict=True):
        assert torch.equal(mine["image"], theirs["image"])


@pytest.mark.parametrize(
    "shard",
    ["pipe:cat /etc/passwd", "http://a/b.tar", "file:///a.tar", "../a.tar", "a/../../b.tar", "s3:/a", "pipe:// x"],
)
def test_other_addresses_are_refused(tmp_path: Path, shard: str) -> None:
    canary = tmp_path / "canary"
    shards = Shards(tmp_path, cache=tmp_path / "cache", cache_bytes=1000, patience=EAGER)
    for address in (shard, f"pipe:touch {canary}"):
        with pytest.raises(ValueError, match=r"not read|leads out"):
            shards.read(address, 0, 10, bytes(16))
    assert not canary.exists()


def test_known_addresses_are_told_apart() -> None:
    assert [scheme_of(shard) for shard in ("s3://b/a.tar", "gs://b/a.tar", "hf://datasets/x/a.tar")] == [
        "s3",
        "gs",
        "hf",
    ]
    assert scheme_of("/data/a.tar") == scheme_of("shards/a.tar") == ""


def test_members_that_hold_code_are_never_opened_and_keys_may_come_in_any_order(tmp_path: Path) -> None:
    members = [
        ("b.txt", b"words"),
        ("a.png", image_bytes(1)),
        ("a.pkl", b"cos\nsystem\n(S'touch canary'\ntR."),
        ("b.pyd", b"MZ"),
        ("b.png", image_bytes(2)),
        ("a.txt", b"words"),
        ("b.jpg", image_bytes(3, format="jpeg")),
    ]
    write_tar(tmp_path / "shards" / "x.tar", members)
    table = rows_of(tmp_path / "shards" / "x.tar", "shards/x.tar")
    assert table["key"].to_pylist() == ["a", "b"]
    with IndexWriter(tmp_path) as writer:
        writer.add(table)
        writer.finish(name="x", licence="none", attribution="nobody")
    source = open_source(str(tmp_path))
    assert [source.files.read(path) for path in source.path] == [image_bytes(1), image_bytes(2)]


# ---- the index ----------------------------------------------------------------------------------------------------


def test_an_index_of_many_shards_is_a_folder_of_parts_and_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = prepare_example(tmp_path)
    before = PreparedSet(tmp_path)
    monkeypatch.setattr("underpaint.data.shards.index.SHARDS_OF_PART", 2)
    _write(tmp_path, tables)
    after = PreparedSet(tmp_path)
    assert sorted(file.name for file in (tmp_path / "index.parquet").iterdir()) == [
        f"part-{part:05d}.parquet" for part in range(3)
    ]
    assert before.content_hash == after.content_hash
    for shard in range(5):
        assert after.rows(shard).keys.to_pylist() == tables[shard]["key"].to_pylist()
    whole = pq.read_table(tmp_path / "index.parquet")
    assert whole.schema.equals(index_schema())
    assert whole["key"].to_pylist() == [key for table in tables for key in table["key"].to_pylist()]
    monkeypatch.undo()
    _write(tmp_path, tables)
    assert (tmp_path / "index.parquet").is_file()
    assert not list(tmp_path.glob("*.part"))


def _write(folder: Path, tables: Sequence[Any]) -> None:
    with IndexWriter(folder) as writer:
        for table in tables:
            writer.add(table)
        writer.finish(name="example", licence="none", attribution="nobody")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("repeat", 0.0, "repeat factors outside"),
        ("repeat", float("nan"), "repeat factors outside"),
        ("split", "training", "split 'training'"),
        ("key", "00001", "a key twice"),
        ("size", 0, "without bytes"),
        ("offset", -1, "without bytes, or before"),
        ("shard", "another.tar", "of 2"),
        ("content_hash", None, "content_hash.* null values"),
    ],
)
def test_rows_that_cannot_be_are_refused(tmp_path: Path, column: str, value: Any, said: str) -> None:
    table = prepare_example(tmp_path)[0]
    values = table[column].to_pylist()
    values[0] = value
    wrong = table.set_column(table.column_names.index(column), column, [values])
    with IndexWriter(tmp_path / "new") as writer, pytest.raises(ValueError, match=said):
        writer.add(wrong)


def test_half_a_set_is_none_and_a_newer_one_is_refused_by_name(tmp_path: Path) -> None:
    tables = prepare_example(tmp_path)
    about = json.loads((tmp_path / "prepared.json").read_text())
    (tmp_path / "prepared.json").write_text(json.dumps(about | {"format": 2}))
    with pytest.raises(ValueError, match="format 1"):
        opened(tmp_path)
    with IndexWriter(tmp_path) as writer:
        writer.add(tables[0])  # and killed
    (tmp_path / "prepared.json").unlink()
    with pytest.raises(ValueError, match="holds no prepared set"):
        PreparedSet(tmp_path)
    with pytest.raises(ValueError, match="no shard with images"), IndexWriter(tmp_path) as writer:
        writer.finish(name="x", licence="none", attribution="nobody")


def test_a_set_that_is_prepared_anew_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    tables = prepare_example(tmp_path)
    before = PreparedSet(tmp_path)
    _write(tmp_path, tables[:2])
    remade, arguments = before.__reduce__()
    with pytest.raises(ValueError, match="prepared again"):
        remade(*arguments)


def test_what_does_not_fit_a_set_is_named(tmp_path: Path) -> None:
    prepare_example(tmp_path)
    with pytest.raises(ValueError, match="its own labels"):
        opened(tmp_path, labels="labels.csv")
    with pytest.raises(ValueError, match="has no classes; add them with underpaint prepare --labels"):
        opened(tmp_path, targets="class")
    with pytest.raises(ValueError, match="no images in its split 'test'"):
        opened(tmp_path, split="test", targets="none")
    with pytest.raises(ValueError, match=r"lanes.count=5 must divide the batch size 16"):
        stream_of(replace(opened(tmp_path), config=ImageData(source="x", lanes=Lanes(count=5))), tmp_path / "bad")
