"""Training of a probe on the tokens of a frozen encoder, which lie in temporary files, and the choice of its rate."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int64
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.evals.choosing import Accuracies, Choice, choose
from underpaint.evals.class_splits import LabelledImages, hold_out
from underpaint.evals.feature_training import Candidate, FeatureHeads, HeadRecipe, predict
from underpaint.evals.features import UNKNOWN_CLASS
from underpaint.evals.fitting import HeadOn

LARGEST_TOKEN = 65_504.0
"""Largest number of float16, in which tokens are kept."""


class Tokens(NamedTuple):
    """Tokens of the images or clips of one split, in a file."""

    x: Float16[Tensor, "n t d"]
    images: LabelledImages
    readable: Bool[Tensor, " n"]
    unread: list[str]

    @property
    def rows(self) -> Int64[Tensor, " r"]:
        """Images that could be read."""
        return self.readable.nonzero().flatten()

    @staticmethod
    def of(x: Float16[Tensor, "n t d"], images: LabelledImages, good: Sequence[bool], *, what: str) -> Tokens:
        """Those that were written; what could not be read has no class.

        Raises:
            ValueError: if nothing could be read; ``what`` names it.
        """
        if not any(good):
            raise ValueError(f"none of the {len(good)} {what} could be read; check its files")
        readable = torch.tensor(good)
        unread = [path for path, kept in zip(images.image, good, strict=True) if not kept]
        return Tokens(x, images._replace(y=images.y.masked_fill(~readable, UNKNOWN_CLASS)), readable, unread)


class Answers(NamedTuple):
    """Predicted class of each test sample, and what was chosen on training samples."""

    predicted: Int64[Tensor, " n"]
    chosen: Candidate
    settings: dict[str, float]
    """Accuracies that it was chosen by."""


@dataclass(frozen=True, kw_only=True)
class TokenProbe:
    """A head on the feature that a body makes of tokens, trained with each of some rates."""

    recipe: HeadRecipe
    candidates: tuple[Candidate, ...]
    body: Callable[[], nn.Module]
    tuning_share: float
    """Share of the training samples that are held out, where there is something to choose."""
    what: str
    """The field of the candidates, for messages."""

    def answers(self, train: Tokens, test: Tokens, *, classes: int, seed: int, device: torch.device) -> Answers:
        """Predictions by the rate that classifies held-out training samples best (ties: the first), trained on all.

        Raises:
            ValueError: if every rate diverges.
        """
        heads = FeatureHeads(train.x, train.images.y, classes=classes, device=device)
        place, settings = 0, dict[str, float]()
        if len(self.candidates) > 1:
            choice = self._choose(heads, train, test, seed=seed)
            place, settings = choice.place, choice.settings()
        model = self._trained(heads, train.rows, self.candidates[place], seed=seed)
        predicted = predict(model, test.x, torch.arange(len(test.x)), device)
        return Answers(predicted, self.candidates[place], settings)

    def _choose(self, heads: FeatureHeads, train: Tokens, test: Tokens, *, seed: int) -> Choice:
        rows = train.rows
        key = keyed_random.key(seed, "hold out")
        fitting, tuning = hold_out(train.images.chosen(rows.tolist()), share=self.tuning_share, key=key)

        def judge(candidate: Candidate) -> Accuracies:
            model = self._trained(heads, rows[fitting], candidate, seed=seed)
            held = predict(model, train.x, rows[tuning], heads.device) == train.images.y[rows[tuning]]
            tested = predict(model, test.x, torch.arange(len(test.x)), heads.device) == test.images.y
            return Accuracies(float(held.double().mean()), float(tested.double().mean()))

        return choose(self.candidates, judge, what=self.what)

    def _trained(self, heads: FeatureHeads, rows: Int64[Tensor, " r"], candidate: Candidate, *, seed: int) -> HeadOn:
        return heads.train(rows, self.recipe, candidate, body=self.body(), seed=seed)


def empty_tokens(file: Path, shape: tuple[int, int, int]) -> Float16[Tensor, "n t d"]:
    """A file for so many tokens, as a tensor."""
    return torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=shape))


def require_half(tokens: Float[Tensor, "*rest d"]) -> None:
    """Raise ValueError for tokens that float16 cannot hold."""
    if not bool((tokens.abs() <= LARGEST_TOKEN).all()):
        raise ValueError("the encoder gives tokens that are not finite, or too large for float16")


@contextmanager
def token_folder(tokens: int, width: int, *, of: str, less: str, scratch: str) -> Iterator[Path]:
    """A temporary folder with room for so many tokens.

    A message names what they are tokens ``of``, and what takes ``less``.

    Raises:
        ValueError: if ``scratch`` is not a folder, or the disk has no room for them.
    """
    if scratch and not Path(scratch).is_dir():
        raise ValueError(
            f"scratch={scratch} is not a folder; make it, or leave it out for the system's temporary folder"
        )
    needed = 2 * tokens * width
    with tempfile.TemporaryDirectory(prefix="underpaint-tokens-", dir=scratch or None) as folder:
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ValueError(
                f"the patch tokens of {of} need {needed / 2**30:,.1f} GiB of disk, and {folder} has "
                f"{free / 2**30:,.1f}: give a folder with more (scratch=DIR), or {less}"
            )
        yield Path(folder)
