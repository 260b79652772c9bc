"""Options of a run for its images: the source, the labels, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from underpaint.config import LATER, OPERATIONAL, SHORT, formerly
from underpaint.data.augment.options import Augment
from underpaint.data.loader import Decoding
from underpaint.data.shards.lanes import Lanes
from underpaint.data.source import Split, Targets
from underpaint.tags.label_names import TagRulesName

MAX_WORKERS = 256
"""Largest number of processes that one rank may start; more is a typing error, and would exhaust the machine."""


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Options for images whose target is nothing, their tags or their class."""

    # Paths may change when a run goes on, for a new mount point; what lies there may not.
    source: str = field(
        metadata=SHORT | OPERATIONAL
    )  # a collection's name; with a "/" or "." in front: a folder or set
    # Table of tags, FILE or FILE:path=COLUMN,tags=COLUMN; "" takes DIR/tags.csv or .parquet where there is one.
    tags: str = field(default="", metadata=OPERATIONAL)
    # Table path,class[,split] of the transfer task, or the word folders: class folders. "" takes these without tags.
    labels: str = field(default="", metadata=OPERATIONAL)
    # Collections or folders joined by +, whose test images' near duplicates are not trained on.
    exclude: str = field(default="", metadata=OPERATIONAL)
    split: Split = "pretrain"
    targets: Targets = "none"
    # Rules by which a folder's tags become labels; prepared sets and collections bring their labels.
    tag_rules: TagRulesName = field(default="canonical", metadata=LATER)
    # The next four apply to folders and collections; a prepared set has its own vocabulary and repeat factors.
    vocabulary_size: int = 28_000  # targets=tags: largest number of labels, the most frequent ones
    min_count: int = field(default=1, metadata=formerly("min_tag_count"))  # smallest number of images of a label
    resample: Literal["none", "sqrt"] = "none"  # repeat images with rare tags within an epoch (paper.md 1.2)
    resample_ratio: float = 5 / 3  # resample=sqrt: average samples per image in an epoch (the paper's 5 billion from 3)
    scale: tuple[float, float] = (0.2, 1.0)  # smallest and largest share of the image's area in a random crop
    share: float = field(default=1.0, metadata=LATER)  # share of the split's families; smaller shares lie within larger
    share_seed: int = field(default=0, metadata=LATER)  # another seed draws another share of the families
    labels_per_image: int = field(default=0, metadata=LATER)  # targets=tags: keep so many labels, the rarest; 0: all
    lanes: Lanes = field(default=Lanes(), metadata=LATER)  # options for the order of a prepared set
    cache_gib: float = field(default=32.0, metadata=OPERATIONAL | LATER)  # limit in GiB on local copies of shards
    views: int = field(default=1, metadata=LATER)  # random views of each decoded image, at consecutive positions
    augment: Augment = field(default=Augment(), metadata=LATER)  # RandAugment, erasing, mixup, CutMix
    decoding: Decoding = field(default="full", metadata=LATER)  # scaled: JPEG is decoded small where the crop allows it
    max_bad: float = 0.01  # largest share of bad records
    workers: int = field(default=0, metadata=OPERATIONAL)  # number of processes that read and decode

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("data.source is empty; name a collection (see `underpaint list`) or a folder")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"data.scale={self.scale} must be (low, high) with 0 < low <= high <= 1")
        if not 0 < self.share <= 1:
            raise ValueError(f"data.share={self.share} must lie in (0, 1]; 0.25 is a quarter of the images")
        if self.labels_per_image < 0:
            raise ValueError(f"data.labels_per_image={self.labels_per_image} must be a number of labels, or 0 for all")
        if self.views < 1:
            raise ValueError(f"data.views={self.views} must be 1 or more views of each image")
        if self.augment.mixes and self.targets == "none":
            raise ValueError("data.augment.mixup and cutmix mix labels, and data.targets=none has none; leave them out")
        if self.augment.mixes and self.augment.mix_group % (2 * self.views):
            raise ValueError(
                f"data.augment.mix_group={self.augment.mix_group} must be a multiple of {2 * self.views} with "
                f"data.views={self.views}, or views would mix with others of the same image"
            )
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"data.max_bad={self.max_bad} must be a share between 0 and 1, for example 0.01")
        if not 0 <= self.workers <= MAX_WORKERS:
            raise ValueError(f"data.workers={self.workers} must lie between 0 and {MAX_WORKERS}; each is a process")
