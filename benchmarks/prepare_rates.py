"""Cost of preparing images and of loading them here, and by these rates at 3 billion images.

    python benchmarks/prepare_rates.py
    python benchmarks/prepare_rates.py --images 64 --posts 50000 --repeats 1

Photographs are drawn by seed (noise whose spectrum falls as that of scenes does; 400 to 1,600 pixels, JPEG of quality
85), so that neither the decoder nor the hash meets a flat image; posts are those of ``benchmarks/tags.py``. Each step
is timed by the seconds of processors that this process takes, on one thread, which others on the machine change little;
the median of the repeats counts. Memory is what the process holds at most during a step above what it held before.
Prints the table of docs/results/preparation_cost.md. Waiting for disks and networks is not in it: the bytes tell what
those must carry.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tags
import torch
import xxhash
from PIL import Image

from underpaint.core import Batch, ImageInput, LabelInput
from underpaint.data.dataset import ImageData
from underpaint.data.decode.embedded_tags import embedded_tags
from underpaint.data.decode.image import EIGHT_BIT
from underpaint.data.loader import Decoding
from underpaint.data.near_duplicates.candidates import Search, alike_in_colour
from underpaint.data.near_duplicates.fingerprints import Fingerprints, PerceptualHashes, Views, fingerprint
from underpaint.data.near_duplicates.pixels import differences
from underpaint.data.shards.index import IndexWriter, index_schema
from underpaint.data.stream import Batching
from underpaint.preparation.image_header import examine
from underpaint.preparation.pipeline import prepare_set
from underpaint.preparation.settings import Preparation
from underpaint.preparation.shard_writer import ShardWriter
from underpaint.report.prepared_files import read_images
from underpaint.tags.canonical import TagRules
from underpaint.tags.labels import LabelSpace, build_label_space

SEED = 4
SCALE = 3_000_000_000
BATCH = 64
TEST_IMAGES = (50_000, 1_000_000)
QUERIES = 1024
ROWS_OF_SHARD = 1000


@dataclass(frozen=True, kw_only=True)
class Step:
    """Cost of one image, or of its post, in one step."""

    name: str
    seconds: tuple[float, ...]  # of processors, one for each repeat
    read: float = 0.0  # bytes
    written: float = 0.0
    memory: int = 0  # MiB


def photograph(rng: np.random.Generator) -> bytes:
    """A JPEG of 400 to 1,600 pixels on its longer side, about as many bytes as a camera's."""
    long = round(400 * 4 ** rng.random())
    width, height = (long, round(long / rng.choice([1.0, 4 / 3, 1.5])))[:: rng.choice([1, -1])]
    across, down = np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None]
    fall = 1 / np.maximum(np.hypot(across, down), 0.5 / long)
    planes = []
    for _ in range(3):
        spectrum = rng.normal(size=fall.shape) + 1j * rng.normal(size=fall.shape)
        planes.append(np.fft.irfft2(fall * spectrum, (height, width)))
    pixels = np.stack([planes[0], planes[0] + 0.3 * planes[1], planes[0] + 0.3 * planes[2]], axis=-1)
    pixels = 128 + 50 * pixels / pixels.std() + rng.normal(0, 2, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def timed(
    work: Callable[[], object], units: float, repeats: int, *, before: int | None = None
) -> tuple[tuple[float, ...], int]:
    """Seconds of processors for a unit, one for each repeat, and the MiB that the work held at most, above ``before``
    where that is given.
    """
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = held() if before is None else before
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append((time.process_time() - started) / units)
    return tuple(seconds), max(0, _status("VmHWM") - before)


def held() -> int:
    """The MiB that this process holds now."""
    return _status("VmRSS")


def _status(field: str) -> int:
    """MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) // 1024


def reading(images: Sequence[bytes], folder: Path, repeats: int) -> Iterator[Step]:
    """Steps on the bytes of each image, which are read once."""
    size = statistics.fmean(map(len, images))
    count = len(images)
    seconds, memory = timed(lambda: [examine(image) for image in images], count, repeats)
    yield Step(name="read the file, its header, hash its bytes", seconds=seconds, read=size, memory=memory)
    seconds, memory = timed(lambda: [embedded_tags(image) for image in images], count, repeats)
    yield Step(name="keywords in XMP and IPTC", seconds=seconds, memory=memory)
    batches = [images[start : start + BATCH] for start in range(0, count, BATCH)]
    seconds, memory = timed(lambda: [fingerprint(batch) for batch in batches], count, repeats)
    yield Step(name="decode small, perceptual hash", seconds=seconds, memory=memory)
    yield from near_duplicates(fingerprint(images), repeats)

    def write() -> None:
        with (folder / "shard.tar").open("wb") as file:
            writer = ShardWriter(file)
            for number, image in enumerate(images):
                writer.add(f"{number:09d}.jpg", image)
                writer.add_json(f"{number:09d}.json", {"tags": ["owl", "barnowl"], "path": f"{number}.jpg"})
            writer.finish()

    seconds, memory = timed(write, count, repeats)
    written = (folder / "shard.tar").stat().st_size / count
    yield Step(name="write shards (loose files only)", seconds=seconds, written=written, memory=memory)


def near_duplicates(looks: Fingerprints, repeats: int) -> Iterator[Step]:
    """Hashes are even noise, colours and pixels those of the photographs."""
    rng = np.random.default_rng(SEED)
    asked = prints(looks, QUERIES, rng)
    views = views_of(looks, np.arange(QUERIES))
    for tests in TEST_IMAGES:
        before = held()
        stored = prints(looks, tests, rng)
        search = Search(stored)

        def compare(search: Search = search, stored: PerceptualHashes = stored) -> None:
            for start in range(0, QUERIES, BATCH):
                part = asked.part(start, start + BATCH)
                found = alike_in_colour(search.candidates(part), part, stored)
                rows, place = np.unique(found.rows[:, 1], return_inverse=True)
                pairs = np.stack([found.rows[:, 0] + start, place], axis=1)
                differences(views, views_of(looks, rows), pairs, mirrored=found.mirrored, scale=found.scale)

        seconds, memory = timed(compare, QUERIES, repeats, before=before)
        yield Step(name=f"near duplicates of {tests:,} test images", seconds=seconds, memory=memory)


def prints(looks: Fingerprints, count: int, rng: np.random.Generator) -> PerceptualHashes:
    rows = np.arange(count) % len(looks.problems)
    return PerceptualHashes(
        plain=rng.integers(0, 2**64, (count, 3), dtype=np.uint64),
        mirrored=rng.integers(0, 2**64, (count, 3), dtype=np.uint64),
        flat=np.zeros((count, 3), dtype=bool),
        fields=looks.prints.fields[rows],
    )


def views_of(looks: Fingerprints, rows: np.ndarray) -> Views:
    rows = rows % len(looks.problems)
    return Views(pixels=looks.views.pixels[rows], ratio=looks.views.ratio[rows], flat=looks.views.flat[rows])


def labelling(folder: Path, posts: int, repeats: int) -> Iterator[Step]:
    """From posts to labels, as ``benchmarks/tags.py`` measures it."""
    file = folder / "posts.parquet"
    made = tags.write_posts(file, posts)
    size = file.stat().st_size / posts
    seconds, memory = timed(lambda: tags.measure(file, folder, 1), posts, repeats)
    written = (folder / "labels.parquet").stat().st_size / posts
    name = f"tags: find, count, decide, label ({made['distinct forms']:,} forms)"
    yield Step(name=name, seconds=seconds, read=size, written=written, memory=memory)


def indexing(folder: Path, shards: int, repeats: int) -> Iterator[Step]:
    """Rows like those of photographs with five tags."""
    rng = np.random.default_rng(SEED)
    out = folder / "index"
    tables = [index_rows(number, rng) for number in range(shards)]
    vocabulary = {"label": pa.array(range(28_000), pa.int32()), "name": [f"label {n}" for n in range(28_000)]}

    def write() -> None:
        with IndexWriter(out) as writer:
            pq.write_table(pa.table(vocabulary), out / "vocabulary.parquet")
            for table in tables:
                writer.add(table)
            writer.finish(name="rates", licence="", attribution="")

    rows = shards * ROWS_OF_SHARD
    seconds, memory = timed(write, rows, repeats)
    size = sum(file.stat().st_size for file in out.rglob("*.parquet") if file.name != "vocabulary.parquet") / rows
    yield Step(name="write the index", seconds=seconds, written=size, memory=memory)
    seconds, memory = timed(lambda: read_images(out), rows, repeats)
    yield Step(name="count it for the page", seconds=seconds, read=size, memory=memory)


def index_rows(shard: int, rng: np.random.Generator) -> pa.Table:
    count = ROWS_OF_SHARD
    labels = [rng.choice(28_000, size, replace=False).tolist() for size in rng.integers(0, 6, count)]
    licences = ("CC-BY-2.0", "CC-BY-SA-2.0", "CC-BY-NC-2.0")
    columns = {
        "key": [f"{shard:06d}{number:04d}" for number in range(count)],
        "source": ["photos"] * count,
        "shard": [f"shards/{shard:06d}.tar"] * count,
        "offset": np.cumsum(rng.integers(50_000, 400_000, count)),
        "size": rng.integers(50_000, 400_000, count),
        "width": rng.integers(400, 1600, count),
        "height": rng.integers(400, 1600, count),
        "labels": labels,
        "repeat": 1 + rng.exponential(0.7, count),
        "caption": [f"caption number {rng.integers(10**9)} of the picture" for _ in range(count)],
        "language": rng.choice(["en", "de", "ja"], count),
        "split": ["pretrain"] * count,
        "content_hash": [xxhash.xxh3_128_digest(bytes(f"{shard} {number}", "ascii")) for number in range(count)],
        "perceptual_hash": rng.integers(0, 2**64, count, dtype=np.uint64),
        "licence": rng.choice(licences, count),
        "flags": [[]] * count,
    }
    arrays = [pa.array(columns[field.name], field.type) for field in index_schema()]
    return pa.table(arrays, schema=index_schema())


def whole(images: Sequence[bytes], folder: Path) -> Iterator[Step]:
    """``underpaint prepare`` on a folder of loose files from its start to its end, and then training's loader on it.

    The cost for a set of one image, mostly of reading WordNet and the word lists, is subtracted.
    """
    size = statistics.fmean(map(len, images))
    (fixed,), _ = timed(lambda: prepare_set(loose(images[:1], folder / "one"), folder / "set of one"), 1, 1)
    wanted, out = loose(images, folder / "photos"), folder / "set"
    (all_of_it,), memory = timed(lambda: prepare_set(wanted, out), 1, 1)
    seconds = ((all_of_it - fixed) / (len(images) - 1),)
    yield Step(
        name="`underpaint prepare` as a whole, loose files", seconds=seconds, read=size, written=size, memory=memory
    )
    for decoding in get_args(Decoding):
        batches = loaded(out, folder / "quarantine.jsonl", decoding)
        next(batches)
        steps = max(2, len(images) // BATCH)
        seconds, memory = timed(functools.partial(advance, batches, steps), BATCH * steps, 3)
        yield Step(name=f"load an epoch, decoding={decoding}", seconds=seconds, read=size, memory=memory)


def loaded(prepared: Path, quarantine: Path, decoding: Decoding) -> Iterator[Batch]:
    """Batches of random crops of 224 pixels; the processes keep few of the images decoded."""
    pixels = ImageInput(size=(224, 224), channels=3, value_range=EIGHT_BIT, mean=(0.5,) * 3, std=(0.2,) * 3)
    opened = ImageData(source=str(prepared), targets="tags", decoding=decoding).open()
    inputs, batching = {"image": pixels, "labels": LabelInput()}, Batching(batch_size=BATCH, microbatch=BATCH)
    return iter(opened.stream(inputs, batching, seed=0, quarantine=quarantine))


def advance(batches: Iterator[LabelBatch], steps: int) -> None:
    for _ in range(steps):
        next(batches)


def loose(images: Sequence[bytes], folder: Path) -> Preparation:
    """A folder of images with a file of tags beside each."""
    folder.mkdir()
    for number, image in enumerate(images):
        (folder / f"{number:06d}.jpg").write_bytes(image)
        (folder / f"{number:06d}.txt").write_text(f"owl;barnowl;number{number % 50}")
    return Preparation(sources=(str(folder),))


def distinct_tags(forms: int) -> str:
    """Sentence on the cost of deciding on the tags, which grows with their distinct forms and not with the images."""
    rng = np.random.default_rng(SEED)
    counts = pa.table({"tag": tags.forms(rng)[:forms], "count": rng.integers(1, 1000, forms)})
    made: list[LabelSpace] = []
    decided, memory = timed(lambda: made.append(build_label_space(counts, TagRules())), forms / 1e6, 1)
    scale = 1e6 / forms
    audit = made[0].audit.nbytes / 2**20
    return (
        f"A million distinct tags take {decided[0]:.0f} s of one processor and {scale * memory:,.0f} MiB to be decided "
        f"on, once; their audit has {scale * audit:,.0f} MiB, in each process that labels."
    )


def row(step: Step) -> str:
    middle = statistics.median(step.seconds)
    spread = f" ({1e3 * min(step.seconds):.3g} to {1e3 * max(step.seconds):.3g})" if len(step.seconds) > 1 else ""
    hours, read, written = SCALE * middle / 3600, SCALE * step.read, SCALE * step.written
    return (
        f"| {step.name} | {1e3 * middle:.3g}{spread} | {hours:,.0f} | {terabytes(read)} | {terabytes(written)} "
        f"| {step.memory:,} |"
    )


def terabytes(size: float) -> str:
    return f"{size / 1e12:,.3g} TB" if size else "-"


def main() -> int:
    options = _options()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    rng = np.random.default_rng(SEED)
    images = [photograph(rng) for _ in range(options.images)]
    print(f"{len(images)} photographs of {statistics.fmean(map(len, images)) / 1e3:.0f} kB on average, seed {SEED}")
    print("| step | ms of one processor an image | processor hours at 3 billion | read | written | MiB |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for step in chain(
            reading(images, folder, options.repeats),
            labelling(folder, options.posts, options.repeats),
            indexing(folder, options.shards, options.repeats),
            whole(images, folder),
        ):
            print(row(step), flush=True)
    print(distinct_tags(options.forms))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--posts", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=200, help="of the index, 1,000 images each")
    parser.add_argument("--forms", type=int, default=400_000, help="distinct tags, at most 700,000")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
