"""Fill the templates of the pages, which stand in the folder ``templates``."""

from __future__ import annotations

import functools
import shlex
from typing import TYPE_CHECKING

from underpaint.messages import duration
from underpaint.report import headline, html_tables
from underpaint.results.study import EnvironmentEntry

if TYPE_CHECKING:
    import jinja2


def render(template: str, **content: object) -> str:
    """Fill a template; tags, labels and file names are strangers' text, so everything is escaped."""
    return _environment().get_template(template).render(**content)


@functools.cache
def _environment() -> jinja2.Environment:
    """The environment of all templates, which keeps those it compiled."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("underpaint.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        flatten=lambda value: list(html_tables.flatten(value)),
        command=_command,
        flops=html_tables.flops,
        duration=duration,
        points=headline.points,
        task_name=html_tables.task_name,
        capital=headline.capital,
        sum_values=lambda counts: sum(counts.values()),
    )
    return environment


def _command(start: EnvironmentEntry) -> str:
    """The command of a recorded start, as it can be pasted into a shell; "" where none was recorded."""
    command = list(start.get("command", ()))
    if command[:1] == ["__main__.py"]:  # as earlier releases recorded `python -m underpaint`
        command[0] = "underpaint"
    return shlex.join(command)
