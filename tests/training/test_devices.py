"""Where a run computes, and what is said of a precision that a processor only emulates."""

from __future__ import annotations

import pytest
import torch

from underpaint.training.devices import choose_device, remark_on


def test_a_device_that_is_not_there_is_named() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device=cuda is not available here; this machine has"):
            choose_device("cuda")


@pytest.mark.parametrize(
    ("able", "emulated"), [({"avx2": True, "amx_bf16": False}, True), ({"avx512_bf16": True}, False)]
)
def test_emulated_bf16_is_told(monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], emulated: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "Old One", **able})
    remark = remark_on("bf16", torch.device("cpu"))
    assert bool(remark) == emulated
    if emulated:
        assert "Old One" in remark
        assert "precision=fp32" in remark
    assert not remark_on("fp32", torch.device("cpu"))
    assert not remark_on("bf16", torch.device("cuda"))
