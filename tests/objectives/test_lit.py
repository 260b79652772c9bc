"""LiT's losses and gradients against loops over single pairs in float64, against open_clip, and on two ranks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from support.lit_examples import CONFIG, TEXT, batch_of, perturbed
from support.ranks import finish, start
from underpaint.core import DataInfo, example_batch
from underpaint.models.image_text import ImageText
from underpaint.models.ngram_tower import NgramConfig
from underpaint.objectives.contrast import LARGEST_SCALE, clamped_scale
from underpaint.objectives.lit import Lit, LitConfig
from underpaint.texts.tokens import PAD

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}
LOSSES = [
    replace(CONFIG, loss="softmax"),
    replace(CONFIG, loss="sigmoid", logit_bias=-2.0, unlocked_blocks=1, text_pooling="mean"),
]


def embeddings(model: Lit, batch: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Embeddings one by one, each text without its padding, divided by their length."""
    images, texts = [], []
    for image, ids in zip(batch["image"], batch["text"], strict=True):
        feature = model.encoder(image[None])[0, 0] @ model.image_projection
        images.append(feature / feature.square().sum().sqrt())
        tokens = model.text(ids[ids != PAD][None])[0]
        feature = tokens[0] if model.config.text_pooling == "first" else sum(tokens) / len(tokens)
        feature = feature @ model.text_projection
        texts.append(feature / feature.square().sum().sqrt())
    return images, texts


def naive_loss(model: Lit, batch: dict[str, Tensor]) -> Tensor:
    """The loss in loops over rows and columns; equal texts are positives, pairs of weight 0 are nowhere."""
    images, texts = embeddings(model, batch)
    scale, count = model.logit_scale[0].exp(), len(images)
    kept = [number for number in range(count) if batch["weight"][number] > 0]
    equal = {i: [j for j in kept if torch.equal(batch["text"][i], batch["text"][j])] for i in kept}
    total = torch.zeros((), dtype=torch.float64)
    for i in kept:
        if model.lit.loss == "sigmoid":
            assert model.logit_bias is not None
            for j in kept:
                logit = scale * (images[i] * texts[j]).sum() + model.logit_bias[0]
                total = total - torch.log(torch.sigmoid(logit if j in equal[i] else -logit))
            continue
        for rows, columns in ((images, texts), (texts, images)):
            logits = {j: scale * (rows[i] * columns[j]).sum() for j in kept}
            log_sum = torch.log(sum((torch.exp(logit) for logit in logits.values()), torch.zeros(())))
            total = total + sum(log_sum - logits[j] for j in equal[i]) / len(equal[i]) / 2
    return total / count


@pytest.mark.parametrize("config", LOSSES, ids=lambda config: config.loss)
def test_loss_and_gradients_equal_loops(config: LitConfig) -> None:
    model, batch = perturbed(config), batch_of(bad=(2,), equal=((0, 4), (1, 3)))
    step = model(batch)
    expected = naive_loss(model, batch)
    torch.testing.assert_close(step.loss, expected, **CLOSE)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    ours = torch.autograd.grad(step.loss, list(trained.values()), allow_unused=True)
    theirs = torch.autograd.grad(expected, list(trained.values()), allow_unused=True)
    for name, mine, naive in zip(trained, ours, theirs, strict=True):
        assert mine is not None, name
        torch.testing.assert_close(mine, naive if naive is not None else torch.zeros_like(mine), **CLOSE, msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of open_clip's own imports
@pytest.mark.parametrize("config", LOSSES, ids=lambda config: config.loss)
def test_loss_and_gradients_equal_open_clip(config: LitConfig) -> None:
    losses = pytest.importorskip("open_clip.loss")
    model, batch = perturbed(config), batch_of()
    loss = model(batch).loss
    image, text = model.embed_image(batch["image"]), model.embed_text(batch["text"])
    if model.logit_bias is None:
        expected = losses.ClipLoss()(image, text, model.logit_scale[0].exp())
    else:
        expected = losses.SigLipLoss()(image, text, model.logit_scale[0].exp(), model.logit_bias)
    torch.testing.assert_close(loss, expected, **CLOSE)
    trained = [p for name, p in model.named_parameters() if p.requires_grad and "pos_embed" not in name]
    for mine, theirs in zip(torch.autograd.grad(loss, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_scale_is_never_above_100_and_comes_back(dtype: torch.dtype) -> None:
    """In fp16 the logarithm of 100 is rounded up; the network may stand in any type."""
    for start_at in (math.log(100), 6.0, 2.0):
        parameter = torch.tensor(start_at, dtype=dtype, requires_grad=True)
        scale = clamped_scale(parameter)
        assert scale.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert float(scale.detach()) <= LARGEST_SCALE
        expected = min(LARGEST_SCALE, math.exp(float(parameter.detach())))
        assert float(scale.detach()) == pytest.approx(expected, rel=1e-6)
        (lowering,) = torch.autograd.grad(scale, parameter, retain_graph=True)  # a loss that falls with the scale
        assert float(lowering) == pytest.approx(expected, rel=1e-2)
        limited = math.exp(float(parameter.detach())) >= LARGEST_SCALE
        (raising,) = torch.autograd.grad(-scale, parameter)
        assert float(raising) == (0.0 if limited else pytest.approx(-expected, rel=1e-2))


def test_a_step_past_the_limit_is_taken_back() -> None:
    parameter = torch.nn.Parameter(torch.tensor(4.6))
    optimizer = torch.optim.SGD([parameter], lr=0.001)
    for sign in (-1, -1, -1, 1, 1, 1):
        optimizer.zero_grad()
        (sign * clamped_scale(parameter)).backward()
        optimizer.step()
        assert float(parameter.detach()) < 4.8
    assert float(parameter.detach()) < math.log(100)


@pytest.mark.parametrize("unlocked", [0, 1, 2])
def test_only_unlocked_blocks_of_the_image_tower_are_trained(unlocked: int) -> None:
    model = LitConfig(encoder=CONFIG.encoder, text=TEXT, width=8, unlocked_blocks=unlocked).build(DataInfo(seed=0))
    trained = {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("encoder.")}
    blocks = {name.split(".")[2] for name in trained if ".blocks." in name}
    assert blocks == {str(number) for number in range(2 - unlocked, 2)}
    assert {name for name in trained if ".blocks." not in name} == (
        {"encoder.norm.weight", "encoder.norm.bias"} if unlocked else set()
    )
    assert isinstance(model, ImageText), "so that everything that takes imported models takes it"


def test_bad_records_alone_give_zero_and_no_nan() -> None:
    model, batch = perturbed(CONFIG), batch_of(bad=range(6))
    loss = model(batch).loss
    assert float(loss.detach()) == 0
    gradients = torch.autograd.grad(loss, [model.text_projection, model.image_projection, model.logit_scale])
    assert all(bool((gradient == 0).all()) for gradient in gradients)


NGRAMS: dict[str, Any] = {"text": NgramConfig(vocabulary=50, width=16, branch=8, hidden=12), "text_from": "./tower"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unlocked_blocks": 1},
        NGRAMS,
        {**NGRAMS, "locked_text": True},
        {"text_from": "./tower", "locked_text": True},
    ],
    ids=["locked", "unlocked", "ngrams", "locked_ngrams", "locked_text"],
)
def test_flops_are_those_that_torch_counts(changes: dict[str, Any]) -> None:
    config = replace(CONFIG, **changes)
    model, count = config.build(DataInfo(seed=0)), 4
    batch: Any = example_batch(config.inputs, count)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # it counts no fused attention
        model(batch).loss.backward()
    cosines = 2 * count * config.width * (2 * 3 + 1)  # both directions, forward and backward; and once for the hits
    assert counter.get_total_flops() == pytest.approx(
        count * (config.flops_per_sample(DataInfo(seed=0)) + cosines), rel=0.02
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 2}, "tokens=2 of a text must lie between 3 and"),
        ({"unlocked_blocks": 3}, "unlocked_blocks=3 must lie between 0 and depth=2"),
        ({"logit_scale": 101.0}, "logit_scale=101.0 must lie above 0 and not above 100"),
        ({"logit_bias": math.inf}, "logit_bias=inf must be finite"),
        ({"width": 0}, "width=0 of the common space"),
        ({"locked_text": True}, "locked_text=true needs text_from, a trained text tower to start from"),
        ({"text": NGRAMS["text"]}, "a tower of n-grams, whose embeddings are never trained, needs text_from"),
        ({**NGRAMS, "text_pooling": "mean"}, "text_pooling=mean: a tower of n-grams has one feature; leave it first"),
    ],
)
def test_values_without_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    """Equal texts and a bad record on different ranks; parameters after one step of DDP and SGD, in float64."""
    script = str(Path(__file__).parents[1] / "support" / "lit_examples.py")
    for world in (1, 2):
        for rank, (code, err) in enumerate(finish(start(world, [script, str(tmp_path / f"{world}.json")]))):
            assert code == 0, f"rank {rank}: {err[-3000:]}"
    one, two = (json.loads((tmp_path / f"{world}.json").read_text()) for world in (1, 2))
    for loss in one:
        assert one[loss]["loss"] == pytest.approx(two[loss]["loss"], rel=1e-12)
        for name, values in one[loss]["weights"].items():
            assert two[loss]["weights"][name] == pytest.approx(values, rel=1e-9, abs=1e-12), name
