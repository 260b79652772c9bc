"""Deep visual prompt tuning (VPT): a frozen ViT with a few trained tokens in front of the patches of every block.

Jia et al. 2022, and their code (KMnP/vpt, src/models/vit_prompt/vit.py): prompts stand after cls, have no positions,
and the block's outputs for them are thrown away: the next block gets prompts of its own.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.models.vit import ViT, ViTConfig


class PromptedViT(nn.Module):
    """A ViT with ``count`` prompts in each block, called like the ViT and with the same tokens as its output.

    Prompts are left out of the output, so no pooling sees them, and out of ``pos_embed``, so no resizing does. The
    caller freezes the ViT, which may be shared with others.
    """

    def __init__(self, vit: ViT, *, count: int, width: int = 0, seed: int = 0) -> None:
        """Prompts of ``width`` are projected to the encoder's by one layer that all blocks share; 0 projects nothing.

        Raises:
            ValueError: for a number of prompts, or a width, that no network has.
        """
        super().__init__()
        if not 1 <= count <= 2**12 or not 0 <= width <= 2**16:
            raise ValueError(f"prompts={count} must lie between 1 and 4096, and prompt_width={width} from 0 to 65536")
        self.vit = vit
        self.prompt = nn.Parameter(torch.empty(vit.config.depth, count, width or vit.config.width))
        self.project = nn.Linear(width, vit.config.width) if width else nn.Identity()
        self._initialise(seed)

    @property
    def config(self) -> ViTConfig:
        return self.vit.config

    def trained(self) -> list[nn.Parameter]:
        """The parameters that are not the ViT's."""
        return [self.prompt, *self.project.parameters()]

    def train(self, mode: bool = True) -> PromptedViT:
        """The mode of the prompts; that of the ViT stays, as it is not trained."""
        self.training = mode
        self.project.train(mode)
        return self

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b tokens d"]:
        """Tokens of the last layer, cls first, without the prompts."""
        x = self.vit.first_tokens(image)
        prompts, count = self.project(self.prompt), self.prompt.shape[1]
        for number, block in enumerate(self.vit.blocks):
            patches = x[:, 1:] if number == 0 else x[:, 1 + count :]
            x = block(torch.cat([x[:, :1], prompts[number].expand(len(x), -1, -1), patches], dim=1))
        return self.vit.norm(torch.cat([x[:, :1], x[:, 1 + count :]], dim=1))

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        """U(-v, v) with v = sqrt(6 / (values of a patch + width of a prompt)), as if it were a patch embedding."""
        bound = math.sqrt(6 / (self.config.patch_values + self.prompt.shape[2]))
        self.prompt.uniform_(-bound, bound, generator=keyed_random.parameter_generator(seed, "prompt"))
        if isinstance(self.project, nn.Linear):
            generator = keyed_random.parameter_generator(seed, "prompt projection")
            nn.init.kaiming_normal_(self.project.weight, a=0, mode="fan_out", generator=generator)
            nn.init.zeros_(self.project.bias)
