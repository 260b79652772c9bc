"""Export to Hugging Face's transformers: ViTModel, ViTForImageClassification or ViTMAEForPreTraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from underpaint import files
from underpaint.models.formats.hf import RESAMPLE, saved_rules
from underpaint.models.formats.key_patterns import Recognised
from underpaint.models.pieces import PIECE_BYTES, write_pieces
from underpaint.weights.export_model import ExportModel, Tool, largest, network_logits, plain_input


def _refusal(recognised: Recognised) -> str:
    if recognised.decoder is not None and recognised.decoder.cross:
        return "transformers has no cross decoder; export the encoder/ folder, or to safetensors"
    if recognised.pooling == "mean" or not recognised.encoder.final_norm:
        return "transformers' ViT classifies by the cls token, this network by the mean of the patches"
    if recognised.encoder.value_range[0] != 0:
        return f"transformers' image processor takes values from 0, this network {recognised.encoder.value_range}"
    return plain_input(recognised, tool="transformers' image processor")


def _write(folder: Path, subject: ExportModel) -> None:
    recognised, c = subject.recognised, subject.recognised.encoder
    depth = 0 if recognised.decoder is None else recognised.decoder.depth
    rules = saved_rules(c.depth, head=bool(recognised.classes), decoder_depth=depth)
    write_pieces(folder, subject.under(rules), limit=PIECE_BYTES)
    files.write_json(folder / "config.json", _config(recognised))
    files.write_json(folder / "preprocessor_config.json", _preprocessor(recognised))


def _kind(recognised: Recognised) -> str:
    if recognised.decoder is not None:
        return "ViTMAEForPreTraining"
    return "ViTForImageClassification" if recognised.classes else "ViTModel"


def _config(recognised: Recognised) -> dict[str, Any]:
    c = recognised.encoder
    config: dict[str, Any] = {
        "architectures": [_kind(recognised)],
        "model_type": "vit" if recognised.decoder is None else "vit_mae",
        "hidden_size": c.width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "intermediate_size": c.mlp_ratio * c.width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": c.norm_eps,
        "image_size": c.size[0],
        "patch_size": c.patch,
        "num_channels": c.channels,
        "qkv_bias": True,
    }
    if recognised.classes:
        config["id2label"] = {str(index): label for index, label in enumerate(recognised.labels)}
        config["label2id"] = {label: index for index, label in enumerate(recognised.labels)}
    if recognised.decoder is not None:
        config |= {
            "decoder_hidden_size": recognised.decoder.width,
            "decoder_num_hidden_layers": recognised.decoder.depth,
            "decoder_num_attention_heads": recognised.decoder.heads,
            "decoder_intermediate_size": recognised.decoder.mlp_ratio * recognised.decoder.width,
            "mask_ratio": recognised.mask_ratio,
            "norm_pix_loss": recognised.norm_pix,
        }
    return config


def _preprocessor(recognised: Recognised) -> dict[str, Any]:
    """The config of AutoImageProcessor; CLIP's processor is used for crops, which ViT's cannot make."""
    c = recognised.encoder
    pillow = {name: number for number, name in RESAMPLE.items()}
    common: dict[str, Any] = {
        "do_resize": True,
        "resample": pillow[c.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / c.value_range[1],
        "do_normalize": True,
        "image_mean": list(c.mean),
        "image_std": list(c.std),
        "do_convert_rgb": True,
    }
    square = {"height": c.size[0], "width": c.size[1]}
    if c.view == "stretch":
        return {"image_processor_type": "ViTImageProcessor", "size": square, **common}
    shortest = int(c.size[0] / c.crop_share)
    crop = {"do_center_crop": True, "crop_size": square, "size": {"shortest_edge": shortest}}
    return {"image_processor_type": "CLIPImageProcessor", **crop, **common}


@torch.no_grad()
def _compare(folder: Path, subject: ExportModel) -> tuple[float, float]:
    import transformers

    recognised, image = subject.recognised, subject.images()
    ours: Any = subject.load()
    if recognised.decoder is not None:
        return _compare_reconstruction(transformers.ViTMAEForPreTraining.from_pretrained(folder).eval(), ours, image)
    if recognised.classes:
        theirs: Any = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        return largest(theirs(image).logits, network_logits(ours, image))
    theirs = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    return largest(theirs(image).last_hidden_state, ours(image))


def _compare_reconstruction(theirs: Any, ours: Any, image: torch.Tensor) -> tuple[float, float]:
    """The same patches hidden on both sides: theirs hides those with the largest noise."""
    config = ours.config
    order = torch.arange(config.encoder.num_patches).roll(7).expand(len(image), -1)
    keep, hidden = order[:, : config.num_kept], order[:, config.num_kept :]
    expected = ours.decoder(ours.encoder(image, keep=keep), keep, hidden)
    output = theirs(image, noise=order.argsort(dim=1).float()).logits
    return largest(output.gather(1, hidden[:, :, None].expand_as(expected)), expected)


def _usage(subject: ExportModel) -> str:
    name, last = {
        "ViTModel": ("AutoModel", "last_hidden_state  # tokens, cls first"),
        "ViTForImageClassification": ("AutoModelForImageClassification", "logits"),
        "ViTMAEForPreTraining": ("ViTMAEForPreTraining", "logits  # pixels of the patches"),
    }[_kind(subject.recognised)]
    more = ", add_pooling_layer=False" if name == "AutoModel" else ""
    return f"""from transformers import AutoImageProcessor, {name}

model = {name}.from_pretrained("DIR"{more}).eval()
processor = AutoImageProcessor.from_pretrained("DIR")
model(**processor(images=picture, return_tensors="pt")).{last}"""


TOOL = Tool(
    name="hf",
    packages=("transformers",),
    tolerance=1e-5,
    refusal=_refusal,
    write=_write,
    compare=_compare,
    usage=_usage,
)
