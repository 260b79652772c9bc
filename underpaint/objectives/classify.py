"""Softmax cross-entropy against the labels of an image: WSP on tags, finetuning and linear probing on classes.

The paper's loss (paper.md 1.4): an image with k distinct labels has the target 1/k for each of them. Options beside it:
targets weighted by inverse document frequency (SuperClass) and one binary cross-entropy per label (CatLIP).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.config import LATER
from underpaint.core import (
    PAD_LABEL,
    ClipBatch,
    DataInfo,
    ImageInput,
    Inputs,
    LabelBatch,
    LabelInput,
    Step,
    weighted_mean,
)
from underpaint.costs.parts import EncoderLayers
from underpaint.models.flops import classify_flops
from underpaint.models.init import Scheme, head_rule, initialise, initialise_encoder
from underpaint.models.pooling import Pooling, pool
from underpaint.models.video import VideoViT
from underpaint.models.vit import ViT, ViTConfig, drop_path_factors, encoder_layer_of
from underpaint.objectives.layers import HeadLayers
from underpaint.objectives.scores import Reduction, Scores, score

Loss = Literal["softmax", "softmax_idf", "bce"]


@dataclass(frozen=True, kw_only=True)
class LabelClassifierConfig:
    """Fields that classifiers of images and of clips have in common."""

    encoder: ViTConfig = field(default_factory=ViTConfig)
    # Take width, depth, patch and normalisation of the encoder from ``init_from``; its size stays.
    shape_from_start: bool = field(default=False, metadata=LATER)
    stage: Literal["wsp", "finetune", "linear"] = "wsp"
    loss: Loss = "softmax"
    pooling: Pooling = "cls"  # cls after `norm`, or mean of the patch tokens and `fc_norm`
    label_smoothing: float = 0.0
    drop_path: float = 0.0  # rate at the last block
    frozen_encoder: bool = False
    batch_norm: bool = False  # BatchNorm without affine before the head (MAE's linear probe)
    head_init_std: float = 0.0
    init: Scheme = "swag"  # of an encoder that starts from scratch

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing} must lie in [0, 1)")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path={self.drop_path} must lie in [0, 1)")
        if self.loss == "bce" and self.label_smoothing:
            raise ValueError("label_smoothing applies to softmax losses; set it to 0 with loss=bce")
        if self.pooling == "mean" and self.encoder.final_norm:
            raise ValueError("pooling=mean norms the mean of the tokens itself (fc_norm): set encoder.final_norm=false")

    @property
    def reduction(self) -> Reduction:
        """Reduction of the scores of all labels that the loss needs."""
        return "softplus" if self.loss == "bce" else "logsumexp"

    def require_labels(self, data_info: DataInfo) -> None:
        """Raise ValueError if there is nothing to tell apart."""
        if len(data_info.labels) < 2:
            raise ValueError(f"a classifier needs at least two labels, but the data has {len(data_info.labels)}")


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(LabelClassifierConfig):
    """A classifier of images."""

    @property
    def inputs(self) -> Inputs:
        return {"image": self.encoder.image_input, "labels": LabelInput()}

    def build(self, data_info: DataInfo) -> Classify:
        self.require_labels(data_info)
        return Classify(self, data_info)

    def layers(self, data_info: DataInfo) -> tuple[EncoderLayers, HeadLayers]:
        """Layers that a training step computes, for the planner."""
        trained, labels = not self.frozen_encoder, len(data_info.labels)
        return (
            EncoderLayers(encoder=self.encoder, trained=trained, drop_path=self.drop_path > 0),
            HeadLayers(encoder=self.encoder, labels=labels, trained_encoder=trained),
        )

    def flops_per_sample(self, data_info: DataInfo) -> int:
        return classify_flops(self.encoder, len(data_info.labels), frozen_encoder=self.frozen_encoder)


class LabelClassifier(nn.Module):
    """Encoder, one linear head, and the loss of the head's scores."""

    idf: Tensor

    def __init__(self, config: LabelClassifierConfig, data_info: DataInfo, encoder: ViT | VideoViT) -> None:
        super().__init__()
        self.config = config
        self.labels = data_info.labels
        self.drop_path_key = keyed_random.key(data_info.seed, config.stage, "drop_path")
        width = config.encoder.width
        self.encoder = encoder
        self.fc_norm = nn.LayerNorm(width, eps=config.encoder.norm_eps) if config.pooling == "mean" else nn.Identity()
        self.batch_norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if config.batch_norm else nn.Identity()
        self.head = nn.Linear(width, len(data_info.labels))
        self.register_buffer("idf", inverse_document_frequency(data_info), persistent=False)
        initialise(self.fc_norm, rule=head_rule(0.0), seed=data_info.seed, prefix="fc_norm")
        initialise(self.head, rule=head_rule(config.head_init_std), seed=data_info.seed, prefix="head")
        if config.frozen_encoder:
            self.encoder.requires_grad_(False)

    def drop_path(self, position: Int64[Tensor, " b"]) -> Float[Tensor, "b depth 2"] | None:
        """Factors of stochastic depth in training; None without."""
        if not (self.training and self.config.drop_path):
            return None
        return drop_path_factors(self.drop_path_key, position, self.config.encoder.depth, self.config.drop_path)

    def step(self, feature: Float[Tensor, "b d"], batch: LabelBatch | ClipBatch) -> Step:
        """Loss and hits of a batch from the features of its samples."""
        scores = score(self.head, feature, batch["labels"], self.config.reduction)
        per_sample = self.loss(scores, batch["labels"], batch.get("share"))
        hit = (scores.argmax[:, None] == batch["labels"]).any(dim=1).float()
        return Step(weighted_mean(per_sample, batch["weight"]), {"hit": weighted_mean(hit, batch["weight"])})

    def blocks(self) -> list[nn.Module]:
        return list(self.encoder.blocks)

    def layer_of(self, name: str) -> int:
        return encoder_layer_of(name, self.config.encoder.depth)

    def pooled(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        """Pooled and normalised feature of each sample, the input of the head."""
        return self.batch_norm(self.fc_norm(pool(tokens, self.config.pooling)))

    def scores_of(self, feature: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Scores of the classes from the features of samples."""
        return self.head(feature)

    def probabilities_of(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """Probability of each class: they sum to 1, or are independent of each other under the per-label loss."""
        scores = scores.float()
        return scores.sigmoid() if self.config.loss == "bce" else scores.softmax(dim=1)

    def loss(
        self, scores: Scores, labels: Int64[Tensor, "b l"], share: Float[Tensor, " b"] | None = None
    ) -> Float[Tensor, " b"]:
        """Loss of each sample; with ``share``, of one mixed with another, whose labels are the second half."""
        if self.config.loss == "bce":
            return binary_cross_entropy(scores, len(self.labels), shares_of_labels(labels, share))
        importance = self.idf if self.config.loss == "softmax_idf" else torch.ones_like(self.idf)
        smoothing = self.config.label_smoothing
        if share is None:
            mass = target_mass(labels, importance)
        else:
            halves = [target_mass(half, importance) for half in labels.chunk(2, dim=1)]
            mass = torch.cat(halves, dim=1) * shares_of_labels(labels, share)
        return softmax_cross_entropy(scores, mass, classes=len(self.labels), label_smoothing=smoothing)


class Classify(LabelClassifier):
    """A classifier of images."""

    encoder: ViT

    def __init__(self, config: ClassifyConfig, data_info: DataInfo) -> None:
        encoder = ViT(config.encoder)
        initialise_encoder(encoder, scheme=config.init, seed=data_info.seed)
        super().__init__(config, data_info, encoder)

    def forward(self, batch: LabelBatch) -> Step:
        return self.step(self.feature(batch["image"], self.drop_path(batch["position"])), batch)

    @property
    def image_input(self) -> ImageInput:
        """The images that it takes."""
        return self.config.encoder.image_input

    def logits(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Scores of the classes, whose names are ``labels``."""
        return self.scores_of(self.feature(image, None))

    def probabilities(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Probability of each class, as ``probabilities_of``."""
        return self.probabilities_of(self.logits(image))

    def feature(
        self, image: Float[Tensor, "b c h w"], drop_path: Float[Tensor, "b depth 2"] | None
    ) -> Float[Tensor, "b d"]:
        """Pooled and normalised feature of each image, the input of the head."""
        return self.pooled(self.encoder(image, drop_path=drop_path))


def inverse_document_frequency(data_info: DataInfo) -> Float[Tensor, " k"]:
    """log(images / images with the label), at least a little above zero so that a label on every image still counts."""
    if not data_info.label_count:
        return torch.ones(len(data_info.labels))
    count = torch.tensor(data_info.label_count, dtype=torch.float64)
    return (
        torch.log((1 + data_info.images) / count.clamp(min=1))
        .clamp(min=math.log1p(1 / max(data_info.images, 1)))
        .float()
    )


def target_mass(labels: Int64[Tensor, "b l"], importance: Float[Tensor, " k"]) -> Float[Tensor, "b l"]:
    """The share of the target each listed label gets: proportional to its importance, 1/k where all are equal."""
    present = labels != PAD_LABEL
    weight = importance[labels.clamp(min=0)] * present
    return weight / weight.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


def softmax_cross_entropy(
    scores: Scores, mass: Float[Tensor, "b l"], *, classes: int, label_smoothing: float = 0.0
) -> Float[Tensor, " b"]:
    """``-sum_c t_c log p_c`` from the target mass of the listed labels, without a dense target.

    ``mass`` may hold any soft labels (rows that sum to 1); padded entries have mass 0.
    """
    log_z = scores.log_partition
    loss = mass.sum(dim=1) * log_z - (mass * scores.label_logits).sum(dim=1)
    if not label_smoothing:
        return loss
    return (1 - label_smoothing) * loss + label_smoothing * (log_z - scores.total / classes)


def shares_of_labels(labels: Int64[Tensor, "b l"], share: Float[Tensor, " b"] | None) -> Float[Tensor, "b l"]:
    """The share of the image that a label belongs to: 1 where images are not mixed."""
    if share is None:
        return torch.ones_like(labels, dtype=torch.float32)
    half = labels.shape[1] // 2
    return torch.stack([share, 1 - share], dim=1).repeat_interleave(half, dim=1)


def binary_cross_entropy(scores: Scores, classes: int, target: Float[Tensor, "b l"]) -> Float[Tensor, " b"]:
    """Mean over all classes of the binary cross-entropy; listed labels have ``target``, all others are negative."""
    return (scores.log_partition - (target * scores.label_logits).sum(dim=1)) / classes
