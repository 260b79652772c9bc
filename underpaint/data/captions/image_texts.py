"""The texts of the images of one run, held in memory for a folder or a collection, read shard by shard for a set."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol, runtime_checkable

import xxhash

from underpaint.data.captions.folder_captions import EMPTY, FolderCaptions, read_folder_captions
from underpaint.data.captions.wording import Wording, captions_of
from underpaint.data.feature_store import image_hashes, read_hashed
from underpaint.data.folders.folder_dataset import FolderDataset
from underpaint.data.open_dataset import HELDOUT_IMAGES
from underpaint.data.open_source import is_folder_name
from underpaint.data.shards.prepared_source import open_shards
from underpaint.data.shards.shard_dataset import ShardDataset
from underpaint.data.shards.shard_samples import Selection, members_of, read_member
from underpaint.data.source import Caption, Problem, Source
from underpaint.messages import counted

WARM_SHARDS = 64
"""Number of shards whose texts are kept in memory."""


class HeldoutPair(NamedTuple):
    """An image of the held-out split and its texts."""

    key: str
    read: Callable[[], bytes]
    texts: tuple[str, ...]


class StoredImage(NamedTuple):
    """An image that is trained on: the identity that its ``Item`` has, the hash of its bytes, and how to read them."""

    identity: Hashable
    content_hash: str
    read: Callable[[], bytes]


@runtime_checkable
class ImageTexts(Protocol):
    """The texts of the images that a run draws."""

    @property
    def content_hash(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def languages(self) -> Mapping[str, int]:
        """Number of texts of the images that are trained on, by language; "" where nobody says it."""
        ...

    def of(self, image: Hashable) -> tuple[str, ...]:
        """The texts of an image, by the identity that its ``Item`` has; never ()."""
        ...

    def training(self) -> Iterator[str]:
        """All texts of the images that are trained on."""
        ...

    def heldout(self) -> list[HeldoutPair]:
        """The held-out images that have a text."""
        ...

    def images(self) -> Iterator[StoredImage]:
        """The images that are trained on."""
        ...


@dataclass(frozen=True, kw_only=True)
class FolderTexts:
    """The texts of a source's rows."""

    texts: tuple[tuple[str, ...], ...]
    """Texts by the index of the image in the rows trained on."""
    held: tuple[HeldoutPair, ...]
    source: Source
    rows: tuple[int, ...]
    content_hash: str
    notes: tuple[str, ...]
    languages: Mapping[str, int]

    def of(self, image: Hashable) -> tuple[str, ...]:
        assert isinstance(image, int)
        return self.texts[image]

    def training(self) -> Iterator[str]:
        return (text for texts in self.texts for text in texts)

    def heldout(self) -> list[HeldoutPair]:
        return list(self.held)

    def images(self) -> Iterator[StoredImage]:
        files, paths = self.source.files, [self.source.path[row] for row in self.rows]
        root = self.source.root
        for index, (path, image_hash) in enumerate(zip(paths, image_hashes(files, paths, root=root), strict=True)):
            read = partial(read_hashed, files.read, path, image_hash, at=f"{root / path}")
            yield StoredImage(index, image_hash, read)


def folder_texts(dataset: FolderDataset, wording: Wording, table: str) -> tuple[FolderDataset, FolderTexts]:
    """The dataset without images that have no text, and the texts of the others.

    Raises:
        ValueError: if no image has a text.
    """
    source = dataset.source
    written = _written(dataset, table)
    captioned: dict[int, tuple[Caption, ...]] = {}
    texts: dict[int, tuple[Caption, ...]] = {}
    heldout = source.rows("heldout")[:HELDOUT_IMAGES] if dataset.config.split == "pretrain" else []
    for row in (*dataset.rows, *heldout):
        path = source.path[row]
        brought = source.captions[row] if source.captions else ()
        captioned[row] = wording.chosen((*brought, *written.captions.get(path, ())))
        tags = dict.fromkeys((*source.tags[row], *written.tags.get(path, ())))
        texts[row] = captioned[row] or wording.made_of(list(tags))
    kept = [place for place, row in enumerate(dataset.rows) if texts[row]]
    if not kept:
        raise ValueError(_nothing(dataset.config.source, wording))
    bare = {source.path[row] for row in dataset.rows if not texts[row]} & written.captions.keys()
    known = {problem.key for problem in written.problems}
    empty = [Problem(key=path, reason=EMPTY) for path in sorted(bare - known)]
    source = replace(source, problems=(*source.problems, *written.problems, *empty))
    factors = tuple(dataset.factors[place] for place in kept) if dataset.factors else ()
    rows = tuple(dataset.rows[place] for place in kept)
    made = sum(not captioned[row] for row in rows)
    of_rows = tuple(_plain(texts[row]) for row in rows)
    pairs = (
        HeldoutPair(source.path[row], partial(source.files.read, source.path[row]), _plain(texts[row]))
        for row in heldout
        if texts[row]
    )
    folder = FolderTexts(
        texts=of_rows,
        held=tuple(pairs),
        source=source,
        rows=rows,
        content_hash=xxhash.xxh3_128_hexdigest(json.dumps([rows, of_rows]).encode()),
        notes=(*written.notes, *_notes(len(rows), made, len(dataset.rows) - len(rows), wording)),
        languages=Counter(text.language for row in rows for text in texts[row]),
    )
    return replace(dataset, source=source, rows=rows, factors=factors), folder


def _plain(captions: Sequence[Caption]) -> tuple[str, ...]:
    return tuple(caption.text for caption in captions)


def _written(dataset: FolderDataset, table: str) -> FolderCaptions:
    source, name = dataset.source, dataset.config.source
    if is_folder_name(name):
        return read_folder_captions(source.root, source.path, table=table)
    if table:
        raise ValueError(f"the collection '{name}' brings its captions: leave out data.captions={table}")
    return FolderCaptions(captions={}, tags={}, problems=(), notes=())


@dataclass(kw_only=True)
class ShardTexts:
    """The texts of a prepared set's images, of which the last few shards are in memory."""

    dataset: ShardDataset
    wording: Wording
    content_hash: str = ""
    notes: tuple[str, ...] = ()
    languages: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = self.dataset.prepared.vocabulary().labels
        self.warm: OrderedDict[int, list[tuple[str, ...]]] = OrderedDict()

    def of(self, image: Hashable) -> tuple[str, ...]:
        assert isinstance(image, tuple)
        shard, row = image
        if shard not in self.warm:
            self.warm[shard] = [_plain(texts) for texts, _ in self.of_shard(shard)]
            if len(self.warm) > WARM_SHARDS:
                self.warm.popitem(last=False)
        self.warm.move_to_end(shard)
        return self.warm[shard][row]

    def of_shard(self, shard: int) -> Iterator[tuple[tuple[Caption, ...], bool]]:
        """The texts of each row, and whether they are captions; too long ones were cut, and count as none."""
        prepared = self.dataset.prepared
        rows = prepared.rows(shard)
        for row, (caption, language) in enumerate(prepared.captions(shard)):
            try:
                texts = self.wording.chosen(captions_of(caption, language))
            except ValueError:
                texts = ()
            tags = [self.labels[label] for label in rows.labels_of(row)]
            yield texts or self.wording.made_of(tags), bool(texts)

    def training(self) -> Iterator[str]:
        for shard in range(len(self.dataset.prepared)):
            chosen = set(self.dataset.selection.chosen(self.dataset.prepared.rows(shard), shard).tolist())
            for row, (texts, _) in enumerate(self.of_shard(shard)):
                if row in chosen:
                    yield from _plain(texts)

    def heldout(self) -> list[HeldoutPair]:
        dataset = self.dataset
        if dataset.config.split != "pretrain":
            return []
        selection: Selection = replace(dataset.selection, split="heldout", share=1.0, left_out=frozenset())
        shards = open_shards(dataset.prepared.folder, cache_gib=dataset.config.cache_gib)
        numbers = {dataset.prepared.name_of(shard): shard for shard in range(len(dataset.prepared))}
        pairs = (
            HeldoutPair(rows.key(row), partial(read_member, shards, (rows, row)), self.of((numbers[rows.shard], row)))
            for rows, row in members_of(dataset.prepared, selection)
        )
        return list(islice((pair for pair in pairs if pair.texts), HELDOUT_IMAGES))

    def images(self) -> Iterator[StoredImage]:
        dataset = self.dataset
        shards = open_shards(dataset.prepared.folder, cache_gib=dataset.config.cache_gib)
        for shard, rows in enumerate(dataset.prepared.scan()):
            for row in dataset.selection.chosen(rows, shard).tolist():
                content_hash = rows.content_hash[row].tobytes().hex()
                yield StoredImage((shard, row), content_hash, partial(read_member, shards, (rows, row)))


def shard_texts(dataset: ShardDataset, wording: Wording, table: str) -> tuple[ShardDataset, ShardTexts]:
    """The dataset without images that have no text, and the texts of the others; the whole index is read once.

    Raises:
        ValueError: if no image has a text, or ``table`` is given: captions are prepared with the set.
    """
    if table:
        raise ValueError(
            f"{dataset.config.source}, a prepared set, has its captions: leave out data.captions={table}, and give the "
            f"table to underpaint prepare"
        )
    texts, state = ShardTexts(dataset=dataset, wording=wording), xxhash.xxh3_128()
    bare: set[tuple[int, int]] = set()
    made, languages = 0, Counter[str]()
    for shard in range(len(dataset.prepared)):
        chosen = set(dataset.selection.chosen(dataset.prepared.rows(shard), shard).tolist())
        for row, (of_row, is_caption) in enumerate(texts.of_shard(shard)):
            if row not in chosen:
                continue
            state.update(json.dumps(_plain(of_row)).encode())
            languages.update(text.language for text in of_row)
            made += bool(of_row) and not is_caption
            if not of_row:
                bare.add((shard, row))
    selection = replace(dataset.selection, left_out=dataset.selection.left_out | bare)
    images = dataset.images - len(bare)
    if not images:
        raise ValueError(_nothing(dataset.config.source, wording))
    dataset = replace(dataset, selection=selection, images=images)
    notes = _notes(images, made, len(bare), wording)
    texts = ShardTexts(
        dataset=dataset, wording=wording, content_hash=state.hexdigest(), notes=notes, languages=languages
    )
    return dataset, texts


def _notes(images: int, made: int, left_out: int, wording: Wording) -> tuple[str, ...]:
    notes: list[str] = []
    if images > made:
        notes.append(f"{counted(images - made, 'image')} with captions")
    if made:
        templates = " and ".join(repr(template) for template in wording.templates)
        notes.append(f"{counted(made, 'image')} without a caption: their texts are made of their tags, as {templates}")
    if left_out:
        notes.append(f"{counted(left_out, 'image')} without a caption or a tag are left out")
    return tuple(notes)


def _nothing(source: str, wording: Wording) -> str:
    languages = f" in {', '.join(wording.languages)}" if wording.languages else ""
    tags = " and no tags" if wording.templates else ", and data.templates is empty"
    table = ", or data.tags=FILE with path and tags" if wording.templates else ""
    return (
        f"{source} has no captions{languages}{tags}; put a text beside each image (dog.txt beside dog.jpg), or give "
        f"data.captions=FILE with the columns path and caption{table}"
    )


def draw(texts: Sequence[str], number: float) -> str:
    """The text that a number in [0, 1) draws."""
    return texts[int(number * len(texts))]
