"""A licence and a family are named for published sizes alone; timm and torchvision build the networks.

Networks stand on ``meta``: names and shapes decide, and of values only positions are read.
"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from underpaint.models.formats import recognise
from underpaint.models.formats.key_patterns import ForeignFile, Recognised

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
MAWS = "encoder of MAWS or IG-MAE"


def recognised(network: nn.Module, name: str = "x.pth", *, wrapped: bool = False, **given: Any) -> Recognised:
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}

    def read(key: str) -> Tensor:
        return torch.zeros(shapes[key])

    return recognise(ForeignFile(name=name, shapes=shapes, read=read, wrapped=wrapped, given={**HALF, **given}))


def build(name: str, **settings: Any) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **settings)


UNPUBLISHED = {
    "vit_tiny_patch16_224": 3,
    "vit_tiny_patch16_384": 3,
    "vit_small_patch16_224": 6,
    "vit_small_patch32_224": 6,
    "vit_base_patch8_224": 12,
    "vit_base_patch32_224": 12,
    "vit_base_patch16_384": 12,
    "vit_large_patch14_224": 16,
    "deit_tiny_patch16_224": 3,
    "deit_base_patch16_384": 12,
}


@pytest.mark.parametrize("classes", [0, 1000])
@pytest.mark.parametrize("name", UNPUBLISHED)
def test_nothing_is_claimed_of_what_timm_alone_has_published(name: str, classes: int) -> None:
    network = build(name, num_classes=classes)
    bare = recognised(network)
    assert (bare.title, bare.licence) == ("ViT in the naming of timm", "")
    assert bare.encoder.heads == UNPUBLISHED[name]
    wrapped = recognised(network, wrapped=True)
    assert (wrapped.title.split(" ", 1)[1], wrapped.licence) == ("in MAE's layout", "")


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"num_classes": 0}, MAWS),
        ({"num_classes": 1000}, "ViT in the naming of timm"),  # MAWS has classifiers at 512 and 518 px
        ({"num_classes": 1000, "img_size": 512}, "finetuned MAWS"),
        ({"num_classes": 365, "img_size": 512}, "ViT in the naming of timm"),
        ({"num_classes": 0, "img_size": 512}, "ViT in the naming of timm"),
        ({"num_classes": 0, "depth": 11}, "ViT in the naming of timm"),
        ({"num_classes": 0, "mlp_ratio": 3.0}, "ViT in the naming of timm"),
        ({"num_classes": 0, "in_chans": 4}, "ViT in the naming of timm"),
    ],
)
def test_one_difference_of_shape_ends_the_claim(settings: dict[str, Any], title: str) -> None:
    given = dict.fromkeys(HALF, (0.5,) * settings.get("in_chans", 3))
    network = build("vit_base_patch16_224", **settings)
    found = recognised(network, heads=12, **given)
    assert (found.title, found.licence) == (title, "CC-BY-NC-4.0" if "MAWS" in title else "")


def test_other_heads_than_published_end_the_claim() -> None:
    """The same names and shapes, and what the user says of the heads."""
    assert recognised(build("vit_base_patch16_224", num_classes=0), heads=6).licence == ""


def test_deit_is_not_mae() -> None:
    """It is saved under ``model`` as MAE is, but it classifies by the cls token: MAE's classifiers by the mean."""
    deit = recognised(build("deit_base_patch16_224"), wrapped=True)
    assert (deit.title, deit.licence, deit.pooling) == ("classifier in MAE's layout", "", "cls")
    mae = recognised(build("vit_base_patch16_224", global_pool="avg"), wrapped=True)
    assert (mae.title, mae.licence, mae.pooling) == ("finetuned classifier of MAE", "CC-BY-NC-4.0", "mean")
    places = recognised(build("vit_base_patch16_224", global_pool="avg", num_classes=365), wrapped=True)
    assert (places.title, places.licence) == ("classifier in MAE's layout", "")


OF_TORCHVISION = [
    (name, weights)
    for name in torchvision.models.list_models(module=torchvision.models, include="vit_*")
    for weights in torchvision.models.get_model_weights(name)
]


@pytest.mark.parametrize(("name", "weights"), OF_TORCHVISION, ids=str)
def test_all_that_torchvision_publishes(name: str, weights: Any) -> None:
    """Its own records tell which weights have another licence than the library."""
    side = weights.meta["min_size"][0]
    with torch.device("meta"):
        network = torchvision.models.get_model(name, image_size=side)
    plain = recognised(network)
    assert plain.title == "ViT of torchvision"
    assert sum(value.numel() for value in network.parameters()) == weights.meta["num_params"]
    if "license" in weights.meta:
        assert "CC-BY-NC-4.0" in plain.licence
        assert recognised(network, f"{name}_swag-c0ffee.pth").licence == "CC-BY-NC-4.0"
    else:
        assert plain.licence.startswith("BSD-3-Clause")


def test_a_vit_of_torchvision_s_code_that_it_never_published() -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model("vit_b_16", num_classes=10)
        small = torchvision.models.VisionTransformer(224, 16, 12, 3, 192, 768)
    for name in ("mine.pth", "mine_swag.pth"):
        assert recognised(network, name).licence == ""
        assert recognised(small, name, heads=3).licence == ""
