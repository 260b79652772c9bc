"""The way from images to features: workers, the store, a kill, and several processes, against one plain loop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from support.small_runs import ENCODER, make_images
from underpaint.core import DataInfo
from underpaint.data import feature_store, view_batches
from underpaint.data.feature_store import FeatureStore, Staff
from underpaint.data.loader import read_images
from underpaint.data.open_source import open_source
from underpaint.data.source import Source
from underpaint.data.view_memory import ViewMemory
from underpaint.evals import engine as engine_module
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.engine import Engine
from underpaint.evals.knn import Knn
from underpaint.evals.scoring import scored
from underpaint.models.vit import ViT
from underpaint.objectives.classify import ClassifyConfig

CPU = torch.device("cpu")
HOW: dict[str, Any] = {"format": ENCODER.image_input, "pooling": "cls", "batch_size": 8}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Images of which two are copies of each other and one is broken; a cache of its own."""
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    folder = make_images(tmp_path / "images", count=60)
    (folder / "a/004.png").write_bytes(b"no image")
    (folder / "a/005.png").write_bytes((folder / "a/001.png").read_bytes())
    return open_source(str(folder), labels=str(folder / "labels.csv"))


@pytest.fixture
def encoder() -> ViT:
    torch.manual_seed(0)
    encoder = ViT(ENCODER)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return encoder


def plain(encoder: ViT, source: Source, rows: Sequence[int]) -> torch.Tensor:
    """The cls token of each image alone, zeros for one that cannot be read."""
    x = torch.zeros(len(rows), ENCODER.width)
    with torch.no_grad():
        for place, row in enumerate(rows):
            image, weight = read_images(source, [row], format=ENCODER.image_input)
            x[place] = encoder(image)[0, 0] * weight
    return x


@dataclass
class Together:
    """A process of a group of threads that share a folder."""

    rank: int
    world: int
    values: list[object]
    barrier: threading.Barrier = field(repr=False)

    def exchange(self, value: Any, /) -> list[Any]:
        self.values[self.rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values


def test_all_ways_give_the_features_of_a_plain_loop(
    source: Source, encoder: ViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(range(len(source.path)))
    expected = plain(encoder, source, rows)
    uncached = Engine(device=CPU).features(encoder, source, rows, **HOW)
    kept = Engine(device=CPU, cached=True).features(encoder, source, rows, **HOW)
    broken = source.path.index("a/004.png")
    for features in (uncached, kept):
        torch.testing.assert_close(features.x, expected, rtol=0, atol=1e-6)
        assert [row for row in rows if not features.kept[row]] == [broken]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(view_batches, "read_encoded", never)
    again = Engine(device=CPU, cached=True).features(encoder, source, rows[::-1], **HOW)
    assert torch.equal(again.x, kept.x.flip(0))
    assert torch.equal(again.kept, kept.kept.flip(0))


@pytest.mark.parametrize(("room", "decoded"), [(1.0, 0), (0.99, 60), (1.5, 0)])
def test_views_in_memory_are_not_decoded_again_and_stay_within_their_bytes(
    source: Source, encoder: ViT, monkeypatch: pytest.MonkeyPatch, room: float, decoded: int
) -> None:
    rows, image, read = list(range(len(source.path))), ENCODER.image_input, list[int]()
    expected = Engine(device=CPU).features(encoder, source, rows, **HOW)
    size = 4 * len(rows) * image.channels * image.size[0] * image.size[1]
    engine = Engine(device=CPU, views=ViewMemory(int(size * room)))
    first = engine.features(encoder, source, rows, **HOW)
    others = engine.features(encoder, source, rows[:40], **HOW)
    real = view_batches.read_encoded
    counted = lambda reads, **how: read.append(len(reads)) or real(reads, **how)  # noqa: E731
    monkeypatch.setattr(view_batches, "read_encoded", counted)
    second = engine.features(encoder, source, rows, **HOW)
    assert sum(read) == decoded
    for features in (first, second):
        assert torch.equal(features.x, expected.x)
        assert torch.equal(features.kept, expected.kept)
    assert torch.equal(others.x, expected.x[:40])


@pytest.mark.slow
def test_workers_change_no_bit(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_batches, "WORTHWHILE", 0.0)
    monkeypatch.setattr(view_batches, "FEWEST", 1)
    reads = [partial(source.files.read, path) for path in source.path]
    of_none, of_two = (
        list(view_batches.view_batches(reads, format=ENCODER.image_input, batch_size=8, workers=workers))
        for workers in (0, 2)
    )
    assert len(of_none) == len(of_two) == 8
    for (image, problems), (other_image, other_problems) in zip(of_none, of_two, strict=True):
        assert torch.equal(image, other_image)
        assert problems == other_problems
    assert sum(bool(problem) for _, problems in of_two for problem in problems) == 1


@pytest.mark.parametrize(("seconds", "workers", "started"), [(1.0, 2, True), (0.2, 2, False), (1.0, 0, False)])
def test_workers_are_started_where_they_save_more_time_than_their_start_takes(
    monkeypatch: pytest.MonkeyPatch, seconds: float, workers: int, started: bool
) -> None:
    """Seventeen images of so many seconds each."""
    clock, processes = [0.0], list[int]()

    def read(batch: Any) -> int:
        clock[0] += seconds * len(batch)
        return sum(part() for part in batch)

    def loader(batches: Any, **how: Any) -> list[int]:
        processes.append(how["num_workers"])
        return [batches[number] for number in range(len(batches))]

    monkeypatch.setattr(view_batches.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(view_batches, "DataLoader", loader)
    monkeypatch.setattr(view_batches, "FEWEST", 17)
    answers = list(view_batches.read_batches([lambda: 1] * 17, read, batch_size=2, workers=workers))  # type: ignore[list-item]
    assert answers == [2] * 8 + [1]
    assert processes == [workers] * started
    few = [lambda: 1] * 16
    assert list(view_batches.read_batches(few, read, batch_size=2, workers=workers)) == [2] * 8  # type: ignore[list-item]
    assert processes == [workers] * started


def test_an_engine_that_was_killed_goes_on_with_the_same_bits(
    source: Source, encoder: ViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, engine = list(range(len(source.path))), Engine(device=CPU, cached=True)
    whole = engine.features(encoder, source, rows, **HOW)
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "second"))
    monkeypatch.setattr(feature_store, "IMAGES_OF_FILE", 16)
    real, batches = view_batches.read_encoded, list[int]()

    def killed_at(number: int) -> Any:
        def read(reads: list[Any], **how: Any) -> Any:
            if len(batches) == number:
                raise KeyboardInterrupt
            batches.append(len(reads))
            return real(reads, **how)

        return read

    monkeypatch.setattr(view_batches, "read_encoded", killed_at(5))
    with pytest.raises(KeyboardInterrupt):
        engine.features(encoder, source, rows, **HOW)
    batches.clear()
    monkeypatch.setattr(view_batches, "read_encoded", killed_at(99))
    again = engine.features(encoder, source, rows, **HOW)
    assert sum(batches) == 59 - 32, "two files of 16 images were there, and a copy is encoded once"
    assert torch.equal(again.x, whole.x)


def test_processes_share_the_images_and_give_the_bits_of_one(
    source: Source, encoder: ViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(range(len(source.path)))
    alone = Engine(device=CPU, cached=True).features(encoder, source, rows, **HOW)
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "shared"))
    values, barrier = [None] * 3, threading.Barrier(3, timeout=60)
    results: dict[int, torch.Tensor] = {}

    def work(rank: int) -> None:
        group = Together(rank=rank, world=3, values=values, barrier=barrier)
        engine = Engine(device=CPU, staff=Staff(group=group), cached=True)
        results[rank] = engine.features(encoder, source, rows, **HOW).x

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert all(torch.equal(x, alone.x) for x in results.values())
    assert len(list((tmp_path / "shared/features").rglob("*.safetensors"))) == 3


def test_processes_share_the_images_while_another_evaluation_adds_some(source: Source, encoder: ViT) -> None:
    """Its file comes after the first process looked, and before the second did."""
    rows, values, barrier = list(range(len(source.path))), [None] * 2, threading.Barrier(2, timeout=60)
    expected = Engine(device=CPU).features(encoder, source, rows, **HOW)
    looked, results, problems = threading.Event(), dict[int, torch.Tensor](), list[Exception]()

    class Late(Together):
        def exchange(self, value: Any, /) -> list[Any]:
            if self.rank == 0 and isinstance(value, (int, list)) and not looked.is_set():
                Engine(device=CPU, cached=True).features(encoder, source, rows[:30], **HOW)
                looked.set()
            return super().exchange(value)

    def work(rank: int) -> None:
        group = Late(rank=rank, world=2, values=values, barrier=barrier)
        engine = Engine(device=CPU, staff=Staff(group=group), cached=True)
        try:
            results[rank] = engine.features(encoder, source, rows, **HOW).x
        except ValueError as problem:
            problems.append(problem)
            barrier.abort()

    real = FeatureStore.__init__

    def later(store: FeatureStore, maker: Any) -> None:
        if threading.current_thread().name == "1":
            looked.wait(60)
        real(store, maker)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "__init__", later)
        threads = [threading.Thread(target=work, args=(rank,), name=str(rank)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems
    for x in results.values():
        torch.testing.assert_close(x, expected.x, rtol=0, atol=1e-6)
    assert len(results) == 2


def test_an_image_that_changes_meanwhile_is_not_kept_under_the_old_name(
    source: Source, encoder: ViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, path = [0, 1, 2], source.root / source.path[1]
    before = path.read_bytes()
    expected = Engine(device=CPU).features(encoder, source, rows, **HOW).x
    real = engine_module.image_hashes

    def changed(*given: Any, **how: Any) -> list[str]:
        hashes = real(*given, **how)
        path.write_bytes((source.root / source.path[2]).read_bytes())
        return hashes

    monkeypatch.setattr(engine_module, "image_hashes", changed)
    with pytest.raises(ValueError, match=rf"{path} is another file than when it was hashed.* Start again"):
        Engine(device=CPU, cached=True).features(encoder, source, rows, **HOW)
    monkeypatch.setattr(engine_module, "image_hashes", real)
    path.write_bytes(before)
    features = Engine(device=CPU, cached=True).features(encoder, source, rows, **HOW)
    torch.testing.assert_close(features.x, expected, rtol=0, atol=1e-6)


def test_an_image_that_could_not_be_read_once_is_read_again(
    source: Source, encoder: ViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an error of the network: taken for unreadable, it would count as wrong in every later evaluation."""
    rows, engine, real = [0, 1, 5], Engine(device=CPU, cached=True), Path.read_bytes
    failing, reads = source.root / source.path[1], list[Path]()

    def fails_at_first(path: Path) -> bytes:
        if path == failing:
            reads.append(path)
            if len(reads) == 1:
                raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", fails_at_first)
    with pytest.raises(ValueError, match=rf"{failing} is another file than when it was hashed, or none"):
        engine.features(encoder, source, rows, **HOW)
    again = engine.features(encoder, source, rows, **HOW)
    assert again.kept.tolist() == [True] * 3
    torch.testing.assert_close(again.x, Engine(device=CPU).features(encoder, source, rows, **HOW).x)


def test_features_of_a_class_of_ones_own_are_not_kept(source: Source, encoder: ViT, tmp_path: Path) -> None:
    """With the weights of another encoder, and code that says something else."""

    class Negative(ViT):
        def forward(self, image: Any, **how: Any) -> Any:
            return -super().forward(image, **how)

    own = Negative(ENCODER)
    own.load_state_dict(encoder.state_dict())
    engine = Engine(device=CPU, cached=True)
    first, second = (engine.features(each, source, [0, 1], **HOW).x for each in (encoder, own))
    assert torch.equal(first, -second)


def test_processes_without_a_common_folder_are_told(source: Source, encoder: ViT) -> None:
    group = Together(rank=0, world=2, values=[None, 9], barrier=threading.Barrier(1))
    engine = Engine(device=CPU, staff=Staff(group=group), cached=True)
    with pytest.raises(ValueError, match=r"features that other processes computed .* set UNDERPAINT_CACHE"):
        engine.features(encoder, source, list(range(len(source.path))), **HOW)


def test_scores_are_those_without_a_cache(source: Source, encoder: ViT) -> None:
    plain_engine, cached = Engine(device=CPU), Engine(device=CPU, cached=True)
    colours = tuple(sorted(set(source.label)))
    torch.manual_seed(1)
    classifier = ClassifyConfig(encoder=ENCODER, head_init_std=1.0).build(DataInfo(seed=0, labels=colours))
    cases = ((Knn(dataset="x", k=3), encoder), (Accuracy(dataset="x"), classifier))
    for evaluation, network in cases:
        expected = scored(evaluation, network, [source], engine=plain_engine, seed=0)
        for _ in range(2):
            assert scored(evaluation, network, [source], engine=cached, seed=0) == expected


def test_a_head_alone_makes_no_new_features(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear probes of one frozen encoder share its features; another pooling does not."""
    colours = tuple(sorted(set(source.label)))
    config = ClassifyConfig(encoder=ENCODER)
    first, second = (config.build(DataInfo(seed=0, labels=colours)) for _ in range(2))
    torch.nn.init.normal_(second.head.weight)
    encoded = list[int]()
    real = view_batches.read_encoded
    monkeypatch.setattr(
        view_batches, "read_encoded", lambda reads, **how: (encoded.append(len(reads)), real(reads, **how))[1]
    )
    engine = Engine(device=CPU, cached=True)
    for classifier in (first, second):
        scored(Accuracy(dataset="x"), classifier, [source], engine=engine, seed=0)
    once = sum(encoded)
    assert once == len(source.rows("test"))
    other = replace(config, encoder=replace(ENCODER, final_norm=False), pooling="mean")
    scored(Accuracy(dataset="x"), other.build(DataInfo(seed=0, labels=colours)), [source], engine=engine, seed=0)
    assert sum(encoded) == 2 * once
