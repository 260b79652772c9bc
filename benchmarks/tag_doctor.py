"""Precision and recall of the tag doctor on simulated sets whose truth is known.

    python benchmarks/tag_doctor.py --seeds 0 1 2

A set has 360 concepts, of which 40% have misspellings, inflections or synonyms (``planted_tags.py``). The weights of
the rules were set on the seeds 7 and 100. A merge is right if both labels are of one concept; a variant to which
``prepare`` gives its label already is not counted. Exits with 1 if the precision of all merges is below 0.95 or their
recall below 0.8.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from planted_tags import World, judge_merges, labelled_set, plant

from underpaint.tag_doctor.doctor import examine

MERGES = ("spelling", "inflection", "synonym")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the sets")
    parser.add_argument("--images", type=int, default=20_000, help="images of a set (default: 20,000)")
    options = parser.parse_args()
    sums = {name: [0, 0, 0] for name in ("all", "misspelling", "inflection", "synonym", "split", "dead")}
    for seed in options.seeds:
        planted = plant(seed, World(images=options.images))
        labelled = labelled_set(planted)
        started = time.process_time()
        proposals = examine(labelled)
        seconds = time.process_time() - started
        pairs = [(each.source, each.target) for each in proposals if each.kind in MERGES]
        row: dict[str, object] = {"seed": seed, "labels": len(labelled.names), "seconds": round(seconds, 1)}
        for name in ("all", "misspelling", "inflection", "synonym"):
            counts = judge_merges(planted, labelled, pairs, "" if name == "all" else name)
            _add(sums[name], row, name, (counts.right, counts.proposed, counts.planted))
        for name, words in (("split", planted.doubled), ("dead", planted.dead)):
            tags = [set(labelled.tags[each.source]) for each in proposals if each.kind == name]
            _add(sums[name], row, name, (sum(bool(each & set(words)) for each in tags), len(tags), len(words)))
        print(json.dumps(row), flush=True)
    for name, (right, proposed, planted_count) in sums.items():
        precision = f"precision {right / max(proposed, 1):.3f} " if name in ("all", "split", "dead") else ""
        print(f"{name}: {precision}recall {right / max(planted_count, 1):.3f} ({right} of {planted_count})")
    right, proposed, planted_count = sums["all"]
    return int(right < 0.95 * proposed or right < 0.8 * planted_count)


def _add(total: list[int], row: dict[str, object], name: str, counts: tuple[int, int, int]) -> None:
    row[name] = list(counts)
    for place, count in enumerate(counts):
        total[place] += count


if __name__ == "__main__":
    sys.exit(main())
