"""The images of a run that is planned with its folder."""

from __future__ import annotations

from underpaint.data.dataset import ImageData
from underpaint.data.open_dataset import ImageDataset
from underpaint.data.open_source import folders_of
from underpaint.data.reading_time import USUAL_SIZE, Images, images_of
from underpaint.run import Run
from underpaint.run.declare import HasEncoder


def given_images(run: Run) -> Images | None:
    """The images of the folder that a run reads, some of which are read; None where it has no such folder."""
    if not isinstance(run.data, ImageData) or not folders_of(run.data.source):
        return None
    opened = run.data.open()
    size = run.objective.encoder.size if isinstance(run.objective, HasEncoder) else USUAL_SIZE
    return images_of(opened, size=size) if isinstance(opened, ImageDataset) else None
