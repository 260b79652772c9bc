"""underpaint: pre-pretrain vision models on your images, pretrain them on your tags, and measure the gains.

The verbs are imported when they are first used, so that ``import underpaint`` is quick and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from underpaint._version import __version__

__all__ = [
    "__version__",
    "embed",
    "evaluate",
    "export_weights",
    "import_weights",
    "load_encoder",
    "load_model",
    "look",
    "make_plan",
    "predict",
    "prepare",
    "recipes",
    "run_study",
    "search_images",
    "train",
    "write_report",
    "write_search_page",
]

if TYPE_CHECKING:
    from underpaint import recipes
    from underpaint.first_look import look
    from underpaint.image_encoder import load_encoder
    from underpaint.inference import embed, predict
    from underpaint.one_run import train
    from underpaint.plan import make_plan
    from underpaint.report import write_report
    from underpaint.run.outputs import load_model
    from underpaint.search.page import write_search_page
    from underpaint.search.queries import search_images
    from underpaint.verbs import evaluate, prepare, run_study
    from underpaint.weights.exporting import export_weights
    from underpaint.weights.importing import import_weights

_HOMES = {
    "embed": "underpaint.inference",
    "evaluate": "underpaint.verbs",
    "export_weights": "underpaint.weights.exporting",
    "import_weights": "underpaint.weights.importing",
    "load_encoder": "underpaint.image_encoder",
    "load_model": "underpaint.run.outputs",
    "look": "underpaint.first_look",
    "make_plan": "underpaint.plan",
    "predict": "underpaint.inference",
    "prepare": "underpaint.verbs",
    "run_study": "underpaint.verbs",
    "search_images": "underpaint.search.queries",
    "train": "underpaint.one_run",
    "write_report": "underpaint.report",
    "write_search_page": "underpaint.search.page",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "recipes":
        return importlib.import_module("underpaint.recipes")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'underpaint' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
