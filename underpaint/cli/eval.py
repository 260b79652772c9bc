"""``underpaint eval``: the scores of a finished run."""

from __future__ import annotations

import argparse
from itertools import groupby

from underpaint.cli.verb import TABLE, Verb, add_overrides, add_workers

EXAMPLES = """\
  underpaint eval linear runs/mae dataset=digits
  underpaint eval lowshot runs/mae_wsp dataset=./my_images shots=1
  underpaint eval linear_sgd runs/mae dataset=in1k:/data/imagenet preset=mae
  underpaint eval layers runs/mae dataset=digits pooling=mean
  underpaint eval attentive runs/mae dataset=./my_images
  underpaint eval lowshot_vpt runs/mae_wsp dataset=./my_images shots=5
  underpaint eval linear runs/mae dataset=./my_images --labels classes.csv
  underpaint eval accuracy runs/finetuned dataset=digits
  underpaint eval video runs/video dataset=val.csv videos=./videos clips=5 crops=3
  underpaint eval video_attentive runs/mae dataset=train.csv test=val.csv videos=./videos
  underpaint eval robustness runs/finetuned dataset=/data/robustness
  underpaint eval zeroshot runs/lit dataset=./my_images names=names.json languages=en,de
  underpaint eval retrieval runs/lit dataset=./my_images images=all
  underpaint eval detection runs/detector dataset=val.json images=./val"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "evaluation",
        metavar="EVALUATION",
        help="linear, linear_sgd, layers, attentive, lowshot, lowshot_linear, lowshot_vpt, knn, accuracy, video, "
        "video_attentive, robustness, tags, map, zeroshot, retrieval, detection, or module:class",
    )
    add("folder", metavar="DIR", help="folder of a finished run")
    add_overrides(parser, "fields of the evaluation to set, such as dataset=digits")
    add(
        "--objective",
        metavar="CLASS",
        default="",
        help="class of the objective's config, as module:Class, if the run has an objective of your own",
    )
    add(
        "--labels",
        metavar=TABLE,
        default="",
        help="classes of a folder of images: CSV with path and class, or folders",
    )
    add("--tags", metavar=TABLE, default="", help="tags of a folder of images: CSV or Parquet with path and tags")
    add_workers(parser)
    add("--seed", type=int, help="seed of the random splits and initial weights (default: 0)")


def call(options: argparse.Namespace) -> None:
    from underpaint import verbs
    from underpaint.results.run import describe_score

    given = {name: getattr(options, name) for name in ("seed", "objective", "labels", "tags", "workers")}
    rows = verbs.evaluate(options.evaluation, options.folder, options.overrides, **given)
    for (_, remarks), alike in groupby(rows, key=lambda row: (row["dataset"], row.get("remarks", []))):
        for row in alike:
            print(describe_score(row))
        for remark in dict.fromkeys(remarks):
            print(f"  {remark}")


EVAL = Verb(
    name="eval",
    help="evaluate a finished run on a dataset",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
