"""Classification of videos by the loss of classify.py (paper section 4.4): one clip is a sample."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from underpaint import keyed_random
from underpaint.core import ClipBatch, ClipInput, DataInfo, Inputs, LabelInput, Step
from underpaint.models.video import ClipConfig, VideoViT, initialise_video
from underpaint.models.video_flops import clip_flops
from underpaint.objectives.classify import LabelClassifier, LabelClassifierConfig
from underpaint.objectives.clip_layers import ClipLayers
from underpaint.objectives.layers import HeadLayers


@dataclass(frozen=True, kw_only=True)
class ClassifyClipsConfig(LabelClassifierConfig):
    """A classifier of clips; ``encoder`` has the form of each frame."""

    clip: ClipConfig = field(default_factory=ClipConfig)
    dropout: float = 0.0  # of the head's input

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must lie in [0, 1)")

    @property
    def inputs(self) -> Inputs:
        return {"clip": self.clip.input_of(self.encoder.image_input), "labels": LabelInput()}

    def build(self, data_info: DataInfo) -> ClassifyClips:
        self.require_labels(data_info)
        return ClassifyClips(self, data_info)

    def layers(self, data_info: DataInfo) -> tuple[ClipLayers, HeadLayers]:
        """Layers that a training step computes, for the planner."""
        trained = not self.frozen_encoder
        clips = ClipLayers(encoder=self.encoder, clip=self.clip, trained=trained, drop_path=self.drop_path > 0)
        head = HeadLayers(
            encoder=self.encoder,
            labels=len(data_info.labels),
            trained_encoder=trained,
            tokens=1 + clips.tubelets,
            norms_mean=self.pooling == "mean",
        )
        return clips, head

    def flops_per_sample(self, data_info: DataInfo) -> int:
        return clip_flops(self.encoder, self.clip, len(data_info.labels), frozen_encoder=self.frozen_encoder)


class ClassifyClips(LabelClassifier):
    """A classifier of clips."""

    encoder: VideoViT

    def __init__(self, config: ClassifyClipsConfig, data_info: DataInfo) -> None:
        encoder = VideoViT(config.encoder, config.clip)
        initialise_video(encoder, scheme=config.init, seed=data_info.seed)
        super().__init__(config, data_info, encoder)
        self.dropout = config.dropout
        self.dropout_key = keyed_random.key(data_info.seed, config.stage, "dropout")

    def forward(self, batch: ClipBatch) -> Step:
        position = batch["position"]
        feature = self.feature(batch["clip"], self.drop_path(position))
        if self.training and self.dropout:
            draw = keyed_random.uniform(self.dropout_key, position, feature.shape[1])
            feature = feature * (draw >= self.dropout) / (1 - self.dropout)
        return self.step(feature, batch)

    @property
    def clip_input(self) -> ClipInput:
        """The clips that it takes."""
        return self.encoder.clip.input_of(self.config.encoder.image_input)

    def logits(self, clip: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b k"]:
        """Scores of the classes, whose names are ``labels``, for single clips."""
        return self.scores_of(self.feature(clip, None))

    def feature(
        self, clip: Float[Tensor, "b c t h w"], drop_path: Float[Tensor, "b depth 2"] | None
    ) -> Float[Tensor, "b d"]:
        """Pooled and normalised feature of each clip, the input of the head."""
        return self.pooled(self.encoder(clip, drop_path=drop_path))
