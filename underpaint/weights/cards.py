"""The model card of an export: what the network is, where it comes from, how images are prepared, how to load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from underpaint import files
from underpaint.models.text_tower import TextConfig
from underpaint.models.weights import encoder_folder
from underpaint.weights.export_model import ExportModel, Tool

MAX_STEPS = 16
"""Largest number of runs that a history goes back."""
LIBRARIES = {"timm": "timm", "hf": "transformers"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A run or an import in the history of a network."""

    text: str
    licence: str = ""
    results: dict[str, Any] = field(default_factory=dict)


def history(folder: Path) -> list[Step]:
    """The runs and imports that made the network in ``encoder/`` or ``model/``, newest first.

    The list ends at an import, at a run that started from nothing, where a folder is missing, or at MAX_STEPS.
    """
    steps: list[Step] = []
    while len(steps) < MAX_STEPS:
        description = files.read_json(folder / "config.json")
        origin = description.get("origin") or {}
        run = folder.parent
        if not (run / "run.json").is_file():
            steps.append(_imported(origin) if origin else Step(text=f"a network saved in `{folder.name}`"))
            return steps
        record = files.read_json(run / "run.json")
        steps.append(_trained(run, record, origin))
        start = record["run"].get("init_from", "")
        if not start:
            return steps
        try:
            folder = encoder_folder(start)
        except ValueError:
            steps.append(
                Step(text=f"weights from `{start}`, which is not there any more", licence=origin.get("licence", ""))
            )
            return steps
    return steps


def _imported(origin: dict[str, Any]) -> Step:
    text = f"imported from `{origin.get('file', '?')}` ({origin.get('format', '?')}, XXH3 {origin.get('xxh3', '?')})"
    return Step(text=text, licence=origin.get("licence", ""))


def _trained(run: Path, record: dict[str, Any], origin: dict[str, Any]) -> Step:
    result = files.read_json(run / "result.json") if (run / "result.json").is_file() else {}
    derived, config = record.get("derived", {}), record["run"]
    data = config.get("data", {})
    text = (
        f"{result.get('stage', config['objective'].get('stage', '?'))} run `{config.get('name', run.name)}` on "
        f"`{data.get('source', '?')}` ({derived.get('images', 0):,} images, {derived.get('labels', 0):,} labels, "
        f"data {derived.get('data_hash', '?')}): {result.get('samples', 0):,} samples, "
        f"{result.get('train_flops', 0):.2e} FLOPs, seed {result.get('seed', '?')}"
    )
    results = {f"{run.name}: {name}": value for name, value in result.get("metrics", {}).items()}
    for path in sorted((run / "evals").glob("*.json")):
        for row in files.read_json(path).get("rows", []):
            shots = f", {row['shots']} shots" if row.get("shots") else ""
            results[f"{row['dataset']}, {row['protocol']}{shots}, {row['split']}: {row['metric']}"] = row["value"]
    return Step(text=text, licence=origin.get("licence", ""), results=results)


def licences(steps: Sequence[Step]) -> str:
    """The licences of everything the network was made from."""
    return " and ".join(dict.fromkeys(step.licence for step in steps if step.licence))


def card(subject: ExportModel, tool: Tool, steps: Sequence[Step], verified: str) -> str:
    """The README.md, in the form that the Hugging Face hub reads."""
    recognised, c = subject.recognised, subject.recognised.encoder
    results = {name: value for step in steps for name, value in step.results.items()}
    head = _what(subject)
    parts = [
        _front_matter(subject, tool),
        f"# {head[0].upper()}{head[1:]}",
        f"Exported by underpaint for {tool.name}; {verified}.",
        "## Use",
        f"With `DIR` the folder of this file:\n\n```python\n{tool.usage(subject)}\n```",
        "## Images",
        _images(subject),
        "## Lineage and data",
        "Newest first:\n\n" + "\n".join(f"{number}. {step.text}" for number, step in enumerate(steps, start=1)),
        "## Licence",
        f"{recognised.licence}." if recognised.licence else "Not stated: it is for whoever trained the network to say.",
        "## Results",
        "\n".join(f"- {name}: {_number(value)}" for name, value in results.items()) or "None recorded.",
        "## Network",
        f"Plain ViT: {c.size[0]}x{c.size[1]} px, patches of {c.patch} px, width {c.width}, depth {c.depth}, "
        f"{c.heads} heads, MLP {c.mlp_ratio * c.width}, "
        f"{'fixed sin-cos' if c.positions == 'sincos' else 'learned'} positions, layer norm epsilon {c.norm_eps:g}.",
    ]
    return "\n\n".join(parts) + "\n"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _what(subject: ExportModel) -> str:
    recognised, c = subject.recognised, subject.recognised.encoder
    name = f"vision transformer (width {c.width}, depth {c.depth}, patch {c.patch})"
    if recognised.classes:
        return f"{name} with a classifier of {recognised.classes} classes"
    if recognised.text is not None:
        kind = f"depth {recognised.text.depth}" if isinstance(recognised.text, TextConfig) else "n-grams"
        return f"{name} and text tower (width {recognised.text.width}, {kind})"
    return f"{name} with MAE's decoder" if recognised.decoder is not None else f"{name}, encoder"


def _front_matter(subject: ExportModel, tool: Tool) -> str:
    task = "image-classification" if subject.recognised.classes else "image-feature-extraction"
    task = task if subject.recognised.text is None else "zero-shot-image-classification"
    lines = [f"library_name: {LIBRARIES[tool.name]}"] if tool.name in LIBRARIES else []
    lines += [f"pipeline_tag: {task}", "tags:", "- underpaint", "- vision-transformer"]
    licence = subject.recognised.licence
    if licence and " " not in licence:
        lines = [f"license: {licence.lower()}", *lines]
    elif licence:
        lines = ["license: other", f"license_name: {json.dumps(licence)}", *lines]
    return "\n".join(["---", *lines, "---"])


def _images(subject: ExportModel) -> str:
    c = subject.recognised.encoder
    low, high = c.value_range
    how = f"resized straight to {c.size[0]}x{c.size[1]} pixels"
    if c.view == "crop":
        short = int(min(c.size) / c.crop_share)
        how = f"resized until the short side is {short} pixels, then the centre {c.size[0]}x{c.size[1]}"
    return (
        f"{c.channels} channels, values from {low:g} to {high:g} mapped to [0, 1]; {how} ({c.interpolation}, with "
        f"antialiasing); normalised with mean {list(c.mean)} and standard deviation {list(c.std)}."
    )
