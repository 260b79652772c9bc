"""The words that a page can be asked for: those of the images, of the run's captions, of emoji names and of English.

An entry is a word, or a tag or name of up to ``LONGEST_ENTRY`` words. Entries are taken source by source, the most
frequent first within each, until there are as many as asked for; function words and single letters are left out.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from underpaint import files
from underpaint.data.captions.folder_captions import read_folder_captions
from underpaint.data.captions.wording import captions_of
from underpaint.data.collections.emoji_concepts import emoji_names
from underpaint.data.collections.words import plain, words
from underpaint.data.open_source import is_folder_name
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.prepared_source import is_prepared_name
from underpaint.data.source import Caption, Source
from underpaint.messages import say
from underpaint.search.pictures import open_pictures
from underpaint.tags.function_words import english_function_words, stopwords
from underpaint.tags.segment import english
from underpaint.texts.languages import language_code

MOST_WORDS = 30_000
LONGEST_ENTRY = 3
"""Words of a tag or a name that is an entry as a whole."""
LONGEST_WORD = 40
"""Letters."""
LEAST_ENGLISH = 200_000
"""Smallest count in English books of a word that is taken from there alone."""


@dataclass(frozen=True, kw_only=True)
class WordChoice:
    """Entries in the order of their importance, and how many each source gave."""

    entries: tuple[str, ...]
    ignored: tuple[str, ...]
    """Function words, which a query may contain without asking for anything."""
    counts: dict[str, int]
    """Number of entries by source."""


def choose_words(
    source: Source, name: str | Path, run: str | Path, *, languages: Sequence[str] = (), most: int = MOST_WORDS
) -> WordChoice:
    """The entries of a page about the images ``name``; ``languages`` (ISO 639-1) keeps theirs alone, () all.

    Tags, class names and captions without a language are always used.

    Raises:
        ValueError: for no words at all, or a language that no source of words has.
    """
    sources = {
        "tags, classes and captions of the images": lambda: _of_images(source, str(name)),
        "captions of the run": lambda: _of_run(run, str(name)),
        "names of emoji": _emoji_names,
        "English words": _english,
    }
    function_words = {**stopwords(), "en": english_function_words()}
    entries: dict[str, None] = {}
    counts: dict[str, int] = {}
    spoken: set[str] = set()
    for source_name, read in sources.items():
        before, captions = len(entries), read() if len(entries) < most else []
        captions = [caption._replace(language=language_code(caption.language)) for caption in captions]
        spoken |= {caption.language for caption in captions}
        wanted = [caption for caption in captions if not languages or caption.language in {"", *languages}]
        for entry in _by_count(wanted, function_words):
            if len(entries) == most:
                break
            entries.setdefault(entry)
        counts[source_name] = len(entries) - before
    if (unknown := sorted(set(languages) - spoken)) and len(entries) < most:
        known = ", ".join(sorted(spoken - {""}))
        raise ValueError(f"no word is known in {', '.join(unknown)}; words here are in {known}")
    if not entries:
        raise ValueError(f"{name} has no tags, classes or captions, and no word is left by languages={languages}")
    ignored = frozenset().union(*(function_words.get(language, ()) for language in languages or ("en",)))
    return WordChoice(entries=tuple(entries), ignored=tuple(sorted(ignored - entries.keys())), counts=counts)


def _by_count(captions: Iterable[Caption], function_words: Mapping[str, frozenset[str]]) -> list[str]:
    """The words of texts and the short texts themselves, the most frequent first, equal ones in their order.

    Function words of a text's own language are left out, those of English where it is not known: ``hat`` is a verb of
    German, and a thing in English.
    """
    counts: Counter[str] = Counter()
    for text, language in captions:
        parts, ignored = words([text], marks=True), function_words.get(language or "en", frozenset())
        counts.update(part for part in parts if part not in ignored and len(part) <= LONGEST_WORD)
        whole = plain(text).strip()
        if 1 < len(whole.split()) <= LONGEST_ENTRY and " ".join(parts) == whole:
            counts[whole] += 1
    return [entry for entry, _ in counts.most_common()]


def _of_images(source: Source, name: str) -> list[Caption]:
    """Tags and classes, and captions; a collection with captions made its tags of them, of those in all languages."""
    written = source.label if any(source.captions) else (*itertools.chain.from_iterable(source.tags), *source.label)
    return [*(Caption(label, "") for label in written if label), *_captions(source, name)]


def _captions(source: Source, name: str) -> Iterator[Caption]:
    """Everything written about the images of a folder, a prepared set or a collection."""
    if is_prepared_name(name):
        prepared = PreparedSet(Path(name).expanduser())
        for shard in range(len(prepared)):
            for text, language in prepared.captions(shard):
                yield from _lines(text, language)
    elif is_folder_name(name) or Path(name).is_dir():
        for captions in read_folder_captions(source.root, source.path, table="").captions.values():
            yield from captions
    else:
        yield from itertools.chain.from_iterable(source.captions)


def _lines(text: str, language: str) -> tuple[Caption, ...]:
    try:
        return captions_of(text, language)
    except ValueError:  # a document: its words say little about the image
        return ()


def _of_run(run: str | Path, name: str) -> list[Caption]:
    """The captions that the run was trained on, where its data are still there."""
    record = Path(run) / "run.json"
    content = files.read_json(record) if record.is_file() else {}
    trained_on: object = content
    for key in ("run", "data", "source"):
        trained_on = trained_on.get(key) if isinstance(trained_on, dict) else None
    if not isinstance(trained_on, str) or trained_on == name:
        return []
    try:
        return list(_captions(open_pictures(trained_on), trained_on))
    except (ValueError, OSError) as error:
        say(f"words of the run's captions are left out: {error}")
        return []


def _emoji_names() -> list[Caption]:
    if importlib.util.find_spec("emoji") is None:
        return []
    pairs = (pair for names in emoji_names().values() for pair in names.items())
    return [Caption(plain(name).strip(": "), language) for language, name in pairs]


def _english() -> list[Caption]:
    counts = english()
    frequent = sorted((word for word in counts if counts[word] >= LEAST_ENGLISH), key=lambda word: -counts[word])
    return [Caption(word, "en") for word in frequent]
