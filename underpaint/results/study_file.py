"""Read and write ``results.json``; the one place that knows its formats."""

from __future__ import annotations

from pathlib import Path

from underpaint import files
from underpaint.results.check import checked
from underpaint.results.format_1 import translated
from underpaint.results.study import RESULTS_FILE, StudyResults

FORMAT = 2


def read_results(folder: Path) -> StudyResults:
    """The results of a finished study; files of format 1 come out as those of today.

    Raises:
        ValueError: if the file is missing, damaged or of a later format; the message names the file and the field.
    """
    path = folder / RESULTS_FILE
    if not path.is_file():
        raise ValueError(f"{path} is missing: the study is not finished, or {folder} holds none")
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object")
    version = content.get("format")
    if version == 1 and not isinstance(version, bool):
        content = translated(content)
    elif version != FORMAT:
        raise ValueError(f"{path} has format {version!r}; this version of underpaint reads format 1 to {FORMAT}")
    results = checked(StudyResults, content, where=str(path))
    _require_names(results, where=str(path))
    return results


def write_results(folder: Path, results: StudyResults) -> None:
    """Write the results of a finished study, checked as a reader will check them.

    Raises:
        ValueError: for a field that is missing or holds something else, a number that is not finite among them.
    """
    path = folder / RESULTS_FILE
    _require_names(checked(StudyResults, results, where=str(path)), where=str(path))
    files.write_json(path, results)


def _require_names(results: StudyResults, *, where: str) -> None:
    """Raise ValueError where a line names an arm or a contrast that nothing explains, or its place on an axis lacks."""
    arms = {entry["arm"] for entry in results["arms"]}
    contrasts = {entry["contrast"] for entry in results["contrasts"]}
    for line in (*results["rows"], *results["stages"], *results["arm_means"]):
        if line["arm"] not in arms:
            raise ValueError(f"{where}: the arm {line['arm']!r} has scores or stages and no entry in 'arms'")
    protocols = results.get("protocol_summary", [])
    for line in (*results["summary"], *results["dataset_summary"], *results["tag_summary"], *protocols):
        if line["contrast"] not in contrasts:
            raise ValueError(f"{where}: the contrast {line['contrast']!r} has no entry in 'contrasts'")
    if results["page"] in ("axes", "scaling"):
        for line in (*results["rows"], *results["stages"], *results["summary"]):
            if not {"axis", "at", "x"} <= line.keys():
                raise ValueError(f"{where}: a line of the study along axes has no 'axis', 'at' or 'x': {line!r:.80}")
