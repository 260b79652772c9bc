"""Networks other than a plain ViT, recognised by the names of their tensors; their files are refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LAYER_SCALE = r"(ls1\.gamma|layer_scale1\.lambda1)$"
_REGISTERS = r"(register_tokens|reg_token)$"


@dataclass(frozen=True)
class Network:
    """A kind of network, and what its tensors are called."""

    name: str
    patterns: tuple[str, ...]
    """Each must fit a name, from its start or from behind a dot."""
    advice: str = ""

    def fits(self, names: str) -> bool:
        """``names`` are joined by line ends."""
        return all(re.search(rf"(?m)(?:^|\.){pattern}", names) for pattern in self.patterns)


NETWORKS = (
    # checkpoints of other training code
    Network("a DINO checkpoint with student and teacher", (r"student\.", r"teacher\."), "save its teacher alone"),
    Network("a MoCo v3 checkpoint", (r"base_encoder\.", r"momentum_encoder\."), "save its base encoder alone"),
    Network("a LoRA adapter", (r"lora_[AB]\b",), "merge it into its network first"),
    # images and texts
    Network("a CLIP of OpenAI or OpenCLIP", (r"visual\.", r"token_embedding\.weight$")),
    Network("the text tower of a CLIP", (r"transformer\.resblocks\.", r"token_embedding\.weight$")),
    Network("the image tower of a CLIP", (r"transformer\.resblocks\.", r"class_embedding$")),
    Network("a CLIP or SigLIP of transformers", (r"text_model\.", r"vision_model\.")),
    Network("the text tower of a CLIP", (r"embeddings\.token_embedding\.weight$", r"self_attn\.k_proj\.")),
    Network("the image tower of a CLIP", (r"embeddings\.class_embedding$", r"self_attn\.k_proj\.")),
    Network("the image tower of a SigLIP", (r"embeddings\.patch_embedding\.weight$", r"self_attn\.k_proj\.")),
    Network("the image tower of a CLIP", (r"blocks\.0\.attn\.qkv\.weight$", r"norm_pre\.weight$")),
    Network("the image tower of a SigLIP", (r"blocks\.0\.attn\.qkv\.weight$", r"attn_pool\.")),
    Network("a BERT or RoBERTa, which reads texts", (r"embeddings\.word_embeddings\.weight$",)),
    Network("a language model", (r"embed_tokens\.weight$", r"self_attn\.q_proj\.")),
    # vision transformers with more than a plain one has
    Network("a SAM", (r"attn\.rel_pos_h$", r"(mask_decoder\.|neck\.)")),
    Network("a ViTDet with relative positions", (r"attn\.rel_pos_h$",)),
    Network("a DINOv3", (r"rope_embed\.periods$",)),
    Network("a DINOv3", (_REGISTERS, r"blocks\.0\.gamma_1$")),
    Network("a DINOv3", (_REGISTERS, r"(?<!encoder\.)layer\.0\.layer_scale1\.lambda1$")),
    Network("a DINOv2 with registers and layer scale", (_REGISTERS, _LAYER_SCALE)),
    Network("a DINOv2 with layer scale", (r"mask_token$", _LAYER_SCALE)),
    Network("a Swin V2", (r"\d+\.attn\.cpb_mlp\.",)),
    Network("a CaiT", (r"blocks_token_only\.",)),
    Network("a BEiT", (r"attn\.q_bias$", r"gamma_1$")),
    Network("a BEiT", (r"layers?\.0\.lambda_1$",)),
    Network("an EVA or VideoMAE", (r"blocks\.0\.attn\.q_bias$",)),
    Network("a ViT with layer scale (DeiT III, DINOv2)", (r"(blocks\.0\.gamma_1$|" + _LAYER_SCALE + ")",)),
    Network("a ViT on the features of a convolutional network", (r"patch_embed\.backbone\.",)),
    Network("a distilled DeiT", (r"(dist_token|distillation_token)$",)),
    Network("a Swin", (r"(layers|features)\.\d+\.(blocks\.)?\d+\.att\S*relative_position_bias_table$",)),
    Network("a MaxViT or CoAtNet", (r"(stages\.\d+\.blocks\.\d+\.conv\.pre_norm\.|MBconv\.)",)),
    Network("an MLP-Mixer", (r"blocks\.0\.mlp_tokens\.",)),
    # convolutional networks
    Network("a ConvNeXt V2", (r"(conv_dw|dwconv)\.weight$", r"grn\.")),
    Network("a ConvNeXt", (r"stages\.\d+\.((blocks|layers)\.)?\d+\.(conv_dw|dwconv)\.weight$",)),
    Network("a ConvNeXt", (r"features\.\d+\.\d+\.layer_scale$",)),
    Network("a MobileNetV3", (r"conv_stem\.weight$", r"conv_head\.bias$")),
    Network("an EfficientNet", (r"conv_stem\.weight$", r"blocks\.\d+\.\d+\.se\.")),
    Network("an EfficientNet", (r"(features\.1\.0\.block\.0\.0|depthwise_conv\.depthwise_conv)\.weight$",)),
    Network("a MobileNetV3", (r"features\.1\.block\.0\.0\.weight$",)),
    Network("a MobileNetV2", (r"features\.1\.conv\.0\.0\.weight$",)),
    Network("an EfficientNet or MobileNet", (r"conv_stem\.weight$", r"blocks\.0\.0\.")),
    Network("a ResNet", (r"layer1\.0\.conv1\.weight$", r"bn1\.weight$")),
    Network("a ResNet", (r"embedder\.embedder\.convolution\.weight$",)),
    Network("a RegNet", (r"(s1\.b1\.conv1\.conv\.weight$|trunk_output\.block1\.)",)),
    Network("a DenseNet", (r"denseblock1\.denselayer1\.",)),
    Network("a VGG or AlexNet", (r"features\.0\.bias$", r"features\.3\.bias$", r"(classifier\.6|pre_logits\.fc1)\.")),
    Network("a YOLO", (r"0\.conv\.weight$", r"\d+\.cv1\.conv\.weight$")),
    Network("a U-Net or VAE of a diffusion model", (r"(down_blocks\.0\.resnets\.|input_blocks\.0\.0\.)",)),
)
"""Networks in the order in which they are tried: the most specific first."""


def known_network(names: Iterable[str]) -> Network | None:
    """The network that tensors of these names make, if it is one of those that cannot be imported."""
    joined = "\n".join(names)
    return next((network for network in NETWORKS if network.fits(joined)), None)
