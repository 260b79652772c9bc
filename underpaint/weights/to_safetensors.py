"""Export to plain safetensors with the names of MAE's repository; config.json holds all that is known of it."""

from __future__ import annotations

from pathlib import Path

import torch

from underpaint import files
from underpaint.models.formats import ours
from underpaint.models.formats.layout import Found, Rule
from underpaint.models.pieces import PIECE_BYTES, SafetensorsFiles, write_pieces
from underpaint.weights.subject import Subject, Tool


def _refusal(_: Found) -> str:
    return ""


def _write(folder: Path, subject: Subject) -> None:
    rules = [Rule(ours=name, theirs=(ours.plain_name(name),)) for name in subject.tensors.info]
    write_pieces(folder, subject.under(rules), limit=PIECE_BYTES)
    files.write_json(folder / "config.json", {ours.KEY: ours.describe(subject.found)})


def _compare(folder: Path, subject: Subject) -> tuple[float, float]:
    """Of the tensors themselves."""
    stored = SafetensorsFiles(sorted(folder.glob("*.safetensors")))
    pairs = [(stored.read(ours.plain_name(name)), subject.tensors.read(name)) for name in subject.tensors.info]
    assert len(stored.info) == len(pairs)
    difference = max(0.0 if torch.equal(a, b) else float((a.float() - b.float()).abs().max()) for a, b in pairs)
    return difference, 0.0


def _usage(_: Subject) -> str:
    return """from safetensors.torch import load_file

tensors = load_file("DIR/model.safetensors")"""


TOOL = Tool(
    name="safetensors",
    packages=("safetensors",),
    tolerance=0.0,
    refusal=_refusal,
    write=_write,
    compare=_compare,
    usage=_usage,
)
