"""Lists of the training images of a low-shot split: text files with one image name a line, as MSN's are.

MSN's ``imagenet_subsets1/5imgs_class.txt`` has names without folders (``n01440764_10026.JPEG``), ours have paths.
Names that a line of text cannot hold (with a line break, a space at an end, bytes that are not UTF-8) are in quotes, as
JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from underpaint import files
from underpaint.evals.score import Score


def read_split_list(file: str) -> list[str]:
    """The names in a list, in its order.

    Raises:
        ValueError: if the file cannot be read, is empty, or names an image twice.
    """
    names = [_name_in(line, file) for line in files.read_lines(Path(file).expanduser())]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"the list {file} has {name!r} {count} times; remove the repeated lines")
    return names


def rows_named(names: Sequence[str], paths: Sequence[str], *, file: str) -> list[int]:
    """Places in ``paths`` of the named images; a name is a path, or the last part of just one.

    Raises:
        ValueError: naming an image that is not there, or that several paths end in.
    """
    place_of, known = places_by_name(paths), set(paths)
    ends = Counter(path.rpartition("/")[2] for path in paths)
    rows: list[int] = []
    for name in names:
        if name not in known and ends[name] > 1:
            raise ValueError(f"{file}: {ends[name]} training images are called {name!r}; write its path in the list")
        place = place_of.get(name)
        if place is None:
            raise ValueError(
                f"{file} names {name!r}, which is not one of the {len(paths)} training images; a name is a path "
                f"below the folder, or the file's name alone"
            )
        rows.append(place)
    if len(set(rows)) < len(rows):
        raise ValueError(f"{file} names an image twice, by its path and by its last part; remove one of the lines")
    return sorted(rows)


def places_by_name(paths: Sequence[str]) -> dict[str, int]:
    """Place of each image by its path and by the last part of it; a path goes before a last part."""
    return {path.rpartition("/")[2]: place for place, path in enumerate(paths)} | {
        path: place for place, path in enumerate(paths)
    }


def split_lists(scores: Sequence[Score]) -> list[tuple[str, tuple[str, ...]]]:
    """Name and training images of each low-shot split among the scores, such as ``5-shot-0``."""
    return [(f"{score.shots}-shot-{score.split}", score.training) for score in scores if score.training]


def write_split_lists(folder: Path, lists: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Write each list, given by its name and its images, as ``NAME.txt`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in lists:
        text = "".join(f"{_line_of(image)}\n" for image in images)
        files.write_bytes(folder / f"{name}.txt", text.encode())


def _line_of(image: str) -> str:
    is_line = image.isprintable() and image == image.strip() and not image.startswith('"')
    return image if is_line else json.dumps(image)


def _name_in(line: str, file: str) -> str:
    if not line.startswith('"'):
        return line
    try:
        name = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{file} has {line!r}, which begins with a quote and is not text in JSON: {error}") from None
    assert isinstance(name, str)
    return name
