"""``underpaint export``: weights to elsewhere."""

from __future__ import annotations

import argparse

from underpaint.cli.verb import Verb

EXAMPLES = """\
  underpaint export runs/mae_wsp --to timm --out exported/timm
  underpaint export runs/mae_wsp/encoder --to hf --out exported/hf
  underpaint export runs/finetuned --to onnx --out exported/onnx
  underpaint export runs/lit --to open_clip --out exported/open_clip"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="DIR", help="folder of a finished run or of imported weights, or its model/ or encoder/")
    add("--to", metavar="TOOL", required=True, help="timm, hf, torchvision, onnx, safetensors or open_clip")
    add("--out", metavar="DIR", required=True, help="new folder for the tool to load")


def call(options: argparse.Namespace) -> None:
    from underpaint.weights.exporting import export_weights

    export_weights(options.folder, options.to, options.out)


EXPORT = Verb(
    name="export",
    help="write the weights of a run for another tool, and compare its outputs",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
