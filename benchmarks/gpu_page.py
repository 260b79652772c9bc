"""The results of gpu.py as one page without scripts, pictures or links."""

from __future__ import annotations

from html import escape
from typing import Any

GIB = 1 << 30
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { display: block; overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
code { overflow-wrap: anywhere }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top }
th:first-child, td:first-child { text-align: left } th { font-weight: 600 }
.bar { display: inline-block; height: .7rem; background: #3a6ea5 } .bad { color: #a11 } small { color: #666 }
"""


def page(content: dict[str, Any]) -> str:
    machine, results = content["machine"], content["results"]
    title = f"underpaint on {machine.get('gpu', 'a processor (rehearsal)')}"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(machine['date'])}, commit {escape(machine['commit'])}, Python {escape(machine['python'])}, "
        f"{escape(versions)}; {machine['processors']} processors. <code>{escape(machine['command'])}</code></p>",
        _failures(content),
        _tests(results.get("tests")),
        _steps(
            [result for result in results.values() if isinstance(result, dict) and "flops_per_second" in result],
            dry=content["dry"],
        ),
        *(_peers(name, result) for name, result in results.items() if name.startswith("peers ")),
        *(_pairs(name, results[name]) for name in ("loader", "ceilings") if name in results),
        *(_pairs(name, result) for name, result in results.items() if name.startswith("graphs ")),
        *(_profile(name, result) for name, result in results.items() if name.startswith("profile ")),
    ]
    body = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _failures(content: dict[str, Any]) -> str:
    lines = [f'<li class="bad">{escape(name)}: {escape(problem)}</li>' for name, problem in content["failed"].items()]
    if content["left_out"]:
        lines.append(f"<li>left out, and done by the same command again: {escape(', '.join(content['left_out']))}</li>")
    return f"<h2>Failed or left out</h2><ul>{''.join(lines)}</ul>" if lines else ""


def _tests(tests: dict[str, Any] | None) -> str:
    if tests is None:
        return ""
    skipped = "".join(f"<li>skipped: {escape(name)}: {escape(why)}</li>" for name, why in tests["skipped"].items())
    counts = f"{len(tests['passed'])} passed, {len(tests['failed'])} failed, {len(tests['skipped'])} skipped"
    return f"<h2>Tests</h2><p>{counts}.</p><ul>{skipped}</ul>"


def _steps(cases: list[dict[str, Any]], *, dry: bool) -> str:
    """A row for each case; a rehearsal has no deviations from the plan, which is for a GPU."""
    if not cases:
        return ""
    rows = []
    for result in cases:
        case, plan = result["case"], result["plan"]
        name = f"{case['stage']} {case['size']} {case['variant']}, {case['microbatch']} a microbatch"
        tera = result["flops_per_second"] / 1e12
        rows.append(
            [
                escape(name),
                f"{result['images_per_second']:,.0f}<br><small>{min(result['rates']):,.0f} to "
                f"{max(result['rates']):,.0f}</small>",
                "" if dry else f"{plan['images_per_second'] / result['images_per_second'] - 1:+.0%}",
                f'{tera:.0f} <span class="bar" style="width:{tera / 100:.2f}rem"></span>',
                f"{result['peak_bytes'] / GIB:.2f}",
                f"{plan['peak_bytes'] / max(result['peak_bytes'], 1) - 1:+.0%}" if result["peak_bytes"] else "",
                f"{result['first_step_seconds']:.1f}",
            ]
        )
    heads = ["step", "images/s", "plan's", "TFLOP/s", "GiB", "plan's", "first step, s"]
    return "<h2>Training steps</h2>" + table(heads, rows)


def _peers(name: str, result: dict[str, Any]) -> str:
    best = max((row.get("images_per_second", 0) for row in result["rows"] if row["name"] != "ours"), default=0)
    rows = []
    for row in result["rows"]:
        contender = escape(f"{row['name']} {row['version']}".strip() + f", {row['variant']}")
        if "problem" in row:
            rows.append([contender, escape(row["problem"]), "", ""])
            continue
        ratio = f"{row['images_per_second'] / best:.2f}" if best else ""
        rows.append([contender, f"{row['images_per_second']:,.0f}", ratio, f"{row['peak_bytes'] / GIB:.2f}"])
    missing = f"<p>Not installed here: {escape(', '.join(result['missing']))}.</p>" if result["missing"] else ""
    heads = ["contender", "images/s", "times the best peer", "GiB"]
    return f"<h2>{escape(name)}, batch {result['batch']}</h2>" + table(heads, rows) + missing


def _profile(name: str, result: dict[str, Any]) -> str:
    rows = [[escape(kind), f"{ms:.2f}", f"{ms / result['kernel_ms']:.0%}"] for kind, ms in result["by_kind"].items()]
    rows += [
        [f"<small>{escape(each['name'])}</small>", f"{each['ms']:.2f}", f"{each['count']}&times;"]
        for each in result["largest"]
    ]
    told = (
        f"{result['step_ms']:.1f} ms a step, {result['idle_share']:.0%} without a kernel, {result['kernels']} kernels"
    )
    return f"<h2>{escape(name)}: {escape(result['case'])}</h2><p>{told}.</p>" + table(
        ["kind or kernel", "ms", ""], rows
    )


def _pairs(name: str, result: dict[str, Any]) -> str:
    return f"<h2>{escape(name)}</h2>" + table(["", ""], list(_flat(result)))


def _flat(values: dict[str, Any], before: str = "") -> list[list[str]]:
    rows: list[list[str]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, dict):
            rows += _flat(value, f"{name}: ")
        elif isinstance(value, float) and value >= 1e9:
            rows.append([escape(name), f"{value / 1e12:,.3f} T/s"])
        else:
            rows.append([escape(name), f"{value:,.2f}" if isinstance(value, float) else escape(str(value))])
    return rows


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
