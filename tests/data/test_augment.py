"""Strong augmentations: each operation against timm's, and batches that depend on nothing but positions."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data.auto_augment
import timm.data.mixup
import timm.data.random_erasing
import torch
from PIL import Image
from scipy import stats
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor

from support.image_files import noise
from support.small_runs import make_images
from underpaint import keyed_random
from underpaint.core import DataInfo, ImageInput, LabelBatch, LabelInput
from underpaint.data.augment import rand_augment
from underpaint.data.augment.draws import Draws
from underpaint.data.augment.erasing import erase, erased_box
from underpaint.data.augment.mixing import Mix, cut_box, draw_mix, mix_batch, mix_images
from underpaint.data.augment.options import Augment, RandAugmentSpec
from underpaint.data.augment.rand_augment import OPERATIONS, fill_of, from_pillow, to_pillow
from underpaint.data.dataset import ImageData
from underpaint.data.stream import Batching, Stream
from underpaint.models.vit import IMAGENET_MEAN, IMAGENET_STD, ViTConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.scores import reduce

AugmentOp: Any = timm.data.auto_augment.AugmentOp
PUBLISHED = "rand-m9-mstd0.5-inc1"
MAE = Augment(rand=PUBLISHED, erase=0.25, mixup=0.8, cutmix=1.0)
IMAGE = ImageInput(size=(24, 20), channels=3, value_range=(0.0, 255.0), mean=IMAGENET_MEAN, std=IMAGENET_STD)


class Scripted:
    """The module ``random`` of timm with our draws."""

    def __init__(self, draws: Draws, sign: int = 1) -> None:
        self.draws, self.sign = draws, sign

    def random(self) -> float:
        return self.draws.uniform()

    def uniform(self, low: float, high: float) -> float:
        return self.draws.uniform(low, high)

    def randint(self, low: int, high: int) -> int:
        return low + self.draws.whole(high - low + 1)


def photograph(channels: int) -> Image.Image:
    """Noise on a smooth ground, in which not every value occurs."""
    smooth = Image.fromarray(noise(3, (5, 6))).resize((44, 36), Image.Resampling.BICUBIC)
    mixed = Image.fromarray((40 + 0.6 * np.asarray(smooth) + 0.1 * noise(1, (36, 44))).astype(np.uint8))
    return mixed.convert("L") if channels == 1 else mixed


def test_the_operations_are_timms_increasing_ones() -> None:
    theirs: Any = timm.data.auto_augment
    assert list(OPERATIONS) == theirs._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_timms_at_equal_strength(name: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image, fill = photograph(channels), fill_of(IMAGENET_MEAN)[:channels]
    assert fill_of(IMAGENET_MEAN) == (124, 116, 104)
    settings: dict[str, Any] = {"img_mean": fill if channels == 3 else fill[0]}
    settings["interpolation"] = Image.Resampling.BICUBIC
    for strength in (0.0, 2.5, 7.3, 9.0, 10.0):
        for sign in (-1, 1):
            chance = types.SimpleNamespace(random=lambda sign=sign: 0.9 if sign < 0 else 0.1)
            monkeypatch.setattr(timm.data.auto_augment, "random", chance)
            theirs = AugmentOp(name, prob=1.0, magnitude=strength, hparams=settings)
            ours = OPERATIONS[name]
            changed = ours.apply(image, ours.argument(strength, sign), fill)
            black = name == "PosterizeIncreasing" and strength == 10  # Pillow 13 refuses what it was before
            expected = np.zeros_like(image) if black else np.asarray(theirs(image))
            assert np.array_equal(np.asarray(changed), expected), (strength, sign)


def test_a_policy_draws_two_operations_each_applied_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float, int]] = []
    count = len(OPERATIONS)

    def spy(number: int) -> rand_augment.Operation:
        def argument(strength: float, sign: int) -> float:
            seen.append((number, strength, sign))
            return 0.0

        return rand_augment.Operation(lambda image, _, fill: image, argument)

    monkeypatch.setattr(rand_augment, "_BY_NUMBER", [spy(number) for number in range(count)])
    spec = MAE.rand_spec()
    assert spec is not None
    assert spec == RandAugmentSpec(magnitude=9, deviation=0.5, operations=2, probability=0.5)
    image, key, images = torch.zeros(3, 4, 4, dtype=torch.uint8), keyed_random.key(0, "test"), 3_000
    for position in range(images):
        rand_augment.rand_augment(image, spec, fill=(0,) * 3, seed=keyed_random.sample_seed(key, position))
    assert len(seen) == pytest.approx(images, abs=4 * (images / 2) ** 0.5)
    numbers, strengths, signs = zip(*seen, strict=True)
    assert stats.chisquare(np.bincount(numbers, minlength=count)).pvalue > 1e-3
    assert stats.binomtest(signs.count(1), len(signs)).pvalue > 1e-3
    below = [strength for strength in strengths if strength < 10]
    assert max(strengths) == 10
    assert len(below) / len(seen) == pytest.approx(stats.norm(9, 0.5).cdf(10), abs=0.02)
    assert stats.kstest(below, stats.truncnorm(-np.inf, 2, 9, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 2.0])
def test_the_ratio_of_mixup_has_the_beta_distribution(alpha: float) -> None:
    draws = Draws(7)
    assert stats.kstest([draws.beta(alpha) for _ in range(1_000)], stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_erasing_is_timms_with_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    erased = 0
    for seed in range(60):
        image = torch.zeros(3, 40, 30)
        erase(image, probability=0.25, seed=seed)
        monkeypatch.setattr(timm.data.random_erasing, "random", Scripted(Draws(seed)))
        noise_of = torch.Generator().manual_seed(seed)
        pixels = lambda *_, patch=noise_of, **__: torch.randn(_[2], generator=patch)  # noqa: E731
        monkeypatch.setattr(timm.data.random_erasing, "_get_pixels", pixels)
        expected = torch.zeros(3, 40, 30)
        timm.data.random_erasing.RandomErasing(0.25, mode="pixel", device="cpu")(expected)
        assert torch.equal(image, expected), seed
        erased += bool(image.any())
        box = erased_box(40, 30, probability=1.0, draws=Draws(seed))
        assert box is None or (box[0] + box[2] <= 40 and box[1] + box[3] <= 30)
    assert 5 <= erased <= 28


def batch_of(size: int, classes: int = 5) -> LabelBatch:
    generator = torch.Generator().manual_seed(size)
    return {
        "image": torch.randn(size, 3, 12, 10, generator=generator),
        "position": torch.arange(size),
        "weight": torch.ones(size),
        "labels": torch.randint(classes, (size, 1), generator=generator),
    }


@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("share", [0.13, 0.5, 0.97])
def test_mixing_a_group_is_timms_mixup_of_a_batch(cuts: bool, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, corrected ratio, and loss, with timm's own ratio, rectangle and soft targets."""
    batch, centre, smoothing, classes = batch_of(8), iter([9, 2]), 0.1, 5
    theirs = timm.data.mixup.Mixup(0.8, 1.0, num_classes=classes, label_smoothing=smoothing)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (share, cuts))
    monkeypatch.setattr(np.random, "randint", lambda *_, **__: next(centre))
    expected, target = theirs(batch["image"].clone(), batch["labels"][:, 0])
    mix = cut_box(share, (12, 10), (9, 2)) if cuts else Mix(share, None)
    monkeypatch.setattr("underpaint.data.augment.mixing.draw_mix", lambda *_: mix)
    mix_batch(batch, replace(MAE, mix_group=8), key=1)
    assert torch.equal(batch["image"], expected)
    assert (batch["labels"][:, 0] == batch["labels"][:, 1].flip(0)).all()
    logits = torch.randn(8, classes, generator=torch.Generator().manual_seed(0))
    config = ClassifyConfig(encoder=ViTConfig(size=(16, 16), width=16, depth=1, heads=2), label_smoothing=smoothing)
    objective = config.build(DataInfo(seed=0, labels=tuple("abcde")))
    loss = objective.loss(reduce(logits, batch["labels"], "logsumexp"), batch["labels"], batch.get("share"))
    torch.testing.assert_close(loss.mean(), SoftTargetCrossEntropy()(logits, target), rtol=0, atol=1e-6)
    own = batch["labels"][:, :1]
    plain = objective.loss(reduce(logits, own, "logsumexp"), own)
    expected_loss = LabelSmoothingCrossEntropy(smoothing)(logits, own[:, 0])
    torch.testing.assert_close(plain.mean(), expected_loss, rtol=0, atol=1e-6)


def test_binary_loss_of_mixed_images_is_that_of_dense_targets() -> None:
    batch = batch_of(4)
    mix_batch(batch, Augment(mixup=0.8, mix_group=4), key=3)
    config = ClassifyConfig(encoder=ViTConfig(size=(16, 16), width=16, depth=1, heads=2), loss="bce")
    objective = config.build(DataInfo(seed=0, labels=tuple("abcde")))
    logits, share = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), batch.get("share")
    assert share is not None
    dense = torch.zeros(4, 5)
    for row, (mine, partner) in enumerate(batch["labels"].tolist()):
        dense[row, mine] += share[row]
        dense[row, partner] += 1 - share[row]
    loss = objective.loss(reduce(logits, batch["labels"], "softplus"), batch["labels"], share)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, dense, reduction="none").mean(dim=1)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)


def test_cutmix_and_mixup_each_have_half_of_the_groups() -> None:
    mixes = [draw_mix(MAE, (224, 224), Draws(seed)) for seed in range(2_000)]
    cut = [mix for mix in mixes if mix.box]
    assert stats.binomtest(len(cut), len(mixes)).pvalue > 1e-3
    for mix in cut:
        assert mix.box is not None
        top, bottom, left, right = mix.box
        assert mix.share == pytest.approx(1 - (bottom - top) * (right - left) / 224**2)
    assert draw_mix(replace(MAE, mix_probability=0.0), (8, 8), Draws(0)) == Mix(1.0, None)


def test_a_sample_is_not_mixed_with_a_placeholder() -> None:
    batch = batch_of(4)
    batch["weight"][0] = 0
    before = batch["image"].clone()
    mix_batch(batch, Augment(mixup=0.8, mix_group=4), key=3)
    share = batch.get("share")
    assert share is not None
    assert share.tolist()[0] == share.tolist()[3] == 1
    assert share.tolist()[1] == share.tolist()[2] < 1
    assert torch.equal(batch["image"][[0, 3]], before[[0, 3]])
    assert torch.equal(batch["image"][1:3], mix_images(before, Mix(float(share[1]), None))[1:3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("augment") / "images", 80)


def stream_of(folder: Path, augment: Augment, *, microbatch: int = 8, **changes: Any) -> Stream:
    data = ImageData(
        source=str(folder),
        labels=str(folder / "labels.csv"),
        split="train",
        targets="class",
        augment=augment,
        **changes,
    )
    batching = Batching(batch_size=16, microbatch=microbatch)
    inputs = {"image": IMAGE, "labels": LabelInput()}
    return data.open().stream(inputs, batching, seed=5, quarantine=folder.parent / "bad.jsonl")


def rows(batches: Iterator[Any]) -> dict[int, dict[str, Tensor]]:
    """The tensors of each position."""
    kept: dict[int, dict[str, Tensor]] = {}
    for batch in batches:
        for row, position in enumerate(batch["position"].tolist()):
            kept[position] = {name: value[row].clone() for name, value in batch.items()}
    return kept


def assert_same(ours: dict[int, dict[str, Tensor]], theirs: dict[int, dict[str, Tensor]]) -> None:
    assert ours.keys() == theirs.keys()
    for position, sample in ours.items():
        assert sample.keys() == theirs[position].keys() == {"image", "labels", "share", "position", "weight"}
        for name, value in sample.items():
            assert torch.equal(value, theirs[position][name]), (position, name)


def first(stream: Stream, starts: list[int]) -> dict[int, dict[str, Tensor]]:
    return rows(batch for batch, _ in stream.read(starts))


@pytest.mark.slow
@pytest.mark.parametrize("decoding", ["full", "scaled"])
def test_batches_do_not_depend_on_microbatch_ranks_and_restarts(folder: Path, decoding: str) -> None:
    """Positions 0 to 63 by one process, by two and by four ranks, in parts of four, and from the middle on."""
    whole = first(stream_of(folder, MAE, decoding=decoding), list(range(0, 64, 8)))
    assert len({float(sample["share"]) for sample in whole.values()}) > 20
    for ranks, microbatch in ((1, 2), (2, 8), (4, 4)):
        parts: dict[int, dict[str, Tensor]] = {}
        for rank in range(ranks):
            part = 16 // ranks
            starts = [
                start
                for batch in range(0, 64, 16)
                for start in range(batch + rank * part, batch + (rank + 1) * part, microbatch)
            ]
            parts |= first(stream_of(folder, MAE, microbatch=microbatch, decoding=decoding), starts)
        assert_same(parts, whole)
    resumed = stream_of(folder, MAE, decoding=decoding)
    resumed.position = 32
    batches = iter(resumed)
    later = rows(next(batches) for _ in range(4))
    assert_same(later, {position: sample for position, sample in whole.items() if position >= 32})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("decoding", ["full", "scaled"])
def test_batches_do_not_depend_on_workers(folder: Path, decoding: str) -> None:
    starts = list(range(0, 48, 8))
    alone = first(stream_of(folder, MAE, decoding=decoding), starts)
    assert_same(first(stream_of(folder, MAE, workers=3, decoding=decoding), starts), alone)


def test_each_augmentation_changes_batches_and_none_leaves_them(folder: Path) -> None:
    plain = first(stream_of(folder, Augment()), [0, 8])
    for name, value in (("rand", PUBLISHED), ("erase", 1.0), ("mixup", 0.8), ("cutmix", 1.0)):
        changed = first(stream_of(folder, replace(Augment(), **{name: value})), [0, 8])
        same = [torch.equal(changed[position]["image"], plain[position]["image"]) for position in plain]
        assert sum(same) < 8, name
        assert ("share" in changed[0]) == (name in ("mixup", "cutmix"))
    rounded = [sample["image"] * torch.tensor(IMAGENET_STD)[:, None, None] for sample in plain.values()]
    back = torch.stack(rounded) + torch.tensor(IMAGENET_MEAN)[:, None, None]
    assert not torch.equal((back * 255).round() / 255, back), "without RandAugment views are not rounded to 8 bits"


def test_repeated_augmentation_mixes_different_images(folder: Path) -> None:
    """Views of one image are neighbours, and a group is so long that each has a partner of another image."""
    augment = Augment(mixup=1.0, mix_group=4)
    batch = first(stream_of(folder, augment, views=2), [0, 8])
    plain = first(stream_of(folder, Augment(), views=2), [0, 8])
    for position, sample in batch.items():
        partner = position // 4 * 4 + 3 - position % 4
        assert position // 2 != partner // 2
        share = sample["share"]
        expected = plain[position]["image"].mul(share).add(plain[partner]["image"].mul(1 - share))
        torch.testing.assert_close(sample["image"], expected, rtol=0, atol=1e-6)


def test_pillow_and_back_is_the_same_image() -> None:
    for channels in (1, 3):
        image = from_pillow(photograph(channels))
        assert torch.equal(from_pillow(to_pillow(image)), image)
        assert len(image) == channels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rand": "randaugment"}, r"data.augment.rand='randaugment' is not a policy: write rand, m \(magnitude\)"),
        ({"rand": "rand-m9-q2-inc1"}, "is not a policy"),
        ({"rand": "rand-m9-m9-inc1"}, "is not a policy"),
        ({"rand": "rand-m9-mstd0.5"}, r"add -inc1; the published policy is rand-m9-mstd0.5-inc1"),
        ({"rand": "rand-m11-inc1"}, "m lies in 0 to 10"),
        ({"erase": 1.5}, r"data.augment.erase=1.5 must be a probability"),
        ({"mixup": 5.0}, r"data.augment.mixup=5.0 must lie between 0 and 4"),
        ({"mix_group": 3}, r"data.augment.mix_group=3 must be an even number"),
    ],
)
def test_impossible_augmentations_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**change)


def test_augmentations_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"data.augment.mixup and cutmix mix labels, and data.targets=none has none"):
        ImageData(source="digits", augment=Augment(mixup=0.8))
    with pytest.raises(ValueError, match=r"mix_group=2 must be a multiple of 6 with data.views=3"):
        ImageData(source="digits", targets="class", views=3, augment=Augment(mixup=0.8))
    with pytest.raises(ValueError, match=r"data.augment.mix_group=6 must divide the microbatch 8"):
        stream_of(folder, Augment(mixup=0.8, mix_group=6))
