"""Files of networks that are no plain ViT, built by the libraries that publish them, are refused by their names."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

from underpaint.models.formats import recognise
from underpaint.models.formats.key_patterns import ForeignFile
from underpaint.models.formats.known_networks import known_network

OF_TIMM = {
    "resnet18": "a ResNet",
    "resnext50_32x4d": "a ResNet",
    "convnext_atto": "a ConvNeXt",
    "convnextv2_atto": "a ConvNeXt V2",
    "swin_tiny_patch4_window7_224": "a Swin",
    "swinv2_tiny_window8_256": "a Swin V2",
    "efficientnet_b0": "an EfficientNet",
    "tf_efficientnetv2_b0": "an EfficientNet",
    "mobilenetv2_100": "an EfficientNet or MobileNet",
    "mobilenetv3_large_100": "a MobileNetV3",
    "vit_small_patch14_dinov2": "a ViT with layer scale (DeiT III, DINOv2)",
    "vit_small_patch14_reg4_dinov2": "a DINOv2 with registers and layer scale",
    "vit_small_patch16_dinov3": "a DINOv3",
    "deit_tiny_distilled_patch16_224": "a distilled DeiT",
    "deit3_small_patch16_224": "a ViT with layer scale (DeiT III, DINOv2)",
    "beit_base_patch16_224": "a BEiT",
    "eva02_tiny_patch14_224": "an EVA or VideoMAE",
    "vit_base_patch16_siglip_224": "the image tower of a SigLIP",
    "vit_base_patch16_clip_224": "the image tower of a CLIP",
    "samvit_base_patch16": "a SAM",
    "cait_xxs24_224": "a CaiT",
    "mixer_b16_224": "an MLP-Mixer",
    "vit_tiny_r_s16_p8_224": "a ViT on the features of a convolutional network",
    "maxvit_tiny_tf_224": "a MaxViT or CoAtNet",
    "regnety_002": "a RegNet",
    "densenet121": "a DenseNet",
    "vgg11": "a VGG or AlexNet",
}
OF_TORCHVISION = {
    "resnet18": "a ResNet",
    "wide_resnet50_2": "a ResNet",
    "convnext_tiny": "a ConvNeXt",
    "swin_t": "a Swin",
    "swin_v2_t": "a Swin V2",
    "efficientnet_b0": "an EfficientNet",
    "efficientnet_v2_s": "an EfficientNet",
    "mobilenet_v2": "a MobileNetV2",
    "mobilenet_v3_small": "a MobileNetV3",
    "maxvit_t": "a MaxViT or CoAtNet",
    "densenet121": "a DenseNet",
    "vgg11": "a VGG or AlexNet",
    "alexnet": "a VGG or AlexNet",
}
SMALL: dict[str, Any] = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
OF_TRANSFORMERS = {
    "CLIP": ("CLIPModel", {}, "a CLIP or SigLIP of transformers"),
    "CLIPText": ("CLIPTextModel", SMALL, "the text tower of a CLIP"),
    "CLIPVision": ("CLIPVisionModel", SMALL, "the image tower of a CLIP"),
    "Siglip": ("SiglipModel", {}, "a CLIP or SigLIP of transformers"),
    "SiglipVision": ("SiglipVisionModel", SMALL, "the image tower of a SigLIP"),
    "Dinov2": ("Dinov2Model", SMALL, "a DINOv2 with layer scale"),
    "Dinov2WithRegisters": ("Dinov2WithRegistersModel", SMALL, "a DINOv2 with registers and layer scale"),
    "DINOv3ViT": ("DINOv3ViTModel", SMALL, "a DINOv3"),
    "Swin": ("SwinModel", {}, "a Swin"),
    "ConvNext": ("ConvNextModel", {}, "a ConvNeXt"),
    "ConvNextV2": ("ConvNextV2Model", {}, "a ConvNeXt V2"),
    "ResNet": ("ResNetModel", {}, "a ResNet"),
    "EfficientNet": ("EfficientNetModel", {}, "an EfficientNet"),
    "Beit": ("BeitModel", SMALL, "a BEiT"),
    "DeiT": ("DeiTModel", SMALL, "a distilled DeiT"),
    "Bert": ("BertModel", SMALL, "a BERT or RoBERTa, which reads texts"),
    "XLMRoberta": ("XLMRobertaModel", SMALL, "a BERT or RoBERTa, which reads texts"),
    "Llama": ("LlamaModel", SMALL, "a language model"),
}
BY_HAND = {  # as the code of the papers names them, which no library here has
    "a CLIP of OpenAI or OpenCLIP": ["visual.conv1.weight", "token_embedding.weight", "logit_scale"],
    "the text tower of a CLIP": ["transformer.resblocks.0.attn.in_proj_weight", "token_embedding.weight"],
    "the image tower of a CLIP": ["transformer.resblocks.0.attn.in_proj_weight", "class_embedding", "conv1.weight"],
    "a DINOv2 with layer scale": ["cls_token", "mask_token", "patch_embed.proj.weight", "blocks.0.0.ls1.gamma"],
    "a DINOv2 with registers and layer scale": ["register_tokens", "mask_token", "blocks.0.ls1.gamma"],
    "a DINOv3": ["storage_tokens", "rope_embed.periods", "blocks.0.ls1.gamma"],
    "a DINO checkpoint with student and teacher": ["student.module.backbone.cls_token", "teacher.backbone.cls_token"],
    "a MoCo v3 checkpoint": ["base_encoder.cls_token", "momentum_encoder.cls_token"],
    "a ViTDet with relative positions": ["net.pos_embed", "net.blocks.0.attn.rel_pos_h"],
    "a SAM": ["image_encoder.blocks.0.attn.rel_pos_h", "mask_decoder.iou_token.weight"],
    "a ConvNeXt": ["downsample_layers.0.0.weight", "stages.0.0.dwconv.weight", "stages.0.0.gamma"],
    "a ViT with layer scale (DeiT III, DINOv2)": ["cls_token", "blocks.0.gamma_1", "blocks.0.attn.qkv.weight"],
    "a LoRA adapter": ["base_model.blocks.0.attn.qkv.lora_A.weight", "base_model.blocks.0.attn.qkv.lora_B.weight"],
    "a YOLO": ["0.conv.weight", "0.bn.weight", "2.cv1.conv.weight"],
    "a U-Net or VAE of a diffusion model": ["conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"],
}


def refusal(names: dict[str, tuple[int, ...]], **more: Any) -> str:
    def read(name: str) -> Tensor:
        raise AssertionError(f"{name} was read")

    with pytest.raises(ValueError, match=r"plain") as raised:
        recognise(ForeignFile(name="x.pth", shapes=names, read=read, **more))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def refused(network: nn.Module, name: str) -> None:
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for more in ({}, {"wrapped": True}, {"config": {"model_type": "any"}}):
        assert refusal(shapes, **more).startswith(f"x.pth is {name}; ")


@pytest.mark.parametrize("architecture", OF_TIMM)
def test_networks_of_timm(architecture: str) -> None:
    with torch.device("meta"):
        refused(timm.create_model(architecture), OF_TIMM[architecture])


@pytest.mark.parametrize("architecture", OF_TORCHVISION)
def test_networks_of_torchvision(architecture: str) -> None:
    with torch.device("meta"):
        refused(torchvision.models.get_model(architecture), OF_TORCHVISION[architecture])


@pytest.mark.parametrize("architecture", OF_TRANSFORMERS)
def test_networks_of_transformers(architecture: str) -> None:
    model, settings, name = OF_TRANSFORMERS[architecture]
    config = getattr(transformers, f"{architecture}Config")(**settings)
    with torch.device("meta"):
        refused(getattr(transformers, model)(config), name)


@pytest.mark.parametrize("name", BY_HAND)
def test_networks_of_other_code(name: str) -> None:
    assert refusal(dict.fromkeys(BY_HAND[name], (1,))).startswith(f"x.pth is {name}; ")


def test_every_pattern_has_been_seen() -> None:
    """A network of the table that no case shows would be one that nobody has checked."""
    from underpaint.models.formats.known_networks import NETWORKS

    shown = {*OF_TIMM.values(), *OF_TORCHVISION.values(), *BY_HAND, *(name for *_, name in OF_TRANSFORMERS.values())}
    assert {network.name for network in NETWORKS} == shown


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "vit_base_patch16_224", "vit_huge_patch14_224"])
@pytest.mark.parametrize("settings", [{}, {"num_classes": 0}, {"global_pool": "avg"}])
def test_plain_vits_are_none_of_them(architecture: str, settings: dict[str, Any]) -> None:
    with torch.device("meta"):
        assert known_network(timm.create_model(architecture, **settings).state_dict()) is None
