"""The table ``claims``: rules of the verdicts, planted results, refusals, and the noise of two seeds."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from support.html_page import Page
from support.report_example import make_study, write_json
from underpaint import verbs
from underpaint.cli.main import main
from underpaint.evals.score import Score
from underpaint.evals.statistics import summarise
from underpaint.report import headline
from underpaint.results.check import checked
from underpaint.results.claims import CheckEntry, ClaimEntry, ClaimsEntry, Rule, Verdict
from underpaint.results.study_file import read_results
from underpaint.studies.claims import claims, verdict
from underpaint.studies.claims_table import CLAIMS
from underpaint.studies.scaling_results import CONTRASTS as SCALING
from underpaint.studies.stages_results import CONTRASTS as STAGES


@pytest.mark.parametrize(
    ("rule", "threshold", "low", "high", "expected"),
    [
        ("above", 0.0, 0.01, 0.02, "holds"),
        ("above", 0.0, -0.01, 0.02, "not decided"),
        ("above", 0.0, -0.02, -0.01, "fails"),
        ("above", 0.1, 0.05, 0.09, "fails"),
        ("above", 0.1, 0.09, 0.2, "not decided"),
        ("above", 0.0, 0.0, 0.02, "not decided"),
        ("below", -0.1, -0.2, -0.11, "holds"),
        ("below", -0.1, -0.2, -0.05, "not decided"),
        ("below", -0.1, -0.09, 0.0, "fails"),
        ("within", 0.01, -0.005, 0.009, "holds"),
        ("within", 0.01, -0.005, 0.02, "not decided"),
        ("within", 0.01, 0.011, 0.02, "fails"),
        ("within", 0.01, -0.02, -0.011, "fails"),
    ],
)
def test_a_verdict_follows_from_the_place_of_the_interval(
    rule: Rule, threshold: float, low: float, high: float, expected: Verdict
) -> None:
    assert verdict(rule, threshold, low=low, high=high) == expected


def planted(folder: Path, *, seeds: int = 3, noise: tuple[str, ...] = ("seeds", "test images")) -> Path:
    """A finished study whose contrasts have planted intervals."""
    make_study(folder, seeds=tuple(range(seeds)))
    results = json.loads((folder / "results.json").read_text())
    common = {"n_seeds": seeds, "method": "planted", "noise": list(noise), "detectable": 0.01}

    def line(contrast: str, place: dict[str, str], low: float, high: float) -> dict[str, Any]:
        return {"contrast": contrast, **place, "mean": (low + high) / 2, "low": low, "high": high, **common}

    mean = {"task": "mean over tasks"}
    results["summary"] = [
        line("mae_wsp - wsp", mean, 0.01, 0.03),
        line("mae_wsp - wsp_equal_compute", mean, -0.01, 0.02),
    ]
    results["protocol_summary"] = [
        line("wsp - mae", {"protocol": "linear"}, -0.05, -0.03),
        line("wsp - mae", {"protocol": "lowshot"}, 0.11, 0.13),
    ]
    results["tag_summary"] = [
        line("mae_wsp - wsp", {"bin": name}, low, low + 0.02) for name, low in (("head", 0.01), ("middle", 0.005))
    ]
    write_json(folder / "results.json", results)
    return folder


def by_name(judged: ClaimsEntry) -> dict[str, ClaimEntry]:
    return {claim["claim"]: claim for claim in judged["claims"]}


def test_planted_results_have_the_verdicts_of_the_rule(tmp_path: Path) -> None:
    judged = by_name(claims([planted(tmp_path / "study")]))
    assert list(judged) == [f"C{number}" for number in range(1, 20)]
    assert (judged["C1"]["verdict"], judged["C16"]["verdict"]) == ("holds", "holds")
    assert judged["C2"]["verdict"] == "not decided"
    assert judged["C9"]["verdict"] == "fails", "one of its checks does"
    assert judged["C13"]["verdict"] == "not decided", "two bins hold, the third is not there"
    assert judged["C13"]["checks"][2]["reason"] == "the results of `stages` have no 'mae_wsp - wsp' for it"
    assert judged["C6"]["verdict"] == "not measured"
    assert judged["C6"]["checks"][0]["reason"] == "no results of `scaling` are given"
    assert judged["C10"] == {**judged["C10"], "verdict": "not measured", "checks": []}
    check: CheckEntry = judged["C1"]["checks"][0]
    assert (check["low"], check["high"], check["detectable"], check["n_seeds"]) == (0.01, 0.03, 0.01, 3)


def test_two_seeds_or_one_noise_decide_nothing(tmp_path: Path) -> None:
    judged = by_name(claims([planted(tmp_path / "two", seeds=2)]))
    assert {judged[name]["verdict"] for name in ("C1", "C2", "C9", "C16")} == {"not decided"}
    assert judged["C1"]["checks"][0]["reason"] == "2 seeds, and a verdict needs 3"
    judged = by_name(claims([planted(tmp_path / "one", noise=("seeds",))]))
    assert judged["C1"]["verdict"] == "not decided"
    assert "leaves out the noise of test images" in judged["C1"]["checks"][0]["reason"]


def test_older_results_add_the_noise_of_test_images(tmp_path: Path) -> None:
    folder = planted(tmp_path / "study", noise=("seeds",))
    results = json.loads((folder / "results.json").read_text())
    results["summary"][0] |= {"test_low": 0.02 - 0.03, "test_high": 0.02 + 0.03}
    write_json(folder / "results.json", results)
    claim = by_name(claims([folder]))["C1"]
    check = claim["checks"][0]
    assert claim["verdict"] == "not decided"
    assert check["low"] == pytest.approx(0.02 - math.hypot(0.01, 0.03))
    assert check["high"] == pytest.approx(0.02 + math.hypot(0.01, 0.03))
    assert check["noise"] == ["seeds", "test images"]


def test_every_check_names_a_line_that_its_study_writes() -> None:
    names = {
        "stages": {contrast.name for contrast in STAGES},
        "scaling": {contrast.name for contrast in SCALING},
        "convergence": {"mae1_wsp4 - wsp4", "mae2_wsp1 - mae1_wsp1"},
    }
    trends = {"gain_by_size", "smaller_after_mae", "mae_data", "mae_data_by_size"}  # tested with their values
    for claim in CLAIMS:
        assert claim.checks or claim.note, "what is not measured says why"
        for check in claim.checks:
            assert check.line in (trends if check.source == "trends" else names[check.study]), check
            assert check.rule in get_args(Rule)
    assert len([claim for claim in CLAIMS if claim.checks]) >= 12


def test_the_table_is_written_in_three_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = planted(tmp_path / "study")
    assert main(["study", "claims", str(study), "--out", "verdicts"]) == 0
    judged = checked(ClaimsEntry, json.loads(Path("verdicts/claims.json").read_text()), where="claims.json")
    count = Counter(claim["verdict"] for claim in judged["claims"])
    lead = f"Among the paper's 19 claims {count['holds']} hold, {count['fails']} fail, {count['not decided']} are not"
    for form in ("claims.md", "report.html"):
        assert lead in Path("verdicts", form).read_text().replace("&#39;", "'")
    table = [line for line in Path("verdicts/claims.md").read_text().splitlines() if line.startswith("|")]
    assert table[2].startswith("| C1 | MAE before WSP helps at equal WSP steps | **holds** |")
    assert "| above 0.0 | +2.0 [+1.0, +3.0] | 1.0 |" in table[2]
    assert {line.count("|") for line in table} == {9}
    header, *rows = Page(Path("verdicts/report.html")).tables["claims-table"]
    assert len(rows) == len(table) - 2
    assert [text for _, _, text in header][:2] == ["Claim", "Verdict"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no study is given; name the folders"),
        (["nowhere"], "results.json is missing"),
        (["study", "study"], "holds the study 'stages', which another folder holds as well"),
        (["study", "--seeds", "1"], "--seeds: `claims` only reads finished studies"),
        (["study", "--plan"], "--plan: `claims` only reads finished studies"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_study(tmp_path / "study")
    assert main(["study", "claims", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_listing_has_the_table() -> None:
    assert "claims" in dict(verbs.contents()["studies"])


def test_two_seeds_of_pure_noise_are_seldom_called_a_gain(tmp_path: Path) -> None:
    """The headline by the intervals of ``summarise``: both noises, so at most one study in twenty errs."""
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(50)))
    said = 0
    for _ in range(200):
        sides = [
            [
                Score(
                    dataset="a",
                    protocol="linear",
                    correct=tuple(rng.integers(0, 2, len(names)).astype(float)),
                    image=names,
                    family=names,
                    settings={},
                    remarks=(),
                )
                for _ in range(2)
            ]
            for _ in range(2)
        ]
        line = summarise(*sides, seed=0)
        said += line["low"] is not None and line["high"] is not None and not line["low"] <= 0 <= line["high"]
    assert said <= 10
    folder = make_study(tmp_path / "study", seeds=(0, 1))
    results = json.loads((folder / "results.json").read_text())
    for row in results["summary"]:
        row |= {"mean": 0.015, "low": 0.005, "high": 0.025, "noise": ["seeds", "test images"]}
    write_json(folder / "results.json", results)
    lead = headline.lead(headline.study_contrasts(read_results(folder)))
    assert "gained 1.5 points; at equal compute it gained 1.5 points. 2 seeds make this provisional." in lead
    for row in results["summary"]:  # as an older release wrote it, which left the second noise out of the interval
        row |= {"noise": ["seeds"], "test_low": -0.02, "test_high": 0.05}
    write_json(folder / "results.json", results)
    lead = headline.lead(headline.study_contrasts(read_results(folder)))
    assert "gained" not in lead
    assert "made no difference that can be told from noise (+1.5)" in lead
