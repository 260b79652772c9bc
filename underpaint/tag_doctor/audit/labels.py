"""The labels of an audit: those that a person names, or the most frequent ones that the images suffice for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from underpaint.suggest import hint
from underpaint.tag_doctor.labelled_set import LabelledSet

MOST_IMAGES = 200
LEAST_OF_LABEL = 10
USUAL_OF_LABEL = 60
"""Images of a label if nobody names the labels: with fewer, intervals of the missing share are mostly wider than 40
points even with a good head (docs/results/tag_doctor.md)."""


def chosen_labels(
    labelled: LabelledSet, named: Sequence[str], images: int, known: Collection[str] | None = None
) -> list[int]:
    """The labels with these names or tags; without any, the most frequent, one for each USUAL_OF_LABEL images.

    ``known`` are the labels of a run, if there is one.

    Raises:
        ValueError: for too many or too few images, or a name that is not a label of the set, of an image, and known.
    """
    if not LEAST_OF_LABEL <= images <= MOST_IMAGES:
        raise ValueError(f"--images {images} must lie between {LEAST_OF_LABEL} and {MOST_IMAGES}")
    if not named:
        usable = [
            label
            for label in np.argsort(-labelled.count, kind="stable").tolist()
            if labelled.count[label] and (known is None or labelled.names[label] in known)
        ]
        if not usable:
            raise ValueError(f"no image of {labelled.name} has a label{' that the run knows' if known else ''}")
        return usable[: max(images // USUAL_OF_LABEL, 1)]
    labels = [find_label(labelled, name) for name in named]
    if double := [name for place, name in enumerate(named) if labels[place] in labels[:place]]:
        raise ValueError(f"--labels names the label of {double[0]!r} twice; leave one out")
    if len(labels) * LEAST_OF_LABEL > images:
        raise ValueError(
            f"{len(labels)} labels need {LEAST_OF_LABEL * len(labels)} images, and the page has {images}; name at most "
            f"{images // LEAST_OF_LABEL} labels"
        )
    for label in labels:
        if not labelled.count[label]:
            raise ValueError(f"no image of {labelled.name} has the label {labelled.names[label]!r}; leave it out")
        if known is not None and labelled.names[label] not in known:
            raise ValueError(f"the run does not know the label {labelled.names[label]!r}; leave it or --run out")
    return labels


def find_label(labelled: LabelledSet, name: str) -> int:
    """The label of this name, or else the label of the tag."""
    if name in labelled.names:
        return labelled.names.index(name)
    of_tag = {tag: label for label, tags in enumerate(labelled.tags) for tag in tags}
    if name not in of_tag:
        suggestion = hint(name, [*labelled.names, *of_tag], otherwise="vocabulary.parquet has its labels")
        raise ValueError(f"{name!r} is not a label of {labelled.name}; {suggestion}")
    return of_tag[name]
