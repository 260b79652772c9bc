"""MAE, WSP and MAE then WSP of photographs, through the study ``transfer`` on photographs of other sources.

    PYTHONPATH=. python benchmarks/photographs_transfer.py --photographs DIR --from runs/mae-seed0 ... --out runs/photos

Writes class folders from the shards in ``DIR/heldout`` and ``DIR/photos``, and runs four studies over them:
``transfer`` (frozen, low-shot and finetuned on Caltech-101, CIFAR-10 and clothing), ``prompts`` (prompts trained for
all epochs of their preset, where ``transfer`` cuts them short), ``from_cifar10`` (finetuned longer on
CIFAR-10, tested on the photographs of its classes) and ``from_photographs`` (on the photographs, tested on
Caltech-101's images of their classes). It can be stopped and continued; each prints its tables of
``docs/results/transfer.md`` at its end.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import underpaint
from underpaint import files
from underpaint.results.study import RESULTS_FILE

HELD_OUT = ("caltech101", "cifar10", "clothing")
SYNSETS = {
    "automobile": "n02958343",
    "bird": "n01503061",
    "cat": "n02121808",  # domestic cats, as CIFAR-10 has them
    "dog": "n02084071",
    "frog": "n01639765",
    "truck": "n04490091",
}
"""The six classes of CIFAR-10 that the photographs show, as WordNet knows them."""
SAME = {
    "barrel": "n02795169",
    "cannon": "n02950826",
    "cougar_body": "n02125311",
    "cougar_face": "n02125311",
    "dragonfly": "n02268443",
    "pizza": "n07873807",
    "scorpion": "n01770393",
    "trilobite": "n01768244",
    "umbrella": "n04507155",
}
"""Classes of Caltech-101 that are a class of the photographs in name and sense. Its panda is the giant one and its
crayfish lives in rivers, so that names alone would match two classes that differ."""
IMAGES = "linear,knn,attentive,lowshot,lowshot_linear,lowshot_vpt,finetune,robustness"
ROBUST, LONGER = "protocols=finetune,robustness", "finetune.budget.samples=12_000"
STUDIES = {
    "transfer": (HELD_OUT, ["shots=1,5,10", f"protocols={IMAGES}", "prompt_images=1_500"]),
    "prompts": (("cifar10", "clothing"), ["protocols=lowshot,lowshot_vpt", "prompt_images=0"]),  # all 50 epochs
    "from_cifar10": (("cifar10", "photographs-of-cifar10"), [ROBUST, LONGER]),
    "from_photographs": (("photographs", "caltech101-of-photographs"), [ROBUST, LONGER]),
}
"""The datasets of each study, and what it changes in the smallest design."""

Named = Callable[[dict[str, Any]], str | None]
"""The class folder of an image by its labels; None leaves it out."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, help="folder with heldout/*.tar and photos/*.tar")
    parser.add_argument("--from", dest="runs", nargs="+", required=True, help="runs called NAME-seed0, NAME-seed1, ...")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=0, help="parts to run in parallel")
    parser.add_argument("--only", choices=STUDIES, help="one of the four studies")
    options = parser.parse_args(arguments)
    sets = options.out / "sets"
    write_sets(options.photographs, sets)
    for name, (datasets, overrides) in STUDIES.items():
        if options.only in (None, name):
            folder = options.out / name
            asked = {"encoders": options.runs, "datasets": [str(sets / each) for each in datasets]}
            underpaint.run_study("transfer", out=folder, jobs=options.jobs, overrides=overrides, **asked)
            print(table(files.read_json(folder / RESULTS_FILE)))
    return 0


def write_sets(photographs: Path, out: Path) -> None:
    """The datasets as folders ``train/CLASS`` and ``test/CLASS``; those that are there stay."""
    held = photographs / "heldout"
    for name in HELD_OUT:
        write_held_out(name, photographs, out)
    seen = sorted((photographs / "photos").glob("*.tar"))
    halves = [("train" if shard.name.startswith("train") else "test", shard) for shard in seen]
    above = _synsets_above(files.read_json(photographs / "photos" / "classes.json"))

    def of_cifar10(label: dict[str, Any]) -> str | None:
        return next((name for name, wnid in SYNSETS.items() if wnid in above[label["wnid"]]), None)

    _write(out / "photographs", ((half, shard, lambda label: label["wnid"]) for half, shard in halves))
    _write(out / "photographs-of-cifar10", ((half, shard, of_cifar10) for half, shard in halves if half == "test"))
    _write(
        out / "caltech101-of-photographs",
        (
            ("test", held / f"caltech101-{half}.tar", lambda label: SAME.get(label["name"]))
            for half in ("train", "test")
        ),
    )


def write_held_out(name: str, photographs: Path, out: Path) -> Path:
    """One of ``HELD_OUT`` as a folder ``train/CLASS`` and ``test/CLASS``; it stays if it is there."""
    shards = {half: photographs / "heldout" / f"{name}-{half}.tar" for half in ("train", "test")}
    _write(out / name, ((half, shard, _own_class) for half, shard in shards.items()))
    return out / name


def table(results: dict[str, Any]) -> str:
    """Scores of the arms by task, and differences of pairs of arms, in per cent with 95% intervals."""
    scores: dict[str, dict[str, str]] = {}
    for line in results["transfer"]["tasks"]:
        scores.setdefault(line["task"], {})[line["arm"]] = _percent(line)
    arms = list(dict.fromkeys(arm for of_task in scores.values() for arm in of_task))
    lines = [f"| task | {' | '.join(arms)} |", "|---" * (1 + len(arms)) + "|"]
    for task, of_arm in scores.items():
        lines.append(f"| {task} | {' | '.join(of_arm.get(arm, '') for arm in arms)} |")
    lines += ["", "| comparison | tasks | difference | would have been found |", "|---|---|---|---|"]
    for kind, key in (("protocol_summary", "protocol"), ("dataset_summary", "dataset"), ("summary", "task")):
        for line in results[kind]:
            found = "" if line["detectable"] is None else f"{100 * line['detectable']:.1f}"
            lines.append(f"| {line['contrast']} | {line[key]} | {_percent(line)} | {found} |")
    return "\n".join(lines)


def _percent(line: dict[str, Any]) -> str:
    return f"{100 * line['mean']:.1f} ({100 * line['low']:.1f} to {100 * line['high']:.1f})"


def _own_class(label: dict[str, Any]) -> str:
    return label["name"]


def _synsets_above(classes: dict[str, Any]) -> dict[str, set[str]]:
    """Each class of the photographs and all that it is a kind of."""
    return {wnid: {wnid, *(each["wnid"] for each in entry["hypernyms"])} for wnid, entry in classes.items()}


def _write(folder: Path, shards: Iterable[tuple[str, Path, Named]]) -> None:
    if folder.is_dir():
        return
    with files.new_folder(folder) as made:
        for half, shard, named in shards:
            labels = json.loads(shard.with_suffix(".json").read_text("utf-8"))
            with tarfile.open(shard) as tar:
                for member in tar:
                    name = named(labels[member.name.removesuffix(".jpg")])
                    opened = tar.extractfile(member)
                    if name is None or opened is None:
                        continue
                    image = made / half / name / member.name
                    image.parent.mkdir(parents=True, exist_ok=True)
                    image.write_bytes(opened.read())


if __name__ == "__main__":
    raise SystemExit(main())
