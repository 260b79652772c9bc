"""Export to ONNX: one graph from normalised images to tokens, or to scores, for any number of images."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from underpaint import files
from underpaint.models.formats import ours
from underpaint.models.formats.key_patterns import Recognised
from underpaint.weights.export_model import ExportModel, Tool, largest, network_logits

OPSET = 20


class _Graph(nn.Module):
    """An encoder's tokens, or a classifier's scores."""

    def __init__(self, network: nn.Module, *, scores: bool) -> None:
        super().__init__()
        self.network = network
        self.scores = scores

    def forward(self, image: Tensor) -> Tensor:
        return network_logits(self.network, image) if self.scores else self.network(image)


def _refusal(recognised: Recognised) -> str:
    if recognised.decoder is not None:
        return "an ONNX graph of a decoder needs a mask; export the encoder/ folder"
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    return f"it needs {' and '.join(missing)}: pip install '.[export]'" if missing else ""


def _output(recognised: Recognised) -> str:
    return "scores" if recognised.classes else "tokens"


def _write(folder: Path, subject: ExportModel) -> None:
    graph = _Graph(subject.load(), scores=bool(subject.recognised.classes)).eval()
    program: Any = torch.onnx.export(
        graph,
        (subject.images(),),
        input_names=["image"],
        output_names=[_output(subject.recognised)],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    _forget_sources(program.model)
    program.save(folder / "model.onnx", external_data=True)
    files.write_json(folder / "config.json", {ours.KEY: ours.describe(subject.recognised)})


def _forget_sources(model: Any) -> None:
    """Remove the stack traces that torch writes beside every node, since they hold paths of this machine."""
    for part in (model, model.graph):
        part.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


@torch.no_grad()
def _compare(folder: Path, subject: ExportModel) -> tuple[float, float]:
    """The largest difference and value of the outputs, for one image more than the graph was traced with."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    image = torch.cat([subject.images(), subject.images()[:1].flip(-1)])
    output = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
    return largest(output, _Graph(subject.load(), scores=bool(subject.recognised.classes))(image))


def _usage(subject: ExportModel) -> str:
    return f"""import onnxruntime

session = onnxruntime.InferenceSession("DIR/model.onnx")
({_output(subject.recognised)},) = session.run(None, {{"image": images}})  # float32, normalised as below"""


TOOL = Tool(
    name="onnx",
    packages=("onnxruntime",),
    tolerance=1e-4,
    refusal=_refusal,
    write=_write,
    compare=_compare,
    usage=_usage,
)
