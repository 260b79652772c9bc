"""The encoder whose features of images are kept on disk, for a run that asks for them."""

from __future__ import annotations

import torch

from underpaint.core import FeatureInput
from underpaint.data.captions.caption_data import OpenCaptions
from underpaint.data.feature_store import FeatureMaker
from underpaint.data.open_dataset import OpenDataset
from underpaint.evals.feature_makers import encoder_maker
from underpaint.models.vit import ViT
from underpaint.models.weights import open_trained, start_from
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
    start_from(encoder, open_trained(run.init_from), reset_final_norm=run.reset_final_norm)
    return encoder_maker(encoder.to(device), wanted.image, device=device)
