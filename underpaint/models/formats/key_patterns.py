"""Foreign files before their tensors are read, the networks recognised in them, and rules from their names to ours.

Every format is a table of names; one list of rules serves import and export.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from underpaint.models.image_text import TextPooling
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.ngram_tower import NgramConfig
from underpaint.models.text_tower import TextConfig
from underpaint.models.vit import IMAGENET_MEAN, IMAGENET_STD, NORM_EPS, ViTConfig, sincos_positions
from underpaint.texts.tokenizer import CONTEXT

HEADS = {
    (192, 12): 3,
    (384, 12): 6,
    (768, 12): 12,
    (1024, 24): 16,
    (1280, 32): 16,
    (2560, 24): 32,
    (4096, 32): 32,
}
"""Attention heads by width and depth of the sizes that everybody builds alike (paper.md 1.1), since no shape tells."""

SINCOS_TOLERANCE = 1e-5
IMAGENET: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


@dataclass(frozen=True, kw_only=True)
class ForeignFile:
    """A file or folder of weights, before its tensors are read."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    wrapped: bool = False  # the tensors stood under "model", as MAE's training code saves them
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the training run that wrote it
    config: Mapping[str, Any] = field(default_factory=dict)  # config.json
    preprocessor: Mapping[str, Any] = field(default_factory=dict)  # preprocessor_config.json
    licence: str = ""  # of the model card
    given: Mapping[str, Any] = field(default_factory=dict)  # what the user says, for what the file does not


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One tensor of ours from one or several of theirs, stacked along the first axis (query, key, value)."""

    ours: str
    theirs: tuple[str, ...]
    swapped: bool = False  # their first two axes are exchanged


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """Network recognised in a foreign file: enough to build it and to fill it."""

    title: str
    encoder: ViTConfig
    rules: tuple[Rule, ...]  # for all tensors of encoder.*, and of whatever comes on top of it
    pooling: Literal["cls", "mean"] = "cls"
    classes: int = 0
    labels: tuple[str, ...] = ()
    decoder: DecoderConfig | None = None
    norm_pix: bool = True
    mask_ratio: float = 0.75
    text: TextConfig | NgramConfig | None = None  # the tower for texts, of a model for images and texts
    joint_width: int = 0  # of the space that both are projected to
    text_pooling: TextPooling = "first"
    tokens: int = CONTEXT + 2  # of a text, start and end included
    licence: str = ""
    left_out: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()  # what neither the file nor the user says, in sentences


class Names:
    """A table from our names to theirs: stems stand for weight and bias, ``{i}`` for the number of a block."""

    def __init__(self, once: Mapping[str, str], block: Mapping[str, str | tuple[str, ...]]) -> None:
        self.once, self.block = once, block

    def rules(self, depth: int, prefix: str, leave: Sequence[str] = ()) -> tuple[Rule, ...]:
        """Rules for all tensors; ``prefix`` comes before our names."""
        rules = [self._pair(ours, (theirs,), prefix) for ours, theirs in self.once.items() if ours not in leave]
        for index in range(depth):
            for ours, theirs in self.block.items():
                stems = (theirs,) if isinstance(theirs, str) else theirs
                numbered = tuple(stem.format(i=index) for stem in stems)
                rules.append(self._pair(ours.format(i=index), numbered, prefix))
        return tuple(rule for pair in rules for rule in pair)

    def _pair(self, ours: str, theirs: tuple[str, ...], prefix: str) -> tuple[Rule, ...]:
        if ours.endswith(("_token", "pos_embed")):
            return (Rule(ours=prefix + ours, theirs=theirs),)
        return tuple(
            Rule(ours=f"{prefix}{ours}.{kind}", theirs=tuple(self._joined(stem, kind) for stem in theirs))
            for kind in ("weight", "bias")
        )

    def _joined(self, stem: str, kind: str) -> str:
        return f"{stem}_{kind}" if stem.endswith("in_proj") else f"{stem}.{kind}"


BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
ENCODER = ("cls_token", "pos_embed", "patch_embed.proj", "norm")


def depth_of(names: Iterable[str], pattern: str) -> int:
    """Blocks of a network: one more than the largest number that ``pattern`` finds."""
    numbers = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    return 1 + max(numbers, default=-1)


def head_rules() -> tuple[Rule, ...]:
    """The classifier where its names are ours."""
    return tuple(Rule(ours=f"head.{kind}", theirs=(f"head.{kind}",)) for kind in ("weight", "bias"))


def checked(recognised: Recognised, foreign: ForeignFile) -> Recognised:
    """The find itself, if it accounts for every tensor of the file.

    Raises:
        ValueError: listing the tensors that are missing and those that have no place.
    """
    wanted = {name for rule in recognised.rules for name in rule.theirs}
    missing = sorted(wanted - foreign.shapes.keys())
    unknown = sorted(foreign.shapes.keys() - wanted - set(recognised.left_out))
    if missing or unknown:
        raise ValueError(f"{foreign.name} looks like a {recognised.title}, but {names_wrong(missing, unknown)}")
    return recognised


def names_wrong(missing: Sequence[str], unknown: Sequence[str]) -> str:
    listed = [(missing, "it lacks"), (unknown, "these have no place in a plain ViT:")]
    return "; ".join(f"{what} {_some(names)}" for names, what in listed if names)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


AXES = {
    r"(^|\.)(patch_embed\.proj|conv_proj|patch_embeddings\.projection)\.weight$": 4,
    r"(^|\.)(cls_token|class_token|pos_embed|pos_embedding|position_embeddings|mask_token)$": 3,
    r"^(head|heads\.head|head\.layers\.head|classifier|(decoder\.)?decoder_embed)\.weight$": 2,
    r"\.(fc1|mlp\.0|linear_1|intermediate\.dense|linear1|residual_mlp\.mlp\.0)\.weight$": 2,
    r"^text_encoder\..*(token_embedding|positional_embedding\.embedding)\.weight$": 2,
    r"^(vision|text)_projection$": 2,
}
"""Number of axes of the tensors whose shapes determine the form of a network, by patterns of their names."""


def require_axes(foreign: ForeignFile) -> None:
    """Raises ValueError if a tensor that tells the form of the network has another number of axes, or an empty one."""
    for name, shape in foreign.shapes.items():
        wanted = next((count for pattern, count in AXES.items() if re.search(pattern, name)), 0)
        if wanted and (len(shape) != wanted or 0 in shape):
            video = "; it is made for videos" if wanted == 4 and len(shape) == 5 else ""
            raise ValueError(f"{foreign.name} has {name} of shape {shape}, not of {wanted} axes{video}: no plain ViT")


def require(foreign: ForeignFile, rules: Iterable[Rule], title: str) -> None:
    """Raises ValueError if the tensors that tell the shape of the encoder are missing."""
    theirs = {rule.ours: rule.theirs for rule in rules}
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
    missing = [
        name
        for ours in needed
        for name in theirs.get(f"encoder.{ours}", (f"the tensors of {ours}",))
        if name not in foreign.shapes
    ]
    if missing:
        raise ValueError(f"{foreign.name} looks like a {title}, but {names_wrong(missing, ())}")


def combined_shape(foreign: ForeignFile, rule: Rule) -> tuple[int, ...]:
    """The shape of our tensor, from theirs."""
    shapes = [foreign.shapes[name] for name in rule.theirs]
    shape = (sum(shape[0] for shape in shapes), *shapes[0][1:]) if len(shapes) > 1 else shapes[0]
    return (shape[1], shape[0], *shape[2:]) if rule.swapped else shape


def from_theirs(rule: Rule, read: Callable[[str], Tensor]) -> Tensor:
    """Our tensor from theirs."""
    parts = [read(name) for name in rule.theirs]
    value = parts[0] if len(parts) == 1 else torch.cat(parts)
    return value.transpose(0, 1) if rule.swapped else value


def to_theirs(rule: Rule, name: str, read: Callable[[str], Tensor]) -> Tensor:
    """One of their tensors from ours: the inverse of ``from_theirs``."""
    value = read(rule.ours)
    value = value.transpose(0, 1) if rule.swapped else value
    if len(rule.theirs) == 1:
        return value
    return value.chunk(len(rule.theirs))[rule.theirs.index(name)]


def encoder_config(
    foreign: ForeignFile,
    rules: Sequence[Rule],
    *,
    title: str,
    said: Mapping[str, Any],
    usual: Mapping[str, Any],
    assumed: list[str],
) -> ViTConfig:
    """The config of an encoder from the shapes of its tensors.

    Fields that no shape tells come from the user (``foreign.given``), else from what the file says (``said``), else
    from what files of this format usually have; every use of the last adds a line to ``assumed``.

    Raises:
        ValueError: for shapes that our encoder cannot have, or a field that nobody tells.
    """
    require(foreign, rules, title)
    shape = {rule.ours.removeprefix("encoder."): rule for rule in rules if rule.ours.startswith("encoder.")}
    width, channels, patch, across = combined_shape(foreign, shape["patch_embed.proj.weight"])
    if patch != across:
        raise ValueError(f"{foreign.name} has patches of {patch} x {across} pixels; only square ones can be used")
    hidden = combined_shape(foreign, shape["blocks.0.mlp.fc1.weight"])[0]
    if hidden % width:
        raise ValueError(
            f"{foreign.name} has an MLP of {hidden} for a width of {width}; only whole multiples can be used"
        )
    depth = depth_of(shape, r"blocks\.(\d+)\.")
    fields: dict[str, Any] = {"patch": patch, "channels": channels, "width": width, "depth": depth}
    fields |= {"mlp_ratio": hidden // width, "final_norm": "norm.weight" in shape}
    stated = {**said, **{name: foreign.given[name] for name in foreign.given if name in ViTConfig.__dataclass_fields__}}
    fields["size"] = _size(foreign, combined_shape(foreign, shape["pos_embed"]), stated, patch)
    fields["heads"] = _heads(foreign, stated, width, depth, assumed)
    if channels != 3 and not {"mean", "std"} <= stated.keys():
        raise ValueError(f"{foreign.name} takes images of {channels} channels; add mean=... and std=..., one each")
    if "mean" in stated and "std" in stated:
        usual = {name: value for name, value in usual.items() if name not in ("mean", "std")}
    if not {"mean", "std"} <= {**usual, **stated}.keys():
        raise ValueError(
            f"{foreign.name} ({title}) does not say how its images are normalised: add mean=0.5,0.5,0.5 "
            f"std=0.5,0.5,0.5, or ImageNet's mean=0.485,0.456,0.406 std=0.229,0.224,0.225"
        )
    taken = [f"{name}={_shown(value)}" for name, value in usual.items() if name not in stated]
    if taken:
        assumed.append(f"{' '.join(taken)}, as files of this format have it")
    fields |= {**usual, **{name: value for name, value in stated.items() if name not in fields}}
    fields.setdefault("norm_eps", NORM_EPS)
    fields["positions"] = _positions(foreign, shape["pos_embed"], width, fields["size"], patch)
    return ViTConfig(**fields)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _size(foreign: ForeignFile, positions: tuple[int, ...], stated: Mapping[str, Any], patch: int) -> tuple[int, int]:
    """Height and width of the images, from the number of positions."""
    patches = positions[1] - 1
    if "size" in stated:
        size = tuple(stated["size"])
        if (size[0] // patch) * (size[1] // patch) != patches:
            raise ValueError(
                f"{foreign.name} has {patches} patches of {patch} pixels; size={size[0]},{size[1]} has others"
            )
        return size[0], size[1]
    side = math.isqrt(max(patches, 0))
    if side < 1 or side * side != patches:
        raise ValueError(
            f"{foreign.name} has {positions[1]} positions, which is not a cls token and a square grid: "
            f"add size=HEIGHT,WIDTH"
        )
    return side * patch, side * patch


def _heads(foreign: ForeignFile, stated: Mapping[str, Any], width: int, depth: int, assumed: list[str]) -> int:
    if "heads" in stated:
        return stated["heads"]
    if (width, depth) not in HEADS:
        raise ValueError(
            f"{foreign.name} does not say how many attention heads it has, and width {width} with depth {depth} "
            f"is not one of the usual sizes: add heads=N"
        )
    assumed.append(f"heads={HEADS[width, depth]}, as in every ViT of width {width} and depth {depth}")
    return HEADS[width, depth]


def _positions(
    foreign: ForeignFile, rule: Rule, width: int, size: tuple[int, int], patch: int
) -> Literal["sincos", "learned"]:
    """``sincos`` if they are MAE's fixed ones; whether WSP trained them is not known of MAWS (paper.md 1.5)."""
    if width % 4:
        return "learned"
    fixed = sincos_positions(width, (size[0] // patch, size[1] // patch))
    embeddings = from_theirs(rule, foreign.read).float()
    if embeddings.shape != fixed.shape or not (embeddings - fixed).abs().max() <= SINCOS_TOLERANCE:
        return "learned"
    return "sincos"
