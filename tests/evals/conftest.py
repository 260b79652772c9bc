"""Small images of three colours and a small encoder for the tests of probes and low-shot protocols."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.colour_images import colour_source, small_vit
from underpaint.data.source import Source
from underpaint.models.vit import ViT


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return colour_source(tmp_path)


@pytest.fixture
def encoder() -> ViT:
    return small_vit()
