"""Top-1 accuracy of a finished classifier of videos, its probabilities averaged over clips and crops of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.core import ClipInput
from underpaint.data.source import Source
from underpaint.data.video.clips import normalised
from underpaint.data.video.dataset import open_videos
from underpaint.data.video.evaluation_views import evaluation_views
from underpaint.evals.engine import Engine
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.predictions import Predictions
from underpaint.evals.score import Score
from underpaint.evals.unreadable import unreadable_images

Frames = Literal["ordered", "shuffled", "one"]
"""The frames of each clip as they are, in random order, or the middle one again and again: without order and without
motion a classifier sees what single images tell."""


@runtime_checkable
class ClipClassifier(Protocol):
    """A classifier of clips that knows the names of its classes; satisfied by ``ClassifyClips``."""

    @property
    def clip_input(self) -> ClipInput: ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each column of the scores."""
        ...

    def logits(self, clip: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b k"]: ...

    def probabilities_of(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]: ...

    def modules(self) -> Iterator[nn.Module]: ...


class Answer(NamedTuple):
    """The predicted class of a video, or the reason why it could not be read."""

    label: str | None
    problem: str = ""
    probability: float = 0.0


@dataclass(frozen=True, kw_only=True)
class VideoAccuracy:
    """Top-1 of a classifier of videos on a list of videos with their classes; classes are matched by name.

    Every video of the list is counted: one that is missing or cannot be decoded as wrong.
    """

    needs: ClassVar[type] = ClipClassifier
    draws: ClassVar[bool] = False

    dataset: str  # a list in the form of Kinetics (csv, txt) or of Something-Something (json)
    videos: str = ""  # folder of the videos; "" is that of the list
    clips: int = 5  # of each video; published: 7 on Kinetics, 5 on Something-Something
    crops: int = 3  # of each clip, along the longer side of its frames
    frames: Frames = "ordered"
    batch_size: int = 8  # views per forward pass

    def __post_init__(self) -> None:
        for name in ("clips", "crops", "batch_size"):
            if not 1 <= getattr(self, name) <= 1000:
                raise ValueError(f"{name}={getattr(self, name)} must lie between 1 and 1000")

    def sources(self) -> list[Source]:
        """The videos of the list."""
        return [open_videos(self.dataset, self.videos, split="test")]

    def __call__(self, classifier: ClipClassifier, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        """The classifier stands on ``device`` already; nothing is drawn, the seed decides nothing.

        Raises:
            ValueError: if the classifier lacks a class of the list, or no video can be read.
        """
        return self.predictions(classifier, source, Engine(device=device)).scores()

    def predictions(self, classifier: ClipClassifier, source: Source, engine: Engine) -> Predictions:
        """The answer for each video, from which the score is computed; errors as in ``__call__``."""
        if unknown := sorted(set(source.label) - set(classifier.labels)):
            raise ValueError(
                f"the classifier has no class {unknown[0]!r} ({len(unknown)} classes of '{source.name}' are missing); "
                f"evaluate it on the dataset it was trained on"
            )
        answers = self.answers(classifier, source, engine)
        unread = [path for path, answer in zip(source.path, answers, strict=True) if answer.label is None]
        if len(unread) == len(answers):
            raise ValueError(f"none of the {len(answers)} videos of '{source.name}' can be read: {answers[0].problem}")
        predicted = tuple(answer.label for answer in answers)
        return Predictions(
            dataset=source.name,
            view=self.view(classifier.clip_input),
            image=source.path,
            family=source.family,
            label=source.label,
            accepted=tuple((label,) for label in source.label),
            predicted=predicted,
            restricted=predicted,
            remarks=tuple(unreadable_images(unread, total=len(answers), what="test", wrong=True, noun="videos")),
            probability=tuple(answer.probability for answer in answers),
        )

    def answers(self, classifier: ClipClassifier, source: Source, engine: Engine) -> list[Answer]:
        """The answer for each video of the source, in order; processes of a group take every n-th video."""
        group = engine.staff.group
        rows = range(group.rank, len(source.path), group.world)
        form, mine = classifier.clip_input, list[Answer]()
        paths = [source.root / source.path[row] for row in rows]
        views = evaluation_views(paths, form, clips=self.clips, crops=self.crops, workers=engine.staff.workers)
        with evaluation_mode(classifier, engine.device):
            for path, shown in zip(paths, views, strict=True):
                if isinstance(shown, str):
                    mine.append(Answer(None, shown))
                else:
                    clips = self.as_asked(shown, keyed_random.key("shuffled", path.name))
                    mine.append(self.best(classifier, clips, form, engine.device))
        shares = group.exchange([(answer.label, answer.problem, answer.probability) for answer in mine])
        ordered = (shares[row % group.world][row // group.world] for row in range(len(source.path)))
        return [Answer(label, problem, probability) for label, problem, probability in ordered]

    def as_asked(self, views: UInt8[Tensor, "views t c h w"], key: int) -> UInt8[Tensor, "views t c h w"]:
        """The frames of each view in the order of ``frames``; those of one clip are shuffled alike in all crops."""
        count = views.shape[1]
        if self.frames == "one":
            return views[:, count // 2, None].expand_as(views)
        if self.frames == "shuffled":
            order = keyed_random.uniform(key, torch.arange(self.clips), count).argsort(dim=1)
            order = order.repeat_interleave(self.crops, dim=0)
            return views.gather(1, order[:, :, None, None, None].expand_as(views))
        return views

    def best(
        self,
        classifier: ClipClassifier,
        views: UInt8[Tensor, "views t c h w"],
        form: ClipInput,
        device: torch.device,
    ) -> Answer:
        """The class with the largest mean probability."""
        total = torch.zeros(len(classifier.labels), dtype=torch.float64)
        for chunk in views.split(self.batch_size):
            scores = classifier.logits(normalised(list(chunk), form).to(device))
            total += classifier.probabilities_of(scores).double().sum(dim=0).cpu()
        best = int(total.argmax())
        return Answer(classifier.labels[best], probability=float(total[best]) / len(views))

    def view(self, form: ClipInput) -> str:
        """Name of the views in rows of results: ``5x3 clips@224`` and the order of their frames."""
        order = {"ordered": "", "shuffled": ", frames shuffled", "one": ", one frame"}[self.frames]
        return f"{self.clips}x{self.crops} clips@{form.image.size[0]}{order}"
