"""The verbs of the package as Python functions; the command line calls these, and `train` where it is made."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from underpaint import config, files, recipes
from underpaint.contents import contents
from underpaint.data.shards.label_pictures import write_examples
from underpaint.evals.accuracy import Accuracy, FinishedClassifier
from underpaint.evals.attentive import Attentive
from underpaint.evals.average_precision import TagPrecision
from underpaint.evals.detection.detections import FinishedDetector
from underpaint.evals.detection.evaluation import DetectionPrecision
from underpaint.evals.features import Encoder
from underpaint.evals.knn import Knn
from underpaint.evals.layers import Layers
from underpaint.evals.linear import Linear
from underpaint.evals.linear_sgd import LinearSGD
from underpaint.evals.lowshot import LowShot
from underpaint.evals.lowshot_linear import LowShotLinear
from underpaint.evals.lowshot_vpt import LowShotVPT
from underpaint.evals.retrieval import Retrieval
from underpaint.evals.robustness import Robustness
from underpaint.evals.score import Score
from underpaint.evals.scoring import measured, row_of
from underpaint.evals.tags import TagRecall
from underpaint.evals.text_features import Towers
from underpaint.evals.video import ClipClassifier, VideoAccuracy
from underpaint.evals.video_attentive import VideoAttentive
from underpaint.evals.zeroshot_transfer import ZeroShotTransfer
from underpaint.field_comments import Field, comments_of, fields_of
from underpaint.messages import say
from underpaint.models.weights import encoder_folder, load_encoder
from underpaint.one_run import plan_run, require_outside, train
from underpaint.preparation.copy_pictures import write_copy_pictures
from underpaint.preparation.engine import EngineName
from underpaint.preparation.inputs import require_apart
from underpaint.preparation.joining import MAX_UNMATCHED
from underpaint.preparation.pipeline import prepare_set
from underpaint.preparation.settings import WORK, PrepareOptions, continued
from underpaint.printed_plan import read_plan
from underpaint.report import write_claims, write_report
from underpaint.results.preparation import RECORD, PrepareRecord
from underpaint.results.run import EVALUATIONS_FOLDER, RUN_FILE, EvaluationRow
from underpaint.results.study import OLD_NAMES
from underpaint.results.study_file import write_results
from underpaint.run import Run
from underpaint.run.evaluation_engine import engine_for
from underpaint.run.idle_fields import idle_fields
from underpaint.run.outputs import load_model
from underpaint.run.record import digest, lock
from underpaint.run.towers import load_towers
from underpaint.studies import cost, parts
from underpaint.studies.ablations import ablations
from underpaint.studies.ablations_designs import ablations_design_of
from underpaint.studies.claims import claims
from underpaint.studies.convergence import convergence
from underpaint.studies.convergence_designs import convergence_design_of
from underpaint.studies.designs import Size, StudyOptions, design_of, options_of
from underpaint.studies.jobs import run_parts, usual_jobs
from underpaint.studies.scaling import scaling
from underpaint.studies.scaling_designs import scaling_design_of
from underpaint.studies.side_by_side import default_jobs, measure_side_by_side
from underpaint.studies.stages import stages
from underpaint.studies.transfer import transfer
from underpaint.studies.transfer_designs import transfer_design_of
from underpaint.suggest import hint
from underpaint.training.devices import usable_cpus
from underpaint.training.ranks import join
from underpaint.user_modules import import_function

__all__ = [
    "contents",
    "evaluate",
    "judge_claims",
    "plan_run",
    "plan_study",
    "prepare",
    "read_plan",
    "run_study",
    "settable_fields",
    "source_of",
    "train",
]

EVALUATIONS = {
    "linear": Linear,
    "linear_sgd": LinearSGD,
    "layers": Layers,
    "attentive": Attentive,
    "lowshot": LowShot,
    "lowshot_linear": LowShotLinear,
    "lowshot_vpt": LowShotVPT,
    "knn": Knn,
    "accuracy": Accuracy,
    "video": VideoAccuracy,
    "video_attentive": VideoAttentive,
    "robustness": Robustness,
    "tags": TagRecall,
    "map": TagPrecision,
    "zeroshot": ZeroShotTransfer,
    "retrieval": Retrieval,
    "detection": DetectionPrecision,
}
TABLES = {"claims": claims}
"""Tables that are made from the results of finished studies."""
STUDIES = {
    "stages": stages, "ablations": ablations, "convergence": convergence, "scaling": scaling, "transfer": transfer,
}  # fmt: skip
DESIGNS: dict[str, Callable[[Size], Any]] = {
    "stages": design_of,
    "ablations": ablations_design_of,
    "convergence": convergence_design_of,
    "scaling": scaling_design_of,
    "transfer": transfer_design_of,
}
NEEDED = {
    FinishedClassifier: "a classifier, as finetuning makes it (`underpaint train finetune_laptop init_from=RUN`)",
    ClipClassifier: "a classifier of videos (`underpaint train video_laptop init_from=RUN`)",
    FinishedDetector: "a detector (`underpaint train detect_laptop init_from=RUN`)",
}
"""Things that evaluations need and runs of pretraining do not hold, with the way to make them."""


def prepare(
    sources: files.OneOrMany,
    out: str | Path,
    *,
    engine: EngineName = "native",
    max_unmatched: float = MAX_UNMATCHED,
    **options: Unpack[PrepareOptions],
) -> PrepareRecord:
    """Prepare images and their texts into ``out``, to train on; the content of its prepare.json.

    An existing set is continued: sources are added to those it has, and options that are not given stay as they were.
    Folders of images, tables (CSV, TSV, Parquet, those of YFCC100M) and tar shards are sources; shards are read where
    they lie. ``max_unmatched`` is the share of a table's rows that may fit no image. ``options`` are
    those of ``PrepareOptions``, such as ``dedupe="near"``, and fields of ``TagRules`` (``vocabulary_size=5000``).

    Raises:
        ValueError: for input the user can mend.
    """
    folder, sources = Path(out), files.paths_of(sources)
    require_apart(sources, folder)
    with lock(folder, marks=(RECORD, WORK)):
        wanted = continued(folder, sources, options)
        record = prepare_set(wanted, folder, engine=engine, max_unmatched=max_unmatched)
        write_examples(folder)
        write_copy_pictures(folder)
        say(f"page: {write_report(folder)}")
        return record


def evaluate(
    evaluation: str | Any,
    folder: str | Path,
    overrides: config.Overrides = (),
    *,
    seed: int | None = None,
    labels: str = "",
    tags: str = "",
    objective: str = "",
    workers: int | None = None,
) -> list[EvaluationRow]:
    """Score a finished run: ``evaluation`` is a name of EVALUATIONS, ``module:class`` or an evaluation itself.

    ``labels`` and ``tags`` are files with the classes and the tags of a folder, the evaluation's ``dataset``.
    ``objective`` names the config class of a user's objective, ``module:Class``. ``seed`` (default 0) draws the splits,
    if the class does not say ``draws = False``. The rows are returned with their remarks, and kept in ``FOLDER/evals/``
    for the report, with predictions (``.predictions.parquet``, ``.detections/``) and few-shot splits (``.splits/``).

    ``workers`` processes decode images (default: as many as usually help). Features are kept in the cache, so that an
    evaluation that was killed goes on. Under torchrun processes share the images, and the first alone returns rows.

    Raises:
        ValueError: for input the user can mend.
    """
    chosen: Any = _build_evaluation(evaluation, overrides) if isinstance(evaluation, str) else evaluation
    draws = getattr(chosen, "draws", True)
    if seed is not None and not draws:
        raise ValueError(f"{type(chosen).__name__} draws nothing, so a seed changes nothing; leave out --seed {seed}")
    engine = engine_for(workers)
    frozen = chosen.needs is Encoder
    network: Any = _network(chosen.needs, folder, objective)
    if not isinstance(network, chosen.needs):
        needed = NEEDED.get(chosen.needs, f"a {chosen.needs.__name__}")
        raise ValueError(f"{type(chosen).__name__} needs {needed}, and {folder} holds none")
    answer = measured(chosen, network, labels=labels, tags=tags, engine=engine, seed=seed or 0)
    join().leave()
    if not engine.first:
        return []
    rows = [row_of(score) for score in answer.scores]
    target = (encoder_folder(folder).parent if frozen else Path(folder)) / EVALUATIONS_FOLDER
    target.mkdir(exist_ok=True)
    drawn = {"seed": seed or 0} if draws else {}
    tables = [score.versions for score in answer.scores if isinstance(score, Score)]
    versions = {"versions": tables} if any(tables) else {}
    recorded = config.record(chosen)
    for field in getattr(chosen, "idle", ()):
        del recorded[field]
    settings = {"evaluation": recorded, **drawn, **versions, "data": answer.content_hash}
    of_one = [files.beginning(answer.datasets[0])] if len(answer.datasets) == 1 else []
    name = "-".join([type(chosen).__name__.lower(), *of_one, digest(settings)[:8]])
    for ending, write in answer.beside.items():
        write(target / f"{name}{ending}")
        say(f"written: {target / name}{ending}")
    files.write_json(target / f"{name}.json", {"format": 1, **settings, "rows": rows})
    if (target.parent / RUN_FILE).is_file():
        report = write_report(target.parent)
        say(f"page: {report.with_name(answer.page)}" if answer.page else f"report: {report}")
    return rows


def _network(needs: type, folder: str | Path, objective: str) -> Any:
    """The part of a finished run that an evaluation needs."""
    if needs is Encoder:
        return load_encoder(folder)
    return load_towers(folder) if needs is Towers else load_model(folder, config_type=objective or None)


def _build_evaluation(name: str, overrides: config.Overrides) -> Any:
    kind = import_function(name) if ":" in name else EVALUATIONS.get(name)
    if kind is None:
        raise ValueError(f"unknown evaluation {name!r}; known are {', '.join(EVALUATIONS)}, or give module:class")
    return config.override(kind(dataset="openmoji"), config.assignments(overrides))


def run_study(
    name: str, *, out: str | Path = "", only: Sequence[str] = (), jobs: int = 0, **asked: Unpack[StudyOptions]
) -> Path:
    """Run a study into ``out`` (default ``runs/NAME_SIZE``), write its results and report; the folder.

    Parts that are finished are skipped; with ``only``, the named ones alone are run. ``jobs`` parts are run at a time,
    each in a process of one thread; 0 is as many as cores and memory allow, or one where the last ``plan_study`` found
    so many not faster here. The other options are those of ``studies/designs.py``.

    Raises:
        ValueError: for input the user can mend.
    """
    name = study_name(name)
    if not 0 <= jobs <= usable_cpus():
        raise ValueError(f"jobs={jobs} must lie between 1 and {usable_cpus()}, the cores here, or be 0 for as many")
    folder = _study_folder(name, out, asked)
    for source in (asked.get("images", ""), *asked.get("datasets", ())):
        require_outside(source, folder)
    asked["measured"], asked["precision"] = parts.settled_earlier(folder, name)
    built = build_study(name, **asked)
    build = partial(build_study, name, **{**asked, "measured": built.measured, "precision": built.precision})
    complete = run_parts(built, folder, only=only, jobs=jobs or default_jobs(built), build=build)
    if not complete:
        say(f"{folder}: parts are missing; results and report are written when all are done")
        return folder
    write_results(folder, built.results(folder, parts.finished_seeds(built, folder)))
    say(f"report: {write_report(folder)}")
    return folder


def judge_claims(folders: files.OneOrMany, *, out: str | Path = "") -> Path:
    """Judge the paper's claims by finished studies into ``out`` (default ``runs/claims``); the folder.

    ``claims.json``, ``claims.md`` and ``report.html`` are written anew.

    Raises:
        ValueError: if a folder holds no results, damaged ones, or two hold the same study.
    """
    judged = claims(files.paths_of(folders))
    folder = Path(out) if out else Path("runs") / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    say(f"report: {write_claims(folder, judged)}")
    return folder


def plan_study(name: str, *, out: str | Path = "", **asked: Unpack[StudyOptions]) -> list[cost.PlanRow]:
    """Parts that ``run_study`` would run, with the time estimated from a few measured steps on this machine.

    Unless the study is short, it measures whether parts side by side are faster here, says it, and has ``run_study``
    follow it. It says how much memory they need.
    """
    name = study_name(name)
    folder = _study_folder(name, out, asked)
    asked["measured"], asked["precision"] = parts.settled_earlier(folder, name)
    study = build_study(name, **asked)
    rows = cost.plan(study, folder)
    jobs = usual_jobs(study)
    if (compared := measure_side_by_side(study, rows, jobs=jobs)) is not None:
        say(compared.sentence(sum(row.seconds for row in rows if not row.done)))
        jobs = compared.jobs if compared.is_faster else 1
    say(cost.memory_sentence(jobs))
    return rows


def _study_folder(name: str, out: str | Path, asked: StudyOptions) -> Path:
    """Folder of a study: ``out``, or the default one; an earlier run under the study's old name is continued."""
    if out:
        return Path(out)
    names = (name, *(old for old, new in OLD_NAMES.items() if new == name))
    folders = [Path("runs") / f"{name}_{asked.get('size', 'tiny')}" for name in names]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def study_name(name: str) -> str:
    """The name of a study as it is called now.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    name = OLD_NAMES.get(name, name)
    if name not in STUDIES:
        raise ValueError(f"unknown study {name!r}; {hint(name, STUDIES)}")
    return name


def build_study(name: str, **asked: Unpack[StudyOptions]) -> parts.Study:
    """The parts of a study, with what it is asked for."""
    seeds, images = asked.get("seeds", ()), asked.get("images", "")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {' '.join(map(str, seeds))} name one twice")
    if images and Path(images).is_dir() and "/" not in images:
        asked["images"] = f"./{images}"  # a bare word would be the name of a collection
    name, overrides = study_name(name), config.assignments(asked.get("overrides", ()))
    if epochs := next((each for each in overrides if each.partition("=")[0].endswith("budget.epochs")), ""):
        raise ValueError(f"{epochs}: a study compares budgets in samples; set {epochs.partition('epochs')[0]}samples")
    options: dict[str, Any] = {**options_of(name, asked), "overrides": overrides}
    return parts.with_one_precision(STUDIES[name](**options), asked.get("precision"))


def source_of(recipe: str) -> list[tuple[str, str, int]]:
    """Source locations of a recipe and its loss: (what, file, line)."""
    function = recipes.find_recipe(recipe)
    objective = function().objective
    loss = typing.get_type_hints(type(objective).build)["return"].forward
    return [
        (what, inspect.getsourcefile(f) or "?", inspect.getsourcelines(f)[1])
        for what, f in (("recipe", function), ("loss", loss))
    ]


def settable_fields(name: str) -> list[Field]:
    """The fields of a recipe, an evaluation or a study's design, with their values there and the words about them.

    A field that has no effect with the values of the others has the reason in place of the words. A study has the
    values of its default size.

    Raises:
        ValueError: for a name that is none of these.
    """
    if name in EVALUATIONS:
        return list(fields_of(_build_evaluation(name, ())))
    if OLD_NAMES.get(name, name) in DESIGNS:
        return _fields_of_design(DESIGNS[OLD_NAMES.get(name, name)]("tiny"))
    run = recipes.find_recipe(name)()
    idle = idle_fields(run)
    return [
        field._replace(comment=f"no effect: {reason}") if (reason := idle.get(field.name)) else field
        for field in fields_of(run)
    ]


def _fields_of_design(design: Any) -> list[Field]:
    """The fields of a study's design that can be written on a command line; one line for those of each of its runs."""
    comments = comments_of(type(design))
    listed: list[Field] = []
    for field in dataclasses.fields(design):
        value = getattr(design, field.name)
        if isinstance(value, Run):
            words = f"Any field of this run; `underpaint list --fields {value.name}` lists them."
            listed.append(Field(f"{field.name}.FIELD", "value", words))
        elif not any(dataclasses.is_dataclass(each) for each in (value if isinstance(value, tuple) else (value,))):
            listed.append(Field(field.name, value, comments.get(field.name, "")))
    return listed
