"""The command line: the verbs of the package, their help, and exit codes people and schedulers can rely on.

0 done, 2 the user's input, 3 the machine (disk, memory), 75 interrupted and resumable.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

from underpaint import __version__
from underpaint.examples import EXAMPLES

INPUT, MACHINE, RESUMABLE = 2, 3, 75

Verb = Callable[[str, str], argparse.ArgumentParser]
"""Adds a verb by its name and help."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="underpaint",
        description="Pre-pretrain vision models on your images (MAE), pretrain them on your tags (WSP), "
        "and see what that bought.",
        epilog="The first thing to run: underpaint study stages",
    )
    top.add_argument("--version", action="version", version=f"underpaint {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, help: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=help,
            description=help,
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    for add in (_add_prepare, _add_train, _add_eval, _add_study, _add_plan, _add_weights, _add_inference, _add_report):
        add(verb)
    return top


def _add_prepare(verb: Verb) -> None:
    prepare = verb("prepare", "make shards, labels and an index of images and what people said about them")
    prepare.add_argument("sources", metavar="SOURCE", nargs="+", help="a folder of images, a table, or tar shards")
    prepare.add_argument("--out", metavar="DIR", required=True, help="the prepared set: new, or to continue")
    prepare.add_argument("--tags", metavar="FILE", help="a table with path or key, and tags, of all sources")
    prepare.add_argument("--engine", choices=("native", "ray"), default="native", help="default: native")
    prepare.add_argument("--shard-images", metavar="N", type=int, help="of loose images, on average (default: 1,000)")
    prepare.add_argument("--vocabulary-size", metavar="N", type=int, help="most labels (default: 28,000)")
    prepare.add_argument("--minimum-count", metavar="N", type=int, help="images of a label at least (default: 1)")
    prepare.add_argument("--parts", choices=("nouns", "all"), help="of speech that become labels (default: all)")
    prepare.add_argument("--outside", choices=("keep", "drop"), help="tags that WordNet lacks (default: keep)")
    prepare.add_argument(
        "--language", metavar="CODE", action="append", help="people wrote in it: en, ... (default: any)"
    )
    prepare.add_argument("--lexicon", metavar="FILE", action="append", help="words of another language, in WN-LMF")
    prepare.add_argument("--mapping", metavar="FILE", help="your own rules: CSV with tag and label, which win over all")
    prepare.add_argument("--exclude", metavar="DIR", action="append", help="leave near duplicates of its images out")


def _add_train(verb: Verb) -> None:
    train = verb("train", "train a recipe, or continue it")
    train.add_argument("recipe", metavar="RECIPE", help="a name from `underpaint list`, or module:function")
    train.add_argument("overrides", metavar="field=value", nargs="*", help="fields of the run to set")
    train.add_argument("--data", metavar="DIR", default="", help="folder or prepared set; the same as data=DIR")
    train.add_argument("--out", metavar="DIR", default="", help="run folder (default: runs/NAME)")
    train.add_argument("--dry-run", action="store_true", help="two steps of everything, in a temporary folder")
    train.add_argument("--plan", action="store_true", help="print the run with all its fields as JSON, and stop")


def _add_eval(verb: Verb) -> None:
    evaluation = verb("eval", "score a finished run on a dataset")
    evaluation.add_argument(
        "evaluation", metavar="EVALUATION", help="linear, lowshot, knn, accuracy, tags, or module:class"
    )
    evaluation.add_argument("folder", metavar="DIR", help="a finished run")
    evaluation.add_argument("overrides", metavar="field=value", nargs="*", help="fields of the evaluation to set")
    evaluation.add_argument("--seed", type=int, default=0, help="of the splits it draws (default: 0)")


def _add_study(verb: Verb) -> None:
    study = verb("study", "run a study: several runs, their evaluations, one report")
    study.add_argument("study", metavar="STUDY", help="a name from `underpaint list`")
    study.add_argument("overrides", metavar="field=value", nargs="*", help="of its recipes: mae.…, wsp.… or finetune.…")
    study.add_argument("--size", choices=("smoke", "tiny", "small"), default="tiny", help="default: tiny")
    study.add_argument("--seeds", metavar="N", nargs="+", type=int, default=[], help="default: those of the size")
    study.add_argument("--out", metavar="DIR", default="", help="study folder (default: runs/STUDY_SIZE)")
    study.add_argument("--images", metavar="DIR", default="", help="your own images instead of the size's collections")
    study.add_argument("--data", metavar="DIR", default="", help="a prepared set, or a folder: the same as --images")
    study.add_argument("--tags", metavar="FILE", default="", help="their tags: CSV or Parquet with path and tags")
    study.add_argument("--labels", metavar="FILE", default="", help="their classes, to test transfer: CSV path,class")
    study.add_argument(
        "--baseline", metavar="DIR", action="append", default=[], help="an imported encoder to measure too; repeatable"
    )
    study.add_argument("--only", metavar="PART", nargs="+", default=[], help="run these parts alone, as '*-seed0*'")
    study.add_argument("--plan", action="store_true", help="print parts, samples, FLOPs, time and disk, and stop")


def _add_plan(verb: Verb) -> None:
    plan = verb("plan", "what a run needs before it starts: memory, time, money, and how to lay it on the machines")
    plan.add_argument("recipe", metavar="RECIPE", nargs="?", default="", help="a name from `underpaint list`")
    plan.add_argument("overrides", metavar="field=value", nargs="*", help="fields of the run to set")
    plan.add_argument("--gpus", metavar="N", type=int, default=1, help="how many (default: 1)")
    plan.add_argument("--device", metavar="NAME", default="cpu", help="h100, a100-80, ... (default: cpu, this machine)")
    plan.add_argument("--samples", metavar="N", default="", help="instead of the recipe's")
    plan.add_argument("--price", metavar="P", type=float, default=0.0, help="of one GPU and hour")
    plan.add_argument("--json", metavar="FILE", default="", help="write the plan there as well")
    plan.add_argument("--calibrate", action="store_true", help="measure this machine first (about a minute)")


def _add_weights(verb: Verb) -> None:
    into = verb("import", "read weights of MAE, MAWS, MAWS-CLIP, SWAG, timm, torchvision or Hugging Face")
    into.add_argument("source", metavar="FILE_OR_DIR", help="a .pth, .pt or .safetensors file, or a folder of them")
    into.add_argument("given", metavar="name=value", nargs="*", help="what the file does not tell, such as heads=12")
    into.add_argument("--out", metavar="DIR", required=True, help="a new folder, for init_from and eval")
    out = verb("export", "write a run for another tool, and check it there")
    out.add_argument("folder", metavar="DIR", help="a finished run, or its model/ or encoder/")
    out.add_argument("--to", metavar="TOOL", required=True, help="timm, hf, torchvision, onnx or safetensors")
    out.add_argument("--out", metavar="DIR", required=True, help="a new folder")


def _add_inference(verb: Verb) -> None:
    embed = verb("embed", "write the features of images as a Parquet table")
    embed.add_argument("folder", metavar="DIR", help="a finished run, or imported weights")
    embed.add_argument("images", metavar="IMAGES", nargs="+", help="image files, or folders of them")
    embed.add_argument("--out", metavar="FILE", required=True, help="the table: path, embedding, problem")
    embed.add_argument("--pooling", choices=("cls", "mean"), default="cls", help="cls token, or mean of the patches")
    predict = verb("predict", "print the tags or classes that a model gives images")
    predict.add_argument("folder", metavar="MODEL", help="a finished run of WSP or finetuning, or an imported model")
    predict.add_argument("images", metavar="IMAGES", nargs="+", help="image files, or folders of them")
    predict.add_argument("--top", metavar="K", type=int, default=5, help="best K of each image (default: 5)")
    predict.add_argument("--labels", metavar="FILE", default="", help="for MAWS-CLIP: what to choose among, per line")
    predict.add_argument(
        "--prompts",
        metavar="TEXT",
        nargs="+",
        default=[],
        help='with {} for the label (default: "a photo of a {}."), or a file of them',
    )
    predict.add_argument("--json", metavar="FILE", default="", help="write them there instead")


def _add_report(verb: Verb) -> None:
    report = verb("report", "write the page of a run, a study or a prepared set")
    report.add_argument("folder", metavar="DIR", help="a run or study folder, or a prepared set")
    report.add_argument("--no-images", action="store_true", help="leave all pictures of the data out")
    listing = verb("list", "show recipes, studies, evaluations and collections")
    listing.add_argument("--source", metavar="RECIPE", default="", help="file and line of a recipe and of its loss")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parse(given)
    signal.signal(signal.SIGTERM, _as_interrupt)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8
    sys.path.append("")  # as `python -m` does: recipes of one's own lie where one works
    from torch import OutOfMemoryError

    from underpaint.run import OutOfSpace
    from underpaint.training.signals import Interrupted

    try:
        VERBS[options.verb](options)
    except Interrupted as stop:
        print(f"{stop}; continue with\n  underpaint {shlex.join(given)}", file=sys.stderr)
        return RESUMABLE
    except (OutOfSpace, MemoryError, OutOfMemoryError) as error:
        print(f"underpaint: {error}", file=sys.stderr)
        return MACHINE
    except RuntimeError as error:  # torch has no class of its own for the memory of a processor
        if "can't allocate memory" not in str(error):
            raise
        print(
            f"underpaint: the memory here is too small ({str(error).splitlines()[0]}); underpaint plan says what fits",
            file=sys.stderr,
        )
        return MACHINE
    except (ValueError, BlockingIOError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        print(f"underpaint: {error}", file=sys.stderr)
        return INPUT
    except OSError as error:
        print(f"underpaint: {error}", file=sys.stderr)
        return MACHINE
    except KeyboardInterrupt:
        print(f"interrupted; continue with\n  underpaint {shlex.join(given)}", file=sys.stderr)
        return RESUMABLE
    return 0


def _parse(given: list[str]) -> argparse.Namespace:
    """The options; ``field=value`` may also come after them, as when appended to a line that ends with --out."""
    options, left = parser().parse_known_args(given)
    late = "overrides" if "overrides" in options else "given"
    if left and late in options and all("=" in word and not word.startswith("-") for word in left):
        getattr(options, late).extend(left)
        left = []
    return parser().parse_args(given) if left else options  # which says what is wrong and exits


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM outside the training loop, which finishes its step and saves first, ends like Ctrl-C."""
    raise KeyboardInterrupt


def _prepare(options: argparse.Namespace) -> None:
    import underpaint
    from underpaint.preparation.settings import summary

    given = {"vocabulary_size": options.vocabulary_size, "minimum_count": options.minimum_count}
    given |= {"parts": options.parts, "outside": options.outside, "lexicons": options.lexicon}
    given |= {"languages": options.language}
    record = underpaint.prepare(
        options.sources,
        options.out,
        tags=options.tags,
        engine=options.engine,
        mapping=options.mapping,
        exclude=options.exclude,
        shard_images=options.shard_images,
        **{name: value for name, value in given.items() if value is not None},
    )
    print(summary(record, options.out))


def _train(options: argparse.Namespace) -> None:
    import underpaint
    from underpaint import verbs

    data = options.data if "/" in options.data else f"./{options.data}"  # a bare word would be the name of a collection
    overrides = [*options.overrides, *([f"data={data}"] if options.data else [])]
    if options.plan:
        print(json.dumps(verbs.plan_run(options.recipe, overrides), indent=2))
        return
    underpaint.train(options.recipe, overrides, out=options.out, dry_run=options.dry_run)


def _eval(options: argparse.Namespace) -> None:
    import underpaint

    rows = underpaint.evaluate(options.evaluation, options.folder, options.overrides, seed=options.seed)
    for row in rows:
        shots = f" {row['shots']}-shot" if row["shots"] else ""
        print(
            f"{row['dataset']} {row['protocol']}{shots} {row['split']}: {row['metric']} {100 * row['value']:.1f}% "
            f"of {row['n_test']}"
        )


def _study(options: argparse.Namespace) -> None:
    from underpaint import verbs

    if options.images and options.data:
        raise ValueError(f"--images {options.images} and --data {options.data} are the same option; give one of them")
    where = {
        "size": options.size,
        "out": options.out,
        "images": options.images or options.data,
        "tags": options.tags,
        "labels": options.labels,
        "seeds": options.seeds,
        "overrides": options.overrides,
        "baselines": options.baseline,
    }
    if options.plan:
        _print_plan(verbs.plan_study(options.study, **where))
    else:
        verbs.run_study(options.study, only=options.only, **where)


def _print_plan(rows: Sequence) -> None:
    from underpaint.messages import duration

    print(f"{'part':40} {'samples':>10} {'FLOPs':>9} {'time':>8} {'disk':>9}")
    for row in rows:
        state = "done" if row.done else duration(row.seconds)
        print(f"{row.part:40} {row.samples:>10,} {row.flops:>9.2e} {state:>8} {row.bytes / 2**20:>6.1f} MiB")
    left = [row for row in rows if not row.done]
    print(
        f"{len(left)} of {len(rows)} training parts left: {sum(row.flops for row in left):.2e} FLOPs, about "
        f"{duration(sum(row.seconds for row in left))} of training on this machine, "
        f"{sum(row.bytes for row in left) / 2**20:.0f} MiB; evaluations and reading images come on top"
    )


def _plan(options: argparse.Namespace) -> None:
    from underpaint import config, files
    from underpaint.plan import calibrate, make_plan, render

    if options.calibrate:
        print("measuring this machine, about a minute", file=sys.stderr)
        calibrate()
    if not options.recipe:
        if not options.calibrate:
            raise ValueError("plan needs a RECIPE, or --calibrate")
        return
    _require_new(options.json)
    samples = config.parse(options.samples, int, name="--samples") if options.samples else None
    where = {"gpus": options.gpus, "device": options.device, "samples": samples, "price": options.price}
    plan = make_plan(options.recipe, options.overrides, **where)
    print(render(plan))
    if options.json:
        files.write_json(Path(options.json), plan.record())


def _require_new(file: str) -> None:
    """Before the work, not after it: nothing of the user's is overwritten, and what comes out has a place."""
    if file and Path(file).exists():
        raise ValueError(f"{file} exists already; choose another --json, or delete it")
    if file and not Path(file).absolute().parent.is_dir():
        raise ValueError(f"--json {file}: the folder does not exist; make it first")


def _import(options: argparse.Namespace) -> None:
    import underpaint

    underpaint.import_weights(options.source, options.out, options.given)


def _export(options: argparse.Namespace) -> None:
    import underpaint

    underpaint.export_weights(options.folder, options.to, options.out)


def _embed(options: argparse.Namespace) -> None:
    import underpaint

    done = underpaint.embed(options.folder, options.images, options.out, pooling=options.pooling)
    print(f"{options.out}: {done['images']:,} images, {done['width']} numbers each, {done['bad']:,} could not be read")


def _predict(options: argparse.Namespace) -> None:
    import underpaint
    from underpaint import files

    texts = {"labels": files.read_lines(Path(options.labels))} if options.labels else {}
    if options.prompts:  # a file of prompts is named by a word without a place for the label
        lines = [[text] if "{}" in text else files.read_lines(Path(text)) for text in options.prompts]
        texts["prompts"] = [line for some in lines for line in some]
    _require_new(options.json)
    found = underpaint.predict(options.folder, options.images, top=options.top, **texts)
    if options.json:
        rows = [{"path": str(one.path), "labels": dict(one.labels), "problem": one.problem} for one in found]
        files.write_json(Path(options.json), {"format": 1, "predictions": rows})
        return
    for one in found:
        best = ", ".join(f"{name} {100 * value:.1f}%" for name, value in one.labels)
        print(f"{one.path}: {best or one.problem}")


def _report(options: argparse.Namespace) -> None:
    import underpaint

    print(underpaint.write_report(Path(options.folder), images=not options.no_images))


def _list(options: argparse.Namespace) -> None:
    from underpaint import verbs

    if options.source:
        for what, file, line in verbs.source_of(options.source):
            print(f"{what:8} {file}:{line}")
        return
    for title, entries in verbs.contents().items():
        print(f"{title}:")
        for name, description in entries:
            print(f"  {name:20} {description}")


VERBS = {
    "prepare": _prepare,
    "train": _train,
    "eval": _eval,
    "study": _study,
    "plan": _plan,
    "import": _import,
    "export": _export,
    "embed": _embed,
    "predict": _predict,
    "report": _report,
    "list": _list,
}

if __name__ == "__main__":
    sys.exit(main())
