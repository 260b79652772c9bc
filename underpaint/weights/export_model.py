"""Networks to export, read from a run folder, with their tensors renamed as another tool names them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from underpaint import config as configs
from underpaint.models.formats.key_patterns import Recognised, Rule, to_theirs
from underpaint.models.formats.maws_clip import TITLE
from underpaint.models.image_text import ImageText, ImageTextConfig
from underpaint.models.pieces import Derived, Info, Tensors
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import encoder_folder, load_encoder, open_tensors, read_config, read_description
from underpaint.objectives.classes import BEFORE, class_name_of
from underpaint.objectives.classify import Classify, ClassifyConfig
from underpaint.objectives.contrast import LARGEST_SCALE
from underpaint.objectives.lit import LitConfig
from underpaint.objectives.mae import MAE, MAEConfig
from underpaint.run.outputs import load_model, read_labels
from underpaint.texts.tokens import END, PAD, START

CLASSIFY = class_name_of(ClassifyConfig)
LIT = class_name_of(LitConfig)

BATCH_NORM_EPS = 1e-6
"""Epsilon of the batch norm before a linear probe's head (objectives/classify.py)."""
IMAGES = 2
"""Number of images with which a network and its export are compared."""


@dataclass(frozen=True, kw_only=True)
class ExportModel:
    """A network to export: an encoder, one with a classifier, with MAE's decoder, or with a text tower."""

    folder: Path  # encoder/ or model/
    recognised: Recognised  # what it is; has no rules
    tensors: Tensors  # encoder.*, fc_norm.*, head.*, decoder.*, text.* and the projections
    logit_bias: float | None = None  # of a model for texts that was trained with the sigmoid loss

    def under(self, rules: Sequence[Rule]) -> Tensors:
        """The tensors under a tool's names, each made when it is read."""
        rule_of = {name: rule for rule in rules for name in rule.theirs}
        info: dict[str, Info] = {}
        for name, rule in rule_of.items():
            shape, dtype = self.tensors.info[rule.ours]
            if rule.swapped:
                shape = (shape[1], shape[0], *shape[2:])
            elif len(rule.theirs) > 1:
                shape = (shape[0] // len(rule.theirs), *shape[1:])
            info[name] = Info(shape, dtype)
        return Derived(info, lambda name: to_theirs(rule_of[name], name, self.tensors.read))

    def with_licence(self, licence: str) -> ExportModel:
        return replace(self, recognised=replace(self.recognised, licence=licence))

    def load(self) -> ViT | Classify | MAE:
        """The network itself, for comparisons; ``load_towers`` is for one with a text tower."""
        assert self.recognised.text is None, "a network with two towers"
        if self.recognised.classes or self.recognised.decoder is not None:
            return load_model(self.folder)  # pyright: ignore[reportReturnType]
        return load_encoder(self.folder)

    def images(self) -> Tensor:
        """Images for comparisons, with fixed values in about [-2, 2]."""
        c = self.recognised.encoder
        step = torch.arange(IMAGES * c.channels * c.size[0] * c.size[1], dtype=torch.float64)
        values = (step * 0.7390851).sin() + (step * step * 1.3e-5).sin()
        return values.float().view(IMAGES, c.channels, *c.size)

    def load_towers(self) -> ImageText:
        """A network with a text tower."""
        network = load_model(self.folder)
        assert isinstance(network, ImageText), "a network without a text tower"
        return network

    def ids(self) -> Tensor:
        """Token ids of texts of different lengths, for comparisons."""
        assert self.recognised.text is not None, "a network without a text tower"
        count = min(self.recognised.tokens, 9)
        rows = torch.arange(IMAGES * count).view(IMAGES, count) * 7919 % (self.recognised.text.vocabulary - 4) + 4
        rows[:, 0], rows[0, -1], rows[1, -2], rows[1, -1] = START, END, END, PAD
        return rows


def open_subject(folder: Path, *, texts: bool = False) -> ExportModel:
    """The network of a run folder (its classifier, else its encoder), or of the ``model/`` or ``encoder/`` given.

    With ``texts`` a run folder gives both towers where it has them.

    Raises:
        ValueError: if the folder holds no network, a damaged one, or one of an objective that cannot be exported.
    """
    if not (folder / "config.json").is_file():
        model = folder / "model"
        recorded = read_config(model / "config.json").get("type") if (model / "config.json").is_file() else ""
        whole = {CLASSIFY, LIT, ImageTextConfig.__name__} if texts else {CLASSIFY}
        folder = model if BEFORE.get(str(recorded), str(recorded)) in whole else encoder_folder(folder)
    description = read_description(folder)
    where, kind = str(folder / "config.json"), str(description.get("type"))
    kind = BEFORE.get(kind, kind)
    record, stored = description.get("config"), open_tensors(folder)
    origin = description.get("origin")
    licence = str(origin.get("licence", "")) if isinstance(origin, dict) else ""
    if kind == "vit":
        config = configs.from_record(ViTConfig, record, where=where)
        info = {f"encoder.{name}": entry for name, entry in stored.info.items()}
        tensors = Derived(info, lambda name: stored.read(name.removeprefix("encoder.")))
        recognised = Recognised(title="encoder", encoder=config, rules=(), licence=licence)
        return ExportModel(folder=folder, recognised=recognised, tensors=tensors)
    if kind == class_name_of(MAEConfig):
        mae = configs.from_record(MAEConfig, record, where=where)
        recognised = Recognised(
            title="MAE",
            encoder=mae.encoder,
            rules=(),
            decoder=mae.decoder,
            norm_pix=mae.norm_pix,
            mask_ratio=mae.mask_ratio,
            licence=licence,
        )
        return ExportModel(folder=folder, recognised=recognised, tensors=stored)
    if kind == ImageTextConfig.__name__:
        both = configs.from_record(ImageTextConfig, record, where=where)
        return ExportModel(folder=folder, recognised=_towers(TITLE, both, licence), tensors=stored)
    if kind == LIT:
        lit = configs.from_record(LitConfig, record, where=where)
        return ExportModel(
            folder=folder,
            recognised=_towers("LiT", lit.towers, licence),
            tensors=_with_plain_scale(stored),
            logit_bias=float(stored.read("logit_bias")) if "logit_bias" in stored.info else None,
        )
    if kind != CLASSIFY:
        raise ValueError(f"{folder} holds the objective {kind!r}; export its encoder/ folder")
    return _classifier(folder, configs.from_record(ClassifyConfig, record, where=where), stored, licence)


def _towers(title: str, config: ImageTextConfig, licence: str) -> Recognised:
    return Recognised(
        title=title,
        encoder=config.encoder,
        rules=(),
        text=config.text,
        joint_width=config.width,
        text_pooling=config.text_pooling,
        tokens=min(config.tokens, config.text.longest),
        licence=licence,
    )


def _with_plain_scale(stored: Tensors) -> Tensors:
    """The tensors of LiT with the scale as it is used, a scalar of at most ln 100, and without a bias of the loss."""
    info = {name: each for name, each in stored.info.items() if name != "logit_bias"}
    info["logit_scale"] = Info((), info["logit_scale"].dtype)

    def make(name: str) -> Tensor:
        value = stored.read(name)
        return value.reshape(()).clamp(max=math.log(LARGEST_SCALE)) if name == "logit_scale" else value

    return Derived(info, make)


def _classifier(folder: Path, config: ClassifyConfig, stored: Tensors, licence: str) -> ExportModel:
    labels, _ = read_labels(folder)
    recognised = Recognised(
        title="classifier",
        encoder=config.encoder,
        rules=(),
        pooling=config.pooling,
        classes=len(labels),
        labels=labels,
        licence=licence,
    )
    tensors = _without_batch_norm(stored) if config.batch_norm else stored
    return ExportModel(folder=folder, recognised=recognised, tensors=tensors)


def _without_batch_norm(stored: Tensors) -> Tensors:
    """The tensors of a linear probe with its batch norm, which has no learned weights, folded into the head."""
    mean, variance = stored.read("batch_norm.running_mean"), stored.read("batch_norm.running_var")
    scale = 1 / (variance + BATCH_NORM_EPS).sqrt()

    def make(name: str) -> Tensor:
        if name == "head.weight":
            return stored.read(name) * scale
        if name == "head.bias":
            return stored.read(name) - stored.read("head.weight") @ (mean * scale)
        return stored.read(name)

    return Derived({name: info for name, info in stored.info.items() if not name.startswith("batch_norm.")}, make)


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool to export to."""

    name: str
    packages: tuple[str, ...]  # needed to load the export
    tolerance: float  # largest difference allowed, where the largest value is 1 or less
    refusal: Callable[[Recognised], str]  # why it cannot express a network; empty if it can
    write: Callable[[Path, ExportModel], None]  # all files but the card
    compare: Callable[[Path, ExportModel], tuple[float, float]]  # largest difference and largest value
    usage: Callable[[ExportModel], str]  # Python that loads the export from DIR
    texts: bool = False  # can express a text tower


def largest(output: Tensor, expected: Tensor) -> tuple[float, float]:
    """The largest difference of two outputs, and the largest value."""
    assert output.shape == expected.shape, (output.shape, expected.shape)
    return float((output.float() - expected.float()).abs().max()), float(expected.abs().max())


def plain_input(recognised: Recognised, *, tool: str) -> str:
    """The reason why a tool for square images of 3 channels refuses this network; "" if it does not."""
    c = recognised.encoder
    if c.channels != 3:
        return f"{tool} takes images of 3 channels, this network {c.channels}"
    if c.size[0] != c.size[1]:
        return f"{tool} takes square images, this network {c.size[0]}x{c.size[1]}"
    return ""


def usual_form(recognised: Recognised, *, tool: str) -> str:
    """The reason why a tool with epsilon 1e-6 and a final norm refuses this network; "" if it does not."""
    if recognised.encoder.norm_eps != 1e-6:
        return (
            f"{tool} has layer norms with epsilon 1e-06, this network {recognised.encoder.norm_eps}; "
            f"import it with norm_eps=1e-6 to have it the other way"
        )
    if not recognised.encoder.final_norm and not recognised.classes:
        return "this encoder has no final norm, its classifier has it (fc_norm); export the model/ folder beside it"
    return ""


def network_logits(network: nn.Module, image: Tensor) -> Tensor:
    """Logits of one of our classifiers, of shape (images, classes)."""
    model: Any = network
    return model.logits(image)
