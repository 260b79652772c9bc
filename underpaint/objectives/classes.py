"""Which class an objective's config is, as ``model/config.json`` records it, and who may say what is imported."""

from __future__ import annotations

import dataclasses
import importlib
import re
from typing import Any

OUR_MODULE = re.compile(r"underpaint\.objectives\.[a-z_]+")
BEFORE = {
    "MAEConfig": "underpaint.objectives.mae:MAEConfig",
    "ClassifyConfig": "underpaint.objectives.classify:ClassifyConfig",
}
"""Names without a module, as folders have them that were written before names had one."""


def class_name(config: object) -> str:
    """``module:Class`` of an objective's config."""
    return class_name_of(type(config))


def config_class(recorded: object, config_type: type | None = None) -> type[Any]:
    """The class of a recorded ``module:Class``.

    A file decides nothing about what is imported: only modules of ``underpaint.objectives`` are, and ``config_type``
    is the class that the user named for an objective of theirs, on the command line or in Python.

    Raises:
        ValueError: for an objective that is not the package's own and not ``config_type``.
    """
    name = BEFORE.get(str(recorded), str(recorded))
    module, _, kind = name.partition(":")
    if config_type is not None:
        if kind and config_type.__qualname__ != kind:
            raise ValueError(f"it holds the objective {name}, not {class_name_of(config_type)}")
        return config_type
    if OUR_MODULE.fullmatch(module):
        try:
            config = getattr(importlib.import_module(module), kind, None)
        except ImportError:
            config = None
        if isinstance(config, type) and dataclasses.is_dataclass(config):
            return config
    raise ValueError(
        f"it holds the objective {name}, which is not one of this package; name its class: --objective module:Class on "
        f"the command line, config_type=... in Python"
    )


def class_name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
