"""Zero-shot transfer: images against the names of classes in one or more languages (paper.md 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from underpaint.data.source import Source
from underpaint.evals.average_precision import frequent_tags, precision_score
from underpaint.evals.class_names import (
    MARK,
    Names,
    of_language,
    read_names,
    read_templates,
    shared_names,
    table_hash,
)
from underpaint.evals.engine import Engine
from underpaint.evals.score import Score
from underpaint.evals.text_features import Towers, unread_texts, unseen_language
from underpaint.evals.unreadable import unreadable_images
from underpaint.evals.view import ViewSetting, classifier_input, require_view, view_name
from underpaint.evals.zeroshot import embed_labels
from underpaint.texts.languages import ENGLISH, language_code


class _Language(NamedTuple):
    """Classes by their names in one language."""

    name: str
    names: Names
    templates: tuple[str, ...]
    embedding: Float[Tensor, "k e"]
    remarks: tuple[str, ...]

    @property
    def classes(self) -> list[str]:
        return list(self.names)

    @property
    def versions(self) -> dict[str, str]:
        return {"names": table_hash(self.names), "templates": table_hash(self.templates)}


@dataclass(frozen=True, kw_only=True)
class ZeroShotTransfer:
    """Top-1 of classes that are known by their names alone, or mAP of tags, in every language of a table of names.

    A class is the mean over its names in all templates, as in ``predict --labels``. Beside each further language stands
    the share of classes whose name there is nearest to the English name of the same class: the ceiling of its score.
    """

    needs: ClassVar[type] = Towers
    draws: ClassVar[bool] = False

    dataset: str  # collection, folder, prepared set, or a published one as NAME:FOLDER
    # Table of names: JSON {language: {class: [names]}}, CSV class,name,language, or a line "dog; puppy" for each class.
    names: str = ""  # "" takes the names of classes and tags as they are
    templates: str = ""  # file of templates, one per line, or JSON {language: [templates]}; "" is "a photo of a {}."
    languages: tuple[str, ...] = ()  # of the table of names, such as en,de; empty: all
    targets: Literal["class", "tags"] = "class"  # top-1 of the class, or mAP of the tags
    images: Literal["heldout", "all"] = "heldout"  # test images (for tags: held-out ones), or all that have a target
    view: ViewSetting = "encoder"  # resize and crop of each image (docs/reference/evaluations.md)
    batch_size: int = 64  # images per forward pass

    def __post_init__(self) -> None:
        require_view(self.view)
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more")
        if self.languages and not self.names:
            raise ValueError(f"languages={','.join(self.languages)} are those of a table of names: add names=FILE")

    def __call__(self, towers: Towers, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        """The towers stand on ``device`` already; nothing is drawn, the seed decides nothing.

        Raises:
            ValueError: for a table that cannot be used, fewer than two classes, or if no image can be read.
        """
        return self.measure(towers, source=source, engine=Engine(device=device), seed=seed)

    def measure(self, towers: Towers, *, source: Source, engine: Engine, seed: int) -> list[Score]:
        """The same by an engine."""
        rows = self._rows(source)
        languages = self._languages(towers, source, rows)
        format = classifier_input(towers.image_input, self.view)
        view = view_name(format)
        embedding, kept = engine.embeddings(towers, source, rows, format=format, batch_size=self.batch_size)
        scale = towers.model.logit_scale.detach().exp().cpu()
        unread = [source.path[row] for row, good in zip(rows, kept.tolist(), strict=True) if not good]
        english = next((each for each in languages if language_code(each.name) == ENGLISH), None)
        scores: list[Score] = []
        for language in languages:
            logits = scale * embedding @ language.embedding.T
            if self.targets == "tags":
                score = precision_score(
                    source, rows, kept.tolist(), language.classes, logits.numpy(), view=view_name(format)
                )
                score = replace(score, protocol="zeroshot")
            else:
                score = _top1(source, rows, kept, language, logits)
                remarks = unreadable_images(unread, total=len(rows), what="test", wrong=True)
                score = replace(score, view=view, remarks=(*score.remarks, *remarks))
            remarks = (*score.remarks, *language.remarks)
            scores.append(replace(score, language=language.name, remarks=remarks, versions=language.versions))
            if english is not None and language is not english:
                scores += _ceiling(source.name, language, english)
        return scores

    def _rows(self, source: Source) -> list[int]:
        """Images with a target, of the half asked for."""
        values = source.label if self.targets == "class" else source.tags
        if self.images == "all":
            rows = list(range(len(source.path)))
        else:
            rows = source.rows("test" if self.targets == "class" else "heldout")
        rows = [row for row in rows if values[row]]
        if not rows:
            word = "class: give a labels file (--labels FILE)" if self.targets == "class" else "tag: give --tags FILE"
            half, more = ("", "") if self.images == "all" else ("held-out ", ", or take images=all")
            raise ValueError(f"no {half}image of '{source.name}' has a {word}{more}")
        return rows

    def _languages(self, towers: Towers, source: Source, rows: list[int]) -> list[_Language]:
        """The languages asked for with the names of the targets; each has two of them or more."""
        if self.targets == "class":
            targets = sorted({source.label[row] for row in rows})
        else:
            targets = frequent_tags(source, rows, known=None, min_images=1)
        table = read_names(Path(self.names).expanduser()) if self.names else {"": _as_written(targets)}
        templates = read_templates(Path(self.templates).expanduser()) if self.templates else {}
        chosen = self._chosen(table)
        languages: list[_Language] = []
        for name in chosen:
            known = {target: table[name][target] for target in targets if target in table[name]}
            if len(known) < 2:
                continue
            lines = of_language(templates, name)
            words = [word for of_class in known.values() for word in of_class]
            remarks = [*unseen_language(towers, name), *shared_names(known), *unread_texts(towers, words)]
            if len(known) < len(targets):
                remarks.append(f"{len(targets) - len(known)} of {len(targets)} classes have no name here: left out")
            cut = towers.texts_cut(line.replace(MARK, word) for word in words for line in lines)
            if cut:
                remarks.append(f"{cut} texts have more than {towers.model.context} tokens, and are cut")
            embedding = embed_labels(towers, list(known.values()), lines)
            languages.append(_Language(name, known, lines, embedding, tuple(remarks)))
        lacking = [name for name in chosen if name not in [language.name for language in languages]]
        if not languages or (lacking and self.languages):
            where = f"in {lacking[0]!r} " if lacking[0] else ""
            raise ValueError(
                f"names={self.names or source.name} has fewer than two of the {len(targets)} classes {where}"
                f"of '{source.name}', such as {targets[0]!r}"
            )
        return languages

    def _chosen(self, table: Mapping[str, Names]) -> list[str]:
        """Names of the languages asked for, as the table writes them."""
        if not self.languages:
            return list(table)
        of_code = {language_code(name): name for name in reversed(list(table))}
        for language in self.languages:
            if language not in table and language_code(language) not in of_code:
                raise ValueError(f"names={self.names} has no language {language!r}; it has {', '.join(table)[:200]}")
        names = [name if name in table else of_code[language_code(name)] for name in self.languages]
        return list(dict.fromkeys(names))


def _as_written(targets: list[str]) -> Names:
    """The names of folders and tags as words."""
    return {target: (" ".join(target.replace("_", " ").split()) or target,) for target in targets}


def _top1(
    source: Source,
    rows: list[int],
    kept: Bool[Tensor, " images"],
    language: _Language,
    logits: Float[Tensor, "b k"],
) -> Score:
    """Hits of the images whose class has a name; those that could not be read, which have no logits, are wrong."""
    number = {label: index for index, label in enumerate(language.names)}
    best = torch.full((len(rows),), -1)
    best[kept] = logits.argmax(dim=1)
    named = [place for place, row in enumerate(rows) if source.label[row] in number]
    if not kept[named].any():
        raise ValueError(f"no readable image of '{source.name}' has a class with a name in {language.name!r}")
    rows, predicted = [rows[place] for place in named], best[named].tolist()
    return Score(
        dataset=source.name,
        protocol="zeroshot",
        correct=tuple(float(index == number[source.label[row]]) for index, row in zip(predicted, rows, strict=True)),
        image=tuple(source.path[row] for row in rows),
        family=tuple(source.family[row] for row in rows),
        settings={"classes": float(len(number))},
        remarks=(),
        chance=1 / len(number),
    )


def _ceiling(dataset: str, language: _Language, english: _Language) -> list[Score]:
    """Share of classes whose name in a language is nearest to their English name; [] for fewer than two in both."""
    common = [label for label in language.names if label in english.names]
    if len(common) < 2:
        return []
    ours = language.embedding[[language.classes.index(label) for label in common]]
    theirs = english.embedding[[english.classes.index(label) for label in common]]
    nearest = (ours @ theirs.T).argmax(dim=1).tolist()
    return [
        Score(
            dataset=dataset,
            protocol="zeroshot",
            split="names",
            language=language.name,
            correct=tuple(float(index == place) for place, index in enumerate(nearest)),
            image=tuple(common),
            family=tuple(common),
            settings={},
            remarks=("names to English names of the same classes, without images: the ceiling of this language",),
            chance=1 / len(common),
            versions=language.versions,
        )
    ]
