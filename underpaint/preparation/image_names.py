"""The names by which tables refer to images, and the search for names that several images have.

Keys may begin anew in each shard, and a file name may occur in several folders; a row with such a name is ambiguous.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from underpaint.data.shards.tar import IMAGE_EXTENSIONS, Member, list_members


class ImageNames:
    """The names of the images of all sources: samples of tars, and loose images by their paths."""

    def __init__(self, *, tars: Iterable[Path], loose: Iterable[str]) -> None:
        self.tars = tuple(dict.fromkeys(tars))
        self.loose = tuple(dict.fromkeys(loose))

    def identity(self) -> list[object]:
        """The tars with their sizes and times of change, and the loose images."""
        stats = [(str(file), file.stat()) for file in self.tars]
        return [[(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats], self.loose]

    def repeated(self, wanted: Collection[str]) -> dict[str, str]:
        """The ``wanted`` names that two samples or two loose images have, each with a sentence that shows both.

        The headers of the tars are read, and no image. A sample and a loose image may be the same one.
        """
        return _repeated(self._samples(), wanted) | _repeated(
            ((path, names_of_path(path)) for path in self.loose), wanted
        )

    def _samples(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The ``TAR/KEY`` and the names of each sample."""
        for tar in self.tars:
            by_key: dict[str, list[Member]] = {}
            with tar.open("rb") as file:
                for member in list_members(file, tar.name)[0]:
                    by_key.setdefault(member.key, []).append(member)
            yield from ((f"{tar.name}/{key}", names_of_sample(members)) for key, members in by_key.items())


def as_path(path: str) -> str:
    """A path in the form that it has among names, where the leading slash distinguishes it from a key."""
    return f"/{path.removeprefix('./')}"


def names_of_path(path: str, extension: str = "") -> tuple[str, ...]:
    """The names that a joined table may have for an image: its path, and as keys the path or name without extension."""
    folder, slash, base = path.rpartition("/")
    stem = base if extension else base.rpartition(".")[0] or base
    return tuple(dict.fromkeys((as_path(f"{path}{extension}"), f"{folder}{slash}{stem}", stem)))


def names_of_sample(sample: list[Member]) -> tuple[str, ...]:
    extensions = [member.extension for member in sample if member.extension in IMAGE_EXTENSIONS]
    return names_of_path(sample[0].key, f".{extensions[0]}") if extensions else ()


def _repeated(images: Iterable[tuple[str, Sequence[str]]], wanted: Collection[str]) -> dict[str, str]:
    first: dict[str, str] = {}
    repeated: dict[str, str] = {}
    for place, names in images:
        for name in names:
            if name not in wanted:
                continue
            if name not in first:
                first[name] = place
            elif name not in repeated:
                repeated[name] = f"{name.removeprefix('/')!r} may be {first[name]} or {place}"
    return repeated
