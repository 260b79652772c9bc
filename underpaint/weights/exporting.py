"""``underpaint export``: a network of ours as another tool's folder, loaded there and compared before it is there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TypedDict

from underpaint import files
from underpaint.messages import say
from underpaint.suggest import hint
from underpaint.weights.cards import card, history, licences
from underpaint.weights.export_model import Tool, open_subject
from underpaint.weights.importing import fresh_folder, refuse_non_empty
from underpaint.weights.to_hf import TOOL as HF
from underpaint.weights.to_onnx import TOOL as ONNX
from underpaint.weights.to_open_clip import TOOL as OPEN_CLIP
from underpaint.weights.to_safetensors import TOOL as SAFETENSORS
from underpaint.weights.to_timm import TOOL as TIMM
from underpaint.weights.to_torchvision import TOOL as TORCHVISION

TOOLS = {tool.name: tool for tool in (TIMM, HF, TORCHVISION, ONNX, SAFETENSORS, OPEN_CLIP)}


class ExportSummary(TypedDict):
    """An export, and whether the tool gives the same outputs."""

    to: str
    folder: str
    licence: str
    verified: bool
    remark: str  # how it was verified, or why not
    difference: float | None  # the largest of any output; None if it was not verified


def export_weights(folder: str | Path, to: str, out: str | Path) -> ExportSummary:
    """Write a network for the tool ``to`` (a name of TOOLS) into ``out``, with a model card, and compare it there.

    ``folder`` is a run folder or an imported one, of which the classifier or both towers are taken where there are such
    and the tool takes them, else the encoder; or its ``model/`` or ``encoder/``.

    Raises:
        ValueError: if ``folder`` holds no network, the tool cannot express it, ``out`` is not empty, or the export
            gives other outputs there than here; nothing is left then.
    """
    folder, out = Path(folder), Path(out)
    tool = TOOLS.get(to)
    if tool is None:
        raise ValueError(f"unknown tool {to!r}; {hint(to, TOOLS)}")
    refuse_non_empty(out)
    subject = open_subject(folder, texts=tool.texts)
    steps = history(subject.folder)
    licence = licences(steps)
    subject = subject.with_licence(licence)
    refusal = tool.refusal(subject.recognised)
    if subject.recognised.text is not None and not tool.texts:
        able = ", ".join(name for name, each in TOOLS.items() if each.texts)
        refusal = f"it has no such text tower; export the encoder/ folder beside {subject.folder}, or to {able}"
    if refusal:
        raise ValueError(f"{folder} cannot be exported to {to}: {refusal}")
    with fresh_folder(out) as part:
        tool.write(part, subject)
        missing = [name for name in tool.packages if importlib.util.find_spec(name) is None]
        difference = None if missing else _verified(tool, part, *tool.compare(part, subject))
        verified = f"not verified: {' and '.join(missing)} is not installed" if missing else _sentence(tool, difference)
        content = card(subject, tool, steps, verified)
        files.write_bytes(part / "README.md", content.encode())
    say(f"{out}: {subject.recognised.title} for {to}, {verified}; licence: {licence or 'not stated'}")
    return {
        "to": to,
        "folder": str(out),
        "licence": licence,
        "verified": not missing,
        "remark": verified,
        "difference": difference,
    }


def _verified(tool: Tool, folder: Path, difference: float, size: float) -> float:
    """The difference, if it is within the tool's tolerance; that grows with outputs larger than 1."""
    if not difference <= tool.tolerance * max(1.0, size):
        raise ValueError(
            f"{folder.name}: loaded in {tool.name} the network gives outputs that differ by {difference:.1e} (largest "
            f"output {size:.1f}); nothing was written"
        )
    return difference


def _sentence(tool: Tool, difference: float | None) -> str:
    compared = "tensors" if tool.name == "safetensors" else "outputs"
    return f"loaded in {tool.name} and compared: {compared} differ by at most {difference:.1e}"
