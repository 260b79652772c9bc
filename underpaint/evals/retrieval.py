"""Retrieval of images by their captions, and of captions by their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from underpaint.data.captions.source_captions import source_captions
from underpaint.data.source import Source
from underpaint.evals.class_names import table_hash
from underpaint.evals.engine import Engine
from underpaint.evals.ranking import Hits, hits, hits_by_chance, rank
from underpaint.evals.score import Score
from underpaint.evals.text_features import Towers, unread_texts, unseen_language
from underpaint.evals.unreadable import unreadable_images
from underpaint.evals.view import ViewSetting, classifier_input, require_view, view_name
from underpaint.texts.languages import language_code

FIRST = (1, 5, 10)


class Pairs(NamedTuple):
    """Images and the captions of each."""

    rows: list[int]
    """Rows of the source."""
    kept: Bool[Tensor, " images"]
    """Whether each image could be read."""
    owner: Int64[Tensor, " texts"]
    """Place in ``rows`` of the image of each caption."""


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Recall at 1, 5 and 10 in both directions, of held-out images and all their captions.

    An image is retrieved by its captions one by one; a query image counts if any of its captions is among the first k.
    A row's value has equal similarities against it: wrong candidates come first. The record has the value with them in
    random order (``average``) and behind (``optimistic``) too. An image that cannot be read is retrieved by none of its
    captions and retrieves none; its captions stay among the candidates.
    """

    needs: ClassVar[type] = Towers
    draws: ClassVar[bool] = False

    dataset: str  # collection, folder, prepared set, or a published one as NAME:FOLDER
    captions: str = ""  # table path,caption of a folder; "" takes captions.csv and the files beside images
    languages: tuple[str, ...] = ()  # captions in these languages alone, such as en,de; empty: all
    captions_per_image: int = 0  # first captions of each image that are used; 0: all
    images: Literal["heldout", "all"] = "heldout"  # images of the split "heldout", or all that have a caption
    view: ViewSetting = "encoder"  # resize and crop of each image (docs/reference/evaluations.md)
    batch_size: int = 64  # images per forward pass

    def __post_init__(self) -> None:
        require_view(self.view)
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more")
        if self.captions_per_image < 0:
            raise ValueError(f"captions_per_image={self.captions_per_image} must be 1 or more, or 0 for all")

    def __call__(self, towers: Towers, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        """Three scores for each direction; the towers stand on ``device`` already, and nothing is drawn.

        Raises:
            ValueError: if fewer than two images have a caption and can be read.
        """
        return self.measure(towers, source=source, engine=Engine(device=device), seed=seed)

    def measure(self, towers: Towers, *, source: Source, engine: Engine, seed: int) -> list[Score]:
        """The same by an engine."""
        rows, texts, remarks = self._pairs(source, towers)
        format = classifier_input(towers.image_input, self.view)
        image, kept = engine.embeddings(towers, source, rows, format=format, batch_size=self.batch_size)
        unread = [source.path[row] for row, readable in zip(rows, kept.tolist(), strict=True) if not readable]
        remarks += unreadable_images(unread, total=len(rows), what="captioned", wrong=True)
        if len(image) < 2:
            raise ValueError(f"only {len(image)} image of '{source.name}' with a caption could be read; two are needed")
        count = torch.tensor([len(of_image) for of_image in texts])
        pairs = Pairs(rows, kept, torch.arange(len(rows)).repeat_interleave(count))
        embeddings = image, towers.embed_texts([text for of_image in texts for text in of_image])
        return self._scores(source, pairs, embeddings, texts, view=view_name(format), remarks=remarks)

    def _pairs(self, source: Source, towers: Towers) -> tuple[list[int], list[tuple[str, ...]], list[str]]:
        """Images with a caption, their captions, and remarks."""
        captions, problems = source_captions(source, self.dataset, table=self.captions)
        codes = set(map(language_code, self.languages))
        rows, texts, languages = list[int](), list[tuple[str, ...]](), dict[str, None]()
        for row in range(len(source.path)) if self.images == "all" else source.rows("heldout"):
            chosen = [each for each in captions[row] if not codes or language_code(each.language) in codes]
            chosen = chosen[: self.captions_per_image or None]
            if chosen:
                rows.append(row)
                texts.append(tuple(each.text for each in chosen))
                languages.update(dict.fromkeys(each.language for each in chosen))
        if not rows:
            half = "" if self.images == "all" else "held-out "
            where = f" in {', '.join(self.languages)}" if self.languages else ""
            raise ValueError(
                f"no {half}image of '{source.name}' has a caption{where}: put a text beside each image (dog.txt beside "
                f"dog.jpg) or give captions=FILE with the columns path and caption"
                f"{'' if self.images == 'all' else ', or take images=all'}"
                f"{', or drop languages= if the captions have no known language' if codes else ''}"
            )
        remarks = [remark for language in languages for remark in unseen_language(towers, language)]
        remarks += unread_texts(towers, [text for of_image in texts for text in of_image])
        if problems:
            first = problems[0]
            remarks.append(f"{len(problems)} captions cannot be used, such as that of {first.key!r}: {first.reason}")
        cut = towers.texts_cut(text for of_image in texts for text in of_image)
        if cut:
            remarks.append(f"{cut} captions have more than {towers.model.context} tokens, and are cut")
        return rows, texts, list(dict.fromkeys(remarks))

    def _scores(
        self,
        source: Source,
        pairs: Pairs,
        embeddings: tuple[Float[Tensor, "i e"], Float[Tensor, "t e"]],
        texts: list[tuple[str, ...]],
        *,
        view: str,
        remarks: list[str],
    ) -> list[Score]:
        """Scores of both directions; ``embeddings`` are those of the readable images and of all captions."""
        image, caption = embeddings
        place = torch.cumsum(pairs.kept, dim=0) - 1  # of each readable image among them
        asked = pairs.kept[pairs.owner]
        text, owner = asked.nonzero().flatten(), place[pairs.owner[asked]]
        in_order, rights = torch.arange(len(text)), torch.bincount(owner)
        rows = {"text_to_image": [pairs.rows[number] for number in pairs.owner.tolist()], "image_to_text": pairs.rows}
        directions = {
            "text_to_image": (
                caption[text], image, torch.stack([in_order, owner], dim=1), torch.ones_like(owner), asked
            ),
            "image_to_text": (image, caption, torch.stack([owner, text], dim=1), rights, pairs.kept),
        }  # fmt: skip
        scores: list[Score] = []
        for name, (queries, candidates, right, rights, readable) in directions.items():
            ranks = rank(queries, candidates, right=right)
            for k in FIRST:
                share = Hits(*(_with_misses(part, readable) for part in hits(ranks, k)))
                chance = _with_misses(hits_by_chance(len(candidates) - rights, rights, k), readable)
                average, optimistic = float(share.average.mean()), float(share.optimistic.mean())
                tied = f"equal similarities count against it: {average:.1%} in random order, {optimistic:.1%} at best"
                score = Score(
                    dataset=source.name,
                    protocol="retrieval",
                    split=name,
                    metric=f"recall@{k}",
                    view=view,
                    language=",".join(self.languages),
                    correct=tuple(share.pessimistic.tolist()),
                    image=tuple(source.path[row] for row in rows[name]),
                    family=tuple(source.family[row] for row in rows[name]),
                    settings={
                        "average": average,
                        "optimistic": optimistic,
                        "images": float(len(pairs.rows)),
                        "captions": float(len(caption)),
                    },
                    remarks=(*remarks, *([tied] if optimistic > float(share.pessimistic.mean()) else [])),
                    chance=float(chance.mean()),
                    versions={"captions": table_hash([text for of_image in texts for text in of_image])},
                )
                scores.append(score)
        return scores


def _with_misses(value: Float64[Tensor, " q"], readable: Bool[Tensor, " queries"]) -> Float64[Tensor, " queries"]:
    """The values of the readable queries in their places, and 0 for the others."""
    whole = torch.zeros(len(readable), dtype=torch.float64)
    whole[readable] = value
    return whole
