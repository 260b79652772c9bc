"""``underpaint embed``: features of images."""

from __future__ import annotations

import argparse

from underpaint.cli.verb import Verb, add_workers

EXAMPLES = """\
  underpaint embed runs/mae_wsp ./photos --out features.parquet
  underpaint embed runs/mae_wsp one.jpg two.jpg --pooling mean --out features.parquet
  underpaint embed runs/mae_wsp ./photos --view stretch --out features.csv
  underpaint embed runs/mae_wsp ./photos --engine ray --out features.parquet
Run the same command again to continue after an interruption: features are in the cache, also those of Ray's workers,
who must share it ($UNDERPAINT_CACHE), the run and the images. Features in the cache are not computed again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="DIR", help="folder of a finished run, or of imported weights")
    add("images", metavar="IMAGES", nargs="+", help="image files, or folders of them")
    add("--out", metavar="FILE", required=True, help="new table: .parquet, .csv or .npy (with x.paths.json)")
    pooling = "class token, or mean of the patch tokens (default: cls)"
    add("--pooling", choices=("cls", "mean"), default="cls", help=pooling)
    view = "view of each image, as in eval: published (its centre; default), stretch (all of it), crop@224/256"
    add("--view", metavar="VIEW", default="published", help=view)
    engine = "this machine, or the workers of a Ray cluster, as in prepare (default: native)"
    add("--engine", choices=("native", "ray"), default="native", help=engine)
    add_workers(parser)


def call(options: argparse.Namespace) -> None:
    from underpaint.inference import embed

    how = {name: getattr(options, name) for name in ("pooling", "view", "workers", "engine")}
    done = embed(options.folder, options.images, options.out, **how)
    if not done["images"]:
        return  # another process of torchrun writes the table
    bad = f"; {done['bad']:,} have none, see the column problem" if done["bad"] else ""
    print(f"{options.out}: {done['images']:,} images, {done['width']} numbers each{bad}")


EMBED = Verb(
    name="embed",
    help="write the features of images to a table",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
