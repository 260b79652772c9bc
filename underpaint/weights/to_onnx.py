"""Export to ONNX: one graph from normalised images to tokens, or to scores, for any number of images.

A model for images and texts becomes two graphs, each to embeddings of length 1.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from underpaint import files
from underpaint.models.formats import ours
from underpaint.models.formats.key_patterns import Recognised
from underpaint.models.image_text import ImageText
from underpaint.texts.tokenizer import open_tokenizer
from underpaint.texts.tokens import START
from underpaint.weights.export_model import ExportModel, Tool, largest, network_logits

OPSET = 20
BATCH = torch.export.Dim("batch")


class _Graph(nn.Module):
    """An encoder's tokens, or a classifier's scores."""

    def __init__(self, network: nn.Module, *, scores: bool) -> None:
        super().__init__()
        self.network = network
        self.scores = scores

    def forward(self, image: Tensor) -> Tensor:
        return network_logits(self.network, image) if self.scores else self.network(image)


class _Tower(nn.Module):
    """Embeddings by one of two towers."""

    def __init__(self, towers: ImageText, *, texts: bool) -> None:
        super().__init__()
        self.towers = towers
        self.texts = texts

    def forward(self, value: Tensor) -> Tensor:
        return self.towers.embed_text(value) if self.texts else self.towers.embed_image(value)


def _refusal(recognised: Recognised) -> str:
    if recognised.decoder is not None:
        return "an ONNX graph of a decoder needs a mask; export the encoder/ folder"
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    return f"it needs {' and '.join(missing)}: pip install '.[export]'" if missing else ""


def _output(recognised: Recognised) -> str:
    return "scores" if recognised.classes else "tokens"


def _write(folder: Path, subject: ExportModel) -> None:
    description = ours.describe(subject.recognised)
    if subject.recognised.text is None:
        graph = _Graph(subject.load(), scores=bool(subject.recognised.classes))
        _export(graph, subject.images(), "image", _output(subject.recognised), folder / "model.onnx", {0: BATCH})
    else:
        towers, tokens = subject.load_towers(), torch.export.Dim("tokens", min=2, max=subject.recognised.tokens)
        image = _Tower(towers, texts=False)
        _export(image, subject.images(), "image", "embeddings", folder / "image.onnx", {0: BATCH})
        text = _Tower(towers, texts=True)
        _export(text, subject.ids(), "ids", "embeddings", folder / "text.onnx", {0: BATCH, 1: tokens})
        description["logit_scale"] = float(subject.tensors.read("logit_scale").exp())
        tokenizer = open_tokenizer(subject.folder).file
        shutil.copyfile(tokenizer, folder / tokenizer.name)
    files.write_json(folder / "config.json", {ours.KEY: description})


def _export(
    graph: nn.Module, example: Tensor, given: str, output: str, path: Path, dynamic: dict[int, torch.export.Dim]
) -> None:
    program: Any = torch.onnx.export(
        graph.eval(),
        (example,),
        input_names=[given],
        output_names=[output],
        dynamic_shapes=(dynamic,),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    _forget_sources(program.model)
    program.save(path, external_data=True)


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
    """The largest difference and value of the outputs, for one input more than the graphs were traced with."""
    image = subject.images()
    image = torch.cat([image, image[:1].flip(-1)])
    if subject.recognised.text is None:
        network = _Graph(subject.load(), scores=bool(subject.recognised.classes))
        return largest(_run(folder / "model.onnx", "image", image), network(image))
    towers, ids = subject.load_towers(), subject.ids()
    ids = torch.cat([ids, ids[:1].roll(2, dims=1)])
    ids[:, 0] = START
    shorter = ids[1:, :-1].contiguous()
    pairs = [
        largest(_run(folder / "image.onnx", "image", image), towers.embed_image(image)),
        *(largest(_run(folder / "text.onnx", "ids", some), towers.embed_text(some)) for some in (ids, shorter)),
    ]
    return max(difference for difference, _ in pairs), max(size for _, size in pairs)


def _run(path: Path, name: str, value: Tensor) -> Tensor:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: value.numpy()})[0])


def _usage(subject: ExportModel) -> str:
    if subject.recognised.text is not None:
        return f"""import onnxruntime

image = onnxruntime.InferenceSession("DIR/image.onnx")
text = onnxruntime.InferenceSession("DIR/text.onnx")
(x,) = image.run(None, {{"image": images}})  # float32, normalised as below; rows of length 1
(y,) = text.run(None, {{"ids": ids}})  # int64: 0, pieces, 2, filled up with 1; at most {subject.recognised.tokens}
scores = logit_scale * x @ y.T  # logit_scale is in config.json"""
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
    texts=True,
)
