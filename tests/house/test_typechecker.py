"""The tests check the types of every call, and shapes where a module names some."""

from __future__ import annotations

from typing import Any

import jaxtyping
import pytest
import torch

from underpaint.messages import duration
from underpaint.models.vit import Attention
from underpaint.tags.normalise import squeeze


@pytest.mark.parametrize(("function", "argument"), [(duration, "3"), (squeeze, 3)])
def test_a_wrong_type_is_seen(function: Any, argument: object) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        function(argument)


def test_a_wrong_shape_is_seen() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="b n d"):
        Attention(8, 2)(torch.zeros(2, 8))
