"""``underpaint prepare``: images and their texts become a prepared set."""

from __future__ import annotations

import argparse

from underpaint.cli.verb import TABLE, Verb, old_spelling

EXAMPLES = """\
  underpaint prepare ./photos --out sets/photos
  underpaint prepare ./photos posts.csv --out sets/photos --tags tags.parquet --vocabulary-size 5000
  underpaint prepare ./photos --out sets/photos --labels classes.csv
  underpaint prepare ./photos --out sets/photos --labels folders
  underpaint prepare ./photos --out sets/photos --tags posts.csv:path=Datei,tags=Motiv,tags=Ort
  underpaint prepare ./laion/shards --out sets/laion --mapping mine.csv
  underpaint prepare ./more_shards --out sets/laion
  underpaint prepare ./photos ./phone --out sets/photos --dedupe
  underpaint prepare openmoji --motions 40 --out sets/motions
  underpaint train wsp_vit_b16 data=sets/laion --out runs/wsp
  underpaint prepare openmoji --scenes 2000 --backgrounds ./photos --out sets/scenes
Sources: folders of images (with class folders, .txt, .json, .xmp or tags.csv),
tables (.csv, .tsv, .parquet, .jsonl or YFCC100M)
and tar shards, which are read in place. Columns of other names than usual are named
after a table's file: path, key, tags, caption, class, split, language, licence;
also delimiter (comma, semicolon, tab, bar) and encoding. --scenes takes a source of classified pictures
on white or with transparent parts. Run the same command again to continue; name a further source to add it."""

SPEECH = ("nouns", "all")
UNKNOWN = ("keep", "drop")
OF_SCENES = ("backgrounds", "side", "seed")
OF_SETS = (
    *("tags", "mapping", "exclude", "shard_images", "vocabulary_size", "min_count", "parts_of_speech"),
    *("unknown_tags", "language", "lexicon", "folders", "dedupe"),
)
"""Options without an effect on scenes and on videos of motions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("sources", metavar="SOURCE", nargs="+", help="folder of images, table, or tar shards")
    add("--out", metavar="DIR", required=True, help="folder of the prepared set: a new one, or one to continue")
    tags = "table with the columns path (or key) and tags, for the images of all sources; repeatable"
    add("--tags", metavar=TABLE, action="append", help=tags)
    labels = (
        "classes for a transfer task: a table with the columns path (or key), class and optionally split, or the word "
        "folders for class folders"
    )
    add("--labels", metavar=TABLE, help=labels)
    unmatched = "largest share of the rows of a table that may match no image (default: 0.05)"
    add("--max-unmatched", metavar="SHARE", type=float, default=0.05, help=unmatched)
    add(
        "--engine", choices=("native", "ray"), default="native", help="this process, or a Ray cluster (default: native)"
    )
    add("--shard-images", metavar="N", type=int, help="average number of images per written shard (default: 1,000)")
    add("--vocabulary-size", metavar="N", type=int, help="number of most frequent labels to keep (default: 28,000)")
    add("--min-count", metavar="N", type=int, help="smallest number of images a label must have (default: 1)")
    add("--parts-of-speech", choices=SPEECH, help="parts of speech that become labels (default: all)")
    add("--unknown-tags", choices=UNKNOWN, help="treatment of tags that WordNet does not list (default: keep)")
    language = "language of the tags, such as en; repeatable (default: any)"
    add("--language", metavar="CODE", action="append", help=language)
    add("--lexicon", metavar="FILE", action="append", help="lexicon of another language, in WN-LMF; repeatable")
    add("--mapping", metavar="FILE", help="labels of your choice, before all other rules: CSV with tag and label")
    exclude = "folder of evaluation images; their near duplicates are left out; repeatable"
    add("--exclude", metavar="DIR", action="append", help=exclude)
    folders = "folders whose names are tags of images that have no others (default: last, the innermost one)"
    add("--folders", choices=("none", "last", "first", "all"), help=folders)
    dedupe = "keep the best of each group of exact copies, or of near ones too (--dedupe alone), with the tags of all"
    add("--dedupe", choices=("none", "exact", "near"), nargs="?", const="near", help=dedupe)
    add("--no-dedupe", dest="dedupe", action="store_const", const="none", help="keep all copies (the default)")
    scenes = "compose so many scenes of the objects in SOURCE, with exact masks in COCO's format, to train detectors on"
    add("--scenes", metavar="N", type=int, help=scenes)
    add("--backgrounds", metavar="SOURCE", help="with --scenes: folder of photographs that objects are put on")
    add("--side", metavar="PIXELS", type=int, help="with --scenes: height and width of a scene (default: 128)")
    add("--seed", type=int, help="with --scenes: seed of all draws (default: 0)")
    motions = "instead, make so many videos of each of nine camera motions over images left out of pretraining"
    add("--motions", metavar="N", type=int, help=motions)
    old_spelling(parser, "--minimum-count", of="min_count", type=int)
    old_spelling(parser, "--parts", of="parts_of_speech", choices=SPEECH)
    old_spelling(parser, "--outside", of="unknown_tags", choices=UNKNOWN)


def call(options: argparse.Namespace) -> None:
    if options.scenes is not None:
        _compose(options)
        return
    if given := [f"--{name}" for name in OF_SCENES if getattr(options, name) is not None]:
        raise ValueError(f"{' and '.join(given)} is for scenes; add --scenes N, or leave it out")
    from underpaint import verbs
    from underpaint.preparation.settings import summary

    if options.motions is not None:
        _make_motions(options)
        return
    rules = {"vocabulary_size": options.vocabulary_size, "min_count": options.min_count}
    rules |= {"parts_of_speech": options.parts_of_speech, "unknown_tags": options.unknown_tags}
    rules |= {"lexicons": options.lexicon, "languages": options.language}
    record = verbs.prepare(
        options.sources,
        options.out,
        engine=options.engine,
        max_unmatched=options.max_unmatched,
        tags=options.tags,
        labels=options.labels,
        mapping=options.mapping,
        exclude=options.exclude,
        shard_images=options.shard_images,
        folders=options.folders,
        dedupe=options.dedupe,
        **{name: value for name, value in rules.items() if value is not None},
    )
    print(summary(record, options.out))


def _compose(options: argparse.Namespace) -> None:
    """Scenes for detection."""
    from pathlib import Path

    from underpaint.preparation.scenes.scene_sets import SceneOptions, prepare_scenes, summary

    if without_effect := [name for name in OF_SETS if getattr(options, name) is not None]:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in without_effect)
        raise ValueError(f"{names} is not for scenes; leave it out with --scenes")
    if len(options.sources) != 1 or not options.backgrounds:
        raise ValueError("scenes need one source of objects, and photographs to put them on: --backgrounds DIR")
    settable = {name: getattr(options, name) for name in ("side", "seed", "labels")}
    given = {name: value for name, value in settable.items() if value is not None}
    chosen = SceneOptions(objects=options.sources[0], backgrounds=options.backgrounds, scenes=options.scenes, **given)
    print(summary(prepare_scenes(chosen, Path(options.out)), Path(options.out)))


def _make_motions(options: argparse.Namespace) -> None:
    from underpaint.preparation.motions import make_motions

    if len(options.sources) > 1:
        raise ValueError(f"--motions takes one source of images, and {len(options.sources)} are given")
    for name in OF_SETS:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is not for videos of motions; leave it out with --motions")
    made = make_motions(options.sources[0], options.out, videos=options.motions, labels=options.labels or "")
    print(f"{options.out}: videos {made['videos']}, images {made['images']}, lists train.csv and val.csv")


PREPARE = Verb(
    name="prepare",
    help="turn images, tags and captions into a prepared set with labels and an index",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
