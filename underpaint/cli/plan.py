"""``underpaint plan``: what a run needs, before it starts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from underpaint.cli.verb import Verb, add_overrides, require_new

EXAMPLES = """\
  underpaint plan mae_vit_l16 --gpus 64 --device h100 --price 2.5
  underpaint plan wsp_vit_6.5b14 --gpus 256 --device h100 --samples 5_000_000_000 --json plan.json
  underpaint plan --calibrate
  underpaint plan mae_laptop
  underpaint plan mae_laptop data.source=./photos budget.epochs=20
  underpaint plan mae_vit_b16 objective.decoder.depth=1 parallel.recompute_pointwise=true --gpus 8 --device a100-40
A run that cannot fit is refused (exit code 2), and the message names the nearest one that does."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("recipe", metavar="RECIPE", nargs="?", default="", help="name from `underpaint list`, or module:function")
    add_overrides(parser, "fields of the run to set, such as optim.base_lr=1e-3")
    add("--gpus", metavar="N", type=int, default=1, help="number of GPUs (default: 1)")
    add(
        "--device",
        metavar="NAME",
        default="cpu",
        help="accelerator, such as h100 or a100-80 (default: cpu, this machine)",
    )
    add("--samples", metavar="N", default="", help="number of training samples (default: the recipe's)")
    add("--price", metavar="P", type=float, default=0.0, help="price of one GPU-hour")
    add("--json", metavar="FILE", default="", help="new file to write the plan to, as JSON")
    add("--calibrate", action="store_true", help="measure this machine in full first (about a minute)")


def call(options: argparse.Namespace) -> None:
    from underpaint import config, files
    from underpaint.plan import calibrate, make_plan, render

    if options.calibrate:
        print("measuring this machine, about a minute", file=sys.stderr)
        calibrate()
    if not options.recipe:
        if not options.calibrate:
            raise ValueError("plan needs a RECIPE, or --calibrate")
        return
    require_new(options.json)
    samples = config.parse(options.samples, int, name="--samples") if options.samples else None
    given = {"gpus": options.gpus, "device": options.device, "samples": samples, "price": options.price}
    plan = make_plan(options.recipe, options.overrides, **given)
    print(render(plan))
    if options.json:
        files.write_json(Path(options.json), plan.record())


PLAN = Verb(
    name="plan",
    help="estimate the memory, time and money of a run, and its layout on the machines",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
