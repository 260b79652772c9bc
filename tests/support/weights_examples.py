"""Networks with random weights as other tools make and save them, and a plain forward pass that owes nothing to any."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import timm.models.vision_transformer as timm_vit
import torch
import transformers
from timm.models import save_for_hf
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from underpaint.models.vit import sincos_positions

PIXELS, PATCH, WIDTH, DEPTH, HEADS, CLASSES = 32, 8, 32, 2, 4, 5
TOLD = [f"heads={HEADS}", "mean=0.485,0.456,0.406", "std=0.229,0.224,0.225"]
"""What a bare file of no published size leaves open."""
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def images(count: int = 3, pixels: int = PIXELS) -> Tensor:
    return torch.randn(count, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))


def shake(module: torch.nn.Module, seed: int = 0) -> Any:
    """Random values everywhere, norms and biases too, so that no two tensors can be mistaken for each other."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if norm else noise * (0.1 if parameter.ndim > 1 else 0.3))
    return module.eval()


def timm_model(**changes: Any) -> Any:
    settings = {"img_size": PIXELS, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return shake(timm_vit.VisionTransformer(**({"num_classes": 0} | settings | changes)))


def timm_folder(folder: Path, model: Any, **cfg: Any) -> Path:
    """As timm itself saves for the hub."""
    model.pretrained_cfg = {
        "architecture": "vit_base_patch16_224",
        "input_size": (3, PIXELS, PIXELS),
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "num_classes": model.num_classes,
        **HALF,
        **cfg,
    }
    args = {"img_size": PIXELS, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    save_for_hf(model, str(folder), model_args=args, safe_serialization=True)
    return folder


def hf_settings(**changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS}
    return settings | {"intermediate_size": 4 * WIDTH, "image_size": PIXELS, "patch_size": PATCH} | changes


def hf_vit(folder: Path, **changes: Any) -> Any:
    model = shake(transformers.ViTModel(transformers.ViTConfig(**hf_settings(**changes))))
    return hf_save(folder, model)


def hf_classifier(folder: Path) -> Any:
    labels = {index: f"kind {index}" for index in range(CLASSES)}
    config = transformers.ViTConfig(**hf_settings(), id2label=labels, label2id={v: k for k, v in labels.items()})
    return hf_save(folder, shake(transformers.ViTForImageClassification(config)))


def hf_mae(folder: Path, **changes: Any) -> Any:
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2}
    config = transformers.ViTMAEConfig(**hf_settings(**decoder, decoder_intermediate_size=64, **changes))
    return hf_save(folder, shake(transformers.ViTMAEForPreTraining(config)))


def hf_save(folder: Path, model: Any) -> Any:
    model.save_pretrained(folder)
    size = {"height": PIXELS, "width": PIXELS}
    transformers.ViTImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    return model


def torchvision_model(classes: int = CLASSES) -> VisionTransformer:
    return shake(
        VisionTransformer(
            image_size=PIXELS,
            patch_size=PATCH,
            num_layers=DEPTH,
            num_heads=HEADS,
            hidden_dim=WIDTH,
            mlp_dim=4 * WIDTH,
            num_classes=classes,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        )
    )


def maws_tensors(pixels: int = PIXELS, *, patch: int = PATCH, classes: int = 0) -> dict[str, Tensor]:
    """The key and shape table of paper.md 6.1, filled at random."""
    d, generator = WIDTH, torch.Generator().manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, d),
        "pos_embed": (1, (pixels // patch) ** 2 + 1, d),
        "patch_embed.proj.weight": (d, 3, patch, patch),
        "patch_embed.proj.bias": (d,),
    }
    for i in range(DEPTH):
        shapes |= {f"blocks.{i}.{name}.weight": (d,) for name in ("norm1", "norm2")}
        shapes |= {f"blocks.{i}.{name}.bias": (d,) for name in ("norm1", "norm2", "attn.proj", "mlp.fc2")}
        shapes |= {f"blocks.{i}.attn.qkv.weight": (3 * d, d), f"blocks.{i}.attn.qkv.bias": (3 * d,)}
        shapes |= {f"blocks.{i}.attn.proj.weight": (d, d), f"blocks.{i}.mlp.fc1.weight": (4 * d, d)}
        shapes |= {f"blocks.{i}.mlp.fc1.bias": (4 * d,), f"blocks.{i}.mlp.fc2.weight": (d, 4 * d)}
    shapes |= {"norm.weight": (d,), "norm.bias": (d,)}
    if classes:
        shapes |= {"head.weight": (classes, d), "head.bias": (classes,)}
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def mae_tensors(width: int = 16, depth: int = 2) -> dict[str, Tensor]:
    """Encoder and decoder in MAE's public layout, fixed positions included."""
    generator = torch.Generator().manual_seed(2)
    grid = (PIXELS // PATCH, PIXELS // PATCH)
    encoder = maws_tensors() | {"pos_embed": sincos_positions(WIDTH, grid)}
    block = {name: value for name, value in encoder.items() if name.startswith("blocks.0.")}
    decoder: dict[str, tuple[int, ...]] = {
        "mask_token": (1, 1, width),
        "decoder_embed.weight": (width, WIDTH),
        "decoder_embed.bias": (width,),
        "decoder_norm.weight": (width,),
        "decoder_norm.bias": (width,),
        "decoder_pred.weight": (3 * PATCH * PATCH, width),
        "decoder_pred.bias": (3 * PATCH * PATCH,),
    }
    for i in range(depth):
        for name, value in block.items():
            shape = tuple(side * width // WIDTH for side in value.shape)
            decoder[name.replace("blocks.0.", f"decoder_blocks.{i}.")] = shape
    drawn = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in decoder.items()}
    return encoder | drawn | {"decoder_pos_embed": sincos_positions(width, grid)}


def mae_arguments(**values: Any) -> argparse.Namespace:
    """What MAE's main_pretrain.py saves beside the weights."""
    return argparse.Namespace(**{"norm_pix_loss": True, "mask_ratio": 0.75, "blr": 1.5e-4, "output_dir": "x"} | values)


SWAG_NAMES = {
    "norm1": "ln_1",
    "attn.qkv.": "self_attention.in_proj_",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.linear_1",
    "mlp.fc2": "mlp.linear_2",
}


def swag_tensors(classes: int = 0) -> dict[str, Tensor]:
    """The same numbers as ``maws_tensors`` under SWAG's names."""
    tensors = maws_tensors(classes=classes)
    names = swag_names(tensors)
    tensors["pos_embed"] = tensors["pos_embed"].transpose(0, 1).contiguous()
    return {names[name]: value for name, value in tensors.items()}


def swag_names(names: Iterable[str]) -> dict[str, str]:
    """SWAG's name of each of MAWS's tensors."""
    result = {}
    for name in names:
        new = name.replace("cls_token", "class_token").replace("patch_embed.proj", "conv_proj")
        new = new.replace("pos_embed", "encoder.pos_embedding")
        new = f"encoder.ln.{name[5:]}" if name.startswith("norm.") else new.replace("head.", "head.layers.head.")
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            for ours, theirs in SWAG_NAMES.items():
                rest = rest.replace(ours, theirs)
            new = f"encoder.layers.layer_{number}.{rest}"
        result[name] = new
    return result


def plain_forward(tensors: dict[str, Tensor], image: Tensor, *, heads: int = HEADS, eps: float = 1e-6) -> Tensor:
    """Tokens of a ViT whose tensors have MAE's names, written from paper.md 1.1 with the plainest operations."""
    t = tensors
    patch, d = t["patch_embed.proj.weight"].shape[-1], t["cls_token"].shape[-1]
    b, _, h, w = image.shape
    rows = []
    for top in range(0, h, patch):
        for left in range(0, w, patch):
            pixels = image[:, :, top : top + patch, left : left + patch].reshape(b, -1)
            rows.append(pixels @ t["patch_embed.proj.weight"].reshape(d, -1).T + t["patch_embed.proj.bias"])
    x = torch.stack(rows, dim=1)
    x = torch.cat([t["cls_token"].expand(b, 1, d), x], dim=1) + t["pos_embed"]
    return plain_norm(plain_blocks(t, x, "blocks", heads, eps), t, "norm", eps)


def plain_blocks(t: dict[str, Tensor], x: Tensor, name: str, heads: int, eps: float = 1e-6) -> Tensor:
    d = x.shape[-1]
    size = d // heads
    depth = len({key.split(".")[1] for key in t if key.startswith(f"{name}.")})
    for i in range(depth):
        at = f"{name}.{i}."
        y = plain_norm(x, t, f"{at}norm1", eps)
        qkv = y @ t[f"{at}attn.qkv.weight"].T + t[f"{at}attn.qkv.bias"]
        mixed = []
        for head in range(heads):
            q, k, v = (qkv[..., part * d + head * size : part * d + (head + 1) * size] for part in range(3))
            mixed.append(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(size), dim=-1) @ v)
        x = x + torch.cat(mixed, dim=-1) @ t[f"{at}attn.proj.weight"].T + t[f"{at}attn.proj.bias"]
        y = plain_norm(x, t, f"{at}norm2", eps)
        y = y @ t[f"{at}mlp.fc1.weight"].T + t[f"{at}mlp.fc1.bias"]
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        x = x + y @ t[f"{at}mlp.fc2.weight"].T + t[f"{at}mlp.fc2.bias"]
    return x


def plain_norm(x: Tensor, t: dict[str, Tensor], name: str, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / torch.sqrt(centred.square().mean(dim=-1, keepdim=True) + eps)
    return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]


def plain_reconstruction(t: dict[str, Tensor], image: Tensor, shown: list[int], *, decoder_heads: int) -> Tensor:
    """Predictions for all patches as MAE's own code makes them: tokens put back into the order of the image."""
    b, n = image.shape[0], t["pos_embed"].shape[1] - 1
    whole = F.conv2d(image, t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], stride=PATCH)
    x = whole.flatten(2).transpose(1, 2) + t["pos_embed"][:, 1:]
    x = torch.cat([(t["cls_token"] + t["pos_embed"][:, :1]).expand(b, -1, -1), x[:, shown]], dim=1)
    x = plain_norm(plain_blocks(t, x, "blocks", HEADS), t, "norm", 1e-6)
    x = x @ t["decoder_embed.weight"].T + t["decoder_embed.bias"]
    full = t["mask_token"].expand(b, n, -1).clone()
    full[:, shown] = x[:, 1:]
    x = torch.cat([x[:, :1], full], dim=1) + t["decoder_pos_embed"]
    x = plain_norm(plain_blocks(t, x, "decoder_blocks", decoder_heads), t, "decoder_norm", 1e-6)
    return (x @ t["decoder_pred.weight"].T + t["decoder_pred.bias"])[:, 1:]
