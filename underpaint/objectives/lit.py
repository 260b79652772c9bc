"""Stage 3, LiT: a text tower learns the image embeddings of a locked encoder (paper.md 1.6; Zhai et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint.config import LATER, OPERATIONAL
from underpaint.core import DataInfo, FeatureInput, FeaturePairBatch, Inputs, PairBatch, Step, TextInput, weighted_mean
from underpaint.costs.parts import EncoderLayers
from underpaint.models.flops import lit_flops
from underpaint.models.image_text import ImageText, ImageTextConfig, TextPooling
from underpaint.models.init import initial_value, initialise, initialise_encoder, projection_rule, text_rule
from underpaint.models.ngram_tower import NgramConfig
from underpaint.models.text_start import open_text_start
from underpaint.models.text_tower import TextConfig
from underpaint.models.vit import ViTConfig, encoder_layer_of
from underpaint.objectives.contrast import (
    LARGEST_SCALE,
    PairLoss,
    Pairs,
    clamped_scale,
    gather_pairs,
    sigmoid_loss,
    softmax_loss,
)
from underpaint.objectives.lit_layers import NgramLayers, PairLayers, TextLayers, text_layers


@dataclass(frozen=True, kw_only=True)
class LitConfig:
    encoder: ViTConfig = field(default_factory=ViTConfig)
    text: TextConfig | NgramConfig = field(default_factory=TextConfig)
    width: int = 768  # of the common space
    # Text tower to start from, with its tokenizer: a folder, or an installed package: use-multilingual, minilm.
    # "" starts from scratch with a tokenizer trained on the captions.
    text_from: str = field(default="", metadata=OPERATIONAL)
    locked_text: bool = field(default=False, metadata=LATER)  # train the projections alone, not the text tower
    tokens: int = 32  # of a text, start and end included; longer texts are cut
    text_pooling: TextPooling = "first"
    loss: PairLoss = "softmax"
    logit_scale: float = 1 / 0.07  # factor of the cosines at the start
    logit_bias: float = -10.0  # loss=sigmoid: added to the scaled cosines, at the start
    # Encode every image once and keep its feature: no crops are drawn, and an epoch costs the text tower alone.
    cached_features: bool = False
    unlocked_blocks: int = 0  # last blocks of the image tower that are trained, with its final norm; 0 locks it
    stage: Literal["lit"] = "lit"

    def __post_init__(self) -> None:
        if not 3 <= self.tokens <= self.text.longest:
            raise ValueError(
                f"tokens={self.tokens} of a text must lie between 3 and {self.text.longest}, its positions"
            )
        if not 0 <= self.unlocked_blocks <= self.encoder.depth:
            raise ValueError(
                f"unlocked_blocks={self.unlocked_blocks} must lie between 0 and depth={self.encoder.depth}"
            )
        if not 0 < self.logit_scale <= LARGEST_SCALE:
            raise ValueError(f"logit_scale={self.logit_scale} must lie above 0 and not above {LARGEST_SCALE:.0f}")
        if not math.isfinite(self.logit_bias):
            raise ValueError(f"logit_bias={self.logit_bias} must be finite")
        if self.cached_features and self.unlocked_blocks:
            raise ValueError(
                f"cached_features=true keeps the features of a locked image tower, and unlocked_blocks="
                f"{self.unlocked_blocks} trains it; set one of them"
            )
        if not self.text_from and (self.locked_text or isinstance(self.text, NgramConfig)):
            why = "locked_text=true" if self.locked_text else "a tower of n-grams, whose embeddings are never trained,"
            raise ValueError(f"{why} needs text_from, a trained text tower to start from")
        _ = self.towers  # refuses a width that no network has

    @property
    def towers(self) -> ImageTextConfig:
        """The network alone, as other tools and evaluations take it."""
        return ImageTextConfig(
            encoder=self.encoder,
            text=self.text,
            width=self.width,
            text_pooling=self.text_pooling,
            tokens=self.tokens,
        )

    @property
    def inputs(self) -> Inputs:
        text = TextInput(tokens=self.tokens, vocabulary=self.text.vocabulary, tokenizer=self.text_from)
        image = self.encoder.image_input
        if self.cached_features:
            return {"feature": FeatureInput(width=self.encoder.width, image=image), "text": text}
        return {"image": image, "text": text}

    @property
    def needs_whole_batch(self) -> bool:
        """A sample's loss depends on the others of its batch, so a batch cannot be split into microbatches."""
        return True

    def start_hash(self) -> str:
        """Checksum of the text tower that the run starts from, or "".

        Raises:
            ValueError: if it is of another form than this one.
        """
        if not self.text_from:
            return ""
        start = open_text_start(self.text_from)
        start.require_fit(self.text, self.text_pooling)
        return start.content_hash()

    def start_tensors(self) -> dict[str, Tensor]:
        """The tensors of the text tower that the run starts from, by their names in the objective."""
        if not self.text_from:
            return {}
        return {f"text.{name}": value for name, value in open_text_start(self.text_from).tensors().items()}

    def start_languages(self) -> tuple[str, ...]:
        """Languages of the texts that the text tower was trained on before, where they are known."""
        try:
            return open_text_start(self.text_from).languages if self.text_from else ()
        except ValueError:  # the run was moved, and its folder is not here: a finished run is not lost for a remark
            return ()

    def build(self, data_info: DataInfo) -> Lit:
        return Lit(self, seed=data_info.seed)

    def layers(self, data_info: DataInfo) -> tuple[EncoderLayers | TextLayers | NgramLayers | PairLayers, ...]:
        """Layers that a training step computes, for the planner."""
        unlocked = self.unlocked_blocks
        image = EncoderLayers(encoder=self.encoder, trained=unlocked > 0, trained_blocks=unlocked)
        return (
            *(() if self.cached_features else (image,)),
            text_layers(self.text, self.tokens, locked=self.locked_text),
            PairLayers(
                image_width=self.encoder.width,
                text_width=self.text.width,
                width=self.width,
                unlocked=unlocked > 0,
                locked_text=self.locked_text,
            ),
        )

    def flops_per_sample(self, data_info: DataInfo) -> int:
        return lit_flops(
            self.towers,
            self.tokens,
            unlocked_blocks=self.unlocked_blocks,
            cached_features=self.cached_features,
            locked_text=self.locked_text,
        )


class Lit(ImageText):
    """Both towers, and the loss of the pairs of a batch."""

    def __init__(self, config: LitConfig, *, seed: int) -> None:
        super().__init__(config.towers)
        self.lit = config
        # of one element, since FSDP shards no scalars
        self.logit_scale = nn.Parameter(torch.tensor([math.log(config.logit_scale)]))
        self.logit_bias = nn.Parameter(torch.tensor([config.logit_bias])) if config.loss == "sigmoid" else None
        initialise_encoder(self.encoder, scheme="mae", seed=seed)
        initialise(self.text, rule=text_rule, seed=seed, prefix="text")
        with torch.no_grad():
            for name in ("image_projection", "text_projection"):
                projection: Tensor = getattr(self, name)
                projection.copy_(initial_value(name, tuple(projection.shape), rule=projection_rule, seed=seed))
        self.text.requires_grad_(not config.locked_text)
        self.encoder.requires_grad_(False)
        for block in self.encoder.blocks[config.encoder.depth - config.unlocked_blocks :]:
            block.requires_grad_(True)
        self.encoder.norm.requires_grad_(config.unlocked_blocks > 0)

    def forward(self, batch: PairBatch | FeaturePairBatch) -> Step:
        image = self.project_image(batch["feature"]) if "feature" in batch else self.embed_image(batch["image"])
        text = self.embed_text(batch["text"])
        with torch.autocast(image.device.type, enabled=False):
            wide = torch.promote_types(image.dtype, torch.float32)
            pairs = gather_pairs(
                image.to(wide), text.to(wide), ids=batch["text"], weight=batch["weight"], over_ranks=self.training
            )
            scale = clamped_scale(self.logit_scale[0])
            loss = weighted_mean(self.loss(pairs, scale), batch["weight"])
        hit = pairs.positive.gather(1, (pairs.image @ pairs.all_texts.T).argmax(dim=1, keepdim=True))[:, 0]
        scalars = {"hit": weighted_mean(hit.to(wide), batch["weight"]), "logit_scale": scale.detach()}
        return Step(loss, scalars)

    def loss(self, pairs: Pairs, scale: Float[Tensor, ""]) -> Float[Tensor, " b"]:
        if self.logit_bias is None:
            return softmax_loss(pairs, scale)
        return sigmoid_loss(pairs, scale, self.logit_bias[0])

    def blocks(self) -> list[nn.Module]:
        return [*self.encoder.blocks, *self.text.blocks]

    def layer_of(self, name: str) -> int:
        return encoder_layer_of(name, self.lit.encoder.depth)
