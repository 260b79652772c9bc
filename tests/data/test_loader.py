"""The stream of training batches, and reading for evaluation."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from support.image_files import noise
from underpaint import keyed_random
from underpaint.core import PAD_LABEL, ImageInput, LabelBatch
from underpaint.data import sample_index, workers
from underpaint.data.decode.transforms import eval_view, train_view
from underpaint.data.loader import ImageStream, TrainingViews, channel_statistics, read_images
from underpaint.data.order import sample_at
from underpaint.data.quarantine import Quarantine, TooManyBadRecords
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.source import Problem, Record, Source, make_source
from underpaint.data.stream import Batching

FORMAT = ImageInput(size=(8, 8), channels=3, value_range=(0.0, 255.0), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
SCALE = (0.2, 1.0)
N = 24


def source_of(root: Path, *, bad: Sequence[int] = (), problems: Sequence[Problem] = (), n: int = N) -> Source:
    """Noise images, some of which are no images."""
    for number in range(n):
        file = root / f"{number:03}.png"
        if number in bad:
            file.write_bytes(b"no image")
        else:
            Image.fromarray(noise(number)).save(file)
    records = [
        Record(
            path=f"{number:03}.png", tags=(), label="", family=str(number), splits=("pretrain",), flip=number % 2 == 0
        )
        for number in range(n)
    ]
    return make_source("noise", root, records=records, problems=problems, licence="none", attribution="none")


def normalised(view: torch.Tensor) -> torch.Tensor:
    return (view - torch.tensor(FORMAT.mean)[:, None, None]) / torch.tensor(FORMAT.std)[:, None, None]


VIEWS = {"scale": "scale", "views": "count", "decoding": "decoding", "augment": "augment"}


def stream_of(source: Source, quarantine: Path, **changes: Any) -> ImageStream:
    options: dict[str, Any] = {
        "targets": (),
        "format": FORMAT,
        "scale": SCALE,
        "seed": 0,
        "batching": Batching(batch_size=8, microbatch=4, workers=0),
    }
    max_bad = changes.pop("max_bad", 0.5)
    rows = changes.pop("rows", range(len(source.path)))
    bad = Quarantine(quarantine, images=len(source.path), max_bad=max_bad)
    changes = options | changes
    targets, batch_size = changes.pop("targets"), changes["batching"].batch_size
    images = SourceSampleIndex(source, rows, targets=targets, batch_size=batch_size, seed=changes["seed"])
    views = {name: changes.pop(old) for old, name in VIEWS.items() if old in changes}
    return ImageStream(images, quarantine=bad, views=TrainingViews(**views), **changes)


def take(stream: ImageStream, count: int) -> list[LabelBatch]:
    batches: Iterator[LabelBatch] = iter(stream)
    taken = list(itertools.islice(batches, count))
    batches.close()  # type: ignore[attr-defined]
    return taken


def assert_equal(one: list[LabelBatch], two: list[LabelBatch]) -> None:
    assert len(one) == len(two) > 0
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() == {"image", "position", "weight", "labels"}
        for name in a:
            assert torch.equal(a[name], b[name]), name


def test_a_batch_is_what_its_positions_say(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    stream = stream_of(source, tmp_path / "bad.jsonl", seed=7)
    batches = take(stream, 15)  # two and a half epochs
    assert [batch["position"].tolist() for batch in batches] == [list(range(k, k + 4)) for k in range(0, 60, 4)]
    assert stream.position == 60
    for batch in batches:
        assert batch["labels"].shape == (4, 0)
        assert batch["weight"].tolist() == [1, 1, 1, 1]
        for position, image in zip(batch["position"].tolist(), batch["image"], strict=True):
            row = sample_at(keyed_random.key(7, "order"), N, position)
            seed = keyed_random.sample_seed(keyed_random.key(7, "crop"), position)
            stored = torch.from_numpy(noise(row)).permute(2, 0, 1)
            view = train_view(stored, size=(8, 8), scale=SCALE, flip=source.flip[row], seed=seed)
            assert torch.allclose(image, normalised(view), atol=1e-6)


def test_workers_and_threads_change_no_bit(tmp_path: Path) -> None:
    source = source_of(tmp_path, bad=(3,))
    alone = take(stream_of(source, tmp_path / "a.jsonl"), 14)
    assert_equal(
        alone,
        take(stream_of(source, tmp_path / "b.jsonl", batching=Batching(batch_size=8, microbatch=4, workers=2)), 14),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert_equal(alone, take(stream_of(source, tmp_path / "c.jsonl"), 14))
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text() != ""


def test_the_microbatch_changes_no_sample(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    large = take(stream_of(source, tmp_path / "a.jsonl", batching=Batching(batch_size=8, microbatch=8, workers=0)), 5)
    small = take(stream_of(source, tmp_path / "b.jsonl", batching=Batching(batch_size=8, microbatch=2, workers=0)), 20)
    assert torch.equal(torch.cat([b["image"] for b in large]), torch.cat([b["image"] for b in small]))


@pytest.mark.parametrize("workers", [0, 1])
def test_stopping_and_continuing_gives_the_same_batches(tmp_path: Path, workers: int) -> None:
    source = source_of(tmp_path)
    undisturbed = take(stream_of(source, tmp_path / "a.jsonl"), 12)
    first = stream_of(source, tmp_path / "b.jsonl", batching=Batching(batch_size=8, microbatch=4, workers=workers))
    before = take(first, 6)
    second = stream_of(source, tmp_path / "b.jsonl", batching=Batching(batch_size=8, microbatch=4, workers=workers))
    second.position = first.position
    assert_equal(undisturbed, before + take(second, 6))


def test_the_stream_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    take(stream_of(source_of(tmp_path), tmp_path / "bad.jsonl"), 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_labels_are_padded_to_the_longest_of_all_and_unlabelled_rows_left_out(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    targets = [tuple(range(row % 5)) for row in range(N)]
    stream = stream_of(source, tmp_path / "bad.jsonl", targets=targets)
    assert stream.items.unlabelled == (0, 5, 10, 15, 20)
    assert set(stream.items.rows) == set(range(N)) - {0, 5, 10, 15, 20}
    kept = stream.items.rows
    for batch in take(stream, 10):
        assert batch["labels"].shape == (4, 4)
        for position, labels in zip(batch["position"].tolist(), batch["labels"].tolist(), strict=True):
            row = kept[sample_at(keyed_random.key(0, "order"), len(kept), position)]
            assert labels == [*targets[row], *[PAD_LABEL] * (4 - row % 5)]


def test_a_bad_record_is_a_placeholder_and_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("underpaint.data.sample_index.time.sleep", slept.append)
    source = source_of(tmp_path, bad=(3, 11), problems=[Problem(key="gone.png", reason="missing file")])
    (tmp_path / "011.png").unlink()
    stream = stream_of(source, tmp_path / "bad.jsonl", targets=[(1,)] * N)
    for batch in take(stream, 30):
        for row in range(4):
            index = sample_at(keyed_random.key(0, "order"), N, int(batch["position"][row]))
            assert batch["weight"][row] == (0 if index in (3, 11) else 1)
            if index in (3, 11):
                assert not batch["image"][row].any()
                assert batch["labels"][row].tolist() == [PAD_LABEL]
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines[:1]] == ["gone.png"]
    assert sorted(line["key"] for line in lines) == ["003.png", "011.png", "gone.png"]
    assert {line["reason"] for line in lines if line["key"] == "011.png"} == {
        "cannot be read: No such file or directory"
    }
    assert len(stream.quarantine) == 3
    assert slept == list(sample_index.PATIENCE), (
        "the file that is gone is waited for once, the one that is no image never"
    )


def test_a_file_that_comes_back_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that is away for a moment changes no bit, and nothing is recorded of it."""
    source, away = source_of(tmp_path), tmp_path / "away"
    whole = take(stream_of(source, tmp_path / "whole.jsonl"), 30)
    (tmp_path / "011.png").rename(away)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            away.rename(tmp_path / "011.png")

    monkeypatch.setattr("underpaint.data.sample_index.time.sleep", sleep)
    stream = stream_of(source, tmp_path / "bad.jsonl")
    for mine, theirs in zip(take(stream, 30), whole, strict=True):
        for name in ("image", "weight", "position"):
            assert torch.equal(mine[name], theirs[name])
    assert slept == list(sample_index.PATIENCE[:3])
    assert len(stream.quarantine) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_bad_records_end_the_stream_and_a_restart_goes_on_counting(tmp_path: Path, workers: int) -> None:
    source = source_of(tmp_path, bad=(3, 11, 17))
    batching = Batching(batch_size=8, microbatch=4, workers=workers)
    stream = stream_of(source, tmp_path / "bad.jsonl", max_bad=2 / N, batching=batching)
    with pytest.raises(TooManyBadRecords, match=r"3 bad records among 24 images.*bad.jsonl"):
        take(stream, 20)
    with pytest.raises(TooManyBadRecords):
        stream_of(source, tmp_path / "bad.jsonl", max_bad=2 / N)
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 3


def test_problems_of_the_source_count_from_the_start(tmp_path: Path) -> None:
    source = source_of(tmp_path, problems=[Problem(key=f"{number}.png", reason="missing file") for number in range(2)])
    with pytest.raises(TooManyBadRecords):
        stream_of(source, tmp_path / "bad.jsonl", max_bad=0.05)


def test_a_line_cut_short_by_a_kill_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"key": "a", "reason": "x"}\n{"key": "b", "rea')
    quarantine = Quarantine(file, images=100, max_bad=0.5)
    assert len(quarantine) == 1
    quarantine.add([Problem(key="b", reason="y"), Problem(key="a", reason="x")])
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "b"]


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    with pytest.raises(ValueError, match=r"batch_size=25 .* 24 images"):
        stream_of(source, tmp_path / "bad.jsonl", batching=Batching(batch_size=25, microbatch=5, workers=0))
    with pytest.raises(ValueError, match=r"microbatch=3 must divide batch_size=8"):
        Batching(batch_size=8, microbatch=3, workers=0)
    with pytest.raises(ValueError, match="max_bad=2"):
        Quarantine(tmp_path / "bad.jsonl", images=3, max_bad=2.0)
    with pytest.raises(ValueError, match="value_range"):
        ImageInput(size=(8, 8), channels=1, value_range=(255.0, 0.0), mean=(0.5,), std=(1.0,))


def test_reading_for_evaluation(tmp_path: Path) -> None:
    source = source_of(tmp_path, bad=(1,))
    image, weight = read_images(source, [2, 1, 0], format=FORMAT)
    assert weight.tolist() == [1, 0, 1]
    assert not image[1].any()
    for found, number in ((image[0], 2), (image[2], 0)):
        view = eval_view(torch.from_numpy(noise(number)).permute(2, 0, 1), size=(8, 8))
        assert torch.allclose(found, normalised(view), atol=1e-6)
    empty, none = read_images(source, [], format=FORMAT)
    assert empty.shape == (0, 3, 8, 8)
    assert none.shape == (0,)


def test_statistics_equal_those_of_all_pixels_at_once(tmp_path: Path) -> None:
    source = source_of(tmp_path, bad=(4,))
    rows = [row for row in range(N) if row % 3]
    mean, std = channel_statistics(source, rows, channels=3, value_range=(0.0, 255.0), size=(8, 8))
    views = [eval_view(torch.from_numpy(noise(row)).permute(2, 0, 1), size=(8, 8)) for row in rows if row != 4]
    values = torch.stack(views).double().transpose(0, 1).flatten(1)
    assert mean == pytest.approx(values.mean(1).tolist(), abs=5e-5)
    assert std == pytest.approx(values.std(1, correction=0).tolist(), abs=5e-5)


def test_statistics_of_nothing_or_of_a_constant(tmp_path: Path) -> None:
    source = source_of(tmp_path, bad=(0,))
    Image.new("RGB", (4, 4), "white").save(tmp_path / "001.png")
    with pytest.raises(ValueError, match="could be read"):
        channel_statistics(source, [0], channels=3, value_range=(0.0, 255.0), size=(8, 8))
    with pytest.raises(ValueError, match="one value only"):
        channel_statistics(source, [1], channels=3, value_range=(0.0, 255.0), size=(8, 8))


PROGRAM = """
import signal
import sys
from pathlib import Path
from underpaint.core import ImageInput
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.loader import ImageStream, TrainingViews
from underpaint.data.stream import Batching
from underpaint.data.quarantine import Quarantine
from underpaint.data.open_source import open_source

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so do the tests
    root = Path(sys.argv[1])
    source = open_source(str(root))
    format = ImageInput(size=(8, 8), channels=3, value_range=(0.0, 255.0), mean=(0.5,) * 3, std=(0.5,) * 3)
    bad = Quarantine(root / "bad.jsonl", images=len(source.path), max_bad=0.5)
    images = SourceSampleIndex(source, source.rows("pretrain"), targets=(), batch_size=8, seed=0)
    stream = ImageStream(images, format=format, views=TrainingViews(scale=(0.2, 1.0)), seed=0,
                         batching=Batching(batch_size=8, microbatch=4, workers=2), quarantine=bad)
    try:
        for batch in stream:
            print(int(batch["position"][0]), flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def in_group(group: int) -> list[str]:
    """The processes of a process group that still run."""
    listing = subprocess.run(["ps", "-eo", "pgid,stat,args"], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in listing.splitlines()[1:]]
    return [args for pgid, stat, args in lines if int(pgid) == group and not stat.startswith("Z")]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_main_process_and_leave_ctrl_c_to_it(tmp_path: Path, how: signal.Signals) -> None:
    source_of(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-W", "error", str(tmp_path / "program.py"), str(tmp_path)]
    environment = os.environ | {
        "UNDERPAINT_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while process.stdout.readline() != "40\n":
            assert process.poll() is None, process.stderr.read()
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.kill()
        rest, said = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 0
        assert rest.endswith("interrupted\n")
        assert said == ""
    until = time.monotonic() + 20
    while in_group(process.pid) and time.monotonic() < until:
        time.sleep(0.2)
    assert in_group(process.pid) == []


@pytest.mark.parametrize(("error", "said"), [(BrokenPipeError(32, "Broken pipe"), False), (ValueError("real"), True)])
def test_a_worker_reports_every_error_but_a_main_process_that_hung_up(
    error: Exception, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of the two comes up after Ctrl-C is a race: the hook is asked directly."""
    workers._report_but_a_hung_up_main_process(type(error), error, None)
    assert bool(capsys.readouterr().err) == said
