"""The view of each image in an evaluation: the size, whether the shape is kept, and how much of the image is seen."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import NamedTuple

from underpaint.core import EvaluationView, ImageInput

ViewSetting = str
"""A name of ``SETTINGS`` or ``PRESETS``, or a view in full, as rows of results have it: ``crop@224/256``,
``stretch@512`` or ``crop_oblong@48/54``, with the size and, for a crop, the short side of the image it is cut from."""

SETTINGS = ("published", "encoder", "stretch", "crop", "crop_oblong")
"""Views at the encoder's own size.

``stretch``: the whole image, resized straight to that size. ``crop``: MAE's view, the centre of an image whose short
side is 256/224 of the size (paper.md 2.3, 2.4). ``crop_oblong``: that for images of another shape than the encoder's,
while the others are seen whole; an encoder that comes with a crop of its own keeps it. ``encoder``: as the encoder's
config says. ``published``: the encoder's own crop if its config has one, as imported encoders have, else ``crop``.
"""


class Preset(NamedTuple):
    """A published view."""

    view: EvaluationView
    sizes: tuple[int, ...]
    """Sizes in pixels, of which an encoder gets the first that its patches divide."""
    short_side: int
    """Short side of the resized image that a crop is cut from; 0 without a crop."""


PRESETS = {
    "mae": Preset("crop", (224,), 256),  # util/datasets.py of MAE
    "maws": Preset("stretch", (512, 518), 0),  # eval_finetuned.py of MAWS
    "swag": Preset("crop", (224,), 224),  # torchvision's weights of SWAG's linear heads
}
"""The encoder's positions are resized to the size of the preset, if it was trained at another."""

CROP_SHARE = 224 / 256
LARGEST_CROPPED = 224
"""Above this size MAE's code cuts off nothing but what goes beyond the shape (its util/datasets.py)."""

_IN_FULL = re.compile(r"(stretch|crop|crop_oblong)@(\d{1,5})(?:x(\d{1,5}))?(?:/(\d{1,5}))?")


def require_view(setting: ViewSetting) -> None:
    """Raise ValueError for a setting that is not a view."""
    if setting not in (*SETTINGS, *PRESETS):
        _parsed(setting)


def evaluation_input(encoder: ImageInput, setting: ViewSetting, *, patch: int = 1) -> ImageInput:
    """The images that an encoder takes, in this view; their size is the encoder's, unless the setting has one.

    Raises:
        ValueError: if the setting is not a view.
    """
    if setting == "encoder" or (setting == "crop_oblong" and encoder.view == "crop"):
        return encoder
    if setting == "published" and encoder.view == "crop":
        return replace(encoder, eight_bit=True)
    if setting in SETTINGS:
        view: EvaluationView = "crop" if setting == "published" else setting  # pyright: ignore[reportAssignmentType]
        share = CROP_SHARE if view != "stretch" and max(encoder.size) <= LARGEST_CROPPED else 1.0
        return replace(encoder, view=view, crop_share=share, eight_bit=setting == "published")
    if setting in PRESETS:
        view, sizes, short = PRESETS[setting]
        fitting = [size for size in sizes if size in encoder.size] or [size for size in sizes if size % patch == 0]
        size = (fitting or list(sizes))[0]
        share = _share(size, short) if short else 1.0
        return replace(encoder, size=(size, size), view=view, crop_share=share, eight_bit=True)
    view, size, short = _parsed(setting)
    return replace(encoder, size=size, view=view, crop_share=_share(min(size), short), eight_bit=True)


def classifier_input(image: ImageInput, setting: ViewSetting) -> ImageInput:
    """The same for a finished classifier, which takes images of one size.

    Raises:
        ValueError: if the view has another size, or is not a view.
    """
    seen = evaluation_input(image, setting)
    if seen.size != image.size:
        raise ValueError(
            f"view={setting} is {view_name(seen)}, and this classifier takes images of {image.size[0]} x "
            f"{image.size[1]} pixels: leave it out, or finetune at that size (objective.encoder.size)"
        )
    return seen


def view_name(image: ImageInput) -> str:
    """The view in full, as it stands in rows of results, and as a setting may say it."""
    rows, columns = image.size
    size = f"{rows}" if rows == columns else f"{rows}x{columns}"
    short = f"/{int(min(rows, columns) / image.crop_share)}" if image.view != "stretch" else ""
    return f"{image.view}@{size}{short}"


def _share(size: int, short: int) -> float:
    """The share of the short side that is seen, from which rounding down gives ``short`` again."""
    share = size / short
    return share if int(size / share) == short else math.nextafter(share, 0)


def _parsed(setting: str) -> tuple[EvaluationView, tuple[int, int], int]:
    """Kind, size and short side of a view in full; the short side is that of the size where nothing more is cut off."""
    match = _IN_FULL.fullmatch(setting)
    if match is None:
        raise ValueError(
            f"view={setting!r} is not a view; write one of {', '.join((*SETTINGS, *PRESETS))}, or a view in full such "
            f"as crop@224/256 (the centre 224 of a short side of 256) or stretch@512"
        )
    view: EvaluationView = match[1]  # pyright: ignore[reportAssignmentType]
    size = int(match[2]), int(match[3] or match[2])
    short = int(match[4] or min(size))
    if min(size) < 1 or short < min(size):
        raise ValueError(f"view={setting!r} cuts {min(size)} pixels out of {short}; the second must not be smaller")
    if view == "stretch" and match[4]:
        raise ValueError(f"view={setting!r} cuts nothing off; leave out /{match[4]}")
    return view, size, short
