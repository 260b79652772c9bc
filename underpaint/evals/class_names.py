"""Names of classes in one or more languages, and the templates they are put into, from the user's tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from underpaint import files
from underpaint.texts.languages import language_code

SEPARATOR = ";"
"""Between the names of one class; the first is the one that is shown."""
MARK = "{}"
"""Place of the name in a template."""
TEMPLATES = ("a photo of a {}.",)
"""CLIP's plainest."""
LONGEST = 1_000
"""Letters of a name or a template; a longer one is another file, or damage."""

Names = Mapping[str, tuple[str, ...]]
"""Names of each class."""


def read_names(file: Path) -> dict[str, Names]:
    """Names of classes by language, "" where nobody says it.

    * ``.json``: ``{"en": {"n02084071": ["dog", "puppy"]}}``, or the inner object alone;
    * ``.csv`` and ``.tsv``: the columns ``class``, ``name`` and perhaps ``language``, one name per row;
    * ``.txt``: a class per line with its names, ``dog; puppy``, of which the first is the class.

    Raises:
        ValueError: for another kind of file, a damaged one, an empty name or one of more than LONGEST letters.
    """
    _require_file(file, "names")
    suffix = file.suffix.lower()
    if suffix == ".json":
        rows = _rows_of_json(file)
    elif suffix in (".csv", ".tsv"):
        rows = _rows_of_table(file, "\t" if suffix == ".tsv" else ",")
    elif suffix == ".txt":
        rows = [("", names[0], name) for names in map(names_of, files.read_lines(file)) for name in names]
    else:
        raise ValueError(f"names={file} must end in .json, .csv, .tsv or .txt")
    table: dict[str, dict[str, tuple[str, ...]]] = {}
    for language, label, written in rows:
        name = " ".join(written.split())
        require_short(name, f"the class {label!r:.60}{f' in {language!r:.20}' if language else ''} of {file}")
        of_language = table.setdefault(language, {})
        of_language[label] = tuple(dict.fromkeys((*of_language.get(label, ()), name)))
    if not table:
        raise ValueError(f"names={file} has no names")
    return {**table}


def read_templates(file: Path) -> dict[str, tuple[str, ...]]:
    """Templates by language, "" for those of every language: ``.txt`` with one per line, or JSON as ``{"en": [...]}``.

    Raises:
        ValueError: for another kind of file, a damaged one, or a template without the place for a name.
    """
    _require_file(file, "templates")
    if file.suffix.lower() == ".json":
        content = files.read_json(file)
        lists = content.values() if isinstance(content, dict) else ()
        if not lists or not all(isinstance(lines, list) and all(isinstance(x, str) for x in lines) for lines in lists):
            example = '{"en": ["a photo of a {}."]}'
            raise ValueError(f"templates={file} is not an object of lists of texts, as in {example}")
        table = {str(language): tuple(lines) for language, lines in content.items()}
    else:
        table = {"": tuple(files.read_lines(file))}
    for lines in table.values():
        check_templates(lines)
    return table


def names_of(label: str) -> tuple[str, ...]:
    """The names of a label, as in ``dog; puppy``.

    Raises:
        ValueError: if there are none, or one is too long.
    """
    names = tuple(name.strip() for name in label.split(SEPARATOR) if name.strip())
    if not names:
        raise ValueError(f"a label has no name: {label!r:.60}")
    for name in names:
        require_short(name, "a label")
    return names


def check_templates(templates: Sequence[str]) -> None:
    """Raises ValueError for templates that cannot be used."""
    if not templates:
        raise ValueError(f"a prompt needs {MARK} where the label goes, as in {TEMPLATES[0]!r}; there is none")
    for template in templates:
        if MARK not in template:
            raise ValueError(
                f"a prompt needs {MARK} where the label goes, as in {TEMPLATES[0]!r}; not {template!r:.60}"
            )
        require_short(template, "a prompt")


def require_short(text: str, what: str) -> None:
    """Raises ValueError for a text that is empty or has more than LONGEST letters."""
    if not text.strip():
        raise ValueError(f"{what} has an empty name; give it one, or leave the row out")
    if len(text) > LONGEST:
        raise ValueError(f"{what} has a name of {len(text):,} letters, {text[:20]!r}...; at most {LONGEST:,} are read")


def of_language(table: Mapping[str, tuple[str, ...]], language: str) -> tuple[str, ...]:
    """The templates of a language, else those of every language, else the default."""
    codes = {language_code(name): templates for name, templates in table.items()}
    return codes.get(language_code(language)) or table.get("") or TEMPLATES


def shared_names(names: Names) -> list[str]:
    """A remark about classes that have a name in common, if there are any."""
    classes: dict[str, list[str]] = {}
    for label, of_label in names.items():
        for name in of_label:
            classes.setdefault(name.casefold(), []).append(label)
    shared = {name: labels for name, labels in classes.items() if len(labels) > 1}
    if not shared:
        return []
    name, labels = next(iter(shared.items()))
    return [f"{len(shared)} names stand for two classes or more, such as {name!r} for {labels[0]!r} and {labels[1]!r}"]


def table_hash(value: Names | Sequence[str]) -> str:
    """XXH3-64 of a table in the order in which its entries are used."""
    import xxhash

    return xxhash.xxh3_64_hexdigest(json.dumps(value, ensure_ascii=True).encode())


def _require_file(file: Path, field: str) -> None:
    if not file.is_file():
        raise ValueError(f"{field}={file} is not a file")


def _rows_of_json(file: Path) -> Iterable[tuple[str, str, str]]:
    content = files.read_json(file)
    if isinstance(content, dict) and content and all(isinstance(value, (list, str)) for value in content.values()):
        content = {"": content}
    if not isinstance(content, dict) or not all(isinstance(of_language, dict) for of_language in content.values()):
        raise ValueError(f'names={file} is not an object of objects, as in {{"en": {{"n02084071": ["dog", "puppy"]}}}}')
    for language, of_language in content.items():
        for label, names in of_language.items():
            listed = [names] if isinstance(names, str) else names
            if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed) or not listed:
                raise ValueError(f"{file}: the names of {label!r:.60} in {language!r:.20} are not a list of texts")
            yield from ((language, label, name) for name in listed)


def _rows_of_table(file: Path, delimiter: str) -> Iterable[tuple[str, str, str]]:
    if file.stat().st_size > files.MAX_JSON_BYTES:
        raise ValueError(f"{file} is not a table of at most {files.MAX_JSON_BYTES} bytes")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        rows = list(csv.DictReader(lines, delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is not a table in UTF-8: {error}") from error
    if not rows or not {"class", "name"} <= rows[0].keys():
        raise ValueError(f"{file} lacks the columns class and name, or has no rows")
    for row in rows:
        if not (row["class"] or "").strip():
            raise ValueError(f"{file} has a row without a class: name {row['name'] or ''!r:.60}")
        yield (row.get("language") or "").strip(), row["class"].strip(), row["name"] or ""
