"""The table of the paper's claims as ``claims.json``, ``claims.md`` and ``report.html``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from underpaint import files
from underpaint.report.headline import points
from underpaint.report.rendering import render
from underpaint.results.claims import CLAIMS_FILE, CheckEntry, ClaimsEntry, Verdict

VERDICTS: tuple[Verdict, ...] = ("holds", "fails", "not decided", "not measured")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A check of a claim in words; the first row of a claim names it."""

    claim: str
    text: str
    verdict: str
    what: str
    threshold: str
    result: str
    detectable: str
    check: str  # the check's own verdict, where the claim has several
    note: str


def write_claims(folder: Path, judged: ClaimsEntry) -> Path:
    """Write the three files; the path of the page."""
    rows, lead = claim_rows(judged), claims_lead(judged)
    files.write_json(folder / CLAIMS_FILE, judged)
    files.write_bytes(folder / "claims.md", _markdown(judged, rows, lead).encode())
    page = render("claims.html.j2", judged=judged, rows=rows, lead=lead)
    files.write_bytes(folder / "report.html", page.encode(errors="backslashreplace"))
    return folder / "report.html"


def claims_lead(judged: ClaimsEntry) -> str:
    """The sentence at the top: how many claims have which verdict."""
    count = Counter(claim["verdict"] for claim in judged["claims"])
    counts = [
        f"{count[verdict]} {'hold' if verdict == 'holds' else 'fail' if verdict == 'fails' else f'are {verdict}'}"
        for verdict in VERDICTS
    ]
    return f"Among the paper's {len(judged['claims'])} claims {', '.join(counts[:-1])} and {counts[-1]}."


def claim_rows(judged: ClaimsEntry) -> list[Row]:
    """One row per check, and one for a claim without checks."""
    rows: list[Row] = []
    for claim in judged["claims"]:
        several = len(claim["checks"]) > 1
        named = {"claim": claim["claim"], "text": claim["text"], "verdict": str(claim["verdict"])}
        for check in claim["checks"]:
            rows.append(_row(check, several=several, note=claim["note"], **named))
            named = dict.fromkeys(named, "")
        if not claim["checks"]:
            empty = dict.fromkeys(("what", "threshold", "result", "detectable", "check"), "")
            rows.append(Row(**named, **empty, note=claim["note"]))
    return rows


def _row(check: CheckEntry, *, several: bool, note: str, claim: str, text: str, verdict: str) -> Row:
    limit = points(check["threshold"]).lstrip("+")
    threshold = f"within ±{limit}" if check["rule"] == "within" else f"{check['rule']} {limit}"
    reasons = [check["reason"], note if claim else ""]
    return Row(
        claim=claim,
        text=text,
        verdict=verdict,
        what=check["what"],
        threshold=threshold,
        result=_result(check),
        detectable="" if check["detectable"] is None else f"{100 * check['detectable']:.1f}",
        check=str(check["verdict"]) if several else "",
        note="; ".join(filter(None, reasons)),
    )


def _result(check: CheckEntry) -> str:
    if check["mean"] is None:
        return ""
    if check["low"] is None or check["high"] is None:
        return points(check["mean"])
    return f"{points(check['mean'])} [{points(check['low'])}, {points(check['high'])}]"


def _markdown(judged: ClaimsEntry, rows: Sequence[Row], lead: str) -> str:
    heads = ("claim", "", "verdict", "check", "holds if, points", "result, 95% interval", "detectable", "note")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        verdict = f"**{row.verdict}**" if row.verdict else ""
        check = f"{row.what} ({row.check})" if row.check else row.what
        cells = (row.claim, row.text, verdict, check, row.threshold, row.result, row.detectable, row.note)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    studies = [
        f"- `{study['folder']}` ({study['study']}): seeds {', '.join(map(str, study['seeds']))}"
        + (f", images {study['images']}" if study["images"] else "")
        for study in judged["studies"]
    ]
    parts = [
        lead,
        judged["rule"],
        "\n".join(lines),
        "\n".join(studies),
        f"Table of checks {judged['table']}, {judged['date']}.",
    ]
    return "\n\n".join(parts) + "\n"
