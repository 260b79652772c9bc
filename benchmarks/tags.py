"""From raw posts to canonical labels: how many a minute, in how much memory, and the same bytes twice.

    python benchmarks/tags.py
    python benchmarks/tags.py --posts 100000 --threads 1

Posts are made by seed: sentences of at least 120 characters with 1 to 9 hashtags, drawn by Zipf's law from forms of
which a fifth are not words of WordNet, a tenth are not written in Latin letters, and the rest are WordNet's words as
people write them (run together, with capitals or underscores, in the plural, in capitals). They are written to a
Parquet file before the clock starts. Each of two runs is a process of its own that reads the file, finds the hashtags,
counts them, decides on every form, and writes the vocabulary, the audit and the labels of every post. The limit of the
machine is what reading alone takes, and reading with one pass of Arrow that counts the hash signs.

Exits with 1 if a run misses the goals (1,000,000 posts a minute by the clock, 2 GiB) or the two differ. The seconds of
processors tell what a run takes where others use the machine too; with ``--clock processors`` the goal is theirs, as
if there were one processor alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from underpaint.files import xxh3
from underpaint.tags.canonical import TagRules
from underpaint.tags.labels import Labeller, build_label_space
from underpaint.tags.posts import count_tags, hashtags
from underpaint.tags.segment import english
from underpaint.tags.wordnet import wordnet

SEED = 4
FORMS = 700_000
DISTINCT = 300_000
"""Forms that must really occur."""
LETTERS = 120
GROUP = 50_000
SCRIPTS = ((0x430, 32), (0x627, 28), (0xAC00, 3000), (0x4E00, 4000), (0x3042, 80), (0x915, 37))
SYLLABLES = [a + b for a in ("k", "br", "z", "tl", "v", "gw", "m", "sh", "d", "qu") for b in ("ax", "oo", "ib", "uz")]
CLOCKS = ("wall", "processors")
GOAL_POSTS, GOAL_BYTES = 1_000_000, 2 * 1024**3

compute: Any = pyarrow.compute

Row = tuple[str, float, float]
"""A step, and its seconds by the clock and of all processors."""


def forms(rng: np.random.Generator) -> list[str]:
    """Distinct tags in the order of their popularity, kinds mixed."""
    found: dict[str, None] = {}
    words, known = wordnet().words(), wordnet()
    written: tuple[Callable[[str], str], ...] = (
        lambda word: word.replace(" ", ""),
        lambda word: word.title().replace(" ", ""),
        lambda word: word.replace(" ", "_") + "s",
        lambda word: word.replace(" ", "").upper(),
    )
    while len(found) < FORMS:
        for kind in rng.random(10_000):
            if kind < 0.1:
                first, size = SCRIPTS[rng.integers(len(SCRIPTS))]
                form = "".join(chr(first + int(n)) for n in rng.integers(size, size=rng.integers(2, 7)))
            elif kind < 0.3:
                form = "".join(SYLLABLES[n] for n in rng.integers(len(SYLLABLES), size=rng.integers(3, 6)))
                if form in known:
                    continue
            else:
                word = words[rng.integers(len(words))].replace("-", "").replace("'", "").replace(".", "")
                form = written[rng.integers(len(written))](word).replace("/", "")
            found[form] = None
    return list(found)[:FORMS]


def sentences(rng: np.random.Generator) -> list[str]:
    words = [word for word, count in english().items() if count > 10_000_000]
    found: list[str] = []
    for _ in range(5_000):
        text = "https://example.org/p#top" if rng.random() < 0.1 else "at home"
        while len(text) < LETTERS:
            text += " " + words[rng.integers(len(words))]
        found.append(text)
    return found


def write_posts(file: Path, posts: int) -> dict[str, Any]:
    """Write the posts; what they are, as measured on what was drawn."""
    rng = np.random.default_rng(SEED)
    tags, texts = np.array(forms(rng), dtype=object), sentences(rng)
    popularity = np.cumsum(1 / np.arange(1, FORMS + 1))
    seen, drawn, shortest = np.zeros(FORMS, dtype=bool), 0, LETTERS
    schema = pyarrow.schema({"post": pyarrow.string()})
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, posts, GROUP):
            size = rng.integers(1, 10, size=min(GROUP, posts - start))
            chosen = np.searchsorted(popularity, rng.random(size.sum()) * popularity[-1])
            seen[chosen], drawn = True, drawn + len(chosen)
            lists = np.split(tags[chosen], np.cumsum(size)[:-1])
            numbers = rng.integers(len(texts), size=len(size))
            rows = [f"{texts[n]} #{' #'.join(own)}" for n, own in zip(numbers, lists, strict=True)]
            shortest = min(shortest, *map(len, rows))
            writer.write_table(pyarrow.table({"post": rows}, schema))
    latin = sum(tag.isascii() for tag, there in zip(tags, seen, strict=True) if there)
    return {
        "posts": posts,
        "tags a post": round(drawn / posts, 2),
        "distinct forms": int(seen.sum()),
        "not Latin": round(1 - latin / int(seen.sum()), 3),
        "shortest": shortest,
        "MB of text": round(sum(map(len, texts)) / len(texts) * posts / 1e6),
    }


def read(file: Path, group: int) -> Any:
    with pyarrow.parquet.ParquetFile(file) as opened:
        return opened.read_row_group(group, use_threads=False).column("post").combine_chunks()


def now() -> tuple[float, float]:
    """Seconds by the clock, and of all processors together."""
    return time.perf_counter(), time.process_time()


def measure(file: Path, out: Path, threads: int) -> dict[str, Any]:
    """One run, with the seconds of each of its parts."""
    with pyarrow.parquet.ParquetFile(file) as opened:
        groups = range(opened.num_row_groups)
    seconds: dict[str, tuple[float, float]] = {}
    started = now()

    def lap(name: str) -> None:
        nonlocal started
        ended = now()
        seconds[name] = (ended[0] - started[0], ended[1] - started[1])
        started = ended

    pyarrow.set_cpu_count(threads)
    with ThreadPoolExecutor(threads) as pool:
        tags = list(pool.map(lambda group: hashtags(read(file, group)), groups))
        lap("read, find hashtags")
        counts = count_tags(tags)
        lap("count")
        vocabulary = build_label_space(counts, TagRules(vocabulary_size=28_000))
        lap("decide, merge, cut")
        labels = list(pool.map(Labeller(vocabulary).labels, tags))
        lap("label")
    pyarrow.parquet.write_table(vocabulary.table, out / "vocabulary.parquet")
    pyarrow.parquet.write_table(vocabulary.audit, out / "tags_audit.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"labels": pyarrow.chunked_array(labels)}), out / "labels.parquet")
    lap("write")
    return {
        "seconds": seconds,
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "files": {path.name: xxh3(path) for path in sorted(out.iterdir())},
        "labels": vocabulary.table.num_rows,
        "decisions": vocabulary.audit.group_by("decision").aggregate([("count", "sum"), ("tag", "count")]).to_pylist(),
    }


def limits(file: Path, threads: int) -> Iterator[Row]:
    """Seconds that the machine takes for the same bytes whatever is done with them."""
    with pyarrow.parquet.ParquetFile(file) as opened:
        groups = range(opened.num_row_groups)
    passes: dict[str, Callable[[int], Any]] = {
        "limit: read": lambda group: read(file, group),
        "limit: read and count hash signs": lambda group: compute.count_substring(read(file, group), "#"),
    }
    for name, one in passes.items():
        before = now()
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(one, groups):
                pass
        after = now()
        yield name, after[0] - before[0], after[1] - before[1]


def main() -> int:
    options = _options()
    if options.measure:
        print(json.dumps(measure(Path(options.measure), Path(options.out), options.threads)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "posts.parquet"
        made = write_posts(file, options.posts)
        print(", ".join(f"{key} {value}" for key, value in made.items()), flush=True)
        runs: list[dict[str, Any]] = []
        for number in range(2):
            out = Path(name) / str(number)
            out.mkdir()
            command = [sys.executable, __file__, f"--measure={file}", f"--out={out}", f"--threads={options.threads}"]
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        rows = [*limits(file, options.threads)]
    return report(rows, runs, made, options.clock)


def report(rows: list[Row], runs: list[dict[str, Any]], made: dict[str, Any], clock: str) -> int:
    posts, total = made["posts"], []
    for number, run in enumerate(runs, start=1):
        rows += [(f"run {number}: {part}", *seconds) for part, seconds in run["seconds"].items()]
        total.append([sum(seconds) for seconds in zip(*run["seconds"].values(), strict=True)])
        rows.append((f"run {number}: all", *total[-1]))
    print(f"{'':36} {'seconds':>8} {'posts a minute':>15} {'of processors':>14}")
    for name, seconds, processors in rows:
        print(f"{name:36} {seconds:8.2f} {posts / seconds * 60:15,.0f} {processors:14.2f}")
    same = runs[0]["files"] == runs[1]["files"]
    peak = max(run["bytes"] for run in runs)
    print(f"peak memory {peak / 1024**2:.0f} MiB; {runs[0]['labels']} labels; files the same twice: {same}")
    for one in runs[0]["decisions"]:
        print(f"  {one['decision']:8} {one['tag_count']:8} forms on {one['count_sum']} posts")
    slowest = max(seconds[CLOCKS.index(clock)] for seconds in total)
    reached = posts / slowest * 60 >= GOAL_POSTS and peak < GOAL_BYTES and same
    return int(not reached or (made["distinct forms"] < DISTINCT and posts >= GOAL_POSTS))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    parser.add_argument("--out", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
