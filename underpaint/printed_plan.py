"""A recipe and overrides from the JSON that ``underpaint train --plan`` prints, as it is or with other values in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from underpaint import config, files, recipes
from underpaint.run import Run
from underpaint.run.idle_fields import idle_fields, refuse_idle
from underpaint.run.starting_encoder import with_shape_of_start


def read_plan(file: str | Path) -> tuple[str, list[str]]:
    """The recipe of a printed plan, and the fields that have another value there, as overrides.

    Raises:
        ValueError: if the file is not such a plan, or a value does not fit its field or has no effect.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(f"--config {path} is not a file; print one with `underpaint train RECIPE --plan`")
    content = files.read_json(path)
    name, planned = (content.get("recipe"), content.get("run")) if isinstance(content, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(planned, dict):
        raise ValueError(f"{path} has no recipe and run; print such a file with `underpaint train RECIPE --plan`")
    recipe = recipes.find_recipe(name)()
    try:
        overrides = list(_changes(recipe, planned))
        run = with_shape_of_start(config.override(recipe, overrides))
        idle = idle_fields(run)  # such as the shape of an encoder that init_from brings
        kept = [each for each in overrides if each.partition("=")[0] not in idle]
        if with_shape_of_start(config.override(recipe, kept)) != run:
            refuse_idle(overrides, run, idle)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return name, kept


def _changes(recipe: Run, planned: dict[str, object]) -> Iterator[str]:
    """The fields of the plan that are not the recipe's; one that is not there is as a printed plan leaves it out."""
    for name, old, value in config.differences(config.record(recipe), planned):
        field, now = _field(recipe, name)
        if value is None:
            value = field.default if field is not None and field.metadata.get("later") else old
        if old is None and isinstance(value, dict) and dataclasses.is_dataclass(now):  # a group that records leave out
            inside = config.differences(config.record(now), value, name)
        else:
            inside = [(name, old, value)]
        yield from (f"{each}={config.written(new, each)}" for each, before, new in inside if new not in (None, before))


def _field(recipe: Run, name: str) -> tuple[dataclasses.Field[object] | None, object]:
    """The field of a dotted name, None where there is none, and its value."""
    field, value = None, recipe
    for part in name.split("."):
        fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
        field = next((field for field in fields if field.name == part), None)
        value = getattr(value, part, None)
    return field, value
