"""``underpaint predict``: tags or classes of images, or objects in them."""

from __future__ import annotations

import argparse
from pathlib import Path

from underpaint.cli.verb import Verb, add_workers, require_new

EXAMPLES = """\
  underpaint predict runs/mae_wsp one.jpg
  underpaint predict runs/mae_wsp ./photos --top 3 --json tags.json
  underpaint predict runs/detector ./photos --json objects.json
  underpaint predict runs/lit one.jpg --labels names.txt
  underpaint predict weights/maws_clip ./photos --labels names.txt --prompts "a photo of a {}." "a drawing of a {}."
names.txt has one label per line, with synonyms after a semicolon: dog; puppy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "folder",
        metavar="MODEL",
        help="folder of a finished run of WSP, finetuning, detection or LiT, or of an imported model",
    )
    add("images", metavar="IMAGES", nargs="+", help="image files, or folders of them")
    add(
        "--objective",
        metavar="CLASS",
        default="",
        help="class of the objective's config, as module:Class, if the run has an objective of your own",
    )
    add("--top", metavar="K", type=int, help="labels or objects per image, best first (default: 5 labels, all objects)")
    labels = "file of the labels from which a run of LiT or MAWS-CLIP chooses, one per line"
    add("--labels", metavar="FILE", default="", help=labels)
    prompts = 'prompts with {} for the label (default: "a photo of a {}."), or a file with one per line'
    add("--prompts", metavar="TEXT", nargs="+", default=[], help=prompts)
    add(
        "--json",
        metavar="FILE",
        default="",
        help="new file to write to, instead of the terminal; objects in COCO's format",
    )
    add_workers(parser)


def call(options: argparse.Namespace) -> None:
    from underpaint import files
    from underpaint.inference import content_of, predict
    from underpaint.training.ranks import join

    texts = {"labels": files.read_lines(Path(options.labels))} if options.labels else {}
    if options.prompts:  # a file of prompts is named by a word without a place for the label
        lines = [[text] if "{}" in text else files.read_lines(Path(text)) for text in options.prompts]
        texts["prompts"] = [line for some in lines for line in some]
    require_new(options.json)
    predictions = predict(
        options.folder,
        options.images,
        top=options.top,
        objective=options.objective,
        workers=options.workers,
        **texts,
    )
    if options.json and join().first:
        files.write_json(Path(options.json), content_of(list(predictions)))
        return
    for row in predictions:
        best = ", ".join(f"{name} {100 * value:.1f}%" for name, value in row.labels)
        print(f"{row.path}: {best or row.problem}")


PREDICT = Verb(
    name="predict",
    help="print the tags, classes or objects that a model predicts for images",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
