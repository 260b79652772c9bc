"""Designs of the study ``stages``: few tags are the regime of the demo, not something done to a user's images."""

from __future__ import annotations

import pytest

from underpaint.data.dataset import ImageData
from underpaint.report.headline import subject
from underpaint.results.study import DataEntry
from underpaint.studies.designs import design_of


@pytest.mark.parametrize(("own_images", "share"), [(False, 0.1), (True, 1.0)])
def test_all_tags_of_own_images_are_used(own_images: bool, share: float) -> None:
    design = design_of("tiny", own_images=own_images)
    assert isinstance(design.wsp.data, ImageData)
    assert design.wsp.data.share == share


@pytest.mark.parametrize(
    ("stage_images", "title"),
    [
        ({"mae": 9_369, "wsp": 799}, "9,369 images, and the tags of 799 of them"),
        ({"mae": 9_369, "wsp": 9_369}, "9,369 images with tags"),
        ({"mae": 9_369}, "9,369 images"),
        ({}, ""),
    ],
)
def test_the_title_says_how_many_images_have_tags(stage_images: dict[str, int], title: str) -> None:
    data: DataEntry = {"collections": {}, "leakage_rule": "", "not_measured": [], "stage_images": stage_images}
    assert subject(data) == title
