"""The counted lines of code: the rule on an example, and the numbers that the page of results shows."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import lines_of_code

    return lines_of_code


def test_blank_lines_comments_and_imports_are_not_counted(benchmark: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "# why\nimport a\nfrom b import (\n    c,\n)\n\nx = c(\n    1,  # one\n    # two\n)\nprint(a, x)\n"
    )
    assert benchmark.lines_of(script) == 4
    commands = tmp_path / "script.sh"
    commands.write_text("# why\n\nunderpaint list\nunderpaint train mae_smoke\n")
    assert benchmark.lines_of(commands) == 2


def test_the_page_has_the_numbers_of_the_scripts(benchmark: ModuleType) -> None:
    page = (ROOT / "docs" / "results" / "lines_of_code.md").read_text(encoding="utf-8")
    totals = dict.fromkeys(benchmark.TOOLS, 0)
    for job, words in benchmark.JOBS.items():
        (row,) = re.findall(rf"^\| {re.escape(words)} \|(.*)\|$", page, re.MULTILINE)
        for tool, cell in zip(benchmark.TOOLS, row.split("|"), strict=True):
            script = benchmark.script_of(job, tool)
            shown = cell.split()[0]
            assert (shown == "not") if script is None else (int(shown) == benchmark.lines_of(script)), (job, tool)
            totals[tool] += 0 if script is None else int(shown)
    said = "{underpaint} lines with underpaint, {lightly_train} with lightly-train, {transformers} with transformers"
    assert said.format(**totals) in page
    assert f"five of them {totals['timm']} with timm" in page
