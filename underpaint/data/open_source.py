"""Sources of images by name: a collection of the catalog, several joined, a user's function, or a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import xxhash

from underpaint.data.collections import catalog
from underpaint.data.folders import folder
from underpaint.data.folders.two_folders import is_two_folders, open_two_folders, two_folders_of
from underpaint.data.known_sets.catalog import is_known_set, open_known_set
from underpaint.data.pictures import Indexed
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.prepared_source import is_prepared_name, prepared_source
from underpaint.data.source import SPLITS, Files, Problem, Source, Split
from underpaint.data.torch_source import torch_source
from underpaint.tags.label_names import TagRulesName
from underpaint.user_modules import import_function

__all__ = ["SPLITS", "Problem", "Source", "Split", "join", "open_source"]

STAGES: tuple[Split, ...] = ("pretrain", "heldout")
"""The splits that MAE and WSP use."""


def open_source(source: str, *, tags: str = "", labels: str = "", tag_rules: TagRulesName = "canonical") -> Source:
    """Open images by name; the form of the name decides how it is opened.

    * ``NAME:FOLDER`` with a name of ``KNOWN_SETS``, such as ``in1k:/data/imagenet``: a published dataset as it lies on
      disk, which must be complete;
    * ``train=DIR,val=DIR``: training and test images in two folders with the same class folders;
    * with a ``/`` in it, or starting with a ``.``: a folder. ``tags`` is a table with the columns ``path`` and
      ``tags``; "" takes ``tags.csv`` or ``tags.parquet`` of the folder where there is one. ``tag_rules`` says how they
      become labels. ``labels`` is a table with the columns ``path``, ``class`` and perhaps ``split``, the transfer
      task, or "folders" for class folders; "" takes these where there is no table of tags;
    * a folder with ``prepared.json`` in it: a prepared set, which brings its labels;
    * with a ``:``: the user's ``module:function``, which returns a Source or a dataset of ``torch.utils.data``
      (docs/extend.md);
    * with a ``+``: several collections or functions to pretrain on, see ``join``;
    * else a collection of the catalog.

    Raises ValueError for errors that the user can correct; single bad images are ``problems`` of the source instead.
    """
    if is_known_set(source):
        if tags or labels:
            raise ValueError(f"{source} has its own classes: give no file of tags or classes with it")
        _require_canonical(source, "a published dataset", tag_rules)
        return open_known_set(source)
    if is_two_folders(source):
        if tags or labels:
            raise ValueError(f"{source} has the classes of its folders: give no file of tags or classes with it")
        _require_canonical(source, "two folders of class folders", tag_rules)
        return open_two_folders(source)
    if is_prepared_name(source):
        if tags or labels:
            raise ValueError(f"{source}, a prepared set, has its own labels: give no file of tags or classes with it")
        _require_canonical(source, "a prepared set", tag_rules)
        return prepared_source(PreparedSet(Path(source).expanduser()))
    if is_folder_name(source):
        return folder.open_folder(Path(source).expanduser(), tags=tags, labels=labels, tag_rules=tag_rules)
    if tags or labels:
        raise ValueError(
            f"the collection '{source}' brings its own tags and labels: leave out tags={tags!r} and labels={labels!r}, "
            f"or name a folder, with a '/' in it"
        )
    _require_canonical(source, "a collection", tag_rules)
    if "+" in source:
        return join([open_source(name) for name in source.split("+")])
    return _own(source) if ":" in source else catalog.open_collection(source)


def folders_of(source: str) -> list[Path]:
    """The folders that a source's name means; none for a collection or a function.

    Raises:
        ValueError: if a name of two folders has another form.
    """
    if is_two_folders(source):
        return list(two_folders_of(source).values())
    folder = source.partition(":")[2] if is_known_set(source) else source
    return [Path(folder).expanduser()] if folder and Path(folder).expanduser().is_dir() else []


def open_sources(sources: str) -> list[Source]:
    """The sources that a text with ``+`` between their names stands for; a folder may have one in its name."""
    is_folder = is_two_folders(sources) or Path(sources).expanduser().is_dir()
    return [open_source(name) for name in ([sources] if is_folder else sources.split("+"))]


def is_folder_name(source: str) -> bool:
    """Whether a source's name means a folder."""
    return "/" in source or os.sep in source or source.startswith(".")


def _require_canonical(source: str, kind: str, tag_rules: TagRulesName) -> None:
    if tag_rules != "canonical":
        raise ValueError(
            f"data.tag_rules={tag_rules} says how the tags of a folder become labels; '{source}' is {kind}, whose "
            f"labels are made already: leave it out"
        )


def join(sources: Sequence[Source]) -> Source:
    """Several sources as one to pretrain on: their splits ``pretrain`` and ``heldout``, without the transfer tasks.

    Raises:
        ValueError: if two of them have the same name.
    """
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ValueError(f"{'+'.join(names)} names a collection twice")
    root = Path(os.path.commonpath([source.root for source in sources]))
    prefix = {source.name: source.root.relative_to(root) for source in sources}

    def column(name: str) -> tuple:
        return tuple(value for source in sources for value in getattr(source, name))

    return Source(
        name="+".join(names),
        root=root,
        path=tuple((prefix[source.name] / path).as_posix() for source in sources for path in source.path),
        tags=column("tags"),
        label=("",) * len(column("path")),
        family=tuple(f"{source.name}/{family}" for source in sources for family in source.family),
        splits=tuple(tuple(split for split in row_splits if split in STAGES) for row_splits in column("splits")),
        flip=column("flip"),
        licence="; ".join(f"{source.name}: {source.licence}" for source in sources),
        attribution="; ".join(source.attribution for source in sources),
        problems=column("problems"),
        content_hash=xxhash.xxh3_128(
            "+".join(f"{source.name}:{source.content_hash}" for source in sources).encode()
        ).hexdigest(),
        skipped=column("skipped"),
        captions=tuple(row for source in sources for row in source.captions or ((),) * len(source.path)),
        files=_Joined([(prefix[source.name].as_posix(), source.files) for source in sources]),
    )


class _Joined:
    """The files of several sources, distinguished by the start of the path."""

    def __init__(self, parts: Sequence[tuple[str, Files]]) -> None:
        longest_first = sorted(parts, key=lambda part: -len(part[0]))
        self.parts = [("" if prefix == "." else f"{prefix}/", files) for prefix, files in longest_first]

    def read(self, path: str) -> bytes:
        files, inner_path = self._find(path)
        return files.read(inner_path)

    def stamp(self, path: str) -> list[int | str]:
        files, inner_path = self._find(path)
        return files.stamp(inner_path)

    def _find(self, path: str) -> tuple[Files, str]:
        return next((files, path[len(prefix) :]) for prefix, files in self.parts if path.startswith(prefix))


def _own(name: str) -> Source:
    source = import_function(name)()
    if isinstance(source, Source):
        return source
    if isinstance(source, Indexed) and not isinstance(source, (str, dict)):
        return torch_source(name, source)
    raise ValueError(
        f"{name} returns {type(source).__name__}, neither a Source nor a dataset with a length; see docs/extend.md"
    )
