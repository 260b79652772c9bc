"""``underpaint predict``: tags or classes of images, or objects in them; tags written beside images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from underpaint.cli.verb import Verb, add_workers, require_new

EXAMPLES = """\
  underpaint predict runs/mae_wsp one.jpg
  underpaint predict runs/mae_wsp ./photos --top 3 --json tags.json
  underpaint predict runs/detector ./photos --json objects.json
  underpaint predict runs/lit one.jpg --labels names.txt
  underpaint predict weights/maws_clip ./photos --labels names.txt --prompts "a photo of a {}." "a drawing of a {}."
  underpaint predict runs/mae_wsp ./photos --write xmp --precision 0.9
  underpaint predict runs/mae_wsp ./photos --write xmp --precision 0.9 --apply
  underpaint predict runs/mae_wsp ./photos --write xmp --undo
names.txt has one label per line, with synonyms after a semicolon: dog; puppy"""

WRITING = ("apply", "undo", "precision", "heldout", "out")
PRINTING = ("top", "json")
"""Options that have an effect with --write alone, and without it alone."""


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
    write = "write tags for a folder: XMP files beside the images (a dry run without --apply), or tables alone"
    add("--write", choices=("xmp", "csv"), help=write)
    add("--apply", action="store_true", default=None, help="with --write xmp: write the files, and how to undo it")
    add("--undo", action="store_true", default=None, help="with --write xmp: restore the files as they were")
    precision = "with --write: share of a label's tags that must be right on held-out images (default: 0.9)"
    add("--precision", metavar="SHARE", type=float, help=precision)
    heldout = "with --write: tagged images that the model has not seen (default: those held out from the run)"
    add("--heldout", metavar="SOURCE", help=heldout)
    out = "with --write: folder of the tables and the undo file (default: tags-of-NAME in the model's folder)"
    add("--out", metavar="DIR", help=out)
    add_workers(parser)


def call(options: argparse.Namespace) -> None:
    from underpaint import files
    from underpaint.inference import content_of, predict
    from underpaint.messages import one_line
    from underpaint.training.ranks import join

    without_effect = PRINTING if options.write else WRITING
    if given := [f"--{name}" for name in without_effect if getattr(options, name) not in (None, "")]:
        word = "with" if options.write else "without"
        raise ValueError(f"{' and '.join(given)} does nothing {word} --write; leave it out")
    texts = {"labels": files.read_lines(Path(options.labels))} if options.labels else {}
    if options.prompts:  # a file of prompts is named by a word without a place for the label
        lines = [[text] if "{}" in text else files.read_lines(Path(text)) for text in options.prompts]
        texts["prompts"] = [line for some in lines for line in some]
    if options.write:
        _write(options, texts)
        return
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
        predictions = list(predictions)
        require_new(options.json)  # a file may have come meanwhile
        files.write_json(Path(options.json), content_of(predictions))
        return
    for row in predictions:
        best = ", ".join(f"{name} {100 * value:.1f}%" for name, value in row.labels)
        print(f"{one_line(row.path)}: {best or row.problem}")


def _write(options: argparse.Namespace, texts: dict[str, list[str]]) -> None:
    """Tags beside images, or the way back."""
    from underpaint.tagging.job import TagOptions, output_folder, undo_tags, write_tags
    from underpaint.tagging.summary import summary, summary_of_undo

    if len(options.images) == 1 and not Path(options.images[0]).exists():
        raise ValueError(f"folder {options.images[0]} is missing; --write takes an existing folder of images")
    if len(options.images) != 1 or not Path(options.images[0]).is_dir():
        raise ValueError(f"--write takes one folder of images, not {' '.join(options.images)}")
    if options.write == "csv" and (options.apply or options.undo):
        raise ValueError("--write csv changes nothing beside the images; leave out --apply and --undo")
    if options.apply and options.undo:
        raise ValueError("--apply writes and --undo takes back; leave one of them out")
    folder = Path(options.images[0])
    out = output_folder(options.folder, folder, options.out or "")
    if options.undo:
        print(summary_of_undo(undo_tags(folder, out), out))
        return
    given: dict[str, Any] = {name: tuple(lines) for name, lines in texts.items()}
    given |= {name: getattr(options, name) for name in ("precision", "heldout") if getattr(options, name) is not None}
    asked = TagOptions(
        **given,
        objective=options.objective,
        workers=options.workers,
    )
    result = write_tags(options.folder, folder, out=out, form=options.write, apply=bool(options.apply), options=asked)
    print(summary(result, asked))


PREDICT = Verb(
    name="predict",
    help="print the tags, classes or objects that a model predicts for images",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
