"""Run underpaint on a folder of ``real_folder.py``, and compare its numbers with what was planted there.

    python examples/real_folder_check.py real                         # look, prepare, doctor
    python examples/real_folder_check.py real --only predict --run real/runs/wsp

Prints the commands, what they print, and a line per number that was compared. ``predict`` needs a finished run on
``real/sets/photos``. Writes ``sets/`` and ``check.json`` beside the photos.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
import sys
import tarfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

MERGES = ("spelling", "inflection", "synonym")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder that real_folder.py made")
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), default=["look", "prepare", "doctor"])
    parser.add_argument("--run", type=Path, help="predict, doctor: finished run of WSP on sets/photos")
    options = parser.parse_args()
    check = Check(options.folder, options.run)
    for name in options.only:
        CHECKS[name](check)
    found = options.folder / "check.json"
    earlier = json.loads(found.read_text("utf-8")) if found.exists() else {}
    found.write_text(json.dumps(earlier | check.numbers, ensure_ascii=False, indent=1), "utf-8")


class Check:
    """The planted truth, and the numbers compared with it."""

    def __init__(self, folder: Path, run: Path | None):
        self.folder, self.run = folder, run
        self.photos, self.set = folder / "photos", folder / "sets/photos"
        self.truth: dict[str, Any] = json.loads((folder / "truth.json").read_text("utf-8"))
        self.numbers: dict[str, str] = {}

    def say(self, what: str, found: object, planted: object) -> None:
        self.numbers[what] = f"{found} of {planted}"
        print(f"== {what}: {found}, planted {planted}")

    def underpaint(self, *words: str | Path) -> str:
        command = [sys.executable, "-m", "underpaint", *map(str, words)]
        print("$ underpaint", *words, flush=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(done.stdout + done.stderr, flush=True)
        if done.returncode:
            raise SystemExit(f"the command ended with {done.returncode}")
        return done.stdout

    def of_kind(self, *kinds: str) -> list[str]:
        return [other["path"] for other in self.truth["others"] if other["kind"] in kinds]


def look(check: Check) -> None:
    check.underpaint("look", check.photos, "--minutes", "20")
    truth = check.truth
    images = len(truth["images"]) + len(truth["copies"])
    check.say("images by name", "see above", images + len(check.of_kind("damaged", "empty", "no image")))
    check.say("images that cannot be used", "see above", len(check.of_kind("damaged", "empty", "no image")))
    kinds = Counter(copy["kind"] for copy in truth["copies"])
    check.say("exact copies", "see above", kinds["exact"])
    check.say("near copies", "see above", sum(kinds.values()) - kinds["exact"])
    check.say("files kept by programs", "see above", len(check.of_kind("helper")))


def prepare(check: Check) -> None:
    tables = [check.folder / "flickr.csv", check.folder / "captureone.csv"]
    labels = ["--labels", check.folder / "classes.csv"]
    words = ["prepare", check.photos, *tables, "--out", check.set, *labels, "--min-count", "3"]
    check.underpaint(*words)
    _tags(check)
    check.underpaint(*words, "--dedupe", "near")
    _copies(check)


def _tags(check: Check) -> None:
    """Tags as they were read, beside those that were written, by program."""
    read = tags_by_path(check.set)
    found: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    foreign: dict[str, list[str]] = defaultdict(list)
    missing: dict[str, list[str]] = defaultdict(list)
    for path, image in check.truth["images"].items():
        words = {_plain(word) for word in image["words"]}
        tags = {_plain(tag) for tag in read.get(path, ())}
        planted[image["program"]] += len(words)
        found[image["program"]] += len(words & tags)
        missing[image["program"]] += [f"{path}: {word}" for word in sorted(words - tags)]
        foreign[image["program"]] += [f"{path}: {tag}" for tag in sorted(tags - words)]
    for program in planted:
        check.say(f"tags of {program} that were read", found[program], planted[program])
        check.say(f"tags of {program} that nobody wrote", len(foreign[program]), 0)
        print(*(f"   missing {each}" for each in missing[program][:5]), sep="\n")
        print(*(f"   foreign {each}" for each in foreign[program][:5]), sep="\n")
    check.say("images that were read", len(read), len(check.truth["images"]) + len(check.truth["copies"]))


def tags_by_path(folder: Path) -> dict[str, list[str]]:
    """Tags of each image of a prepared set by its path."""
    found = {}
    for shard in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name.endswith(".json") else None
                if file is not None:
                    record = json.load(file)
                    found[record["path"]] = record.get("tags") or []
    return found


def _plain(word: str) -> str:
    return unicodedata.normalize("NFC", word).lower().replace(" ", "")


def _copies(check: Check) -> None:
    """Copies that were left out, beside the planted ones; groups are an image with all its copies."""
    original = {copy["path"]: copy["of"] for copy in check.truth["copies"]}
    kinds = {copy["path"]: copy["kind"] for copy in check.truth["copies"]}
    names = _paths_by_place(check.set)
    groups: dict[str, set[str]] = defaultdict(set)
    others = []
    for row in pq.read_table(check.set / "copies.parquet").to_pylist():
        left, kept = (names[(row[side]["shard"], row[side]["offset"])] for side in ("copy", "kept"))
        if original.get(left, left) == original.get(kept, kept):
            groups[original.get(left, left)].add(left)
        else:
            others.append((left, kept, row["distance"], round(row["difference"] or 0, 3)))
    for kind in dict.fromkeys(kinds.values()):
        members = Counter(original[path] for path in kinds if kinds[path] == kind)
        found = sum(min(count, len(groups[image])) for image, count in members.items())
        check.say(f"{kind} copies that were left out", found, sum(members.values()))
        missed = [image for image, count in members.items() if len(groups[image]) < count]
        print(*(f"   missed {image}" for image in missed[:8]), sep="\n")
    check.say("copies left out beside the planted ones", len(others), "unknown")
    print(*(f"   {left} for {kept}, {bits} bits, {gap}" for left, kept, bits, gap in others), sep="\n")


def _paths_by_place(folder: Path) -> dict[tuple[str, int], str]:
    """Path of each image by shard and offset of its content."""
    found = {}
    for shard in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = list(tar)
            records = {m.name[:-5]: json.loads(tar.extractfile(m).read()) for m in members if m.name.endswith(".json")}  # type: ignore[union-attr]
        for member in members:
            stem = member.name.rpartition(".")[0]
            if not member.name.endswith(".json"):
                found[(f"shards/{shard.name}", member.offset_data)] = records[stem]["path"]
    return found


def doctor(check: Check) -> None:
    run = ["--run", check.run] if check.run else []
    check.underpaint("tags", "doctor", check.set, *run)
    labels = pq.read_table(check.set / "vocabulary.parquet").to_pylist()
    concept_of = {word.lower(): concept for word, concept in check.truth["variants"].items()}
    by_label = {
        label["name"]: Counter(concept_of[tag.lower()] for tag in label["tags"] if tag.lower() in concept_of)
        for label in labels
    }
    concept = {name: counts.most_common(1)[0][0] for name, counts in by_label.items() if counts}
    check.say("labels of two concepts before the doctor", sum(len(counts) > 1 for counts in by_label.values()), 0)
    proposals = pq.read_table(check.set / "tag_doctor/proposals.parquet").to_pylist()
    merges = [(each["name"], each["becomes"]) for each in proposals if each["kind"] in MERGES]
    judged = [pair for pair in merges if pair[0] in concept or pair[1] in concept]
    right = [pair for pair in judged if concept.get(pair[0], 0) == concept.get(pair[1], 1)]
    check.say("merges of planted words that are right", len(right), f"{len(judged)} proposed")
    print(*(f"   wrong: {source} -> {target}" for source, target in judged if (source, target) not in right), sep="\n")
    print(*(f"   not planted: {source} -> {target}" for source, target in merges if (source, target) not in judged))
    forms: dict[str, list[str]] = defaultdict(list)
    for name, of in concept.items():
        forms[of].append(name)
    variants = [(name, of) for of, names in forms.items() for name in names[1:]]  # the most frequent label stays
    wrong_spelling = {_plain(word) for word in check.truth["misspelt"]}
    for kind, some in (
        ("misspellings", [pair for pair in variants if _plain(pair[0]) in wrong_spelling]),
        ("words of other languages", [pair for pair in variants if _plain(pair[0]) not in wrong_spelling]),
    ):
        merged = [name for name, _ in some if any(name in pair for pair in right)]
        check.say(f"{kind} that the doctor found", len(merged), len(some))
        counts = {label["name"]: label["count"] for label in labels}
        print("   missed:", *(f"{name} ({counts[name]})" for name, _ in some if name not in merged))


def predict(check: Check) -> None:
    if check.run is None:
        raise SystemExit("predict needs --run, a finished run of WSP on sets/photos")
    tags = ["predict", check.run, check.photos, "--write", "xmp", "--precision", "0.8", "--out", check.folder / "tags"]
    before = digests(check.photos)
    check.underpaint(*tags)
    check.say("files changed by the dry run", _changed(before, digests(check.photos)), 0)
    check.underpaint(*tags, "--apply")
    after = digests(check.photos)
    check.say("images changed by writing", _changed(_images(before), _images(after)), 0)
    print(f"   {len(after) - len(before)} new files, {_changed(before, after)} changed")
    _predicted(check)
    check.underpaint(*tags, "--undo")
    check.say("files changed after undo", _changed(before, digests(check.photos)), 0)


def _predicted(check: Check) -> None:
    """Predicted tags beside the concepts of the topics, also of images whose tags name others."""
    above = {path: set(image["concepts"]) | {image["topic"]} for path, image in check.truth["images"].items()}
    above |= {copy["path"]: above[copy["of"]] for copy in check.truth["copies"]}
    concept_of = {word.lower(): concept for word, concept in check.truth["variants"].items()}
    right = total = 0
    with (check.folder / "tags/predicted.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for tag in filter(None, row["predicted_tags"].split(";")):
                if concept_of.get(tag.strip().lower()) is not None and row["path"] in above:
                    total += 1
                    right += concept_of[tag.strip().lower()] in above[row["path"]]
    check.say("predicted tags that are true", right, f"{total} predicted")


def digests(folder: Path) -> dict[str, str]:
    """Hash of each file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _changed(before: dict[str, str], after: dict[str, str]) -> int:
    return sum(before.get(name) != after.get(name) for name in _both(before, after))


def _both(before: Iterable[str], after: Iterable[str]) -> set[str]:
    return {*before, *after}


def _images(files: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if not name.endswith(".xmp")}


CHECKS: dict[str, Callable[[Check], None]] = {
    "look": look,
    "prepare": prepare,
    "doctor": doctor,
    "predict": predict,
}


if __name__ == "__main__":
    main()
