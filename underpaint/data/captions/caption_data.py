"""The ``data`` field of a run on images with captions, and the stream of pairs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import xxhash
from jaxtyping import Int64
from torch import Tensor

from underpaint import keyed_random
from underpaint.config import OPERATIONAL
from underpaint.core import Batch, Inputs, LabelBatch, PairBatch, TextInput
from underpaint.data.cache import cache_folder
from underpaint.data.captions.feature_stream import FeatureStream, TrainingFeatures
from underpaint.data.captions.image_texts import ImageTexts, draw, folder_texts, shard_texts
from underpaint.data.captions.wording import Wording
from underpaint.data.dataset import ImageData
from underpaint.data.decode.limits import BadImage
from underpaint.data.feature_store import UNREADABLE, FeatureMaker, Features, features_of, hash_of
from underpaint.data.folders.folder_dataset import FolderDataset
from underpaint.data.loader import ImageStream, read_heldout
from underpaint.data.quarantine import Quarantine
from underpaint.data.shards.shard_dataset import ShardDataset
from underpaint.data.source import Problem
from underpaint.data.stream import Batching, Stream
from underpaint.files import write_bytes
from underpaint.messages import say
from underpaint.tags.vocabulary import Vocabulary
from underpaint.texts.packages import text_tower_folder
from underpaint.texts.tokenizer import TextTokenizer, Tokenizer, open_tokenizer
from underpaint.texts.training import train_tokenizer


@dataclass(frozen=True, kw_only=True)
class CaptionData(ImageData):
    """Options for images with captions; ``targets`` stays "none", since the captions are the target."""

    # Table path,caption of a folder; "" takes captions.csv where there is one. Sets and collections have captions.
    captions: str = field(default="", metadata=OPERATIONAL)
    languages: tuple[str, ...] = Wording.languages  # captions in these languages alone, such as en,de; empty: all
    templates: tuple[str, ...] = Wording.templates  # texts made of tags, for images without a caption

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets != "none":
            raise ValueError(f"data.targets={self.targets}: images are paired with captions, so leave it none")
        _ = self.wording  # refuses a template without {}

    @property
    def wording(self) -> Wording:
        return Wording(languages=self.languages, templates=self.templates)

    def open(self) -> OpenCaptions:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read the images and their texts.

        Raises:
            ValueError: if there are no images with a text.
        """
        dataset = super().open()
        if isinstance(dataset, FolderDataset):
            images, texts = folder_texts(dataset, self.wording, self.captions)
        else:
            assert isinstance(dataset, ShardDataset)
            images, texts = shard_texts(dataset, self.wording, self.captions)
        return OpenCaptions(dataset=images, texts=texts)


@dataclass(frozen=True, kw_only=True)
class OpenCaptions:
    """The pairs of one run; satisfies ``OpenDataset`` once it has the tokenizer that the inputs ask for."""

    dataset: FolderDataset | ShardDataset
    texts: ImageTexts
    tokenizer: TextTokenizer | None = None
    features: tuple[TrainingFeatures, Features] | None = None
    """Features of the images trained on and held out, for an objective that asks for them."""
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(labels=(), count=()))
    unlabelled: int = 0  # images without a text have a note of their own

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def images(self) -> int:
        return self.dataset.images

    @property
    def content_hash(self) -> str:
        """The hash of images, texts and tokenizer."""
        tokens = self.tokenizer.xxh3 if self.tokenizer else ""
        return xxhash.xxh3_128_hexdigest(f"{self.dataset.content_hash} {self.texts.content_hash} {tokens}".encode())

    @property
    def notes(self) -> tuple[str, ...]:
        return self.texts.notes

    @property
    def languages(self) -> Mapping[str, int]:
        return self.texts.languages

    def for_inputs(self, inputs: Inputs) -> OpenCaptions:
        """The same with the tokenizer of the inputs: that of a folder, or one trained on the texts.

        Raises:
            ValueError: if the inputs have no text, or the tokenizer is not that of the text tower.
        """
        text = _text_of(inputs)
        if text.tokenizer:
            tokenizer = open_tokenizer(text_tower_folder(text.tokenizer))
            if tokenizer.vocabulary > text.vocabulary:
                raise ValueError(
                    f"{tokenizer.file} has {tokenizer.vocabulary:,} tokens, the text tower {text.vocabulary:,}: it is "
                    f"another model's tokenizer"
                )
        else:
            tokenizer = _trained(self.texts, text.vocabulary)
        return replace(self, tokenizer=tokenizer)

    def with_features(self, maker: FeatureMaker) -> OpenCaptions:
        """The same with the features of all images, from the store or computed now.

        Raises:
            ValueError: if the store holds features of another encoder, or several views of an image are asked for.
        """
        if self.dataset.config.views != 1:
            raise ValueError(f"data.views={self.dataset.config.views}: cached features have one view of each image")
        images = list(self.texts.images())
        hashes, reads = [image.content_hash for image in images], [image.read for image in images]
        training = TrainingFeatures(
            features=features_of(hashes, reads, maker, name=self.name),
            row={image.identity: row for row, image in enumerate(images)},
        )
        held = self.texts.heldout()
        hashes, reads = [_hash_of(pair.key, pair.read) for pair in held], [pair.read for pair in held]
        return replace(self, features=(training, features_of(hashes, reads, maker, name=f"{self.name}, held out")))

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> PairStream | FeatureStream:
        """The endless stream of pairs, as ``OpenDataset.stream``."""
        if self.features is not None:
            config = self.dataset.config
            return FeatureStream(
                self.dataset.sample_index(batch_size=batching.batch_size, seed=seed),
                self.features[0],
                self.texts,
                tokens=self._tokens(inputs),
                seed=seed,
                batching=batching,
                quarantine=Quarantine(quarantine, images=self.dataset.all_images, max_bad=config.max_bad),
            )
        images = {key: each for key, each in inputs.items() if not isinstance(each, TextInput)}
        stream = self.dataset.stream(images, batching, seed=seed, quarantine=quarantine)
        return PairStream(stream, self.texts, tokens=self._tokens(inputs), seed=seed, views=self.dataset.config.views)

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[Batch]:
        """Batches of the held-out images with the first text of each, as ``OpenDataset.heldout``."""
        pairs, tokens = self.texts.heldout(), self._tokens(inputs)
        if self.features is not None:
            for start in range(0, len(pairs), batch_size):
                chunk = slice(start, min(start + batch_size, len(pairs)))
                yield {
                    "feature": self.features[1].x[chunk],
                    "text": tokens([pair.texts[0] for pair in pairs[chunk]]),
                    "position": torch.arange(chunk.start, chunk.stop),
                    "weight": self.features[1].kept[chunk].float(),
                }
            return
        images = {key: each for key, each in inputs.items() if not isinstance(each, TextInput)}
        batches = read_heldout(
            [(pair.key, pair.read) for pair in pairs],
            [()] * len(pairs),
            format=self.dataset.image_of(images),
            batch_size=batch_size,
            longest=0,
        )
        for batch in batches:
            yield _paired(batch, tokens([pairs[place].texts[0] for place in batch["position"].tolist()]))

    def _tokens(self, inputs: Inputs) -> Tokens:
        assert self.tokenizer is not None, "for_inputs comes first"
        return Tokens(self.tokenizer, _text_of(inputs).tokens)


class Tokens:
    """Texts to ids of one length."""

    def __init__(self, tokenizer: TextTokenizer, count: int) -> None:
        self.tokenizer, self.count = tokenizer, count

    def __call__(self, texts: list[str]) -> Int64[Tensor, "b l"]:
        return self.tokenizer(texts, context=self.count - 2, length=self.count)


class PairStream(Stream):
    """A stream of images with one text of each, drawn by the position of the sample.

    Texts are read and made into ids in the main process: it takes a hundredth of the time of decoding the image.
    """

    def __init__(self, images: ImageStream, texts: ImageTexts, *, tokens: Tokens, seed: int, views: int) -> None:
        super().__init__(images.batching, images.quarantine, parts=images.parts)
        self.images, self.texts, self.tokens, self.views = images, texts, tokens, views
        self.text_key = keyed_random.key(seed, "text")

    def read(self, starts: Iterable[int]) -> Iterator[tuple[Batch, list[Problem]]]:
        for batch, problems in self.images.read(starts):
            position = batch["position"]
            numbers = keyed_random.uniform(self.text_key, position, 1)[:, 0].tolist()
            images = (self.images.items.at(place // self.views).image for place in position.tolist())
            chosen = [draw(self.texts.of(image), number) for image, number in zip(images, numbers, strict=True)]
            yield _paired(batch, self.tokens(chosen)), problems


def _hash_of(key: str, read: Callable[[], bytes]) -> str:
    """The hash of an image's bytes; one of its name where it cannot be read, and so has no features."""
    try:
        return hash_of(read())
    except (OSError, BadImage):
        return UNREADABLE + hash_of(key.encode(errors="surrogateescape"))


def _paired(batch: LabelBatch, ids: Int64[Tensor, "b l"]) -> PairBatch:
    return {"image": batch["image"], "position": batch["position"], "weight": batch["weight"], "text": ids}


def _text_of(inputs: Inputs) -> TextInput:
    texts = [each for each in inputs.values() if isinstance(each, TextInput)]
    if len(texts) != 1 or inputs.get("text") is not texts[0]:
        raise ValueError(f"captions are for an objective with one input of texts, 'text', not {', '.join(inputs)}")
    return texts[0]


def _trained(texts: ImageTexts, vocabulary: int) -> Tokenizer:
    """The tokenizer of these texts, trained once and kept in the cache."""
    version = importlib.metadata.version("sentencepiece")
    key = xxhash.xxh3_128_hexdigest(f"{texts.content_hash} {vocabulary} {version}".encode())
    path = cache_folder() / "tokenizers" / f"{key}.model"
    if not path.is_file():
        say(f"Training a tokenizer of {vocabulary:,} ids on the captions")
        model = train_tokenizer(texts.training(), vocabulary=vocabulary)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, model)
    tokenizer = Tokenizer(path)
    if tokenizer.vocabulary > vocabulary:
        raise ValueError(f"{path} has {tokenizer.vocabulary:,} ids, more than {vocabulary:,}; delete it")
    return tokenizer
