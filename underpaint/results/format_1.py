"""``results.json`` of format 1, which names arms and contrasts without saying what they mean.

The one table of what the names meant then. Studies of today say it in their files; nothing is added here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from underpaint.results.study import OLD_NAMES, ArmEntry, ContrastEntry, Equal, Role

BASELINE = "an encoder from elsewhere, not trained here"
MAE, WSP, BOTH = ("mae",), ("wsp",), ("mae", "wsp")

ARMS: Mapping[str, tuple[str, str, Role, tuple[str, ...], str]] = {
    "random": ("the untrained encoder", "its initial weights, for comparison", "untrained", (), "wsp"),
    "mae": ("MAE alone", "images, no tags", "mae", MAE, "mae_wsp"),
    "wsp": ("WSP alone", "from scratch", "wsp", WSP, "wsp"),
    "mae_wsp": ("MAE then WSP", "the same WSP, from the weights of MAE", "treatment", BOTH, "mae_wsp"),
    "wsp_equal_compute": (
        "WSP at equal compute",
        "WSP alone, lengthened to the training FLOPs of MAE then WSP",
        "equal_compute",
        WSP,
        "wsp",
    ),
    "wsp_equal_time": (
        "WSP at equal wall time",
        "WSP alone, lengthened to the expected wall time of MAE then WSP",
        "equal_time",
        WSP,
        "wsp",
    ),
    "mae_wsp_half": (
        "MAE then half of WSP",
        "half of that WSP: does it get there sooner?",
        "variant",
        BOTH,
        "mae_wsp",
    ),
    "mae_tenth": ("a tenth of MAE", "images, no tags, for a tenth of the samples", "variant", MAE, ""),
    "mae_tenth_wsp": (
        "a tenth of MAE then WSP",
        "the same WSP after it: is a little enough?",
        "variant",
        BOTH,
        "",
    ),
    "mae_wsp_low_rate": (
        "MAE then WSP at a low rate",
        "a quarter of the learning rate, to forget less",
        "variant",
        BOTH,
        "",
    ),
    "mae_wsp_layer_decay": (
        "MAE then WSP with layer decay",
        "smaller rates in lower layers, to forget less",
        "variant",
        BOTH,
        "",
    ),
}
"""Label, description, role, stages and ladder of each arm."""

EQUAL: Mapping[str, Equal] = {
    "mae_wsp - wsp": "steps",
    "mae_wsp - wsp_equal_compute": "compute",
    "mae_wsp - wsp_equal_time": "time",
    "mae_tenth_wsp - wsp": "steps",
    "mae_wsp - mae_tenth_wsp": "steps",
    "mae_wsp_low_rate - mae_wsp": "compute",
    "mae_wsp_layer_decay - mae_wsp": "compute",
}


def translated(old: Mapping[str, Any]) -> dict[str, object]:
    """The content of a file of format 1 with what today's format says beside it; the numbers stay as they are.

    Nothing is checked: a field that is missing or holds something else comes out so.
    """
    study = old.get("study")
    names = _distinct(old, ("rows", "stages"), "arm")
    baselines = {entry["arm"] for entry in _entries(old.get("baselines", ())) if "arm" in entry}
    new: dict[str, object] = {
        "baselines": [],
        "dataset_summary": [],
        "tag_summary": [],
        **old,
        "page": "axes" if study in ("pays", "ablations") else "arms",
        "arms": [_arm(name, baseline=name in baselines) for name in names],
        "contrasts": [_contrast(name) for name in _distinct(old, ("summary", "tag_summary"), "contrast")],
        "arm_means": old.get("arms", []),
    }
    if isinstance(study, str):
        new["study"] = OLD_NAMES.get(study, study)
    for table in ("summary", "dataset_summary", "tag_summary"):
        if table in new:
            new[table] = _with_noise(new[table])
    return new


def _arm(name: str, *, baseline: bool) -> ArmEntry:
    unknown: tuple[str, str, Role, tuple[str, ...], str] = (name, BASELINE if baseline else "", "variant", (), "")
    label, description, role, stages, ladder = ARMS.get(name, unknown)
    role = "baseline" if baseline else role
    return {
        "arm": name,
        "label": label,
        "description": description,
        "role": role,
        "stages": list(stages),
        "ladder": ladder,
    }


def _contrast(name: str) -> ContrastEntry:
    first, _, second = name.partition(" - ")
    return {"contrast": name, "first": first, "second": second, "equal": EQUAL.get(name, "nothing")}


def _with_noise(lines: object) -> object:
    """Intervals of several seeds were Student's over the seeds alone."""
    if not isinstance(lines, list):
        return lines
    return [
        {**line, "noise": ["seeds" if line.get("n_seeds", 1) != 1 else "test images"]}
        if isinstance(line, dict)
        else line
        for line in lines
    ]


def _distinct(old: Mapping[str, Any], tables: Iterable[str], field: str) -> list[str]:
    names = (entry.get(field) for table in tables for entry in _entries(old.get(table, ())))
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _entries(table: object) -> list[dict[str, Any]]:
    return [entry for entry in table if isinstance(entry, dict)] if isinstance(table, list) else []
