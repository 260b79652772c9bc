"""The start of a run: it imports nothing heavy that a first step does not need, and its parts are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_a_first_step_is_taken_without_compiler_boards_and_other_verbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import start_up

    start_up.make_images(tmp_path / "images")
    found = start_up.measured("mae_smoke", tmp_path / "images", tmp_path / "run")
    assert found["heavy"] == []
    assert len(found["marks"]) == len(start_up.PARTS)
    seconds = [processor for processor, _ in found["marks"]]
    assert seconds == sorted(seconds)
