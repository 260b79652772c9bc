"""Inference with a finished model: features of images as a table, and the tags or classes of images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint import files
from underpaint.core import ImageInput
from underpaint.data.folders.listing import list_folder, say_skipped
from underpaint.data.loader import read_files
from underpaint.evals.class_names import TEMPLATES
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.text_features import Towers
from underpaint.evals.zeroshot import ZeroShot
from underpaint.feature_tables import join_parts, parts_folder, require_table_name
from underpaint.models.image_text import ImageText
from underpaint.models.pooling import Pooling, pool
from underpaint.models.vit import ViT
from underpaint.models.weights import encoder_folder, load_encoder, read_description
from underpaint.progress import Progress
from underpaint.run import record
from underpaint.run.outputs import load_model
from underpaint.run.towers import with_tokenizer
from underpaint.training.devices import choose_device

FORMAT = 1
PART_IMAGES = 4_096
"""Images whose features are kept together while the table grows: what an interruption can cost."""
BATCH = 64
NOT_FINITE = "the network's output is not finite; its weights have diverged, or they overflow on this image"


@runtime_checkable
class Tagger(Protocol):
    """A model that gives probabilities to named labels; satisfied by ``Classify`` and ``ZeroShot``."""

    @property
    def image_input(self) -> ImageInput: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def probabilities(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]: ...

    def modules(self) -> Iterator[nn.Module]: ...


class Prediction(NamedTuple):
    """An image and its best labels, highest first."""

    path: Path
    labels: tuple[tuple[str, float], ...]
    """Name and probability of each label; () if there is a problem."""
    problem: str
    """Reason for missing labels; "" if there are labels."""


def embed(folder: str | Path, images: files.OneOrMany, out: str | Path, *, pooling: Pooling = "cls") -> dict[str, int]:
    """Features of image files, and of all images in folders, as the table ``out``; what was done, in numbers.

    ``out`` ends in ``.parquet``, ``.csv`` or ``.npy`` (``feature_tables.py`` has their columns). The problem of an
    image is "" where all is well; one that cannot be read, or whose features are not finite, has no embedding. The
    table appears whole when all is done; until then finished parts lie in ``OUT.part``, and the same call continues.

    Raises:
        ValueError: if there are no images, none of them gets an embedding, ``out`` exists already, or ``folder`` holds
            no encoder.
    """
    out = Path(out)
    require_table_name(out)
    paths = find_images(images)
    encoder = load_encoder(folder)
    weights = read_description(encoder_folder(folder))["weights"]["xxh3"]
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    parts = _claim(out, {"format": FORMAT, "weights": weights, "pooling": pooling, "images": stamps})
    device = choose_device("any")
    encoder.to(device)
    chunks = {
        parts / f"{start:09d}.parquet": paths[start : start + PART_IMAGES]
        for start in range(0, len(paths), PART_IMAGES)
    }
    pending = {part: chunk for part, chunk in chunks.items() if not part.is_file()}
    done = len(paths) - sum(map(len, pending.values()))
    with Progress(out.name, total=len(paths), unit="images", done=done) as progress:
        for part, chunk in pending.items():
            files.write_bytes(part, _table(encoder, chunk, pooling=pooling, device=device))
            done += len(chunk)
            progress.update(done)
    tables = sorted(parts.glob("*.parquet"))
    bad, example = _problems(tables)
    if bad == len(paths):
        shutil.rmtree(parts)
        raise _nothing_to_show(bad, paths[0], example)
    join_parts(tables, out, width=encoder.config.width)
    shutil.rmtree(parts)
    return {"images": len(paths), "bad": bad, "width": encoder.config.width}


def predict(
    folder: str | Path,
    images: files.OneOrMany,
    *,
    top: int = 5,
    labels: str | Sequence[str] = (),
    prompts: str | Sequence[str] = TEMPLATES,
    objective: str = "",
) -> Iterator[Prediction]:
    """The ``top`` tags or classes of images by a finished model, one image after the other.

    A model for images and texts chooses among ``labels``, of which each may have several names (``dog; puppy``), put
    into each of ``prompts`` (``a photo of a {}.``). Probabilities sum to 1 over all labels, or are independent of each
    other where the model was trained with ``loss=bce``. ``objective`` names the config class of a user's objective,
    ``module:Class``.

    Raises:
        ValueError: if there are no images, ``folder`` holds no model that gives labels, or ``labels`` are given to a
            model that has labels already; after the last image, if none of them got a label.
    """
    if top < 1:
        raise ValueError(f"top={top} must be 1 or more")
    labels, prompts = ((given,) if isinstance(given, str) else given for given in (labels, prompts))
    paths = find_images(images)
    model: Any = load_model(folder, config_type=objective or None)
    if isinstance(model, ImageText):
        model = _zero_shot(with_tokenizer(model, folder), folder, labels, prompts)
    elif labels or tuple(prompts) != TEMPLATES:
        raise ValueError(
            f"{folder} holds a {type(model).__name__}; labels and prompts are for models of images and texts"
        )
    if not isinstance(model, Tagger):
        raise ValueError(
            f"{folder} holds a {type(model).__name__}, which gives no labels; name a run of WSP or finetuning"
        )
    return _predictions(model, paths, top=min(top, len(model.labels)))


def _zero_shot(towers: Towers, folder: str | Path, labels: Sequence[str], prompts: Sequence[str]) -> ZeroShot:
    if not labels:
        raise ValueError(f"{folder} holds a model for images and texts, which chooses among labels: name them (labels)")
    return ZeroShot(towers.to(choose_device("any")), labels, prompts)


def find_images(images: files.OneOrMany) -> list[Path]:
    """The files as they are named, and the images in the folders, sorted within each, none of them twice.

    Raises:
        ValueError: if one does not exist, or there are no images at all.
    """
    paths: dict[Path, None] = {}
    named = files.paths_of(images)
    for given in named:
        if given.is_dir():
            listing = list_folder(given.resolve())
            say_skipped(given, listing)
            paths |= dict.fromkeys(given / path for path in listing.images)
        elif given.is_file():
            paths[given] = None
        else:
            raise ValueError(f"{given} does not exist; name image files or folders of images")
    if not paths:
        raise ValueError(f"no images in {', '.join(map(str, named))}; name image files or folders of images")
    return list(paths)


def _claim(out: Path, identity: dict[str, object]) -> Path:
    """The folder of the finished parts; parts of other images or weights are thrown away."""
    parts = parts_folder(out)
    wanted = record.digest(identity)
    mark = parts / "identity.json"
    if mark.is_file() and files.read_json(mark) != {"identity": wanted}:
        shutil.rmtree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    files.write_json(mark, {"identity": wanted})
    return parts


def _table(encoder: ViT, paths: Sequence[Path], *, pooling: Pooling, device: torch.device) -> bytes:
    """The rows of some images as the bytes of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    # a table holds UTF-8 alone, a file name any bytes
    names = [str(path).encode(errors="backslashreplace").decode() for path in paths]
    rows: dict[str, list[object]] = {"path": [*names], "embedding": [], "problem": []}
    format = encoder.config.image_input
    with evaluation_mode(encoder, device):
        for start in range(0, len(paths), BATCH):
            image, problems = read_files(paths[start : start + BATCH], format=format)
            tokens = encoder(image.to(device)).float()
            features = pool(tokens, pooling).cpu()
            problems = _with_overflow(problems, features)
            rows["embedding"] += [None if why else x for x, why in zip(features.numpy(), problems, strict=True)]
            rows["problem"] += problems
    embedding = pyarrow.list_(pyarrow.float32())  # of fixed length, pyarrow 25 reads no null of it back
    schema = pyarrow.schema({"path": pyarrow.string(), "embedding": embedding, "problem": pyarrow.string()})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pydict(rows, schema), sink)
    return sink.getvalue().to_pybytes()


def _with_overflow(problems: Sequence[str], output: Float[Tensor, "b n"]) -> list[str]:
    """The problems of some images, and that of a network's output that is not finite."""
    finite = output.isfinite().all(dim=1).tolist()
    return [problem or ("" if sound else NOT_FINITE) for problem, sound in zip(problems, finite, strict=True)]


def _nothing_to_show(count: int, first: Path, problem: str) -> ValueError:
    return ValueError(f"none of the {count:,} images gave anything; the first, {first}: {problem}")


def _problems(parts: Sequence[Path]) -> tuple[int, str]:
    """Number of rows without an embedding, and the problem of the first row."""
    import pyarrow.parquet

    counts = [pyarrow.parquet.read_table(part, columns=["embedding"])["embedding"].null_count for part in parts]
    return sum(counts), pyarrow.parquet.read_table(parts[0], columns=["problem"])["problem"][0].as_py()


def _predictions(model: Any, paths: Sequence[Path], *, top: int) -> Iterator[Prediction]:
    device, format = choose_device("any"), model.image_input
    model.to(device)
    labelled, first_problem = 0, ""
    for start in range(0, len(paths), BATCH):
        chunk = paths[start : start + BATCH]
        image, problems = read_files(chunk, format=format)
        with evaluation_mode(model, device):
            probabilities = model.probabilities(image.to(device)).cpu()
        best, problems = probabilities.topk(top, dim=1), _with_overflow(problems, probabilities)
        rows = zip(chunk, best.indices.tolist(), best.values.tolist(), problems, strict=True)
        for path, ids, values, problem in rows:
            labels = () if problem else tuple((model.labels[k], value) for k, value in zip(ids, values, strict=True))
            labelled += not problem
            first_problem = first_problem or problem
            yield Prediction(path, labels, problem)
    if not labelled:
        raise _nothing_to_show(len(paths), paths[0], first_problem)
