"""The ``data`` field of a run: images of a folder, a collection or a prepared set."""

from __future__ import annotations

from dataclasses import dataclass

from underpaint.data.folders.folder_dataset import FolderDataset, open_folder_dataset
from underpaint.data.image_options import ImageOptions
from underpaint.data.shards.prepared_source import is_prepared_name
from underpaint.data.shards.shard_dataset import ShardDataset, open_shard_dataset


@dataclass(frozen=True, kw_only=True)
class ImageData(ImageOptions):
    """Options for images, and the opening of the dataset that they describe."""

    def open(self) -> FolderDataset | ShardDataset:
        """Read the index of the source and build, or read, the labels.

        Raises:
            ValueError: if the source has no images, or none with a target.
        """
        return open_shard_dataset(self) if is_prepared_name(self.source) else open_folder_dataset(self)
