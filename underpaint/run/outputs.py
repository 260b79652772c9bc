"""Outputs of a finished run: ``encoder/``, ``model/``, ``preview.png`` and ``result.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint import config as configs
from underpaint import files
from underpaint.core import Batch, DataInfo, Visualizable
from underpaint.data.open_dataset import MadeForInputs
from underpaint.models.image_text import ImageText, ImageTextConfig
from underpaint.models.text_start import CAPTION_LANGUAGES, START_LANGUAGES
from underpaint.models.vit import ViT
from underpaint.models.weights import load_module, read_description, save_encoder, save_module
from underpaint.objectives.classes import class_name, config_class
from underpaint.results.run import ENVIRONMENT_FILE, FORMAT, RESULT_FILE, RunMeasures, RunResult
from underpaint.run.declare import HasFurtherStart, ObjectiveConfig
from underpaint.texts.tokenizer import FOLDER, JSON, SENTENCEPIECE
from underpaint.user_modules import import_function

T = TypeVar("T")

PICTURED_IMAGES = 8
PICTURE_SIDE = 144
"""Smaller images are enlarged by a whole factor to about so many pixels."""


def save_outputs(
    folder: Path,
    objective: ObjectiveConfig,
    *,
    network: nn.Module,
    data_info: DataInfo,
    result: RunMeasures,
    texts: MadeForInputs | None = None,
) -> RunResult:
    """Write the outputs; ``result.json`` comes last and marks the run as finished.

    If the run started from imported weights, their file and licence (env.json) are carried on. The
    tokenizer of ``texts`` is saved beside the model, and the number of captions by language in its config.
    """
    env = folder / ENVIRONMENT_FILE
    origin = files.read_json(env)["lineage"].get("origin") if env.is_file() else None
    if isinstance(network.encoder, ViT):  # no other stage can start with windows or tubelets
        save_encoder(folder / "encoder", network.encoder, origin)
    description: dict[str, object] = {
        "type": class_name(objective),
        "config": configs.record(objective),
        "facts": {"seed": data_info.seed, "images": data_info.images},
        **({} if origin is None else {"origin": origin}),
    }
    labels = {"labels": list(data_info.labels), "count": list(data_info.label_count)}
    beside: dict[str, object] = {"labels.json": {"format": FORMAT, **labels}}
    tokenizer = None if texts is None else texts.tokenizer
    if texts is not None and tokenizer is not None:
        description["tokenizer"] = {"size": tokenizer.file.stat().st_size, "xxh3": tokenizer.xxh3}
        description[CAPTION_LANGUAGES] = dict(texts.languages)
        if isinstance(objective, HasFurtherStart) and (languages := objective.start_languages()):
            description[START_LANGUAGES] = list(languages)
        beside[f"{FOLDER}/{JSON if tokenizer.file.suffix == '.json' else SENTENCEPIECE}"] = tokenizer.file
    save_module(folder / "model", network, description, beside)
    record: RunResult = {"format": FORMAT, **result}
    files.write_json(folder / RESULT_FILE, record)
    return record


def load_model(folder: str | Path, *, config_type: type | str | None = None) -> nn.Module:
    """The whole objective of a finished run, or an imported model, in evaluation mode on the CPU.

    ``config_type`` is the config class of an objective that is not the package's own, or its name ``module:Class``.

    Raises:
        ValueError: if the folder holds no finished model, a damaged one, or one of an unknown objective.
    """
    folder = Path(folder)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    description = read_description(folder)
    where = str(folder / "config.json")
    if description.get("type") == ImageTextConfig.__name__:
        both = configs.from_record(ImageTextConfig, description.get("config"), where=where)
        return load_module(folder, lambda: ImageText(both))
    named = named_class(config_type) if isinstance(config_type, str) else config_type
    try:
        kind = config_class(description.get("type"), named)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    labels, count = read_labels(folder)
    data_info = description.get("facts")
    if not isinstance(data_info, dict) or not all(isinstance(data_info.get(name), int) for name in ("seed", "images")):
        raise ValueError(f"{where}: facts={data_info!r:.40} has no whole numbers seed and images; the file is damaged")
    known = DataInfo(seed=data_info["seed"], images=data_info["images"], labels=labels, label_count=count)
    config = configs.from_record(kind, description.get("config"), where=where)
    return load_module(folder, lambda: config.build(known))


def named_class(name: str) -> type:
    """The class that the user named, ``module:Class``.

    Raises:
        ValueError: if there is none of this name.
    """
    kind = import_function(name)
    if not isinstance(kind, type):
        raise ValueError(f"{name} is not a class; name the class of the objective's config")
    return kind


def read_labels(folder: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names of a model's labels, and on how many training images each stands: () where nobody counted.

    Raises:
        ValueError: if ``labels.json`` is missing or holds anything else.
    """
    path = folder / "labels.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing; without it the model's scores have no names")
    content = files.read_json(path)
    fields: dict[str, object] = content if isinstance(content, dict) and content.get("format") == FORMAT else {}
    labels, count = _all_of(str, fields.get("labels")), _all_of(int, fields.get("count"))
    if labels is None or count is None or len(count) not in (0, len(labels)):
        raise ValueError(f"{path} holds no labels of format {FORMAT}: names and their counts; the file is damaged")
    return labels, count


def _all_of(kind: type[T], values: object) -> tuple[T, ...] | None:
    """The values of a list where all are of this type, else None."""
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        return None
    return tuple(values)


def save_pictures(folder: Path, network: nn.Module, batches: Iterator[Batch]) -> None:
    """Draw what the objective can show of the first images to ``preview.png``."""
    if not isinstance(network, Visualizable):
        return
    batch = next(batches)
    few = {name: value[:PICTURED_IMAGES] for name, value in batch.items()}
    network.eval()
    write_sheet(folder / "preview.png", network.pictures(few))


def write_sheet(path: Path, rows: Float[Tensor, "rows b c h w"]) -> None:
    """Rows of pictures as one PNG, from values in [0, 1].

    With one or two channels the first is shown in grey, with more than three the first three as colours.
    """
    from PIL import Image

    rows = rows.cpu()
    rows = rows[:, :, :1].expand(-1, -1, 3, -1, -1) if rows.shape[2] < 3 else rows[:, :, :3]
    factor = max(1, PICTURE_SIDE // max(rows.shape[-2:]))
    rows = rows.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    padded = nn.functional.pad(rows, (4, 4, 4, 4), value=1.0)
    count, images, channels, height, width = padded.shape
    sheet = padded.permute(0, 3, 1, 4, 2).reshape(count * height, images * width, channels)
    picture = Image.fromarray((sheet * 255).round().to(torch.uint8).numpy())
    part = path.with_name(f"{path.name}.part")
    picture.save(part, format="PNG")
    part.replace(path)
