"""Images that several studies of the tests have in common are opened once."""

from __future__ import annotations

from functools import cache

import pytest

from underpaint.studies import stages
from underpaint.studies.pretraining_images import study_images

_OPENED = cache(study_images)


@pytest.fixture
def images_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that change no image: finding near duplicates takes longer than all else that a plan does."""
    monkeypatch.setattr(stages, "study_images", _OPENED)
