"""``underpaint import``: foreign weights become the folders that every stage starts from."""

from __future__ import annotations

import shutil
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from underpaint import config as configs
from underpaint import files
from underpaint.core import DataInfo
from underpaint.messages import say
from underpaint.models import formats
from underpaint.models.formats.key_patterns import (
    ForeignFile,
    Recognised,
    Rule,
    combined_shape,
    from_theirs,
)
from underpaint.models.formats.published import IMAGENET_CLASSES, NON_COMMERCIAL, UNKNOWN_LICENCE
from underpaint.models.image_text import ImageText, ImageTextConfig
from underpaint.models.ngram_tower import NgramConfig
from underpaint.models.pieces import Derived, Info, Tensors, require_finite
from underpaint.models.text_tower import TextConfig
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import save_tensors
from underpaint.objectives.classes import class_name
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.suggest import hint
from underpaint.weights.tokenizers import find_tokenizer, place_of
from underpaint.weights.weight_files import OpenWeights, open_weights

FORMAT = 1
OF_THE_ENCODER = (
    *("heads", "size", "mean", "std", "value_range", "norm_eps"),
    *("view", "crop_share", "interpolation"),
)
"""Fields of the encoder's config that the shapes of its tensors do not determine."""
BESIDES = {
    "decoder_heads": int,
    "norm_pix": bool,
    "mask_ratio": float,
    "text_heads": int,
    "licence": str,
    "labels": Path,
    "tokenizer": Path,
}


class ImportSummary(TypedDict):
    """Imported weights, as they were recognised."""

    format: str
    encoder: dict[str, object]  # the fields of its config, as those below
    classes: int
    decoder: dict[str, object] | None
    text: dict[str, object] | None
    licence: str
    assumed: list[str]  # settings that the file does not say
    left_out: list[str]  # tensors and files without a place
    folder: str


def import_weights(source: str | Path, out: str | Path, given: Sequence[str] = ()) -> ImportSummary:
    """Turn a foreign file or folder of weights into ``OUT/encoder``, and ``OUT/model`` where it has more than that.

    ``given`` supplies as ``name=value`` the settings that the file lacks: ``heads``, ``mean``, ``std`` and the others
    of OF_THE_ENCODER, ``decoder_heads``, ``norm_pix``, ``mask_ratio``, ``text_heads``, the ``licence``, ``labels``, a
    text file with the name of a class per line, and ``tokenizer``, the SentencePiece file of a text tower. Every
    assumption is printed. One tensor is in memory at a time.

    Raises:
        ValueError: for a file of no known format, one that holds more or less than such a file should, values that are
            not finite, or one that needs more than torch's weights-only loading; and for an ``out`` that is not empty.
    """
    source, out = Path(source), Path(out)
    refuse_non_empty(out)
    given_fields = _parse(given)
    opened = open_weights(source)
    tensors = _finite(opened.tensors, where=source.name)
    foreign = _foreign_file(source.name or str(source), opened, tensors, given_fields)
    recognised = formats.recognise(foreign)
    labels, assumed = _labels(recognised, given_fields)
    tokenizer = None
    if recognised.text is not None:
        tokenizer = find_tokenizer(
            source, recognised.text, given_fields.get("tokenizer"), exact=formats.ours.KEY not in opened.config
        )
        assumed += [] if "tokenizer" in given_fields else [f"the tokenizer {tokenizer}"]
    origin = {
        "format": recognised.title,
        "file": foreign.name,
        "xxh3": "+".join(files.xxh3(path) for path in opened.files),
        "licence": given_fields.get("licence", recognised.licence),
    }
    parts = _parts(recognised, foreign, tensors, labels, tokenizer)
    with fresh_folder(out) as folder:
        for part in parts:
            description = {**part.description, "origin": origin}
            save_tensors(folder / part.name, part.tensors, description, part.beside)
    result: ImportSummary = {
        "format": recognised.title,
        "encoder": configs.record(recognised.encoder),
        "classes": recognised.classes,
        "decoder": None if recognised.decoder is None else configs.record(recognised.decoder),
        "text": None if recognised.text is None else configs.record(recognised.text),
        "licence": origin["licence"],
        "assumed": [*recognised.assumed, *assumed],
        "left_out": [*recognised.left_out, *opened.beside],
        "folder": str(out),
    }
    _announce(result, recognised, own_licence="licence" in given_fields)
    return result


def _foreign_file(name: str, opened: OpenWeights, tensors: Tensors, given_fields: dict[str, Any]) -> ForeignFile:
    return ForeignFile(
        name=name,
        shapes={name: info.shape for name, info in tensors.info.items()},
        read=tensors.read,
        wrapped=opened.wrapped,
        arguments=opened.arguments,
        config=opened.config,
        preprocessor=opened.preprocessor,
        licence=opened.licence,
        given=given_fields,
    )


def _finite(tensors: Tensors, where: str) -> Tensors:
    """The same tensors, each checked when it is read.

    Raises:
        ValueError: when a tensor is read that holds NaN or infinite values.
    """

    def read(name: str) -> Tensor:
        value = tensors.read(name)
        require_finite(value, name, where=where)
        return value

    return Derived(tensors.info, read)


def refuse_non_empty(out: Path) -> None:
    """Raises ValueError if ``out`` is a file or a folder with anything in it: nothing of the user's is overwritten."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder; choose another --out")


@contextmanager
def fresh_folder(out: Path) -> Iterator[Path]:
    """``files.new_folder`` that leaves nothing behind when it fails."""
    try:
        with files.new_folder(out) as part:
            yield part
    finally:
        shutil.rmtree(out.with_name(f"{out.name}.part"), ignore_errors=True)


def _parse(given: Sequence[str]) -> dict[str, Any]:
    """The values of the user's ``name=value`` arguments, each parsed to the type of its field.

    Raises:
        ValueError: for an unknown name, with the nearest known one, or a value of another type.
    """
    hints = typing.get_type_hints(ViTConfig)
    kinds: dict[str, Any] = {name: hints[name] for name in OF_THE_ENCODER} | BESIDES
    fields: dict[str, Any] = {}
    for assignment in given:
        name, separator, text = assignment.partition("=")
        if not separator or name not in kinds:
            raise ValueError(f"unknown {assignment!r}; {hint(name, kinds, form='{}=')}")
        fields[name] = configs.parse(text, kinds[name], name=name)
    return fields


def _labels(recognised: Recognised, given_fields: dict[str, Any]) -> tuple[tuple[str, ...], list[str]]:
    """Names of the classes, and what was assumed about them."""
    if not recognised.classes:
        return (), []
    if "labels" in given_fields:
        return read_labels(given_fields["labels"], recognised.classes), []
    if len(recognised.labels) == recognised.classes:
        return _distinct(recognised.labels), []
    if recognised.classes == IMAGENET_CLASSES:
        return _imagenet_labels(), ["the 1000 classes are ImageNet-1k's in the usual order; labels=FILE names others"]
    line = f"the {recognised.classes} classes have no names; they are called by their numbers (labels=FILE names them)"
    return tuple(map(str, range(recognised.classes))), [line]


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """The names of the classes from a text file with one name per line.

    Raises:
        ValueError: if the number of different names is not the number of classes.
    """
    labels = tuple(files.read_lines(path))
    if len(set(labels)) != classes or len(labels) != classes:
        raise ValueError(f"labels={path} has {len(set(labels))} different names, the classifier has {classes} classes")
    return labels


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with a number after each repeated one: two classes of ImageNet are called crane."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(result)


def _imagenet_labels() -> tuple[str, ...]:
    from torchvision.models import ViT_B_16_Weights

    return _distinct(ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"])


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One of the folders to write."""

    name: str
    tensors: Tensors
    description: dict[str, Any]
    beside: dict[str, Any]  # JSON values, and files to copy


def _parts(
    recognised: Recognised, foreign: ForeignFile, source: Tensors, labels: tuple[str, ...], tokenizer: Path | None
) -> list[_Part]:
    """The folders to write; the shape of every tensor is checked against the network built from them."""
    rules = {rule.ours: rule for rule in recognised.rules}
    with torch.device("meta"):
        encoder = ViT(recognised.encoder)
    record = {"type": "vit", "config": configs.record(recognised.encoder)}
    tensors = _derived(encoder, rules, foreign, source, "encoder.")
    parts = [_Part(name="encoder", tensors=tensors, description=record, beside={})]
    if recognised.text is not None and tokenizer is not None:
        return [*parts, _image_text(recognised, recognised.text, foreign, source, tokenizer)]
    objective = objective_of(recognised)
    if objective is None:
        return parts
    data_info = DataInfo(seed=0, labels=labels)
    with torch.device("meta"):
        network = objective.build(data_info)
    description = {
        "type": class_name(objective),
        "config": configs.record(objective),
        "facts": {"seed": data_info.seed, "images": data_info.images},
    }
    beside = {"labels.json": {"format": FORMAT, "labels": list(labels), "count": []}}
    tensors = _derived(network, rules, foreign, source, "")
    return [*parts, _Part(name="model", tensors=tensors, description=description, beside=beside)]


def _image_text(
    recognised: Recognised, text: TextConfig | NgramConfig, foreign: ForeignFile, source: Tensors, tokenizer: Path
) -> _Part:
    """The model of an image tower and a text tower, with its tokenizer."""
    config = ImageTextConfig(
        encoder=recognised.encoder,
        text=text,
        width=recognised.joint_width,
        text_pooling=recognised.text_pooling,
        tokens=recognised.tokens,
    )
    with torch.device("meta"):
        network = ImageText(config)
    description = {"type": type(config).__name__, "config": configs.record(config)}
    description["tokenizer"] = {"size": tokenizer.stat().st_size, "xxh3": files.xxh3(tokenizer)}
    tensors = _derived(network, {rule.ours: rule for rule in recognised.rules}, foreign, source, "")
    return _Part(name="model", tensors=tensors, description=description, beside={str(place_of(tokenizer)): tokenizer})


def objective_of(recognised: Recognised) -> ClassifyConfig | MAEConfig | None:
    """The objective whose network the file holds, where it is more than an encoder."""
    if recognised.decoder is not None:
        return MAEConfig(
            encoder=recognised.encoder,
            decoder=recognised.decoder,
            mask_ratio=recognised.mask_ratio,
            norm_pix=recognised.norm_pix,
        )
    if recognised.classes:
        return ClassifyConfig(encoder=recognised.encoder, stage="finetune", pooling=recognised.pooling, init="mae")
    return None


def _derived(network: nn.Module, rules: dict[str, Rule], foreign: ForeignFile, source: Tensors, prefix: str) -> Derived:
    """The tensors of one of our networks, each made from the foreign ones when it is read.

    Raises:
        ValueError: if one has another shape than the network's.
    """
    info: dict[str, Info] = {}
    wrong = []
    for name, value in network.state_dict().items():
        rule = rules[prefix + name]
        shape = combined_shape(foreign, rule)
        if shape != tuple(value.shape):
            wrong.append(f"{' + '.join(rule.theirs)} has {shape}, not {tuple(value.shape)}")
        info[name] = Info(shape, source.info[rule.theirs[0]].dtype)
    if wrong:
        raise ValueError(f"{foreign.name} has tensors of other shapes than its network: {'; '.join(wrong[:5])}")
    return Derived(info, lambda name: from_theirs(rules[prefix + name], source.read))


def _announce(result: ImportSummary, recognised: Recognised, *, own_licence: bool) -> None:
    """Print the imported network, the assumptions made, the tensors left out, and the licence."""
    c = recognised.encoder
    say(
        f"{result['folder']}: {recognised.title}, {c.size[0]}x{c.size[1]} px, patch {c.patch}, width {c.width}, depth "
        f"{c.depth}, {c.heads} heads, {'cls token' if recognised.pooling == 'cls' else 'mean of the patches'}"
        f"{f', {recognised.classes} classes' if recognised.classes else ''}"
        f"{', with decoder' if recognised.decoder else ''}"
        f"{', with a text tower' if recognised.text else ''}; "
        f"positions are {'the fixed sin-cos ones' if c.positions == 'sincos' else 'learned'}"
    )
    for line in result["assumed"]:
        say(f"  assumed: {line}")
    if result["left_out"]:
        say(f"  left out: {', '.join(result['left_out'])}")
    licence = result["licence"]
    if licence == UNKNOWN_LICENCE:
        licence = "unknown: find it out before you pass anything on (licence=... records it)"
    if licence == NON_COMMERCIAL and not own_licence:
        licence += ", that of weights released in this format: no commercial use (licence=... if these are your own)"
    elif "-nc" in licence.lower():
        licence += ": no commercial use"
    say(f"  licence: {licence}")
