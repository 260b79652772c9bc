"""Inference with a finished model: features of images as a table, and the tags, classes or objects of images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeGuard

from jaxtyping import Float
from torch import Tensor, nn

from underpaint import files
from underpaint.cluster_features import fill_on_ray, require_cluster
from underpaint.core import ImageInput
from underpaint.data.feature_store import FeatureMaker, Features
from underpaint.data.folders.listing import list_folder, say_skipped
from underpaint.data.loader import read_files
from underpaint.data.pictures import Indexed, Pictures, picture_list, read_pictures
from underpaint.data.source import Folder
from underpaint.evals.class_names import TEMPLATES
from underpaint.evals.detection.coco_file import coco_content
from underpaint.evals.detection.detections import Detecting, FinishedDetector, ImageObjects, detected
from underpaint.evals.engine import Engine
from underpaint.evals.feature_makers import StoredEncoder, unnamed_maker
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.tagger import SplitTagger, Tagger
from underpaint.evals.text_features import Towers
from underpaint.evals.view import ViewSetting
from underpaint.evals.zeroshot import ZeroShot
from underpaint.feature_tables import join_parts, new_parts, parts_folder, require_table_name
from underpaint.models.image_text import ImageText
from underpaint.models.pooling import Pooling
from underpaint.preparation.engine import EngineName
from underpaint.run.evaluation_engine import engine_for
from underpaint.run.outputs import load_model
from underpaint.run.towers import with_tokenizer
from underpaint.training.devices import choose_device
from underpaint.training.ranks import join

PART_IMAGES = 4_096
"""Rows of the table that are written together."""
BATCH = 64
TOP = 5
"""Labels of an image where the caller does not say how many."""
FEWEST_KEPT = 256
"""Features of fewer images are not kept in the cache: a file for each call would make it slow."""
NOT_READABLE = "could not be read when its features were computed, and can be read now; start again"
NOT_FINITE = "the network's output is not finite; its weights have diverged, or they overflow on this image"


class Prediction(NamedTuple):
    """An image and its best labels, highest first."""

    path: Path | None
    """None for an image in memory; predictions have the order of the images."""
    labels: tuple[tuple[str, float], ...]
    """Name and probability of each label; () if there is a problem."""
    problem: str
    """Reason for missing labels; "" if there are labels."""
    objects: ImageObjects | None = None
    """Objects in the image by a detector, in the order of ``labels``; None by any other model."""
    classes: tuple[str, ...] = ()
    """All classes of the detector."""


class EmbedSummary(TypedDict):
    """Numbers of a table of features."""

    images: int
    bad: int
    """Images without an embedding, whose reason stands in the column ``problem``."""
    width: int
    """Numbers of each embedding."""


def embed(
    folder: str | Path,
    images: files.OneOrMany,
    out: str | Path,
    *,
    pooling: Pooling = "cls",
    view: ViewSetting = "published",
    workers: int | None = None,
    engine: EngineName = "native",
) -> EmbedSummary:
    """Features of image files, and of all images in folders, as the table ``out``; what was done, in numbers.

    They are those of ``load_encoder(folder).embed(images)``, and those that ``eval linear`` reads. ``view`` is a view
    of the evaluations: by default the published centre crop, while ``stretch`` shows the whole image.

    ``out`` ends in ``.parquet``, ``.csv`` or ``.npy`` (``feature_tables.py`` has their columns). The problem of an
    image is "" where all is well; one that cannot be read, or whose features are not finite, has no embedding. The
    table appears whole when all is done; features are kept in the cache, so that the same call continues one that was
    killed. ``workers`` processes decode images, None is as many as usually help. Under torchrun the processes share the
    images; the first writes the table, and the others count no images. With ``engine="ray"`` the machines of a cluster
    decode and encode, and share the folders of the encoder, the images and the cache with this one, which hashes the
    images and writes the table.

    Raises:
        ValueError: if there are no images, none of them gets an embedding, ``out`` exists already, ``folder`` holds no
            encoder, or the engine is not installed.
        BlockingIOError: if another call writes ``out``.
    """
    out = Path(out)
    require_table_name(out)
    require_cluster(engine, workers=workers)
    paths = find_images(images)
    reader = _engine(paths, workers)
    encoder = StoredEncoder(folder=Path(folder), pooling=pooling, view=view)
    maker = encoder.maker(reader.device, batch=BATCH)
    if engine == "ray":
        fill_on_ray(encoder, maker, reader.staff, _below_one_folder(paths))
        reader = replace(reader, cached=True)  # few images too come from the workers by the cache
    bad, example, tables = 0, "", list[Path]()
    with ExitStack() as held:
        for chunk, features in _read(paths, maker, reader, chunk=PART_IMAGES):
            parts = tables[0].parent if tables else held.enter_context(new_parts(out))
            problems = _problems(chunk, features, maker.image)
            tables.append(parts / f"{len(tables):09d}.parquet")
            files.write_bytes(tables[-1], _table(chunk, features.x, problems))
            bad += sum(map(bool, problems))
            example = example or problems[0]
        join().leave()
        if not reader.first:
            return {"images": 0, "bad": 0, "width": maker.width}
        if bad < len(paths):
            require_table_name(out)  # a file may have come meanwhile
            join_parts(tables, out, width=maker.width)
        shutil.rmtree(parts_folder(out))
    if bad == len(paths):
        raise _nothing_to_show(bad, paths[0], example)
    return {"images": len(paths), "bad": bad, "width": maker.width}


def predict(
    model: str | Path | nn.Module,
    images: files.OneOrMany | Pictures,
    *,
    top: int | None = None,
    labels: str | Sequence[str] = (),
    prompts: str | Sequence[str] = TEMPLATES,
    objective: str = "",
    workers: int | None = None,
) -> Iterator[Prediction]:
    """The ``top`` tags, classes or objects of images by a finished model, one image after the other.

    None is 5 tags or classes, and all objects. Detections are kept in the cache, so that the same call continues one
    that was killed; torchrun is for the other models.

    ``model`` is its folder, or what ``load_model`` gave. ``images`` are paths of images and folders of them, or images
    in memory: Pillow images, arrays, tensors, or a dataset of torch, which are seen as the files would be.

    A model for images and texts chooses among ``labels``, of which each may have several names (``dog; puppy``), put
    into each of ``prompts`` (``a photo of a {}.``). Probabilities sum to 1 over all labels, or are independent of each
    other where the model was trained with ``loss=bce``. ``objective`` names the config class of a user's objective,
    ``module:Class``. ``workers`` processes decode images, None is as many as usually help. Features of many images are
    kept in the cache, and shared by the processes of torchrun, of which the first alone has predictions.

    Raises:
        ValueError: if there are no images, ``model`` gives no labels, or ``labels`` are given to one that has labels
            already; after the last image, if none of them got a label.
    """
    if top is not None and top < 1:
        raise ValueError(f"top={top} must be 1 or more")
    images = list(images) if isinstance(images, Iterator) else images
    paths = find_images(images) if _are_paths(images) else None
    loaded, name = load_labeller(model, labels=labels, prompts=prompts, objective=objective)
    if isinstance(loaded, FinishedDetector) and isinstance(loaded, nn.Module):
        if paths is None:
            raise ValueError(f"{name} finds objects in image files: give paths, or call its method `find`")
        engine = engine_for(workers)
        return _objects(loaded.to(engine.device), paths, top=top, how=Detecting.by(engine))
    if not isinstance(loaded, Tagger):
        raise ValueError(f"{name} gives no labels; name a run of WSP, finetuning or detection")
    top = min(top or TOP, len(loaded.labels))
    if paths is None:
        return _predictions_in_memory(loaded, picture_list(images), top=top)
    labelled = tag_probabilities(loaded, paths, _engine(paths, workers))
    return (row for chunk in labelled for row in _labelled(*chunk, loaded.labels, top=top))


def load_labeller(
    model: str | Path | nn.Module, *, labels: str | Sequence[str], prompts: str | Sequence[str], objective: str
) -> tuple[Any, str]:
    """The model that ``predict`` asks, with its labels, and how errors name it."""
    labels, prompts = ((given,) if isinstance(given, str) else given for given in (labels, prompts))
    loaded: Any = load_model(model, config_type=objective or None) if isinstance(model, (str, Path)) else model
    name = f"{model} holds a {type(loaded).__name__}, which" if loaded is not model else f"a {type(loaded).__name__}"
    if isinstance(loaded, ImageText):
        return _zero_shot(_towers(loaded, model), str(model), labels, prompts), name
    if labels or tuple(prompts) != TEMPLATES:
        raise ValueError(f"{name} takes no labels and prompts; they are for models of images and texts")
    return loaded, name


def content_of(predictions: Sequence[Prediction]) -> dict[str, object]:
    """The content of a file of predictions; those of a detector are an annotation file in COCO's format with scores."""
    if predictions and predictions[0].classes:
        named = ((str(row.path), row.objects) for row in predictions if row.objects is not None)
        return coco_content(predictions[0].classes, named)
    rows = [{"path": str(row.path), "labels": dict(row.labels), "problem": row.problem} for row in predictions]
    return {"format": 1, "predictions": rows}


def _are_paths(images: object) -> TypeGuard[files.OneOrMany]:
    """Whether these are files and folders, and not images in memory."""
    return isinstance(images, (str, Path)) or (
        isinstance(images, (list, tuple)) and all(isinstance(image, (str, Path)) for image in images)
    )


def _towers(model: ImageText, given: object) -> Towers:
    """The model with its tokenizer, which lies in the model's folder."""
    if not isinstance(given, (str, Path)):
        raise ValueError("a model for images and texts has its tokenizer in its folder: give the folder's path")
    return with_tokenizer(model, given)


def _zero_shot(towers: Towers, folder: str, labels: Sequence[str], prompts: Sequence[str]) -> ZeroShot:
    if not labels:
        raise ValueError(
            f"{folder} holds a model for images and texts, which chooses among labels: give them (--labels FILE)"
        )
    return ZeroShot(towers.to(choose_device("any")), labels, prompts)


def find_images(images: files.OneOrMany) -> list[Path]:
    """The files as they are named, and the images in the folders, sorted within each, none of them twice.

    Raises:
        ValueError: if one does not exist, or there are no images at all.
    """
    paths: dict[Path, Path] = {}  # as they are named, by their place
    named = files.paths_of(images)
    for given in named:
        if given.is_dir():
            listing = list_folder(given.resolve())
            say_skipped(given, listing)
            for path in listing.images:
                paths.setdefault(given.resolve() / path, given / path)
        elif given.is_file():
            paths.setdefault(given.parent.resolve() / given.name, given)
        else:
            raise ValueError(f"{given} does not exist; name image files or folders of images")
    if not paths:
        raise ValueError(f"no images in {', '.join(map(str, named))}; name image files or folders of images")
    return list(paths.values())


def _engine(paths: Sequence[Path], workers: int | None) -> Engine:
    """The engine for these images; few are not worth a file in the cache, nor several processes."""
    engine = engine_for(workers)
    return engine if len(paths) >= FEWEST_KEPT else replace(engine, cached=False)


def _read(
    paths: Sequence[Path], maker: FeatureMaker, engine: Engine, *, chunk: int
) -> Iterator[tuple[Sequence[Path], Features]]:
    """Some paths at a time and their features; nothing where another process goes on with them."""
    root, names = _below_one_folder(paths)
    done = 0
    for features in engine.read(Folder(root=root), names, maker, root=root, name=root.name, chunk=chunk):
        if not engine.first:
            return
        yield paths[done : done + len(features.kept)], features
        done += len(features.kept)


def _below_one_folder(paths: Sequence[Path]) -> tuple[Path, list[str]]:
    """The innermost folder that all files lie in, and their paths below it."""
    root = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    return root, [path.absolute().relative_to(root).as_posix() for path in paths]


def _table(paths: Sequence[Path], x: Float[Tensor, "n d"], problems: Sequence[str]) -> bytes:
    """The rows of some images as the bytes of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    names = [files.as_utf8(str(path)) for path in paths]
    embedding = [None if problem else row for row, problem in zip(x.numpy(), problems, strict=True)]
    rows = {"path": names, "embedding": embedding, "problem": list(problems)}
    numbers = pyarrow.list_(pyarrow.float32())  # of fixed length, pyarrow 25 reads no null of it back
    schema = pyarrow.schema({"path": pyarrow.string(), "embedding": numbers, "problem": pyarrow.string()})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pydict(rows, schema), sink)
    return sink.getvalue().to_pybytes()


def _problems(paths: Sequence[Path], features: Features, format: ImageInput) -> list[str]:
    """The reason why each image has no output, or ""; those that cannot be read are read again for it."""
    unreadable = [path for path, kept in zip(paths, features.kept.tolist(), strict=True) if not kept]
    reasons = dict(zip(unreadable, (reason for path in unreadable for reason in _reason(path, format)), strict=True))
    finite = features.x.isfinite().all(dim=1).tolist()
    return [reasons.get(path) or ("" if sound else NOT_FINITE) for path, sound in zip(paths, finite, strict=True)]


def _reason(path: Path, format: ImageInput) -> list[str]:
    return [reason or NOT_READABLE for reason in read_files([path], format=format)[1]]


def _nothing_to_show(count: int, first: Path, problem: str) -> ValueError:
    return ValueError(f"none of the {count:,} images gave anything; the first, {first}: {problem}")


def _tagging(model: Any, engine: Engine) -> tuple[FeatureMaker, Callable[[Tensor], Tensor]]:
    """The maker of a model's features, and what makes probabilities of them; probabilities for a tagger of your own."""
    if isinstance(model, SplitTagger):
        maker, scores_of = engine.maker_of(model, model.image_input, BATCH)
        return maker, lambda features: model.probabilities_of(scores_of(features))

    def encode(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        with evaluation_mode(model, engine.device):
            return model.probabilities(image.to(engine.device)).cpu()

    return unnamed_maker(encode, model.image_input, batch=BATCH), lambda probabilities: probabilities


def tag_probabilities(
    model: Any, paths: Sequence[Path], engine: Engine
) -> Iterator[tuple[Sequence[Path], Float[Tensor, "b k"], list[str]]]:
    """Some images at a time, the probability of each label of a tagger, and the reason why an image has none, or "".

    Raises:
        ValueError: after the last image, if none of them could be used.
    """
    model.to(engine.device)
    maker, probabilities_of = _tagging(model, engine)
    labelled, first_problem = False, ""
    for chunk, features in _read(paths, maker, engine, chunk=BATCH):
        with evaluation_mode(model, engine.device):
            probabilities = probabilities_of(features.x.to(engine.device)).cpu()
        problems = _problems(chunk, Features(x=probabilities, kept=features.kept), model.image_input)
        labelled |= not all(problems)
        first_problem = first_problem or next(filter(None, problems), "")
        yield chunk, probabilities, problems
    join().leave()
    if engine.first and not labelled:
        raise _nothing_to_show(len(paths), paths[0], first_problem)


def _objects(
    model: FinishedDetector, paths: Sequence[Path], *, top: int | None, how: Detecting
) -> Iterator[Prediction]:
    root, names = _below_one_folder(paths)
    readable, first_problem = 0, ""
    answers = detected(model, Folder(root=root), names, name=root.name, how=how)
    for path, answer in zip(paths, answers, strict=True):
        readable += not answer["problem"]
        first_problem = first_problem or answer["problem"]
        best: ImageObjects = {**answer, "objects": answer["objects"][:top]}
        labels = tuple((model.labels[each["label"]], each["score"]) for each in best["objects"])
        yield Prediction(path, labels, answer["problem"], best, model.labels)
    join().leave()
    if not readable:
        raise _nothing_to_show(len(paths), paths[0], first_problem)


def _predictions_in_memory(model: Any, images: Indexed, *, top: int) -> Iterator[Prediction]:
    """The same of images in memory, whose features are not kept."""
    device, first_problem, labelled = choose_device("any"), "", 0
    model.to(device)
    for start in range(0, len(images), BATCH):
        numbers = range(start, min(start + BATCH, len(images)))
        image, problems = read_pictures(images, numbers, format=model.image_input)
        with evaluation_mode(model, device):
            probabilities = model.probabilities(image.to(device)).cpu()
        finite = probabilities.isfinite().all(dim=1).tolist()
        problems = [problem or ("" if sound else NOT_FINITE) for problem, sound in zip(problems, finite, strict=True)]
        for row in _labelled([None] * len(numbers), probabilities, problems, model.labels, top=top):
            labelled += not row.problem
            first_problem = first_problem or row.problem
            yield row
    if not labelled:
        raise ValueError(f"none of {len(images):,} images gave anything; the first: {first_problem or 'missing'}")


def _labelled(
    paths: Sequence[Path | None],
    probabilities: Float[Tensor, "b k"],
    problems: Sequence[str],
    labels: tuple[str, ...],
    *,
    top: int,
) -> Iterator[Prediction]:
    """The best labels of each image that has no problem."""
    best = probabilities.topk(top, dim=1)
    ids, values = best.indices.tolist(), best.values.tolist()
    for row, (path, problem) in enumerate(zip(paths, problems, strict=True)):
        named = tuple((labels[k], float(value)) for k, value in zip(ids[row], values[row], strict=True))
        yield Prediction(path, () if problem else named, problem)
