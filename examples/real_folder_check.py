"""Run underpaint on a folder of ``real_folder.py``, and compare its numbers with what was planted there.

    python examples/real_folder_check.py real                              # look, prepare, doctor
    python examples/real_folder_check.py real --only study train predict

Prints the commands, what they print, and a line per number that was compared. Writes ``sets/``, ``runs/``, ``tags/``
and ``check.json`` beside the photos; ``predict`` writes tags into sidecars, and takes them back.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from real_folder_words import chain

MERGES = ("spelling", "inflection", "synonym")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder that real_folder.py made")
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), default=["look", "prepare", "doctor"])
    parser.add_argument("--run", type=Path, help="doctor, predict: finished run of WSP (predict: that of train)")
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


def show(what: str, lines: Sequence[str]) -> None:
    for line in lines:
        print(f"   {what}: {line}")


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
    tables = ["--tags", check.folder / "flickr.csv", "--tags", check.folder / "captureone.csv"]
    labels = ["--labels", check.folder / "classes.csv"]
    words = ["prepare", check.photos, "--out", check.set, *tables, *labels, "--min-count", "3"]
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
        show("missing", missing[program][:5])
        show("foreign", foreign[program][:5])
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
    names = _paths_by_place(check.set)
    rows = pq.read_table(check.set / "copies.parquet").to_pylist()
    pairs = [[names[(row[side]["shard"], row[side]["offset"])] for side in ("copy", "kept")] for row in rows]
    left = {copy for copy, _ in pairs}
    original = {copy["path"]: copy["of"] for copy in check.truth["copies"]}
    kinds = {copy["of"]: copy["kind"] for copy in check.truth["copies"]}
    for kind in dict.fromkeys(kinds.values()):
        copies = {of: [path for path in original if original[path] == of] for of in kinds if kinds[of] == kind}
        found = {of: min(len(paths), len(left & {of, *paths})) for of, paths in copies.items()}
        check.say(f"{kind} copies that were left out", sum(found.values()), sum(map(len, copies.values())))
        show("missed", [of for of in copies if found[of] < len(copies[of])])
    others = [(copy, kept) for copy, kept in pairs if original.get(copy, copy) != original.get(kept, kept)]
    check.say("pairs of copies that nobody planted", len(others), "unknown: the packages share pictures")
    show("pair", [f"{copy} for {kept}" for copy, kept in others])


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
    concept_of = {_plain(word): concept for word, concept in check.truth["variants"].items()}

    def concept(tags: Iterable[str]) -> str:
        counts = Counter(concept_of[_plain(tag)] for tag in tags if _plain(tag) in concept_of)
        return counts.most_common(1)[0][0] if counts else ""

    labels = pq.read_table(check.set / "vocabulary.parquet").to_pylist()
    of_label = {label["synset"] or f"text:{label['name']}": concept(label["tags"]) for label in labels}
    proposals = pq.read_table(check.set / "tag_doctor/proposals.parquet").to_pylist()
    merges = [each for each in proposals if each["kind"] in MERGES]
    planted = [each for each in merges if concept(each["tags"]) or of_label[each["label"]]]
    right = [each for each in planted if concept(each["tags"]) == of_label[each["label"]]]
    check.say("merges of planted words that are right", len(right), f"{len(planted)} proposed")
    show("wrong", [f"{each['name']} -> {each['becomes']}" for each in planted if each not in right])
    show("not planted", [f"{each['name']} -> {each['becomes']}" for each in merges if each not in planted])
    forms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for label in labels:
        if concept(label["tags"]):
            forms[concept(label["tags"])].append(label)
    variants = [label for some in forms.values() for label in some[1:]]  # the most frequent label stays
    misspelt = {_plain(word) for word in check.truth["misspelt"]}
    merged = {_plain(tag) for each in right for tag in each["tags"]}
    merged |= {_plain(tag) for each in right for label in labels if _is(label, each["label"]) for tag in label["tags"]}
    for kind, is_of_kind in (("misspellings", True), ("words of other languages", False)):
        some = [label for label in variants if (_plain(label["tags"][0]) in misspelt) == is_of_kind]
        missed = [label for label in some if _plain(label["tags"][0]) not in merged]
        check.say(f"{kind} that the doctor found", len(some) - len(missed), len(some))
        show("missed", [f"{label['name']} ({label['count']})" for label in missed])
    above = {(child, parent) for path in check.truth["images"].values() for child, parent in _steps(path["concepts"])}
    implied = [each for each in proposals if each["kind"] == "implication"]
    pairs = [(each, (concept(each["tags"]), of_label.get(each["also"], ""))) for each in implied]
    known = [(each, pair) for each, pair in pairs if all(pair)]
    check.say("implications that were planted", sum(pair in above for _, pair in known), f"{len(known)} proposed")
    show("other", [f"{each['name']} -> {pair[1]}" for each, pair in known if pair not in above])
    show(
        "split or dead", [f"{each['kind']}: {each['name']}" for each in proposals if each["kind"] in ("split", "dead")]
    )


def _is(label: dict[str, Any], given: str) -> bool:
    return (label["synset"] or f"text:{label['name']}") == given


def _steps(concepts: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a concept and one above it."""
    return [(each, parent) for each in concepts for parent in chain(each)[:-1]]


def study(check: Check) -> None:
    out = check.folder / "runs/study"
    check.underpaint("study", "stages", "--size", "smoke", "--data", check.set, "--out", out)


def train(check: Check) -> None:
    """A run on the parts of three programs; those of the other two are its held-out images."""
    runs, sets = check.folder / "runs", check.folder / "sets"
    learned = [check.photos / name for name in ("Lightroom", "Bilder", "Images")]
    others = [check.photos / name for name in ("Output", "Descargas")]
    tables = ["--tags", check.folder / "flickr.csv", "--tags", check.folder / "captureone.csv"]
    check.underpaint("prepare", *learned, "--out", sets / "learned", "--min-count", "5", "--dedupe", "near")
    check.underpaint("prepare", *others, "--out", sets / "heldout", *tables, "--dedupe", "near")
    data = [f"data={sets / 'learned'}", "data.views=4", "budget.samples=6400", "budget.warmup=640"]
    check.underpaint("train", "wsp_laptop", *data, "--out", runs / "wsp")


def predict(check: Check) -> None:
    run = check.run or check.folder / "runs/wsp"
    given = ["--heldout", check.folder / "sets/heldout", "--precision", "0.5", "--out", check.folder / "tags"]
    tags = ["predict", run, check.photos, "--write", "xmp", *given]
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
    """Predicted tags beside the topics and the concepts of tags; surroundings that nobody tagged count as wrong."""
    images = check.truth["images"].items()
    true = {path: {*image["concepts"], *chain(image["topic"])} for path, image in images}
    true |= {copy["path"]: true[copy["of"]] for copy in check.truth["copies"]}
    concept_of = {_plain(word): concept for word, concept in check.truth["variants"].items()}
    labels = pq.read_table(check.folder / "sets/learned/vocabulary.parquet").to_pylist()
    of_label = {label["name"]: concept_of.get(_plain(label["tags"][0]), "") for label in labels}
    rows = pq.read_table(check.folder / "tags/predicted.parquet").to_pylist()
    paths = [Path(row["path"]).resolve().relative_to(check.photos.resolve()).as_posix() for row in rows]
    tagged = zip(paths, rows, strict=True)
    named = [(path, of_label[tag]) for path, row in tagged for tag in row["predicted_tags"] if path in true]
    right = sum(concept in true[path] for path, concept in named)
    check.say("predicted tags that are true", right, f"{len(named)} predicted")


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
    "study": study,
    "train": train,
    "predict": predict,
}


if __name__ == "__main__":
    main()
