"""The collections of package registries, for slow tests: kept in the cache of the tests, or skipped by name."""

from __future__ import annotations

import pytest

from underpaint.data.collections import catalog
from underpaint.data.source import Source

REGISTRY_IS_AWAY = ("could not get", "is not on this machine", "did not get")


def collection_or_skip(name: str) -> Source:
    """The collection, prepared if the cache of the tests lacks it; skipped where its registry does not answer."""
    try:
        return catalog.open_collection(name)
    except ValueError as error:
        if not any(words in str(error) for words in REGISTRY_IS_AWAY):
            raise
        pytest.skip(f"the collection '{name}': {error}")
