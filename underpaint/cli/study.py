"""``underpaint study``: several runs, their evaluations and one report."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from underpaint.cli.verb import TABLE, Verb, add_overrides

if TYPE_CHECKING:
    from underpaint.studies.cost import PlanRow

OVERRIDE = re.compile(r"(?!train=)[a-z_][a-z0-9_.]*=")
"""Start of an override; ``train=DIR,val=DIR`` is a dataset."""
EXAMPLES = """\
  underpaint study stages
  underpaint study stages --size smoke --out /tmp/smoke
  underpaint study stages --images ./photos --tags tags.csv --labels labels.csv
  underpaint study stages --size photos --images ./photos --tags tags.csv --labels labels.csv --plan
  underpaint study stages wsp.budget.samples=50_000 mae.precision=bf16 --out runs/longer
  underpaint study stages --baseline weights/mae_vit_b16 --baseline weights/maws_clip
  underpaint study stages --plan
  underpaint study ablations --size smoke
  underpaint study convergence --size small --seeds 0 1 2 --jobs 2
  underpaint study scaling --size small --jobs 2
  underpaint study scaling --size small --jobs 2 --largest
  underpaint study transfer --from runs/mae runs/mae_wsp --data ./photos ./birds --jobs 2
  underpaint study transfer --from runs/mae runs/mae_wsp --data in1k:/data/imagenet /data/robustness --plan
  underpaint study claims runs/stages_small runs/scaling_small
Run the same command again to continue; finished parts are skipped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("study", metavar="STUDY", help="name from `underpaint list`")
    overrides = (
        "fields of the study's recipes to set, as mae.FIELD=value, wsp.FIELD=value, ..., or of its design, such as "
        "protocols=linear,knn shots=1,5 splits=3 of transfer; docs/reference/studies.md lists them"
    )
    add_overrides(parser, overrides)
    sizes = (
        "amount of training: smoke takes seconds, tiny minutes, small hours (default: tiny); photos, of the study "
        "stages, a night: your photographs at 96 pixels"
    )
    add("--size", choices=("smoke", "tiny", "small", "photos"), default="tiny", help=sizes)
    add("--seeds", metavar="N", nargs="+", type=int, default=[], help="seeds to run (default: set by --size)")
    add("--out", metavar="DIR", default="", help="folder of the study (default: runs/STUDY_SIZE)")
    add("--images", metavar="DIR", default="", help="folder of your own images, instead of the built-in collections")
    data = "prepared set, or folder of images; the same as --images. Study transfer: the datasets to measure on"
    add("--data", metavar="DIR", nargs="+", default=[], help=data)
    encoders = "study transfer: finished runs or imported encoders to measure"
    add("--from", metavar="RUN", nargs="+", default=[], dest="encoders", help=encoders)
    add("--tags", metavar=TABLE, default="", help="tags of your images: CSV or Parquet with path and tags")
    labels = "classes of your images, a transfer task: CSV with path and class, or the word folders for class folders"
    add("--labels", metavar=TABLE, default="", help=labels)
    baseline = "imported encoder to evaluate in the same way as the arms; repeatable"
    add("--baseline", metavar="DIR", action="append", default=[], help=baseline)
    add(
        "--only",
        metavar="PART",
        nargs="+",
        default=[],
        help="run only these parts, by name or pattern, such as '*-seed0*'",
    )
    add(
        "--jobs",
        metavar="N",
        type=int,
        default=0,
        help="parts to run in parallel, at most one per core (default: as memory allows; 1 where the last --plan found "
        "several not faster here)",
    )
    largest = "study scaling: run the largest point too, after its error was predicted from the smaller ones"
    add("--largest", action="store_true", help=largest)
    add("--plan", action="store_true", help="print samples, FLOPs, time, memory and disk space, and stop")


def call(options: argparse.Namespace) -> None:
    from underpaint import verbs

    if options.study in verbs.TABLES:
        _refuse_options_of_studies(options)
        verbs.judge_claims(options.overrides, out=options.out)
        return
    for several in (options.data, options.encoders):
        options.overrides = [*options.overrides, *_overrides_among(several)]
    if options.images and options.data:
        raise ValueError(
            f"--images {options.images} and --data {options.data[0]} are the same option; give one of them"
        )
    is_several = options.study == "transfer" or len(options.data) > 1
    given = {
        "size": options.size,
        "out": options.out,
        "images": options.images or ("" if is_several else "".join(options.data)),
        "datasets": options.data if is_several else [],
        "encoders": options.encoders,
        "tags": options.tags,
        "labels": options.labels,
        "seeds": options.seeds,
        "overrides": options.overrides,
        "baselines": options.baseline,
        "largest": options.largest,
    }
    if options.plan:
        print_plan(verbs.plan_study(options.study, **given))
    else:
        verbs.run_study(options.study, only=options.only, jobs=options.jobs, **given)


def _overrides_among(values: list[str]) -> list[str]:
    """Take out the overrides that stand behind the folders of an option, which the parser counts among these."""
    overrides = [value for value in values if OVERRIDE.match(value) and not Path(value).exists()]
    values[:] = [value for value in values if value not in overrides]
    return overrides


def _refuse_options_of_studies(options: argparse.Namespace) -> None:
    """Refuse what only a study takes that trains: a table reads the results of finished ones."""
    given = vars(options)
    names = ("seeds", "images", "data", "encoders", "tags", "labels", "baseline", "only", "jobs", "largest", "plan")
    if wrong := ["from" if name == "encoders" else name for name in names if given[name]]:
        raise ValueError(f"--{wrong[0]}: `{options.study}` only reads finished studies; name their folders and --out")


def print_plan(rows: Sequence[PlanRow]) -> None:
    from underpaint.messages import duration

    print(f"{'part':40} {'samples':>10} {'FLOPs':>9} {'time':>8} {'disk':>9}")
    for row in rows:
        state = "done" if row.done else duration(row.seconds)
        print(f"{row.part:40} {row.samples:>10,} {row.flops:>9.2e} {state:>8} {row.bytes / 2**20:>6.1f} MiB")
    left = [row for row in rows if not row.done]
    print(
        f"{len(left)} of {len(rows)} of these parts left: {sum(row.flops for row in left):.2e} FLOPs, about "
        f"{duration(sum(row.seconds for row in left))} on this machine, {sum(row.bytes for row in left) / 2**20:.0f} "
        f"MiB; parts that are not listed, such as kNN and low-shot on features that are kept, and the start of each "
        f"part come on top"
    )


STUDY = Verb(
    name="study",
    help="run a study: train and evaluate several arms, and write one report",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
