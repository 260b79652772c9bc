"""``underpaint import``: weights of other tools."""

from __future__ import annotations

import argparse

from underpaint.cli.verb import Verb, add_overrides

EXAMPLES = """\
  underpaint import mae_pretrain_vit_base.pth --out weights/mae_vit_b16
  underpaint import ./vit-base-patch16-224 --out weights/vit_b16
  underpaint import encoder.pth heads=12 licence=Apache-2.0 --out weights/mine
  underpaint import vit_b16_xlmr_b.pt tokenizer=xlmr.sentencepiece.bpe.model --out weights/maws_clip
  underpaint train wsp_vit_b16 data.source=./photos data.tags=tags.csv init_from=weights/mae_vit_b16 --out runs/wsp
Only weights are read; no code from a file is run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="FILE_OR_DIR", help=".pth, .pt or .safetensors file, or folder of them")
    add_overrides(parser, "settings that the file does not contain, such as heads=12", form="name=value")
    add("--out", metavar="DIR", required=True, help="new folder, to start runs from (init_from) or to evaluate")


def call(options: argparse.Namespace) -> None:
    from underpaint.weights.importing import import_weights

    import_weights(options.source, options.out, options.overrides)


IMPORT = Verb(
    name="import",
    help="convert weights of MAE, MAWS, MAWS-CLIP, SWAG, timm, torchvision or Hugging Face",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
