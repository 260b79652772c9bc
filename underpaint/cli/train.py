"""``underpaint train``: one run of a recipe."""

from __future__ import annotations

import argparse
import json

from underpaint.cli.verb import Verb, add_overrides

EXAMPLES = """\
  underpaint train mae_laptop
  underpaint train mae_vit_b16 data.source=/data/images budget.samples=50_000_000 budget.warmup=2_500_000 --out runs/mae
  underpaint train wsp_vit_b16 data.source=/data/images data.tags=tags.csv init_from=runs/mae --out runs/mae_wsp
  underpaint train mae --data ./photos --minutes 60
  underpaint train --config plan.json --out runs/mae
  underpaint train my_lab.recipes:mae_satellite --dry-run
Run the same command again to continue after an interruption."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    recipe = "name from `underpaint list`, module:function, or mae or wsp: a recipe fitted to --data and --minutes"
    add("recipe", metavar="RECIPE", nargs="?", default="", help=recipe)
    add_overrides(parser, "fields of the run to set, such as optim.base_lr=1e-3")
    add("--config", metavar="FILE", default="", help="instead of RECIPE: a run as --plan prints it, perhaps changed")
    add("--data", metavar="DIR", default="", help="folder of images or prepared set; the same as data=DIR")
    minutes = "time on this machine that mae or wsp is fitted to (default: 180, an evening)"
    add("--minutes", metavar="N", type=float, help=minutes)
    add("--out", metavar="DIR", default="", help="folder of the run (default: runs/RECIPE, or runs/DATA_mae)")
    add("--dry-run", action="store_true", help="run two steps, with saving and evaluation, and keep nothing")
    add("--plan", action="store_true", help="print the run with all its fields as JSON, and stop")


def call(options: argparse.Namespace) -> None:
    from underpaint.one_run import plan_run, train  # not by `verbs`, which imports what other verbs need
    from underpaint.printed_plan import read_plan

    data = options.data if "/" in options.data else f"./{options.data}"  # a bare word would be the name of a collection
    words = [options.recipe, *options.overrides] if "=" in options.recipe else options.overrides
    recipe = "" if "=" in options.recipe else options.recipe
    if bool(recipe) == bool(options.config):
        raise ValueError("train needs a RECIPE, or a --config FILE that --plan printed, and not both")
    recipe, planned = read_plan(options.config) if options.config else (recipe, [])
    overrides = [*planned, *words, *([f"data={data}"] if options.data else [])]
    where = {"out": options.out, "minutes": options.minutes}
    if options.plan:
        print(json.dumps(plan_run(recipe, overrides, **where), indent=2))
        return
    train(recipe, overrides, **where, dry_run=options.dry_run)


TRAIN = Verb(
    name="train",
    help="train a recipe, or continue its run",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
