"""The kit for a GPU machine in its form for a processor: all parts run, a page tells them, and it goes on."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.html_page import Page

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LIMIT = 180
"""Seconds of one processor that all parts may take."""
PARTS = [
    "ceilings",
    *("train mae vit_smoke8 eager", "train wsp vit_smoke8 eager"),
    *("train wsp vit_smoke8 lean", "train wsp vit_smoke8 checkpointed"),
    *("peers mae", "peers wsp", "profile of the slowest", "loader", "graphs mae vit_smoke8 at 4"),
]


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    return gpu


def call(kit: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> tuple[int, dict[str, Any], Page]:
    """The kit's exit code, gpu.json and page."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--dry", "--minutes", "9", "--out", str(out), *more])
    code = kit.main()
    return code, json.loads((out / "gpu.json").read_text()), Page(out / "gpu.html")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_kit_runs_on_a_processor_and_goes_on_with_what_it_left_out(
    kit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    code, content, page = call(kit, monkeypatch, tmp_path, "--only", "tests")
    assert code == 0
    assert content["left_out"] == PARTS
    assert f"left out, and done by the same command again: {', '.join(PARTS)}" in page.text
    assert f"left out: {', '.join(PARTS)}" in capfd.readouterr().out
    assert len(content["results"]["tests"]["passed"]) > 1

    code, content, page = call(kit, monkeypatch, tmp_path)
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before < LIMIT
    assert (code, content["failed"], content["left_out"]) == (0, {}, [])
    assert list(content["results"]) == ["tests", *PARTS]
    assert all(seconds > 0 for seconds in content["seconds"].values())
    require_fields(content)
    tables = "".join(text for table in page.tables.values() for row in table for _, _, text in row)
    assert "wsp vit_smoke8 checkpointed, 4 a microbatch" in tables
    assert "transformers" in tables
    assert "left out" not in page.text

    done = (tmp_path / "parts.jsonl").read_bytes()
    again = call(kit, monkeypatch, tmp_path)[1]
    assert (tmp_path / "parts.jsonl").read_bytes() == done
    assert again | {"machine": {}} == content | {"machine": {}}


def require_fields(content: dict[str, Any]) -> None:
    """Each kind of part has its figures."""
    results = content["results"]
    assert content["dry"]
    assert {"date", "commit", "python", "versions", "processors", "command"} <= content["machine"].keys()
    for name in PARTS[1:5]:
        assert " ".join(results[name]["case"][field] for field in ("stage", "size", "variant")) == name[6:]
        assert min(results[name]["rates"]) <= results[name]["images_per_second"] <= max(results[name]["rates"])
        assert min(results[name]["plan"]["images_per_second"], results[name]["plan"]["peak_bytes"]) > 0
    for name in PARTS[5:7]:
        assert results[name]["rows"][0]["name"] == "ours"
        assert all(row["images_per_second"] > 0 for row in results[name]["rows"])
    slowest = min(PARTS[1:5], key=lambda name: results[name]["flops_per_second"])
    assert results["profile of the slowest"]["case"] == slowest
    assert results["loader"]["fed, decoding=full"] > 0
    assert results["ceilings"]["products"]["bf16"]["256"] > 0
    assert results["graphs mae vit_smoke8 at 4"]["plain_ms"] > 0


def test_what_failed_or_is_missing_is_said_and_is_not_a_success(
    kit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu_parts

    gpu_parts.write(tmp_path, {"part": "ceilings", "state": "failed", "problem": "RuntimeError: <no memory>"})
    failed = {"test_bf16": "assert 1 < 0"}
    tests = {"passed": [], "failed": failed, "skipped": {"test_graphs": "no GPU"}}
    gpu_parts.write(tmp_path, {"part": "tests", "state": "done", "seconds": 1.0, "result": tests})
    gpu_parts.write(tmp_path, {"part": "loader", "state": "begun"})
    code, content, page = call(kit, monkeypatch, tmp_path, "--only", "none")
    assert code == 1
    assert content["failed"] == {"ceilings": "RuntimeError: <no memory>", "test test_bf16": "assert 1 < 0"}
    assert content["left_out"] == PARTS[1:]
    for text in ("ceilings: RuntimeError: <no memory>", "0 passed, 1 failed", "skipped: test_graphs: no GPU"):
        assert text in page.text
