"""Attentive probe of a frozen encoder of images on videos: blocks of attention over the tokens of all frames.

The form is that of V-JEPA 2's evaluation: three blocks of self-attention, then queries that pool the tokens, trained by
AdamW for 20 epochs with several rates. Here an image encoder sees every frame alone, the queries are EP's
(attentive.py), and tokens are computed once, from one clip in the middle of each video, where V-JEPA 2 draws clips in
each epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from underpaint import keyed_random
from underpaint.core import ClipInput, LabelInput
from underpaint.data.source import Source
from underpaint.data.video.clips import clip_form, normalised
from underpaint.data.video.dataset import joined_videos, open_videos
from underpaint.data.video.evaluation_views import evaluation_views
from underpaint.evals.class_splits import labelled_images
from underpaint.evals.engine import Engine
from underpaint.evals.feature_training import Candidate, HeadRecipe, require_rates
from underpaint.evals.features import UNKNOWN_CLASS, Encoder, labelled_rows, transfer_classes, unseen_classes
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.score import Score
from underpaint.evals.token_probe import TokenProbe, Tokens, empty_tokens, require_half, token_folder
from underpaint.evals.unreadable import unreadable_images
from underpaint.models.attentive_pooling import ClipPooling
from underpaint.models.video import ClipConfig, Sampling
from underpaint.training.optim import OptimConfig

RECIPE = HeadRecipe(optim=OptimConfig(betas=(0.9, 0.999), clip=1.0), epochs=20, warmup=0, batch_size=128)


@dataclass(frozen=True, kw_only=True)
class VideoAttentive:
    """Attentive probe of a frozen encoder of images on videos with classes: top-1 on the test videos.

    The encoder sees each frame by itself, so it needs no training for videos; the order of the frames is the probe's to
    use. The rate and decay that classify held-out training videos best win, and the probe is trained again on all of
    them. Tokens lie in a temporary file: 2 bytes * videos * frames * patches * width.
    """

    needs: ClassVar[type] = Encoder

    dataset: str  # list of the videos to train on, in the form of Kinetics (csv, txt) or of Something-Something (json)
    test: str = ""  # list of the videos to test by
    videos: str = ""  # folder of the videos; "" is that of each list
    frames: int = 16
    sampling: Sampling = "uniform"  # a frame of each of as many parts of the video, or dense: frames at a distance
    stride: int = 4  # distance of the frames under dense sampling
    blocks: int = 3  # of self-attention, below the queries
    queries: int = 32  # learned; they divide the encoder's width
    # Per 256 videos, each with each decay, to choose from. V-JEPA 2 has steps of 1e-4 to 5e-3 and 4 decays up to 0.8;
    # the batches of a small dataset are small, and their steps are as much smaller.
    base_lr: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    weight_decay: tuple[float, ...] = (0.1,)
    epochs: int = 20
    tuning_share: float = 0.2  # of the training videos, where there is something to choose
    scratch: str = ""  # folder for the file of tokens; "" is the system's for temporary files

    def __post_init__(self) -> None:
        require_rates(self.base_lr, self.weight_decay)
        for name in ("queries", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if not 0 <= self.blocks <= 100:
            raise ValueError(f"blocks={self.blocks} must lie between 0 and 100")
        if not self.base_lr or not self.weight_decay:
            raise ValueError("base_lr and weight_decay need a value each, such as base_lr=1e-4,1e-3 weight_decay=0.1")
        if not 0 < self.tuning_share < 1:
            raise ValueError(f"tuning_share={self.tuning_share} must lie between 0 and 1")
        ClipConfig(frames=self.frames, tubelet=1, sampling=self.sampling, stride=self.stride)

    @property
    def clip(self) -> ClipConfig:
        """The frames that are seen of a video."""
        return ClipConfig(frames=self.frames, tubelet=1, sampling=self.sampling, stride=self.stride)

    def sources(self) -> list[Source]:
        """The videos of both lists as one source.

        Raises:
            ValueError: if a list is missing or unusable, none of its videos is there, or a video is in both.
        """
        if not self.test:
            raise ValueError("test is empty; name the list of the videos to test by: test=val.csv")
        train = open_videos(self.dataset, self.videos, split="train")
        return [joined_videos(train, open_videos(self.test, self.videos, split="test"))]

    def check(self, source: Source) -> list[str]:
        """Nothing to remark; raises ValueError for a source without a transfer task."""
        transfer_classes(source)
        return []

    def measure(self, encoder: Encoder, *, source: Source, engine: Engine, seed: int) -> list[Score]:
        """The score of an encoder that stands on the engine's device already.

        Raises:
            ValueError: if the source has no transfer task, no readable video in one of its halves, the encoder takes no
                frames of videos, the queries do not divide its width, the disk has no room for the tokens, or every
                rate diverges.
        """
        config, classes, seed = encoder.config, transfer_classes(source), keyed_random.key(seed, "video attentive")
        form = clip_form({"clip": self.clip.input_of(config.image_input), "labels": LabelInput()}, name=source.name)

        def body() -> ClipPooling:
            return ClipPooling(config, frames=self.frames, blocks=self.blocks, queries=self.queries, seed=seed)

        body()  # raises for queries that do not divide the width
        probe = TokenProbe(
            recipe=RECIPE.lasting(self.epochs),
            candidates=tuple(Candidate(rate, decay) for rate, decay in product(self.base_lr, self.weight_decay)),
            body=body,
            tuning_share=self.tuning_share,
            what="base_lr",
        )
        videos = sum(len(labelled_rows(source, split)) for split in ("train", "test"))
        tokens, what = videos * self.frames * config.num_patches, f"{videos:,} videos"
        with token_folder(tokens, config.width, of=what, less="fewer frames", scratch=self.scratch) as folder:
            train = self._tokens(encoder, source, folder / "train", "train", form, engine)
            test = self._tokens(encoder, source, folder / "test", "test", form, engine)
            answers = probe.answers(train, test, classes=len(classes), seed=seed, device=engine.device)
        remarks = unseen_classes(source)
        remarks += unreadable_images(train.unread, total=len(train.x), what="train", noun="videos")
        remarks += unreadable_images(test.unread, total=len(test.x), what="test", wrong=True, noun="videos")
        return [
            Score(
                dataset=source.name,
                protocol="video_attentive",
                view=f"{self.frames} frames@{form.image.size[0]}",
                correct=tuple((answers.predicted == test.images.y).double().tolist()),
                image=test.images.image,
                family=test.images.family,
                settings={**answers.chosen._asdict(), "queries": float(self.queries), **answers.settings},
                remarks=tuple(remarks),
            )
        ]

    def _tokens(
        self,
        encoder: Encoder,
        source: Source,
        file: Path,
        split: Literal["train", "test"],
        form: ClipInput,
        engine: Engine,
    ) -> Tokens:
        """Tokens of the frames of a split's videos, written to a file."""
        rows, config = labelled_rows(source, split), encoder.config
        videos = labelled_images(source, rows, transfer_classes(source), unknown=UNKNOWN_CLASS)
        x = empty_tokens(file, (len(rows), self.frames * config.num_patches, config.width))
        good: list[bool] = []
        with evaluation_mode(encoder, engine.device):
            for frames in _clips(source, rows, form, workers=engine.staff.workers):
                if frames is not None:
                    tokens = encoder(frames.to(engine.device))[:, 1:].float().cpu()
                    require_half(tokens)
                    x[len(good)] = tokens.flatten(0, 1).half()
                good.append(frames is not None)
        return Tokens.of(x, videos, good, what=f"{split} videos of '{source.name}'")


def _clips(
    source: Source, rows: Sequence[int], form: ClipInput, *, workers: int
) -> Iterator[Float[Tensor, "t c h w"] | None]:
    """The frames of the middle of each video, as images; None for one that cannot be read."""
    paths = [source.root / source.path[row] for row in rows]
    for views in evaluation_views(paths, form, clips=1, crops=1, workers=workers):
        yield None if isinstance(views, str) else normalised([views[0]], form)[0].transpose(0, 1)
