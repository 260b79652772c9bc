"""A Griffe extension: the comments at the fields of a class become one table in the reference.

The package describes fields by comments, where a reader of the code wants them; the site shows the same words.
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from typing import Any

from griffe import Attribute, Class, Docstring, Extension, ObjectNode

from underpaint.field_comments import comment_at


class FieldComments(Extension):
    """Adds the section ``Attributes`` to the docstring of every class that has annotated fields.

    Members that say nothing more stay out of the page: those fields, undescribed attributes, special methods.
    """

    def on_class_members(self, *, node: ast.AST | ObjectNode, cls: Class, **kwargs: Any) -> None:
        """Called by Griffe for every class, when its members are known."""
        for name, member in cls.members.items():
            said = isinstance(member, Attribute) and (member.docstring or "property" in member.labels)
            if (isinstance(member, Attribute) and not said) or (name.startswith("__") and name != "__call__"):
                member.public = False
        # its own fields: those of a base stand in another file, where the base's page describes them
        fields = [field for field in cls.members.values() if isinstance(field, Attribute) and is_field(field)]
        if not fields or not isinstance(cls.filepath, Path):
            return
        lines = []
        for field in fields:
            field.public = False  # the table has it, and the signature its default
            lines.append(textwrap.indent(f"{field.name}: {describe(field, cls.filepath)}", "    "))
        text = cls.docstring.value if cls.docstring else f"Fields of {cls.name}."
        value = "\n".join([text, "", "Attributes:", *lines])
        cls.docstring = Docstring(value.strip(), lineno=cls.lineno, parent=cls, parser="google")


def is_field(attribute: Attribute) -> bool:
    """Whether it is an annotated field, and neither a property nor a constant of the class."""
    annotation = str(attribute.annotation or "")
    skipped = attribute.name.startswith("_") or "property" in attribute.labels or annotation.startswith("ClassVar")
    return bool(annotation) and not skipped


def describe(field: Attribute, file: Path) -> str:
    """The docstring of a field, or else its comments, on one line."""
    if field.docstring:
        return " ".join(field.docstring.value.split())
    if field.lineno is None:
        return ""
    return comment_at(file, field.lineno, field.endlineno or field.lineno)
