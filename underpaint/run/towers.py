"""A run of LiT or an imported MAWS-CLIP, as evaluations of images and texts take it."""

from __future__ import annotations

from pathlib import Path

from underpaint.evals.text_features import Towers
from underpaint.models.image_text import ImageText
from underpaint.models.text_start import CAPTION_LANGUAGES, START_LANGUAGES
from underpaint.models.weights import load_tokenizer, read_description
from underpaint.run.outputs import load_model


def load_towers(folder: str | Path) -> Towers:
    """Both towers in evaluation mode on the CPU, with tokenizer and caption languages.

    Raises:
        ValueError: if the folder holds another model, a damaged one, or the tokenizer of another one.
    """
    folder = Path(folder)
    advice = "which reads no texts; name a run of LiT or an imported MAWS-CLIP"
    if not (folder / "model").is_dir() and read_description(folder).get("type") == "vit":
        raise ValueError(f"{folder} holds an encoder alone, {advice}")
    model = load_model(folder)
    if not isinstance(model, ImageText):
        raise ValueError(f"{folder} holds a model of the class {type(model).__name__}, {advice}")
    return with_tokenizer(model, folder)


def with_tokenizer(model: ImageText, folder: str | Path) -> Towers:
    """A loaded model with the tokenizer and caption languages that ``folder`` has of it.

    Raises:
        ValueError: if the tokenizer is missing or that of another model.
    """
    folder = Path(folder)
    description = read_description(folder / "model" if (folder / "model").is_dir() else folder)
    before = description.get(START_LANGUAGES)
    return Towers(
        model,
        load_tokenizer(folder),
        _languages(description.get(CAPTION_LANGUAGES)),
        start_languages=tuple(map(str, before)) if isinstance(before, list) else (),
    )


def _languages(recorded: object) -> dict[str, int] | None:
    if not isinstance(recorded, dict):
        return None
    return {str(language): count for language, count in recorded.items() if isinstance(count, int)}
