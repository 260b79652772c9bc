"""How fast training batches come from two cores: this loader, torchvision's, webdataset's, and a bare loop.

    python benchmarks/loader.py [--images 1000] [--repeats 5] [--folder DIR]

All read the same JPEGs: crops of the photographs of Debian's package mate-backgrounds, long sides from 400 to 1,600
pixels (uniform in the logarithm), qualities from 75 to 95, drawn by seed. All give batches of 64 random crops
(RandomResizedCrop(224), areas from 0.08) and flips, normalised, from two worker processes; the bare loop only reads,
decodes, crops and resizes, with the functions that this loader uses, in two processes. Medians of alternating repeats
of 16 batches, after 6 that are not counted. Beside the images per second, which other work on the machine disturbs,
stands the processor time that an image took in all processes.

Then the views of scaled decoding are compared with full decoding and bicubic resizing.
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

BATCH, WARM, COUNTED, WORKERS, SIDE = 64, 6, 16, 2, 224
SCALE = (0.08, 1.0)
SHARDS = 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATIOS = (1.0, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9)
WANTED = {"torchvision": 1.5, "webdataset": 1.2, "bare loop": 0.9}


def make_images(root: Path, count: int) -> None:
    """The JPEGs as class folders, as WebDataset tars, and as a prepared set over these tars."""
    from underpaint.data.collections.registries import get_debian

    with tempfile.TemporaryDirectory() as unpacked:
        print("photographs:", get_debian(["mate-backgrounds"], Path(unpacked)))
        files = sorted(Path(unpacked).rglob("nature/*.jpg"))
        photos = [Image.open(file).convert("RGB") for file in files]
    rng = random.Random(0)
    part = root.with_name(f"{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "shards").mkdir(parents=True)
    shards: list[list[tuple[str, bytes]]] = [[] for _ in range(SHARDS)]
    for number in range(count):
        data = _crop(photos[number % len(photos)], rng)
        folder = part / "folder" / f"class{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05d}.jpg").write_bytes(data)
        label = str(number % 4).encode()
        shards[number % SHARDS] += [(f"{number:05d}.jpg", data), (f"{number:05d}.cls", label)]
    for shard, members in enumerate(shards):
        with tarfile.open(part / "shards" / f"{shard:06d}.tar", "w") as tar:
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    _index(part)
    part.rename(root)


def _crop(photo: Image.Image, rng: random.Random) -> bytes:
    long, ratio = math.exp(rng.uniform(math.log(400), math.log(1600))), rng.choice(RATIOS)
    width, height = (round(long), round(long / ratio)) if ratio >= 1 else (round(long * ratio), round(long))
    zoom = rng.uniform(1, max(1, min(photo.width / width, photo.height / height)))
    w, h = min(photo.width, width * zoom), min(photo.height, height * zoom)
    left, top = rng.uniform(0, photo.width - w), rng.uniform(0, photo.height - h)
    image = photo.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=rng.randint(75, 95))
    return file.getvalue()


def _index(folder: Path) -> None:
    import pyarrow as pa
    import xxhash

    from underpaint.data.shards.index import IndexWriter, index_schema
    from underpaint.data.shards.tar import list_members

    with IndexWriter(folder) as writer:
        for tar in sorted((folder / "shards").iterdir()):
            rows = []
            with tar.open("rb") as file:
                for member in list_members(file, tar.name)[0]:
                    if member.extension != "jpg":
                        continue
                    file.seek(member.offset)
                    digest = xxhash.xxh3_128(file.read(member.size)).digest()
                    row: dict[str, Any] = dict.fromkeys(index_schema().names)
                    row |= {"key": member.key, "source": "benchmark", "shard": f"shards/{tar.name}", "labels": []}
                    row |= {"offset": member.offset, "size": member.size, "repeat": 1.0, "split": "pretrain"}
                    rows.append(row | {"content_hash": digest, "flags": []})
            writer.add(pa.Table.from_pylist(rows, index_schema()))
        writer.finish(name="benchmark", licence="GPL-2+, photographs of MATE", attribution="mate-backgrounds")


def ours(root: Path, decoding: str) -> Iterator[Any]:
    from underpaint.core import ImageInput
    from underpaint.data.dataset import ImageData
    from underpaint.data.stream import Batching

    data: Any = {"source": str(root), "scale": SCALE, "workers": WORKERS, "decoding": decoding}
    format = ImageInput(size=(SIDE, SIDE), channels=3, value_range=(0.0, 255.0), mean=MEAN, std=STD)
    stream = (
        ImageData(**data)
        .open()
        .stream(
            {"image": format},
            Batching(batch_size=BATCH, microbatch=BATCH),
            seed=0,
            quarantine=root / "bad_records.jsonl",
        )
    )
    return (batch["image"] for batch in stream)


def _transform() -> Any:
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE, scale=SCALE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def torchvision_loader(root: Path) -> Iterator[Any]:
    from torch.utils.data import DataLoader, RandomSampler
    from torchvision.datasets import ImageFolder

    images = ImageFolder(str(root / "folder"), _transform())
    endless = RandomSampler(images, replacement=True, num_samples=10**9)
    loader = DataLoader(images, batch_size=BATCH, sampler=endless, num_workers=WORKERS)
    return (batch[0] for batch in loader)


def webdataset_loader(root: Path) -> Iterator[Any]:
    import webdataset as wds

    tars = [str(tar) for tar in sorted((root / "shards").iterdir())]
    images = wds.WebDataset(tars, shardshuffle=False, resampled=True).shuffle(200).decode("pil").to_tuple("jpg", "cls")
    images = images.map_tuple(_transform(), int).batched(BATCH, partial=False)
    loader = wds.WebLoader(images, batch_size=None, num_workers=WORKERS)
    return (batch[0] for batch in loader)


def _loop(root: Path, share: int, start: Any, results: Any) -> None:
    """Reads, decodes, crops and resizes, and does nothing with it."""
    from underpaint.data.decode.scaled import scaled_views
    from underpaint.data.shards.prepared_set import PreparedSet
    from underpaint.data.shards.prepared_source import open_shards, prepared_source

    torch.set_num_threads(1)
    prepared = PreparedSet(root)
    source = prepared_source(prepared)
    paths = itertools.cycle(source.path[share::WORKERS])
    assert open_shards(root).folder == root
    how: Any = {"channels": 3, "size": (SIDE, SIDE), "scale": SCALE, "flip": True}
    todo = COUNTED * BATCH // WORKERS
    for seed, path in zip(range(100), paths, strict=False):
        scaled_views(source.files.read(path), seeds=[seed], **how)
    start.wait()
    begin, cpu = time.perf_counter(), time.process_time()
    for seed, path in zip(range(todo), paths, strict=False):
        assert scaled_views(source.files.read(path), seeds=[seed], **how) is not None
    results.put((time.perf_counter() - begin, time.process_time() - cpu))


def bare_loop(root: Path) -> tuple[float, float]:
    """Images per second, and milliseconds of processor time per image."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(WORKERS), context.Queue()
    workers = [context.Process(target=_loop, args=(root, share, start, results)) for share in range(WORKERS)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    images = COUNTED * BATCH
    return images / max(wall for wall, _ in found), sum(cpu for _, cpu in found) / images * 1e3


def _cpu_seconds() -> float:
    """Processor seconds of this process and of all its descendants that still run."""
    parents, used = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)], used[int(entry.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    mine = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(used[process] for process in mine) / os.sysconf("SC_CLK_TCK")


def rate(batches: Iterable[Any]) -> tuple[float, float]:
    """Images per second, and milliseconds of processor time per image."""
    stream = iter(batches)
    for _ in range(WARM):
        next(stream)
    begin, cpu = time.perf_counter(), _cpu_seconds()
    for _ in range(COUNTED):
        assert next(stream).shape == (BATCH, 3, SIDE, SIDE)
    images = COUNTED * BATCH
    return images / (time.perf_counter() - begin), (_cpu_seconds() - cpu) / images * 1e3


def compare_decoding(root: Path) -> None:
    """Mean difference of the views of scaled decoding from those of full decoding, in 1/255."""
    from underpaint.data.decode.image import EIGHT_BIT, decode
    from underpaint.data.decode.scaled import scaled_views
    from underpaint.data.decode.transforms import train_view

    files = sorted((root / "folder").rglob("*.jpg"))[:400]
    for scale in ((0.08, 1.0), (0.2, 1.0)):
        differences = []
        for seed, file in enumerate(files):
            data, how = file.read_bytes(), {"size": (SIDE, SIDE), "scale": scale, "flip": True}
            views: Any = scaled_views(data, channels=3, seeds=[seed], **how)
            full = train_view(decode(data, channels=3, value_range=EIGHT_BIT), seed=seed, **how)
            differences.append(float((full * 255 - views[0].float()).abs().mean()))
        within = sum(one <= 2 for one in differences) / len(differences)
        ordered = sorted(differences)
        print(
            f"scaled decoding, areas from {scale[0]}: {within:.1%} of {len(files)} views differ by at most 2/255 on "
            f"average; median {ordered[len(ordered) // 2]:.2f}, 95th percentile "
            f"{ordered[len(ordered) * 95 // 100]:.2f}, largest {ordered[-1]:.2f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where the images are made and kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary) / "images"
        if not root.exists():
            make_images(root, options.images)
        contestants: dict[str, Callable[[], tuple[float, float]]] = {
            "underpaint": lambda: rate(ours(root, "scaled")),
            "underpaint, full decoding": lambda: rate(ours(root, "full")),
            "torchvision": lambda: rate(torchvision_loader(root)),
            "webdataset": lambda: rate(webdataset_loader(root)),
            "bare loop": lambda: bare_loop(root),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for repeat in range(options.repeats):
            for name in sorted(contestants, key=lambda name: random.Random(f"{repeat}{name}").random()):
                found[name].append(contestants[name]())
                speed_now, spent_now = found[name][-1]
                print(f"{repeat + 1}: {name}: {speed_now:.0f} images/s, {spent_now:.2f} ms", flush=True)
        compare_decoding(root)
    speed = {name: statistics.median(wall for wall, _ in runs) for name, runs in found.items()}
    spent = {name: statistics.median(cpu for _, cpu in runs) for name, runs in found.items()}
    print(f"{'':28}{'images/s':>9} {'(lowest to highest)':>21} {'CPU ms/image':>13} {'ours is':>9} {'by CPU':>7}")
    for name, runs in found.items():
        span = f"({min(wall for wall, _ in runs):.0f} to {max(wall for wall, _ in runs):.0f})"
        faster, cheaper = speed["underpaint"] / speed[name], spent[name] / spent["underpaint"]
        print(f"{name:28}{speed[name]:>9.0f} {span:>21} {spent[name]:>13.2f} {faster:>8.2f}x {cheaper:>6.2f}x")
    missed = [name for name, wanted in WANTED.items() if speed["underpaint"] / speed[name] < wanted]
    print("wanted:", ", ".join(f"{wanted} x {name}" for name, wanted in WANTED.items()), "-", missed or "all kept")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
