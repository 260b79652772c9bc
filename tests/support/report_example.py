"""A study folder and a run folder with everything a real one has for the report, and numbers made up by a seed."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from underpaint.studies import designs

ARMS = ("random", "mae", "wsp", "mae_wsp", "wsp_equal_compute")
STAGES = {  # arm: its runs as (folder, stage, samples, FLOPs per sample, images per second)
    "mae": (("mae", "mae", 120_000, 2.1e8, 1900.0),),
    "wsp": (("wsp", "wsp", 60_000, 3.6e8, 1100.0),),
    "mae_wsp": (("mae", "mae", 120_000, 2.1e8, 1900.0), ("mae_wsp", "wsp", 60_000, 3.6e8, 1080.0)),
    "wsp_equal_compute": (("wsp_equal_compute", "wsp", 130_000, 3.6e8, 1110.0),),
}
TASKS = (("linear", 0), ("lowshot", 5), ("knn", 0), ("finetune", 0))
LEVEL = {"openmoji": 0.34, "digits": 0.71}
GAIN = {"random": -0.17, "mae": 0.0, "wsp": 0.02, "mae_wsp": 0.061, "wsp_equal_compute": 0.048}
CONTRASTS = (
    ("wsp", "mae_wsp"),
    ("wsp_equal_compute", "mae_wsp"),
    ("mae", "mae_wsp"),
    ("mae", "wsp"),
    ("random", "mae"),
    ("random", "wsp"),
)
LABELS = ("animals-nature", "food-drink", "travel-places", "objects", "symbols", "people-body")
TAGS = ("face", "flag", "hand", "woman", "person", "heart", "medium", "arrow", "running", "smiling", "square", "cat")


def make_study(
    folder: Path, *, arms: Sequence[str] = ARMS, seeds: Sequence[int] = (0,), extra_tags: Sequence[str] = ()
) -> Path:
    """Write a finished study; ``extra_tags`` stand among the tags of its pictures."""
    chance = random.Random(7)
    rows = [row for arm in arms for seed in seeds for row in _rows(arm, seed, chance)]
    stages = []
    for arm in arms:
        for seed in seeds:
            for name, stage, samples, flops, speed in STAGES.get(arm, ()):
                run = f"{name}-seed{seed}"
                stages.append(_stage(arm, stage, seed, run=run, samples=samples, flops=flops, speed=speed))
                if not (folder / run).is_dir():
                    start = f"mae-seed{seed}" if name == "mae_wsp" else ""
                    make_run(folder / run, stage=stage, samples=samples, flops=flops, speed=speed, init_from=start)
    for arm in arms:
        start = f"{arm}-seed{seeds[0]}"
        make_run(folder / f"finetune-{start}", stage="finetune", samples=9_000, flops=3.4e8, speed=900, init_from=start)
    _pictures(folder / "pictures", arms, extra_tags)
    write_json(
        folder / "results.json",
        {
            "format": 2,
            "study": "stages",
            "page": "arms",
            **meaning(arms, CONTRASTS),
            "rows": rows,
            "stages": stages,
            "baselines": [],
            "arm_means": [_arm_mean(arm, rows) for arm in arms],
            "dataset_summary": [],
            "tag_summary": [],
            "summary": _summary(rows, arms, seeds),
            "data": data_entry(),
            "environment": environment_entry(["underpaint", "study", "stages", "--size", "tiny"]),
        },
    )
    return folder


def _arm_mean(arm: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [row["value"] for row in rows if row["arm"] == arm and row["split"] in ("test", "mean")]
    mean = sum(values) / len(values)
    return {"arm": arm, "mean": mean, "low": mean - 0.013, "high": mean + 0.012}


def _rows(arm: str, seed: int, chance: random.Random) -> list[dict[str, Any]]:
    rows = []
    for dataset, level in LEVEL.items():
        for number, (protocol, shots) in enumerate(TASKS):
            value = level + GAIN.get(arm, 0.0) * (1.6 - 0.3 * number) - 0.05 * (protocol == "knn")
            common = {"arm": arm, "seed": seed, "dataset": dataset, "protocol": protocol, "shots": shots}
            n_test = 905 if dataset == "openmoji" else 450
            view = "stretch" if protocol == "finetune" else "crop_oblong"
            tail = {"view": view, "language": "", "metric": "top1", "n_test": n_test}
            value += 0.06 * (protocol == "finetune")
            single = [min(0.99, value + chance.gauss(0, 0.012)) for _ in range(5 if shots else 1)]
            if shots:
                rows += [{**common, "split": str(k), "value": one, **tail} for k, one in enumerate(single)]
            split = "mean" if shots else "test"
            rows.append({**common, "split": split, "value": sum(single) / len(single), **tail})
    return rows


def _stage(arm: str, stage: str, seed: int, *, run: str, samples: int, flops: float, speed: float) -> dict[str, Any]:
    return {
        "arm": arm,
        "stage": stage,
        "seed": seed,
        "samples": samples,
        "train_flops": samples * flops,
        "wall_seconds": samples / speed,
        "images_per_second": speed,
        "run": run,
    }


def _summary(rows: Sequence[Mapping[str, Any]], arms: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["split"] in ("test", "mean"):
            protocol = f"{row['shots']}-shot" if row["shots"] else row["protocol"]
            values.setdefault((row["arm"], f"{row['dataset']} {protocol}"), []).append(row["value"])
    tasks = list(dict.fromkeys(task for _, task in values))
    summary = []
    for first, second in CONTRASTS:
        if first not in arms or second not in arms:
            continue
        means = []
        for number, task in enumerate(tasks):
            pairs = zip(values[first, task], values[second, task], strict=True)
            means.append(sum(b - a for a, b in pairs) / len(seeds))
            summary.append(_difference(first, second, task, means[-1], half=0.012 + 0.004 * number, seeds=len(seeds)))
        mean = sum(means) / len(means)
        summary.append(_difference(first, second, "mean over tasks", mean, half=0.011, seeds=len(seeds)))
    return summary


def _difference(first: str, second: str, task: str, mean: float, *, half: float, seeds: int) -> dict[str, Any]:
    one = "paired bootstrap over 905 test images in 540 families, 2000 resamples, one seed"
    return {
        "contrast": f"{second} - {first}",
        "task": task,
        "mean": mean,
        "low": mean - half,
        "high": mean + 1.1 * half,
        "n_seeds": seeds,
        "method": one if seeds == 1 else f"paired t over {seeds} seeds",
        "noise": ["test images"] if seeds == 1 else ["seeds", "test images"],
    }


def meaning(arms: Sequence[str], contrasts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The entries ``arms`` and ``contrasts`` as a study writes them for these names; (reference, tested) pairs."""
    known = {arm.name: arm for arm in (designs.RANDOM, designs.MAE, designs.WSP, designs.MAE_WSP)}
    known |= {arm.name: arm for arm in (designs.EQUAL_COMPUTE, designs.EQUAL_TIME)}
    known["mae_wsp"] = replace(designs.MAE_WSP, start="mae" if "mae" in arms else "")
    equal = {("wsp", "mae_wsp"): "steps", ("wsp_equal_compute", "mae_wsp"): "compute"}
    return {
        "arms": designs.arm_entries([known.get(name, designs.imported_arm(name)) for name in arms]),
        "contrasts": [
            {"contrast": f"{b} - {a}", "first": b, "second": a, "equal": equal.get((a, b), "nothing")}
            for a, b in contrasts
        ],
    }


def data_entry() -> dict[str, Any]:
    return {
        "pretraining": "openmoji",
        "collections": {
            "openmoji": {
                "images": 4495,
                "splits": {"pretrain": 2790, "heldout": 206, "train": 594, "test": 905},
                "families": 2210,
                "tagged": 3953,
                "classes": 10,
                "licence": "CC BY-SA 4.0",
                "attribution": "OpenMoji, the open-source emoji project, https://openmoji.org",
                "content_hash": "6f1d0c9b2a7e4f53",
                "problems": {"no name in any language": 542},
            },
            "digits": {
                "images": 1797,
                "splits": {"pretrain": 0, "heldout": 0, "train": 1347, "test": 450},
                "families": 1797,
                "tagged": 0,
                "classes": 10,
                "licence": "CC BY 4.0",
                "attribution": "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI)",
                "content_hash": "0b3fd81c55ea9d20",
                "problems": {},
            },
        },
        "leakage_rule": "Images of one family never stand on both sides of a split; test images are seen by no stage.",
        "not_measured": [
            "Detection, segmentation, video and zero-shot transfer.",
            "Sizes, budgets and image sizes beyond the ones in this report: nothing here says how the gain scales.",
        ],
        "remarks": ["openmoji 5-shot: 2 classes have fewer than 5 training images"],
    }


def bare_data() -> dict[str, Any]:
    """The entry ``data`` with nothing in it that may be missing."""
    return {"collections": {}, "leakage_rule": "", "not_measured": []}


def environment_entry(command: list[str]) -> dict[str, Any]:
    return {
        "time": "2026-01-20T09:14:02Z",
        "command": command,
        "python": "3.11.9",
        "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
        "processor": "Example CPU at 2.50GHz",
        "cores": 2,
        "gpu": "",
        "versions": {"underpaint": "0.1.0", "torch": "2.14.1", "torchvision": "0.29.1", "numpy": "2.4.0"},
    }


def make_run(
    folder: Path, *, stage: str, samples: int, flops: float, speed: float, init_from: str = "", lines: int = 400
) -> Path:
    """Write a finished run with a log of ``lines`` lines."""
    folder.mkdir(parents=True)
    chance = random.Random(folder.name)
    start, end = {"mae": (1.05, 0.52), "wsp": (6.9, 4.4)}.get(stage, (2.3, 0.4))
    start, end = (start - 0.2, end - 0.25) if init_from else (start, end)
    log = []
    for number in range(1, lines + 1):
        seen = samples * number // lines
        level = end + (start - end) * math.exp(-4.5 * number / lines)
        line = {"step": number, "samples": seen, "train_flops": seen * flops, "seconds": seen / speed}
        line |= {"loss": level * chance.gauss(1, 0.03), "lr": 1e-3 * math.sin(math.pi * number / lines)}
        log.append({**line, "grad_norm": 1.0, "images_per_second": speed * chance.gauss(1, 0.05)})
        if number % max(1, lines // 8) == 0:
            log.append({"step": number, "samples": seen, "eval": {"heldout_loss": level * 1.04}})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    encoder = {"size": [32, 32], "patch": 4, "width": 128, "depth": 6, "heads": 4}
    run = {"name": folder.name, "objective": {"stage": stage, "encoder": encoder}, "budget": {"samples": samples}}
    write_json(
        folder / "run.json",
        {
            "format": 1,
            "run": run | {"optim": {"base_lr": 0.001, "weight_decay": 0.05}, "seed": 0},
            "derived": {"steps": lines, "images": 2790, "device": "cpu"},
            "overrides": ["optim.base_lr=1e-3"],
            "identity": {"run": run},
            "identity_hash": f"{chance.getrandbits(64):016x}",
        },
    )
    weights = f"{chance.getrandbits(64):016x}" if init_from else ""
    lineage = {"init_from": f"runs/stages_tiny/{init_from}" if init_from else "", "weights": weights}
    starts = [environment_entry(["underpaint", "train", f"{stage}_laptop", "optim.base_lr=1e-3"])]
    write_json(folder / "env.json", {"format": 1, "lineage": lineage, "starts": starts})
    metrics = {"heldout_loss": log[-1].get("eval", {}).get("heldout_loss", 0.5)}
    write_json(
        folder / "result.json",
        {
            "format": 1,
            "name": folder.name,
            "stage": stage,
            "seed": 0,
            "samples": samples,
            "steps": lines,
            "train_flops": samples * flops,
            "wall_seconds": samples / speed,
            "images_per_second": speed,
            "bad_records": 2,
            "metrics": metrics | ({"flat_patches": 0.6134} if stage == "mae" else {}),
        },
    )
    bad = [{"key": "drawings/a.png", "reason": "truncated file"}, {"key": "b.png", "reason": "not an image"}]
    (folder / "bad_records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bad))
    if stage == "mae":
        _preview(folder / "preview.png")
    return folder


def _pictures(folder: Path, arms: Sequence[str], extra_tags: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    chance = random.Random(3)
    names = []
    for number in range(36):
        names.append(f"{number:016x}.png")
        _drawing(random.Random(number), 96).save(folder / names[-1])
    label = {name: LABELS[number % len(LABELS)] for number, name in enumerate(names)}

    def near() -> list[dict[str, str]]:
        return [{"image": name, "label": label[name]} for name in chance.sample(names, 6)]

    neighbours = {
        arm: [{"query": name, "query_label": label[name], "neighbours": near()} for name in names[:6]] for arm in arms
    }
    tagged = [{"image": name, "tags": chance.sample(TAGS, chance.randint(2, 5))} for name in names[:12]]
    tagged[0]["tags"] = [*extra_tags, *tagged[0]["tags"]]
    counts = [{"tag": tag, "count": 700 // (rank + 1)} for rank, tag in enumerate(TAGS)]
    write_json(
        folder / "pictures.json",
        {"format": 1, "neighbours": neighbours, "tagged": tagged, "frequent_tags": counts},
    )


def _drawing(chance: random.Random, side: int) -> Image.Image:
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = chance.uniform(0.1, 0.5) * side, chance.uniform(0.1, 0.5) * side
        size = chance.uniform(0.25, 0.5) * side
        colour = tuple(chance.randrange(40, 240) for _ in range(3))
        shape = chance.choice((draw.ellipse, draw.rectangle))
        shape((x, y, x + size, y + size), fill=colour, outline="black")
    return image


def _preview(path: Path) -> None:
    side, patch, edge, count = 128, 16, 4, 8
    sheet = Image.new("RGB", (count * (side + 2 * edge), 3 * (side + 2 * edge)), "white")
    chance = random.Random(5)
    for number in range(count):
        image = _drawing(random.Random(number), side)
        masked, painted = image.copy(), image.copy()
        for x in range(0, side, patch):
            for y in range(0, side, patch):
                if chance.random() < 0.75:
                    box = (x, y, x + patch, y + patch)
                    masked.paste((128, 128, 128), box)
                    painted.paste(image.crop(box).resize((2, 2)).resize((patch, patch)), box)
        for row, picture in enumerate((image, masked, painted)):
            sheet.paste(picture, (number * (side + 2 * edge) + edge, row * (side + 2 * edge) + edge))
    sheet.save(path)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
