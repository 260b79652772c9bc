"""Heads trained on cached features, against plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint.evals.choosing import Accuracies, best_of, choose
from underpaint.evals.feature_training import Candidate, FeatureHeads, HeadRecipe, batch_of, feature_batches, predict
from underpaint.evals.features import LabelledFeatures, TaskFeatures
from underpaint.evals.fitting import HeadOn
from underpaint.evals.linear import Linear
from underpaint.evals.linear_sgd import LinearSGD
from underpaint.evals.lowshot_linear import LowShotLinear
from underpaint.evals.scoring import row_of
from underpaint.evals.token_probe import token_folder
from underpaint.models.attentive_pooling import AttentivePooling
from underpaint.results.run import describe_score
from underpaint.training.loop import NonFiniteLoss
from underpaint.training.optim import OptimConfig

CPU = torch.device("cpu")
K, D = 4, 16


def half(name: str, n: int, seed: int) -> LabelledFeatures:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % K
    centres = torch.randn(K, D, generator=torch.Generator().manual_seed(99))
    x = centres[y] + torch.randn(n, D, generator=generator)
    names = tuple(f"{name}/{i:03d}.png" for i in range(n))
    return LabelledFeatures(x=x, y=y, image=names, family=names)


def task(train: int = 160, test: int = 80) -> TaskFeatures:
    return TaskFeatures(dataset="toy", classes=tuple("abcd"), train=half("train", train, 1), test=half("test", test, 2))


def test_a_head_trained_in_pieces_equals_a_plain_loop_of_nesterov_s_sgd() -> None:
    data, rows = task().train, torch.arange(0, 160, 2)
    recipe = HeadRecipe(optim=OptimConfig(name="sgd", nesterov=True), epochs=3, warmup=1, batch_size=20)
    heads = FeatureHeads(data.x, data.y, classes=K, device=CPU)
    batch = batch_of(80, 20)
    assert batch == 20
    trained = heads.train(rows, recipe, Candidate(2.0, 0.01), body=nn.Identity(), seed=5)
    untrained = heads.train(
        rows, replace(recipe, epochs=1, warmup=1), Candidate(1e-30, 0.0), body=nn.Identity(), seed=5
    )
    weight, bias = untrained.head.weight.detach().clone(), untrained.head.bias.detach().clone()
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    batches = feature_batches(data.x, data.y, rows, batch_size=batch, key=5)
    for step in range(12):
        given = next(batches)
        x, y = given["feature"], given["labels"][:, 0]
        probability = (x @ weight.T + bias).softmax(dim=1)
        error = (probability - F.one_hot(y, K)) / batch
        gradients = [error.T @ x + 0.01 * weight, error.sum(dim=0)]
        peak = 2.0 * batch / 256
        rate = peak * step / 4 if step < 4 else peak * 0.5 * (1 + np.cos(np.pi * (step - 4) / 8))
        for parameter, gradient, moving in zip((weight, bias), gradients, velocity, strict=True):
            moving.mul_(0.9).add_(gradient)
            parameter -= rate * (gradient + 0.9 * moving)
    torch.testing.assert_close(trained.head.weight.detach(), weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained.head.bias.detach(), bias, rtol=1e-4, atol=1e-5)


def test_an_epoch_has_each_row_once_in_another_order() -> None:
    rows = torch.tensor([3, 5, 8, 13, 21, 34, 55])
    batches = feature_batches(
        torch.arange(60.0)[:, None], torch.zeros(60, dtype=torch.int64), rows, batch_size=3, key=1
    )
    seen = torch.cat([next(batches)["feature"][:, 0] for _ in range(14)]).int().tolist()
    epochs = [seen[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == rows.tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 3


@pytest.mark.parametrize("preset", ["swag", "mae"])
def test_a_file_of_features_gives_the_score_of_memory(tmp_path: Path, preset: str) -> None:
    data = task()
    stored = {}
    for name, part in (("train", data.train), ("test", data.test)):
        file = np.memmap(tmp_path / name, dtype=np.float16, mode="w+", shape=tuple(part.x.shape))
        file[:] = part.x.numpy()
        stored[name] = torch.from_numpy(file)
    rounded = replace(
        data,
        train=replace(data.train, x=data.train.x.half().float()),
        test=replace(data.test, x=data.test.x.half().float()),
    )
    mapped = replace(data, train=replace(data.train, x=stored["train"]), test=replace(data.test, x=stored["test"]))
    probe = LinearSGD(dataset="toy", preset=preset, epochs=4)  # type: ignore[arg-type]
    assert probe.score(mapped, seed=0) == probe.score(rounded, seed=0)


def test_swag_s_probe_learns_and_chooses_its_rate_on_training_images() -> None:
    data = task()
    probe = LinearSGD(dataset="toy", epochs=8, base_lr=(1.0, 0.01))
    (score,) = probe.score(data, seed=0)
    (exact,) = Linear(dataset="toy").score(data, seed=0)
    assert score.protocol == "linear_sgd"
    assert score.value == pytest.approx(exact.value, abs=0.05)
    assert score.settings["base_lr"] in (1.0, 0.01)
    assert score.settings["selection_bonus"] >= 0
    assert "selection bonus" in describe_score(row_of(score))
    other = replace(data, test=replace(data.test, x=data.test.x.flip(0)))
    (moved,) = probe.score(other, seed=0)
    kept = ("base_lr", "weight_decay", "tuning_top1")
    assert [score.settings[name] for name in kept] == [moved.settings[name] for name in kept]


def test_the_bonus_is_that_of_a_choice_by_the_test_images() -> None:
    """A naive reading of the penalties' accuracies: the choice sees the held-out column alone."""
    judged = [Accuracies(0.7, 0.60), Accuracies(0.8, 0.55), Accuracies(0.8, 0.9), Accuracies(0.1, 0.58)]
    choice = best_of(judged, what="l2")
    assert (choice.place, choice.tuning_top1) == (1, 0.8)
    assert choice.selection_bonus == pytest.approx(0.9 - 0.55)
    assert best_of([Accuracies(0.5)], what="l2").selection_bonus is None
    data = task(60, 60)
    probe = Linear(dataset="toy")
    accuracies, _ = probe.judge(data, seed=0)
    (score,) = probe.score(data, seed=0)
    place = probe.l2.index(score.settings["l2"])
    tests = [each.test or 0.0 for each in accuracies]
    assert score.settings["selection_bonus"] == pytest.approx(max(tests) - tests[place])
    assert score.settings["tuning_top1"] == max(each.tuning for each in accuracies)


def test_a_rate_that_diverges_loses_and_all_of_them_are_an_error() -> None:
    def judge(rate: float) -> Accuracies:
        if rate > 1:
            raise NonFiniteLoss("diverged")
        return Accuracies(rate, 0.5)

    assert choose([50.0, 0.2, 0.5], judge, what="base_lr").place == 2
    with pytest.raises(ValueError, match="diverged with every value of base_lr"):
        choose([50.0, 5.0], judge, what="base_lr")


def test_low_shot_linear_learns_and_uses_the_images_of_the_other_protocols() -> None:
    from underpaint.evals.lowshot import LowShot

    data = task()
    scores = LowShotLinear(dataset="toy", shots=5, splits=2, epochs=30, base_lr=(5.0,)).score(data, seed=3)
    logistic = LowShot(dataset="toy", shots=5, splits=2).score(data, seed=3)
    assert [score.training for score in scores] == [score.training for score in logistic]
    assert scores[-1].value == pytest.approx(logistic[-1].value, abs=0.1)
    assert scores[-1].settings["deviation"] > 0
    grid = LowShotLinear(dataset="toy", shots=5, splits=1, epochs=20, base_lr=(1e-9, 5.0), weight_decay=(0.0,))
    assert grid.score(data, seed=3)[-1].settings["base_lr"] == 5.0
    with pytest.raises(ValueError, match="one image per class leaves none to choose one of 52 settings"):
        LowShotLinear(dataset="toy", shots=1, preset="kmnp")


def naive_attentive(tokens: Tensor, query: Tensor, value: Tensor) -> Tensor:
    """The description of EP as loops over images and queries."""
    count, width = query.shape
    size = width // count
    features = []
    for image in tokens:
        parts = []
        for number in range(count):
            scores = torch.stack([token @ query[number] / width**0.5 for token in image])
            share = scores.exp() / scores.exp().sum()
            values = torch.stack([value @ token for token in image])[:, number * size : (number + 1) * size]
            parts.append((share[:, None] * values).sum(dim=0))
        features.append(torch.cat(parts))
    return torch.stack(features)


def test_attentive_pooling_equals_its_description() -> None:
    pooling = AttentivePooling(12, queries=4, seed=0)
    with torch.no_grad():
        pooling.query.mul_(100)  # far from the even shares of the start
        tokens = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(0))
        expected = naive_attentive(tokens, pooling.query, pooling.value.weight)
        torch.testing.assert_close(pooling(tokens), expected, rtol=1e-5, atol=1e-6)
    assert [name for name, _ in pooling.named_parameters()] == ["query", "value.weight"], "there is no key projection"
    with pytest.raises(ValueError, match="queries=5 must divide the encoder's width 12"):
        AttentivePooling(12, queries=5, seed=0)


def test_predictions_in_pieces_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data = task().train
    recipe = HeadRecipe(optim=OptimConfig(name="sgd"), epochs=1, warmup=0, batch_size=32)
    heads = FeatureHeads(data.x, data.y, classes=K, device=CPU)
    model = heads.train(torch.arange(160), recipe, Candidate(1.0, 0.0), body=nn.Identity(), seed=0)
    rows = torch.arange(159, -1, -3)
    with torch.no_grad():
        expected = model.logits(data.x[rows]).argmax(dim=1)
    monkeypatch.setattr("underpaint.evals.feature_training.PIECE", 7 * D)
    assert torch.equal(predict(model, data.x, rows, CPU), expected)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (LinearSGD, {"base_lr": (0.0,)}, "base_lr"),
        (LinearSGD, {"weight_decay": (-1.0,)}, "weight_decay"),
        (LinearSGD, {"epochs": -1}, "epochs=-1"),
        (LinearSGD, {"tuning_share": 1.0}, "tuning_share=1.0"),
        (LowShotLinear, {"epochs": 0}, "epochs=0"),
        (LowShotLinear, {"base_lr": (-1.0,)}, "base_lr"),
    ],
)
def test_wrong_values_are_named(kind: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(dataset="toy", **options)


def test_a_head_that_diverges_names_its_rate() -> None:
    with pytest.raises(NonFiniteLoss, match=r"^training diverged with base_lr=1e\+30: lower base_lr$"):
        LowShotLinear(dataset="toy", shots=2, base_lr=(1e30,), epochs=5).score(task(), seed=0)


def test_a_folder_for_tokens_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = token_folder(1, 1, of="a test", less="less", scratch=str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"scratch=.*none is not a folder; make it, or leave it out"), folder:
        pass


def test_a_head_whose_last_step_diverged_is_not_scored() -> None:
    model = HeadOn(nn.Identity(), key="feature", width=D, classes=K, seed=0)
    x, rows = torch.ones(6, D), torch.arange(6)
    predict(model, x, rows, CPU)
    with torch.no_grad():
        model.head.weight[2, 3] = float("nan")
    with pytest.raises(NonFiniteLoss, match="logits that are not finite: training diverged; lower base_lr"):
        predict(model, x, rows, CPU)
