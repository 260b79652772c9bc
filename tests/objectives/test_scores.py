"""The head in chunks of labels against the head as a whole: loss, gradients, hits, and what memory it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from underpaint.core import DataInfo
from underpaint.models.vit import ViTConfig
from underpaint.objectives import scores
from underpaint.objectives.classify import Classify, ClassifyConfig

CLASSES = 53  # prime: the last chunk is a shorter one
FACTS = DataInfo(
    seed=3, labels=tuple(map(str, range(CLASSES))), label_count=tuple(1 + i * i for i in range(CLASSES)), images=4000
)
ENCODER = ViTConfig(size=(16, 16), patch=8, width=16, depth=2, heads=2)
CASES = {
    "softmax": {},
    "softmax_idf": {"loss": "softmax_idf"},
    "smoothed": {"label_smoothing": 0.1},
    "bce": {"loss": "bce"},
    "frozen": {"stage": "linear", "frozen_encoder": True, "batch_norm": True},
}
LABELS = torch.tensor([[0, 33, 52], [17, -1, -1], [4, 1, -1], [-1, -1, -1], [9, 8, 7], [51, -1, -1]])


def model_of(**changes: Any) -> Classify:
    return ClassifyConfig(encoder=ENCODER, head_init_std=0.5, **changes).build(FACTS)


def batch_of() -> dict[str, torch.Tensor]:
    image = torch.randn(len(LABELS), 3, 16, 16, generator=torch.Generator().manual_seed(1))
    weight = torch.ones(len(LABELS))
    weight[4] = 0
    return {"image": image, "position": torch.arange(len(LABELS)), "weight": weight, "labels": LABELS}


def step_of(model: Classify, *, bf16: bool = False) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        step = model(batch_of())
    step.loss.backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    return step.loss.detach(), step.scalars["hit"], gradients


def chunks_of(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "SCORES", 1)
    monkeypatch.setattr(scores, "CHUNK", numbers)


@pytest.mark.parametrize("limit", [1, 120, 300])  # 1, 7 and 18 labels in a chunk
@pytest.mark.parametrize("case", CASES)
def test_chunks_equal_the_whole_in_loss_gradients_and_hits(
    case: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(**CASES[case])
    loss, hit, gradients = step_of(model)
    assert len(gradients) == (2 if case == "frozen" else len([p for p in model.parameters() if p.requires_grad]))
    chunks_of(limit, monkeypatch)
    chunked_loss, chunked_hit, chunked = step_of(model)
    torch.testing.assert_close(chunked_loss, loss, rtol=1e-6, atol=1e-6)
    assert chunked_hit == hit
    assert chunked.keys() == gradients.keys()
    for name, expected in gradients.items():
        assert expected.any() or name.endswith("qkv.bias")
        atol = 1e-5 * float(expected.abs().max())  # sums in another order
        torch.testing.assert_close(chunked[name], expected, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def test_chunks_under_autocast_differ_from_the_whole_by_its_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    exact, _, truth = step_of(model)
    loss, _, whole = step_of(model, bf16=True)
    chunks_of(60, monkeypatch)
    chunked_loss, _, chunked = step_of(model, bf16=True)
    assert loss != exact
    torch.testing.assert_close(chunked_loss, loss, rtol=1e-6, atol=1e-6)
    for name in ("head.weight", "head.bias", "encoder.blocks.1.mlp.fc2.weight"):
        off = {kind: (found[name] - truth[name]).norm() for kind, found in (("chunked", chunked), ("whole", whole))}
        assert 0 < off["chunked"] < 1.5 * off["whole"], (name, off)


@pytest.mark.parametrize("reduction", ["logsumexp", "softplus"])
def test_gradients_of_the_chunks_are_those_of_finite_differences(reduction, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks_of(12, monkeypatch)
    generator = torch.Generator().manual_seed(0)
    feature, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((3, 4), (7, 4), (7,))
    )
    labels = torch.tensor([[0, 6, -1], [3, -1, -1], [-1, -1, -1]])

    def differentiable(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return scores._InChunks.apply(*given, labels, reduction)[:3]

    assert torch.autograd.gradcheck(differentiable, (feature, weight, bias))


def test_the_first_of_equal_scores_is_the_best_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    head, feature = nn.Linear(4, CLASSES), torch.randn(len(LABELS), 4)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    with torch.no_grad():
        head.bias[20] = head.bias[50] = 1
    chunks_of(60, monkeypatch)
    assert (scores.score(head, feature, LABELS, "logsumexp").argmax == 20).all()


class Largest(TorchDispatchMode):
    """The largest storage that an operation returned, in bytes."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = (leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        self.size = max(self.size, *(leaf.untyped_storage().nbytes() for leaf in tensors), 0)
        return out


@pytest.mark.parametrize("reduction", ["logsumexp", "softplus"])
def test_nothing_larger_than_the_head_is_made(reduction) -> None:
    """At the real limit: 400 images and 100,000 labels have 160 MB of scores; the head has 1.6 MB."""
    head, feature = nn.Linear(4, 100_000), torch.randn(400, 4, requires_grad=True)
    labels = torch.randint(0, 100_000, (400, 5))
    assert scores.is_chunked(400, 4, 100_000, casts=False)
    assert not scores.is_chunked(128, 768, 28_000, casts=False)  # the published recipe in fp32
    assert scores.is_chunked(128, 768, 28_000, casts=True)  # and in bf16, where it saves a copy of the weights
    with Largest() as largest:
        found = scores.score(head, feature, labels, reduction)
        (found.log_partition.sum() - found.label_logits.sum()).backward()
    assert head.weight.grad is not None
    assert feature.grad is not None
    assert largest.size <= 4 * scores.CHUNK
