"""The encoder whose features of images are kept on disk, for a run that asks for them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from underpaint.core import FeatureInput, ImageInput
from underpaint.data.captions.caption_data import OpenCaptions
from underpaint.data.captions.feature_store import FeatureMaker
from underpaint.data.open_dataset import OpenDataset
from underpaint.evals.mode import evaluation_mode
from underpaint.models.vit import ViT
from underpaint.models.weights import load_encoder, start_from
from underpaint.run.declare import Run, encoder_of
from underpaint.training.devices import choose_device
from underpaint.training.ranks import Ranks


def with_features(run: Run, opened: OpenDataset, ranks: Ranks) -> OpenDataset:
    """The data with the features that the objective's inputs ask for, if they do.

    Raises:
        ValueError: if the run does not start from an encoder, or its data have no captions.
    """
    wanted = next((each for each in run.objective.inputs.values() if isinstance(each, FeatureInput)), None)
    if wanted is None:
        return opened
    if not run.init_from:
        raise ValueError("cached features are those of a finished encoder: set init_from=RUN with them")
    if not isinstance(opened, OpenCaptions):
        raise ValueError(f"'{opened.name}' has no cached features; they are for images with captions (CaptionData)")
    return opened.with_features(_maker(run, wanted, choose_device(run.device, local_rank=ranks.local_rank)))


def _maker(run: Run, wanted: FeatureInput, device: torch.device) -> FeatureMaker:
    encoder = ViT(encoder_of(run))
    start_from(encoder, load_encoder(run.init_from), reset_final_norm=run.reset_final_norm)
    return feature_maker(encoder.to(device), wanted.image, device=device)


def feature_maker(encoder: ViT, image: ImageInput, *, device: torch.device) -> FeatureMaker:
    """The encoder as the store of features takes it: whoever has the same tensors shares their features."""

    def encode(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        with evaluation_mode(encoder, device):
            return encoder(x.to(device))[:, 0].float().cpu()

    return FeatureMaker(encode=encode, encoder_hash=_hash(encoder), image=image, width=encoder.config.width)


def _hash(encoder: ViT) -> str:
    """Checksum of an encoder: its form and its tensors."""
    import xxhash

    state = xxhash.xxh3_128(repr(encoder.config).encode())
    for name, value in sorted(encoder.state_dict().items()):
        state.update(name.encode())
        state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return state.hexdigest()
