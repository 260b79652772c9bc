"""Rules that map a tag to a synset of WordNet, to a label of its own words, or to nothing (``docs/tags.md``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from underpaint.tags.function_words import bookkeeping, english_function_words, stopwords
from underpaint.tags.lexicons import Entry, read_lexicons
from underpaint.tags.meanings import Meanings, Parts
from underpaint.tags.normalise import Form, Nothing, normalise, plain, squeeze
from underpaint.tags.segment import Segmenter, english
from underpaint.tags.wordnet import wordnet

TEXT = "text:"
"""Prefix of a target of the user's mapping that becomes a label as written, without the rules."""


ICON_THEMES = {("theme", "icon"), ("theme", "icons"), ("icon", "theme"), ("icon", "themes"), ("icon", "set")}
"""Last two words of the names of icon themes, which tag every picture of a theme."""


@dataclass(frozen=True, kw_only=True)
class TagRules:
    """Rules by which tags become labels."""

    parts_of_speech: Parts = "all"  # words that are looked up: "nouns" (Mahajan et al. 2018), or "all" (the paper)
    unknown_tags: Literal["keep", "drop"] = (
        "keep"  # whether tags that WordNet lacks become labels, or are dropped (the paper)
    )
    min_count: int = 1  # smallest count of a label, summed over its tags
    vocabulary_size: int = 28_000  # largest number of labels, the most frequent ones (28 thousand in the paper)
    languages: tuple[str, ...] | Literal["all"] = "all"  # ISO 639-1: languages whose function words are dropped
    lexicons: tuple[str, ...] = ()  # files of other languages' words in WN-LMF, such as those of the OMW
    mapping: Mapping[str, str] = field(default_factory=dict)  # the user's targets: words, synset, text:words or ""
    implied: Mapping[str, str] = field(default_factory=dict)  # targets that images with a tag's label have as well

    def __post_init__(self) -> None:
        if self.parts_of_speech not in ("nouns", "all"):
            raise ValueError(f"parts_of_speech={self.parts_of_speech!r} must be 'nouns' or 'all'")
        if self.unknown_tags not in ("keep", "drop"):
            raise ValueError(f"unknown_tags={self.unknown_tags!r} must be 'keep' or 'drop'")
        if self.min_count < 1 or self.vocabulary_size < 1:
            raise ValueError(
                f"min_count={self.min_count} and vocabulary_size={self.vocabulary_size} must be at least 1"
            )
        if self.languages != "all" and (unknown := set(self.languages) - stopwords().keys() - {"en"}):
            raise ValueError(
                f"languages={self.languages!r} must be 'all' or some of {sorted(stopwords())}; not {sorted(unknown)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The label that one tag gets, or that it is dropped, with the reason."""

    kind: Literal["synset", "text", "drop"]
    key: str
    """The same for all tags of one label: a synset's id, or ``text:`` and the letters of the words; "" if dropped."""
    name: str
    reason: str


class Canonicaliser:
    """Decides on single tags; a decision depends on the tag and the rules alone."""

    def __init__(self, rules: TagRules) -> None:
        """Read WordNet and the word lists.

        Raises:
            ValueError: if the mapping names a synset that WordNet lacks or turns in a circle, or a lexicon cannot be
                read.
        """
        self._rules = rules
        self._known = wordnet()
        self._meanings = Meanings(self._known, rules.parts_of_speech, multilingual=rules.languages != ("en",))
        self._segmenter = Segmenter(english())
        chosen = (
            stopwords()
            if rules.languages == "all"
            else {name: stopwords()[name] for name in rules.languages if name != "en"}
        )
        self._foreign = {word: language for language in sorted(chosen, reverse=True) for word in chosen[language]}
        self._lexicon = self._read_lexicons(rules.lexicons)
        self._names: dict[str, str] = {}
        self._targets: dict[str, str] = {}
        for tag, target in rules.mapping.items():
            self._targets.setdefault(_mapping_key(tag), target.strip())
        self._mapping: dict[str, Decision] = {}
        for tag, target in rules.mapping.items():
            decision = self._target(tag, self._last(target.strip(), [_mapping_key(tag)]))
            if self._mapping.setdefault(_mapping_key(tag), decision).key != decision.key:
                raise ValueError(f"the mapping has two targets for {tag!r}; case and hash signs do not tell tags apart")

    def _read_lexicons(self, files: tuple[str, ...]) -> dict[str, Entry]:
        """The words of the lexicons, where the rules take all their parts of speech; else those with a noun."""
        entries = read_lexicons(files, self._known) if files else {}
        if self._rules.parts_of_speech == "all":
            return entries
        nouns = {
            word: replace(entry, synsets=tuple(id_ for id_ in entry.synsets if id_[0] == "n"))
            for word, entry in entries.items()
        }
        return {word: entry for word, entry in nouns.items() if entry.synsets}

    def implied(self) -> dict[str, dict[str, Decision]]:
        """The decisions that each label implies, directly or by another one, by their keys.

        Raises:
            ValueError: if a label implies itself, or nothing, or has no label itself.
        """
        direct: dict[str, dict[str, Decision]] = {}
        for tag, targets in self._rules.implied.items():
            decision = self.decide(tag)
            if not decision.key:
                raise ValueError(
                    f"the mapping gives {tag!r} further labels ({targets}), but it has none: {decision.reason}"
                )
            for target in targets.split(";"):
                further = self._target(tag, self._last(target.strip(), []))
                if not further.key:
                    raise ValueError(
                        f"the mapping gives {tag!r} also {target!r}, which is not a label: {further.reason}"
                    )
                if further.key != decision.key:
                    direct.setdefault(decision.key, {})[further.key] = further
        return {key: _closure(key, direct) for key in direct}

    def decide(self, tag: str) -> Decision:
        """Decide on a tag by the user's mapping, then the reasons to drop it, then WordNet, then its own words."""
        if self._mapping and (mapped := self._mapping.get(_mapping_key(tag))):
            return mapped
        form = normalise(tag)
        if isinstance(form, Nothing):
            return _drop(form.reason)
        return self._by_rule(form)

    def _by_rule(self, form: Form) -> Decision:
        squeezed = squeeze("".join(form.whole))
        if len(form.whole) == 1 and squeezed in english_function_words():
            return _drop("function word (en)")
        if squeezed in bookkeeping() or form.words[-2:] in ICON_THEMES:
            return _drop("describes the collection, not the picture")
        entry = self._lexicon.get(squeezed)
        language = self._foreign.get(form.run)
        if language and entry and form.run not in stopwords().get(entry.language, ()):
            language = ""
        if language and not self._meanings.is_well_known(form.run):
            return _drop(f"function word ({language})")
        meaning = self._meanings.find(form)
        if entry and not (meaning and (len(form.whole) > 1 or self._meanings.is_well_known(squeezed))):
            return self._synset(self._meanings.choose(entry.synsets), f"lexicon {entry.lexicon}")
        if meaning:
            return self._synset(meaning.synset, meaning.reason)
        parted = self._segmenter.part(form.run)
        if parted and (meaning := self._meanings.find(Form(words=parted, whole=parted))):
            return self._synset(meaning.synset, f"{meaning.reason}, run together")
        reason = "not in WordNet" if self._rules.parts_of_speech == "all" else "no noun of WordNet"
        if self._rules.unknown_tags == "drop":
            return _drop(reason)
        return _text(" ".join(parted or form.words), reason + (", run together" if parted else ""))

    def _synset(self, synset: str, reason: str) -> Decision:
        if synset not in self._names:
            self._names[synset] = self._known.lemmas(synset)[0]
        return Decision(kind="synset", key=synset, name=self._names[synset], reason=reason)

    def _last(self, target: str, passed: Sequence[str]) -> str:
        """The end of a chain of targets, where words are tags that the mapping has: kitty, cat, feline.

        Raises:
            ValueError: if the chain comes back to one of the tags ``passed``.
        """
        keys = dict.fromkeys(passed)
        while not target.startswith(TEXT) and (key := _mapping_key(target)) in self._targets and target:
            if key in keys and key != next(reversed(keys)):
                raise ValueError(
                    f"the mapping turns in a circle: {', '.join(map(repr, keys))} become each other; delete one of "
                    f"these rows, or write {TEXT}{target} for the words as they are"
                )
            if key in keys:
                break  # a tag that stays as it is
            keys[key] = None
            target = self._targets[key]
        return target

    def _target(self, tag: str, target: str) -> Decision:
        """The decision that one entry of the user's mapping stands for.

        Raises:
            ValueError: if the target has no letters or words, or is the id of an unknown synset.
        """
        target = target.strip()
        if not target:
            return _drop("mapping")
        if target.startswith(TEXT):
            if not squeeze(target.removeprefix(TEXT)):
                raise ValueError(
                    f"the mapping of {tag!r} is {target!r}, which has no letters; drop a tag by an empty target"
                )
            return _text(" ".join(target.removeprefix(TEXT).split()), "mapping")
        if len(target) == 9 and target[0] in "nvar" and target[1:].isdecimal():
            try:
                return self._synset(target, "mapping")
            except ValueError as error:
                raise ValueError(f"the mapping of {tag!r} is wrong: {error}") from error
        form = normalise(target)
        if isinstance(form, Nothing):
            raise ValueError(f"the mapping of {tag!r} is {target!r}, {form.reason}; drop a tag by an empty target")
        decided = self._by_rule(form)
        return replace(decided, reason=f"mapping to {target}: {decided.reason}")


def _closure(key: str, direct: Mapping[str, Mapping[str, Decision]]) -> dict[str, Decision]:
    """Everything that a label implies, in any number of steps."""
    reached: dict[str, Decision] = {}
    frontier = dict(direct[key])
    while frontier:
        reached |= frontier
        further = (direct.get(implied, {}) for implied in frontier)
        frontier = {name: each for some in further for name, each in some.items() if name not in reached}
    if key in reached:
        raise ValueError(
            f"the mapping contradicts itself: {reached[key].name!r} implies itself by way of "
            f"{', '.join(sorted(each.name for name, each in reached.items() if name != key))}; merge the labels, or "
            "take one of the implications back"
        )
    return reached


def _mapping_key(tag: str) -> str:
    """The tag in lower case without hash signs: the mapping treats such spellings as one tag."""
    return plain(tag).lower()


def _text(words: str, reason: str) -> Decision:
    return Decision(kind="text", key=TEXT + squeeze(words.lower()), name=words, reason=reason)


def _drop(reason: str) -> Decision:
    return Decision(kind="drop", key="", name="", reason=reason)
