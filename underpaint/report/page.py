"""Write the page of a run or of a study."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from underpaint import files
from underpaint.report import (
    ablations_page,
    convergence_page,
    curves,
    detections_page,
    dots,
    embedded_pictures,
    films_page,
    headline,
    html_tables,
    scaling_page,
    transfer_page,
)
from underpaint.report.arms import SPARE, STAGES, marks
from underpaint.report.folders import (
    PREPARED_FILE,
    RunFolder,
    StudyFolder,
    count_reasons,
    is_prepared,
    is_run,
    is_study,
    read_run,
    read_study,
)
from underpaint.report.frame import Key
from underpaint.report.frontier import frontier
from underpaint.report.rendering import render
from underpaint.report.views import views_shown
from underpaint.results.run import RUN_FILE
from underpaint.results.study import MEAN_TASK, RESULTS_FILE, STUDY_FILE

SHOWN_TAGS = 12
"""Tags shown below one picture; with names in many languages, some images carry a hundred."""


def write_report(folder: str | Path, *, images: bool = True) -> Path:
    """Write ``report.html`` into a run or study folder, ``prepare.html`` into a prepared set, from its files alone.

    A set whose near copies were left out gets ``near_copies.html`` as well, a run whose detections were evaluated
    ``detections.html``, one that was evaluated on videos ``videos.html``. The path of the first page is returned.
    ``images=False`` leaves out the photographs and drawings, for images that must not travel with the numbers.

    Raises:
        ValueError: if the folder holds no run, finished study or prepared set, or a damaged file.
    """
    import jinja2

    folder = Path(folder)
    try:
        pages = _pages(folder, images=images)
    except (ArithmeticError, LookupError, TypeError, AttributeError, jinja2.UndefinedError) as error:
        what = str(error) if isinstance(error, jinja2.UndefinedError) else repr(error)
        raise ValueError(f"a file in {folder} holds something else than this package writes: {what}") from error
    for name, page in pages.items():
        files.write_bytes(folder / name, page.encode(errors="backslashreplace"))  # names of files may be no UTF-8
    return folder / next(iter(pages))


def _pages(folder: Path, *, images: bool) -> dict[str, str]:
    """The pages that belong into this folder by their names."""
    if is_study(folder):
        study = read_study(folder)
        match study.results["page"]:
            case "axes":
                page = _plain_page("ablations.html.j2", study, ablations_page.content(study))
            case "grid":
                page = _plain_page("convergence.html.j2", study, convergence_page.content(study))
            case "arms":
                page = _study_page(study, images=images)
            case "scaling":
                page = _plain_page("scaling.html.j2", study, scaling_page.content(study))
            case "radar":
                page = _plain_page("transfer.html.j2", study, transfer_page.content(study))
        return {"report.html": page}
    if is_run(folder):
        return _run_pages(read_run(folder), images=images)
    if is_prepared(folder):
        with files.reading_parquet(folder):
            return _prepared_pages(folder, images=images)
    if (folder / STUDY_FILE).is_file():
        raise ValueError(f"{folder} holds a study that is not finished: {RESULTS_FILE} is missing; run the study again")
    raise ValueError(
        f"{folder} holds neither a run ({RUN_FILE} is missing) nor a study ({RESULTS_FILE} is missing) nor a "
        f"prepared set ({PREPARED_FILE} is missing)"
    )


def _study_page(study: StudyFolder, *, images: bool) -> str:
    by_arm = marks(study.meaning.values())
    columns = html_tables.results_columns(study)
    contrasts = headline.study_contrasts(study.results)
    asked = headline.asked_contrasts(contrasts)
    costs = html_tables.stage_costs(study)
    reference = next(iter(study.arms_of("wsp")), "")  # costs are relative to tags alone, which the question is about
    totals = html_tables.arm_totals(costs, reference)
    at_floor = html_tables.tasks_at_the_floor(
        columns, untrained=study.arms_of("untrained"), imported=study.arms_of("baseline")
    )
    over_mae = headline.over_mae(contrasts)
    preview = next((run.preview for run in study.runs.values() if run.preview), None) if images else None
    return render(
        "study.html.j2",
        study=study,
        images=images,
        marks=by_arm,
        subject=headline.subject(study.results["data"]),
        lead=headline.lead(contrasts),
        asked=[(contrast, headline.counts(contrast)) for contrast in asked],
        contrasts=contrasts,
        mean_task=MEAN_TASK,
        tasks=list(dict.fromkeys(line.task for contrast in contrasts for line in contrast.differences)),
        caveat=headline.caveat(contrasts),
        floor=headline.floor(at_floor, len(columns)),
        below_the_floor=headline.below_the_floor(contrasts),
        columns=columns,
        views=views_shown(study.results["rows"]),
        datasets=[(dataset, list(group)) for dataset, group in groupby(columns, key=attrgetter("dataset"))],
        tag_recall=html_tables.tag_recall(study),
        tags_held_out=html_tables.tags_held_out(study),
        leakage_sheet=embedded_pictures.leakage_sheet(study) if images else "",
        results=dots.results_plot(columns, by_arm),
        differences=dots.contrast_plot(asked, by_arm) if asked else None,
        legend=[
            Key(name=by_arm[arm].label, mark=by_arm[arm], meaning=study.meaning[arm]["description"])
            for arm in study.arms
        ],
        contrast_legend=dots.contrast_legend(asked, by_arm),
        figures=curves.study_curves(study, by_arm),
        costs=costs,
        totals=totals,
        frontier=frontier(study, totals, by_arm),
        means=html_tables.arm_means(study),
        forgotten=[(contrast, headline.forgotten(contrast)) for contrast in over_mae],
        forgetting=dots.contrast_plot(over_mae, by_arm, by_first=True) if over_mae else None,
        forgetting_legend=dots.contrast_legend(over_mae, by_arm, by_first=True),
        imported=html_tables.imported_encoders(study),
        reference=reference,
        relative=any(cost.arm == reference for cost in costs),
        measuring=html_tables.measuring_cost(study.measuring),
        bad_records=count_reasons(study.runs.values()),
        preview=embedded_pictures.data_uri(preview) if preview else "",
        flat=html_tables.flat_patches(study.runs.values()),
        queries=embedded_pictures.read_queries(study) if images else [],
        shown_tags=SHOWN_TAGS,
        tagged=embedded_pictures.read_tagged(study) if images else [],
        collections=study.results["data"]["collections"],
    )


def _plain_page(template: str, study: StudyFolder, content: Mapping[str, object]) -> str:
    """The page of a study without pictures of images."""
    shared: dict[str, object] = {
        "study": study,
        "imported": [],
        "leakage_sheet": "",
        "bad_records": count_reasons(study.runs.values()),
        "collections": study.results["data"]["collections"],
    }
    return render(template, **{**shared, **content})


def _run_pages(run: RunFolder, *, images: bool) -> dict[str, str]:
    mark = STAGES.get(run.result["stage"], SPARE[0]) if run.result else SPARE[0]
    detections = detections_page.content(run) if images else None
    films = films_page.content(run) if images else None
    page = render(
        "run.html.j2",
        detections=detections_page.PAGE if detections else "",
        films=films_page.PAGE if films else "",
        run=run,
        images=images,
        figures=curves.run_charts(run, mark),
        metrics=html_tables.metrics_of(run),
        evaluations=html_tables.evaluations_of(run),
        bad_records=count_reasons([run]),
        preview=embedded_pictures.data_uri(run.preview) if images and run.preview else "",
        flat=html_tables.flat_patches([run]),
    )
    return {
        "report.html": page,
        **({detections_page.PAGE: render("detections.html.j2", **detections)} if detections else {}),
        **({films_page.PAGE: render("videos.html.j2", **films)} if films else {}),
    }


def _prepared_pages(folder: Path, *, images: bool) -> dict[str, str]:
    from underpaint.report import near_copies_page, prepared_page  # and numpy, which no other page needs

    pages = {"prepare.html": render("prepared.html.j2", **prepared_page.content(folder, images=images))}
    if (folder / near_copies_page.PICTURES).is_file():
        content = near_copies_page.content(folder, images=images)
        pages["near_copies.html"] = render("near_copies.html.j2", **content)
    return pages
