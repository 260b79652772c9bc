"""The table ``claims``: a verdict on each of the paper's 19 claims from the results of finished studies."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from underpaint.results.claims import CheckEntry, ClaimEntry, ClaimsEntry, Rule, StudyEntry, Verdict
from underpaint.results.intervals import with_all_noise
from underpaint.results.study import Noise, StudyResults, Summary
from underpaint.results.study_file import read_results
from underpaint.studies.claims_table import CLAIMS, VERSION, Check, Claim

FORMAT = 1
FEWEST_SEEDS = 3
"""Seeds from which a verdict is given: the interval over two is hardly one."""
RULE = (
    "A check holds if its 95% interval lies on its side of the threshold, fails if it lies on the other side, and is "
    "not decided otherwise. The interval covers what a new seed and what other test images change; with fewer than "
    f"{FEWEST_SEEDS} seeds nothing is decided. A claim holds if all of its checks hold and fails if one fails."
)


def claims(folders: Sequence[str | Path]) -> ClaimsEntry:
    """Judge the paper's 19 claims by the results of finished studies.

    Raises:
        ValueError: if a folder holds no results, damaged ones, or two hold the same study.
    """
    if not folders:
        raise ValueError("no study is given; name the folders of finished studies, such as runs/stages_small")
    studies: dict[str, StudyResults] = {}
    entries: list[StudyEntry] = []
    for folder in map(Path, folders):
        results = read_results(folder)
        if results["study"] in studies:
            raise ValueError(f"{folder} holds the study {results['study']!r}, which another folder holds as well")
        studies[results["study"]] = results
        entries.append(_study_entry(folder, results))
    return {
        "format": FORMAT,
        "table": VERSION,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rule": RULE,
        "studies": entries,
        "claims": [judge(claim, studies) for claim in CLAIMS],
    }


def _study_entry(folder: Path, results: StudyResults) -> StudyEntry:
    seeds = sorted({row["seed"] for row in results["rows"]})
    images = results["data"].get("pretraining", "")
    return {"study": results["study"], "folder": folder.resolve().name, "seeds": seeds, "images": images}


def judge(claim: Claim, studies: Mapping[str, StudyResults]) -> ClaimEntry:
    """A claim with the verdict of its checks."""
    checks = [judge_check(check, studies) for check in claim.checks]
    return {
        "claim": claim.name,
        "text": claim.text,
        "anchor": claim.anchor,
        "note": claim.note,
        "verdict": _verdict_of([check["verdict"] for check in checks]),
        "checks": checks,
    }


def _verdict_of(verdicts: Sequence[Verdict]) -> Verdict:
    """One failure decides; a check that was not measured leaves the others undecided."""
    measured = [verdict for verdict in verdicts if verdict != "not measured"]
    if not measured:
        return "not measured"
    if "fails" in measured:
        return "fails"
    return "holds" if all(verdict == "holds" for verdict in verdicts) else "not decided"


def judge_check(check: Check, studies: Mapping[str, StudyResults]) -> CheckEntry:
    """A check with its interval and verdict."""
    results = studies.get(check.study)
    line = _line(check, results) if results is not None else None
    entry: CheckEntry = {
        "study": check.study,
        "what": check.what,
        "rule": check.rule,
        "threshold": check.threshold,
        "verdict": "not measured",
        "reason": f"no results of `{check.study}` are given" if results is None else "",
        "mean": None,
        "low": None,
        "high": None,
        "detectable": None,
        "n_seeds": 0,
        "noise": [],
    }
    if results is None:
        return entry
    if line is None:
        return {**entry, "reason": f"the results of `{check.study}` have no {check.line!r} for it"}
    low, high, noise = with_all_noise(line)
    entry["mean"], entry["low"], entry["high"], entry["noise"] = line["mean"], low, high, noise
    entry["detectable"], entry["n_seeds"] = line.get("detectable"), line["n_seeds"]
    entry["verdict"], entry["reason"] = "not decided", _undecidable(line["n_seeds"], noise)
    if not entry["reason"] and low is not None and high is not None:
        entry["verdict"] = verdict(check.rule, check.threshold, low=low, high=high)
    return entry


def verdict(rule: Rule, threshold: float, *, low: float, high: float) -> Verdict:
    """The verdict by the place of an interval."""
    if rule == "within":
        if -threshold < low and high < threshold:
            return "holds"
        return "fails" if low > threshold or high < -threshold else "not decided"
    if rule == "below":
        low, high, threshold = -high, -low, -threshold
    return "holds" if low > threshold else "fails" if high < threshold else "not decided"


def _undecidable(n_seeds: int, noise: Sequence[Noise]) -> str:
    """Reason why an interval decides nothing; "" where it does."""
    if n_seeds < FEWEST_SEEDS:
        return f"{n_seeds} seed{'s' * (n_seeds != 1)}, and a verdict needs {FEWEST_SEEDS}"
    if missing := sorted({"seeds", "test images"} - set(noise)):
        return f"the interval leaves out the noise of {' and '.join(missing)}; run the study again to have it computed"
    return ""


def _line(check: Check, results: StudyResults) -> Summary | None:
    """The line that a check is about; of several the last, which is that of the most images or the largest pair."""
    if check.source == "trends":
        trends = [row for row in results.get("trends", []) if (row["trend"], row["protocol"]) == (check.line, check.of)]
        return trends[-1] if trends else None
    rows = {
        "summary": [(row, row.get("task")) for row in results["summary"]],
        "protocol_summary": [(row, row.get("protocol")) for row in results.get("protocol_summary", [])],
        "tag_summary": [(row, row.get("bin")) for row in results["tag_summary"]],
    }[check.source]
    lines = [row for row, name in rows if (row["contrast"], name) == (check.line, check.of)]
    return max(lines, key=lambda row: row.get("x", 0.0)) if lines else None
