"""Export to plain safetensors with the names of MAE's or MAWS's repository; config.json holds all that is known of it.

A text tower's tokenizer comes along.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from underpaint import files
from underpaint.models.formats import maws_clip, ours
from underpaint.models.formats.key_patterns import Recognised, Rule
from underpaint.models.pieces import PIECE_BYTES, SafetensorsFiles, write_pieces
from underpaint.texts.tokenizer import open_tokenizer
from underpaint.weights.export_model import ExportModel, Tool


def _refusal(_: Recognised) -> str:
    return ""


def _rules(subject: ExportModel) -> list[Rule]:
    """Every tensor under one name."""
    recognised = subject.recognised
    if recognised.text is not None:
        return list(maws_clip.rules_of(recognised.encoder.depth, recognised.text))
    return [Rule(ours=name, theirs=(ours.plain_name(name),)) for name in subject.tensors.info]


def _write(folder: Path, subject: ExportModel) -> None:
    write_pieces(folder, subject.under(_rules(subject)), limit=PIECE_BYTES)
    files.write_json(folder / "config.json", {ours.KEY: ours.describe(subject.recognised)})
    if subject.recognised.text is not None:
        tokenizer = open_tokenizer(subject.folder).file
        shutil.copyfile(tokenizer, folder / tokenizer.name)


def _compare(folder: Path, subject: ExportModel) -> tuple[float, float]:
    """The largest difference between an exported tensor and the original, and 0 for the largest value."""
    stored = SafetensorsFiles(sorted(folder.glob("*.safetensors")))
    names = [(rule.theirs[0], rule.ours) for rule in _rules(subject)]
    assert stored.info.keys() == {theirs for theirs, _ in names}
    assert subject.tensors.info.keys() == {mine for _, mine in names}
    pairs = ((stored.read(theirs), subject.tensors.read(mine)) for theirs, mine in names)
    difference = max(0.0 if torch.equal(a, b) else float((a.float() - b.float()).abs().max()) for a, b in pairs)
    return difference, 0.0


def _usage(_: ExportModel) -> str:
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
    texts=True,
)
