"""Recipes: functions that return a Run. ``underpaint list`` shows them; variants are ``dataclasses.replace``.

A recipe outside the package is named ``module:function``.
"""

from __future__ import annotations

from collections.abc import Callable

from underpaint.contents import published_name
from underpaint.recipes.detection_recipes import (
    detect_coco_vit_2b14,
    detect_coco_vit_b16,
    detect_coco_vit_h14,
    detect_coco_vit_l16,
    detect_laptop,
    detect_lvis_vit_2b14,
    detect_lvis_vit_b16,
    detect_lvis_vit_h14,
    detect_lvis_vit_l16,
)
from underpaint.recipes.finetune_recipes import finetune_laptop, finetune_small, finetune_smoke
from underpaint.recipes.linear_recipes import (
    linear_smoke,
    linear_swag_vit_b16,
    linear_swag_vit_h14,
    linear_swag_vit_l16,
    linear_vit_b16,
    linear_vit_h14,
    linear_vit_l16,
)
from underpaint.recipes.lit_recipes import (
    lit_laptop,
    lit_multilingual,
    lit_smoke,
    lit_vit_2b14,
    lit_vit_b16,
    lit_vit_h14,
    lit_vit_l16,
)
from underpaint.recipes.mae_recipes import (
    mae_deep_small,
    mae_fast,
    mae_fast_small,
    mae_laptop,
    mae_small,
    mae_smoke,
    mae_vit_2b14,
    mae_vit_6b5_14,
    mae_vit_b16,
    mae_vit_h14,
    mae_vit_l16,
)
from underpaint.recipes.published_finetuning import (
    finetune_in1k_vit_2b14,
    finetune_in1k_vit_2b14_518,
    finetune_in1k_vit_6b5_14,
    finetune_in1k_vit_6b5_14_518,
    finetune_in1k_vit_b16,
    finetune_in1k_vit_b16_512,
    finetune_in1k_vit_h14,
    finetune_in1k_vit_h14_518,
    finetune_in1k_vit_l16,
    finetune_in1k_vit_l16_512,
    finetune_inat18_vit_2b14,
    finetune_inat18_vit_2b14_518,
    finetune_inat18_vit_6b5_14,
    finetune_inat18_vit_6b5_14_518,
    finetune_inat18_vit_b16,
    finetune_inat18_vit_b16_512,
    finetune_inat18_vit_h14,
    finetune_inat18_vit_h14_518,
    finetune_inat18_vit_l16,
    finetune_inat18_vit_l16_512,
)
from underpaint.recipes.video_recipes import (
    video_k400_vit_b16,
    video_k400_vit_h14,
    video_k400_vit_l16,
    video_laptop,
    video_ssv2_vit_b16,
    video_ssv2_vit_h14,
    video_ssv2_vit_l16,
)
from underpaint.recipes.wsp_recipes import (
    wsp_laptop,
    wsp_small,
    wsp_smoke,
    wsp_vit_2b14,
    wsp_vit_6b5_14,
    wsp_vit_b16,
    wsp_vit_h14,
    wsp_vit_l16,
)
from underpaint.run import Run
from underpaint.suggest import hint
from underpaint.user_modules import import_function

__all__ = [
    "detect_coco_vit_2b14",
    "detect_coco_vit_b16",
    "detect_coco_vit_h14",
    "detect_coco_vit_l16",
    "detect_laptop",
    "detect_lvis_vit_2b14",
    "detect_lvis_vit_b16",
    "detect_lvis_vit_h14",
    "detect_lvis_vit_l16",
    "finetune_in1k_vit_2b14",
    "finetune_in1k_vit_2b14_518",
    "finetune_in1k_vit_6b5_14",
    "finetune_in1k_vit_6b5_14_518",
    "finetune_in1k_vit_b16",
    "finetune_in1k_vit_b16_512",
    "finetune_in1k_vit_h14",
    "finetune_in1k_vit_h14_518",
    "finetune_in1k_vit_l16",
    "finetune_in1k_vit_l16_512",
    "finetune_inat18_vit_2b14",
    "finetune_inat18_vit_2b14_518",
    "finetune_inat18_vit_6b5_14",
    "finetune_inat18_vit_6b5_14_518",
    "finetune_inat18_vit_b16",
    "finetune_inat18_vit_b16_512",
    "finetune_inat18_vit_h14",
    "finetune_inat18_vit_h14_518",
    "finetune_inat18_vit_l16",
    "finetune_inat18_vit_l16_512",
    "finetune_laptop",
    "finetune_small",
    "finetune_smoke",
    "linear_smoke",
    "linear_swag_vit_b16",
    "linear_swag_vit_h14",
    "linear_swag_vit_l16",
    "linear_vit_b16",
    "linear_vit_h14",
    "linear_vit_l16",
    "lit_laptop",
    "lit_multilingual",
    "lit_smoke",
    "lit_vit_2b14",
    "lit_vit_b16",
    "lit_vit_h14",
    "lit_vit_l16",
    "mae_deep_small",
    "mae_fast",
    "mae_fast_small",
    "mae_laptop",
    "mae_small",
    "mae_smoke",
    "mae_vit_2b14",
    "mae_vit_6b5_14",
    "mae_vit_b16",
    "mae_vit_h14",
    "mae_vit_l16",
    "video_k400_vit_b16",
    "video_k400_vit_h14",
    "video_k400_vit_l16",
    "video_laptop",
    "video_ssv2_vit_b16",
    "video_ssv2_vit_h14",
    "video_ssv2_vit_l16",
    "wsp_laptop",
    "wsp_small",
    "wsp_smoke",
    "wsp_vit_2b14",
    "wsp_vit_6b5_14",
    "wsp_vit_b16",
    "wsp_vit_h14",
    "wsp_vit_l16",
]


def find_recipe(name: str) -> Callable[[], Run]:
    """The recipe of a name, or of ``module:function`` outside the package.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    if ":" in name:
        return import_function(name)
    names = {published_name(known): known for known in __all__}
    if name not in names:
        raise ValueError(f"unknown recipe {name!r}; {hint(name, names, otherwise='see `underpaint list`')}")
    return globals()[names[name]]
