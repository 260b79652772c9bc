"""Everything with a name on the command line, and the first line of its description.

Read from the package's source, where names and docstrings stand: importing the objects takes seconds, since torch comes
with them. A test compares both.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def contents() -> dict[str, list[tuple[str, str]]]:
    """Names with the first lines of their descriptions: recipes, studies, evaluations and collections."""
    recipes, verbs = _Source("underpaint.recipes"), _Source("underpaint.verbs")
    catalog = _Source("underpaint.data.collections.catalog")
    return {
        "recipes": [(published_name(name), recipes.description(name)) for name in recipes.names("__all__")],
        "studies": verbs.descriptions("STUDIES") + verbs.descriptions("TABLES"),
        "evaluations": verbs.descriptions("EVALUATIONS"),
        "collections": [(texts["name"], texts["description"]) for texts in catalog.texts("COLLECTIONS")],
    }


def fitted_names() -> list[str]:
    """Names that ``train`` takes besides: recipes fitted to images."""
    return list(_Source("underpaint.fitted_recipes").names("STAGES"))


def published_name(function_name: str) -> str:
    """A recipe's name on the command line: ``mae_vit_6.5b14``, which no Python name can be."""
    return function_name.replace("6b5_14", "6.5b14")


class _Source:
    """A module of the package as it is written."""

    def __init__(self, module: str) -> None:
        path = PACKAGE.joinpath(*module.split(".")[1:])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        self.body = ast.parse(file.read_text(encoding="utf-8")).body

    @cached_property
    def origins(self) -> dict[str, tuple[str, str]]:
        """The module and the name there of every name that is imported ``from`` one."""
        statements = [node for node in self.body if isinstance(node, ast.ImportFrom) and node.module]
        return {
            alias.asname or alias.name: (statement.module or "", alias.name)
            for statement in statements
            for alias in statement.names
        }

    def value(self, name: str) -> ast.expr:
        """Expression that the module assigns to a name; LookupError if it assigns none."""
        for node in self.body:
            targets = node.targets if isinstance(node, ast.Assign) else ()
            targets = (node.target,) if isinstance(node, ast.AnnAssign) else targets
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                assert isinstance(node, ast.Assign | ast.AnnAssign)
                assert node.value is not None
                return node.value
        raise LookupError(name)

    def names(self, name: str) -> Sequence[str]:
        """A list or tuple of texts."""
        return ast.literal_eval(self.value(name))

    def descriptions(self, name: str) -> list[tuple[str, str]]:
        """A dictionary from texts to functions or classes: each text with the description of its value."""
        value = self.value(name)
        assert isinstance(value, ast.Dict)
        described: list[tuple[str, str]] = []
        for key, thing in zip(value.keys, value.values, strict=True):
            assert isinstance(key, ast.Constant)
            assert isinstance(thing, ast.Name)
            described.append((str(key.value), self.description(thing.id)))
        return described

    def description(self, name: str) -> str:
        """The first line of the docstring of a function or class, which may stand in another module."""
        for node in self.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        module, original = self.origins[name]
        return _Source(module).description(original)

    def texts(self, name: str) -> list[dict[str, str]]:
        """A tuple of calls: of each its arguments that are texts, by their keywords."""
        value = self.value(name)
        assert isinstance(value, ast.Tuple)
        return [
            {
                argument.arg: str(argument.value.value)
                for argument in call.keywords
                if argument.arg and isinstance(argument.value, ast.Constant)
            }
            for call in value.elts
            if isinstance(call, ast.Call)
        ]
