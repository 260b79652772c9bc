"""Linear, low-shot and nearest-neighbour scores of given features."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from underpaint import keyed_random
from underpaint.evals import linear, lowshot
from underpaint.evals.class_splits import few_shot
from underpaint.evals.features import UNKNOWN_CLASS, LabelledFeatures, TaskFeatures
from underpaint.evals.knn import Knn, neighbour_votes
from underpaint.evals.linear import Linear, standardisation
from underpaint.evals.logistic import fit_logistic
from underpaint.evals.lowshot import LowShot
from underpaint.evals.score import Score

K, D = 4, 10


def half(name: str, n: int, seed: int) -> LabelledFeatures:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % K
    centers = torch.randn(K, D, generator=torch.Generator().manual_seed(99))
    x = 5 + centers[y] + 1.5 * torch.randn(n, D, generator=generator)
    return LabelledFeatures(
        x=x,
        y=y,
        image=tuple(f"{name}/{i}.png" for i in range(n)),
        family=tuple(f"{name}{i // 2}" for i in range(n)),
    )


def task(n_train: int = 120, n_test: int = 80) -> TaskFeatures:
    return TaskFeatures(
        dataset="toy",
        classes=tuple("abcd"),
        train=half("train", n_train, 1),
        test=half("test", n_test, 2),
    )


PROBES = [Linear(dataset="toy"), LowShot(dataset="toy"), Knn(dataset="toy")]


def test_linear_equals_scikit_learn_with_the_chosen_penalty() -> None:
    data = task()
    (score,) = Linear(dataset="toy").score(data, seed=0)
    mean, std = data.train.x.double().mean(0), data.train.x.double().std(0, correction=0)
    oracle = LogisticRegression(C=1 / (score.settings["l2"] * 120), tol=1e-10, max_iter=10_000)
    oracle.fit((data.train.x - mean) / std, data.train.y)
    expected = oracle.predict((data.test.x - mean) / std) == data.test.y.numpy()
    assert score.correct == tuple(expected.astype(float))
    assert score.value == pytest.approx(expected.mean())
    assert score.row() == {
        "dataset": "toy",
        "protocol": "linear",
        "shots": 0,
        "split": "test",
        "view": "",
        "language": "",
        "metric": "top1",
        "value": score.value,
        "n_test": 80,
    }


def test_ties_go_to_the_stronger_penalty() -> None:
    data = task()
    easy = replace(data, train=replace(data.train, x=torch.nn.functional.one_hot(data.train.y, D).float()))
    (score,) = Linear(dataset="toy", l2=(1.0, 0.1, 0.01)).score(easy, seed=0)
    assert (score.settings["l2"], score.settings["tuning_top1"], score.remarks) == (1.0, 1.0, ())


def test_a_fit_that_did_not_converge_is_said_of_tuning_and_of_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "fit_logistic", functools.partial(fit_logistic, max_iterations=1))
    (score,) = Linear(dataset="toy", l2=(0.01, 1e-4)).score(task(), seed=0)
    tuning = [remark for remark in score.remarks if remark.startswith("while the penalty was tuned, ")]
    assert [remark.split(" with ")[1].split()[0] for remark in tuning] == ["l2=0.01", "l2=0.0001"]
    assert score.remarks[-1].startswith("the logistic regression with l2=")
    monkeypatch.setattr(lowshot, "fit_logistic", functools.partial(fit_logistic, max_iterations=1))
    scores = LowShot(dataset="toy", splits=2).score(task(), seed=0)
    for split in ("split 0", "split 1"):
        assert any(remark.startswith(f"{split}: the logistic regression") for remark in scores[-1].remarks)


def test_a_constant_feature_changes_nothing() -> None:
    data = task()
    noise = 3 * (1 + 1e-7 * torch.randn(120, 1, generator=torch.Generator().manual_seed(0)))
    wider = replace(
        data,
        train=replace(data.train, x=torch.cat([data.train.x, noise], dim=1)),
        test=replace(data.test, x=torch.cat([data.test.x, torch.full((80, 1), 3.0)], dim=1)),
    )
    assert bool((standardisation(wider.train.x)(wider.train.x)[:, -1] == 0).all())
    assert Linear(dataset="toy").score(wider, seed=0)[0].correct == Linear(dataset="toy").score(data, seed=0)[0].correct


def test_lowshot_splits_and_mean() -> None:
    data = task()
    scores = LowShot(dataset="toy", shots=3).score(data, seed=0)
    assert [score.split for score in scores] == ["0", "1", "2", "3", "4", "mean"]
    assert {score.shots for score in scores} == {3}
    assert len({score.correct for score in scores[:5]}) > 1, "the splits are all the same"
    assert scores[5].value == pytest.approx(np.mean([score.value for score in scores[:5]]))
    np.testing.assert_allclose(scores[5].correct, np.mean([score.correct for score in scores[:5]], axis=0))


def test_lowshot_equals_scikit_learn() -> None:
    data = task()
    score = LowShot(dataset="toy", shots=5).score(data, seed=7)[2]
    rows = few_shot(data.train, shots=5, key=keyed_random.key(7, "lowshot", 2))
    center = data.train.x[rows].double().mean(0)

    def unit(x: torch.Tensor) -> torch.Tensor:
        return (x - center) / (x - center).norm(dim=1, keepdim=True)

    oracle = LogisticRegression(C=1 / 0.0025, tol=1e-10, max_iter=10_000)
    oracle.fit(unit(data.train.x[rows]), data.train.y[rows])
    assert score.correct == tuple((oracle.predict(unit(data.test.x)) == data.test.y.numpy()).astype(float))


def test_lowshot_says_which_classes_are_short() -> None:
    scores = LowShot(dataset="toy", shots=31).score(task(), seed=0)
    (remark,) = scores[-1].remarks
    first = task().classes[0]
    few = f"4 of 4 classes have fewer than 31 training images, such as {first!r}"
    assert remark == f"{few}: lower shots, or label more images of them"


def test_knn_equals_scikit_learn_with_the_same_votes() -> None:
    data = task()

    def votes(distance: np.ndarray) -> np.ndarray:
        return np.exp((1 - distance) / 0.07)

    oracle = KNeighborsClassifier(n_neighbors=20, metric="cosine", algorithm="brute", weights=votes)
    oracle.fit(data.train.x.double(), data.train.y)
    (score,) = Knn(dataset="toy").score(data, seed=0)
    assert score.correct == tuple((oracle.predict(data.test.x.double()) == data.test.y.numpy()).astype(float))


def test_neighbour_votes_equal_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("underpaint.evals.knn.CHUNK", 100)  # several chunks
    data = task(30, 9)
    votes = neighbour_votes(data.train.x, data.train.y, data.test.x, classes=K, k=5, temperature=0.1)
    cold = neighbour_votes(data.train.x, data.train.y, data.test.x, classes=K, k=5, temperature=1e-6)
    x, query = data.train.x.double().numpy(), data.test.x.double().numpy()
    for row in range(9):
        cosine = [float(a @ query[row] / np.linalg.norm(a) / np.linalg.norm(query[row])) for a in x]
        expected = np.zeros(K)
        for i in sorted(range(30), key=lambda i: -cosine[i])[:5]:
            expected[int(data.train.y[i])] += np.exp(cosine[i] / 0.1)
        np.testing.assert_allclose(votes[row] / votes[row].sum(), expected / expected.sum(), rtol=1e-9)
        assert cold[row].argmax() == data.train.y[int(np.argmax(cosine))], "the nearest alone decides"


def test_knn_takes_all_images_where_there_are_fewer_than_k() -> None:
    (score,) = Knn(dataset="toy", k=50).score(task(n_train=12), seed=0)
    assert score.settings["k"] == 12
    assert "more than the 12 training images" in score.remarks[0]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_test_images_never_reach_a_fit(probe: Linear | LowShot | Knn) -> None:
    """Other test features and labels: what was chosen, and the verdict on an image that both tests share, stay."""
    data = task()
    other = half("test", 80, 3)
    x, y = other.x * 1000, (other.y + 1) % K
    x[0], y[0] = data.test.x[0], data.test.y[0]
    scores = probe.score(data, seed=0)
    changed = probe.score(replace(data, test=replace(data.test, x=x, y=y)), seed=0)
    measured = {"selection_bonus", "deviation"}  # of the test images, by their definition
    for score, again in zip(scores, changed, strict=True):
        assert {**score.settings, **dict.fromkeys(measured)} == {**again.settings, **dict.fromkeys(measured)}
    assert [score.correct[0] for score in scores] == [score.correct[0] for score in changed]
    alone = replace(data.test, x=x[:1], y=y[:1], image=data.test.image[:1], family=data.test.family[:1])
    assert [score.correct for score in probe.score(replace(data, test=alone), seed=0)] == [
        score.correct[:1] for score in scores
    ]


def test_test_features_do_not_change_the_fitted_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from underpaint.evals import linear, lowshot
    from underpaint.evals.logistic import fit_logistic

    fitted: list[torch.Tensor] = []

    def spy(*args: object, **options: object) -> object:
        models = fit_logistic(*args, **options)  # type: ignore[arg-type]
        fitted.extend(model.weight for model in models)
        return models

    monkeypatch.setattr(linear, "fit_logistic", spy)
    monkeypatch.setattr(lowshot, "fit_logistic", spy)
    data = task()
    for test in (data.test, replace(data.test, x=-7 * data.test.x, y=data.test.y.flip(0))):
        Linear(dataset="toy").score(replace(data, test=test), seed=0)
        LowShot(dataset="toy").score(replace(data, test=test), seed=0)
    first, second = fitted[: len(fitted) // 2], fitted[len(fitted) // 2 :]
    assert len(first) == 7 + 1 + 5
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_same_input_same_scores_and_permuted_training_images_too(probe: Linear | LowShot | Knn) -> None:
    data = task()
    order = torch.randperm(120, generator=torch.Generator().manual_seed(5)).tolist()
    train = data.train
    permuted = LabelledFeatures(
        x=train.x[order],
        y=train.y[order],
        image=tuple(train.image[i] for i in order),
        family=tuple(train.family[i] for i in order),
    )
    scores = probe.score(data, seed=3)
    assert scores == probe.score(data, seed=3)
    assert [s.correct for s in scores] == [s.correct for s in probe.score(replace(data, train=permuted), seed=3)]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_a_test_image_of_an_unknown_class_is_wrong(probe: Linear | LowShot | Knn) -> None:
    data = task()
    y = data.test.y.clone()
    y[::4] = UNKNOWN_CLASS
    scores = probe.score(replace(data, test=replace(data.test, y=y)), seed=0)
    assert not any(any(score.correct[::4]) for score in scores)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_labels_at_random_score_at_chance(probe: Linear | LowShot | Knn) -> None:
    """Nothing leaks: with labels that say nothing no protocol beats guessing (standard error 0.022 at 400 images)."""
    data = task(200, 400)
    generator = torch.Generator().manual_seed(0)
    shuffled = replace(
        data,
        train=replace(data.train, y=data.train.y[torch.randperm(200, generator=generator)]),
        test=replace(data.test, y=data.test.y[torch.randperm(400, generator=generator)]),
    )
    assert probe.score(shuffled, seed=0)[-1].value == pytest.approx(1 / K, abs=0.07)


def test_a_family_on_both_sides_is_refused() -> None:
    data = task()
    with pytest.raises(AssertionError, match="family"):
        replace(data, test=replace(data.test, family=("train0",) * 80))


def test_scores_survive_json() -> None:
    for score in LowShot(dataset="toy").score(task(), seed=0):
        assert Score.from_record(json.loads(json.dumps(score.record()))) == score


@pytest.mark.parametrize(
    ("evaluation", "options", "message"),
    [
        (Linear, {"l2": (0.1, 1.0)}, "from the strongest"),
        (Linear, {"l2": ()}, "from the strongest"),
        (Linear, {"l2": (1.0, -0.1)}, "positive"),
        (Linear, {"tuning_share": 1.0}, "tuning_share=1.0"),
        (LowShot, {"shots": 0}, "shots=0"),
        (LowShot, {"splits": 0}, "splits=0"),
        (LowShot, {"l2": 0.0}, "l2=0.0"),
        (Knn, {"k": 0}, "k=0"),
        (Knn, {"temperature": 0.0}, "temperature=0.0"),
        (Knn, {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_wrong_values_are_named(evaluation: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluation(dataset="toy", **options)
