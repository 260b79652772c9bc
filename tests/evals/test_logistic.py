"""The logistic regression against scikit-learn and against its own optimality conditions."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from underpaint.evals.logistic import fit_logistic


def problem(n: int, d: int, k: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes with correlated features of very different scales."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % k
    scale = torch.logspace(0.5, -1, d)
    x = torch.randn(k, d, generator=generator)[y] + 2 * torch.randn(n, d, generator=generator)
    return (x @ torch.randn(d, d, generator=generator)) * scale, y


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize(("n", "d", "k"), [(120, 8, 2), (150, 20, 5), (30, 50, 3)])
def test_equals_scikit_learn(n: int, d: int, k: int, l2: float) -> None:
    x, y = problem(n, d, k)
    model = fit_logistic(x, y, classes=k, l2=[l2], tolerance=1e-11)[0]
    # scikit-learn minimises C * sum of losses + ||W||^2 / 2. With two classes it fits one vector, the difference v of
    # ours, which are v/2 and -v/2: their penalty is half of v's.
    strength = l2 / 2 if k == 2 else l2
    oracle = LogisticRegression(C=1 / (strength * n), tol=1e-11, solver="newton-cholesky").fit(x.double(), y)
    weight = (model.weight[:, 1] - model.weight[:, 0])[None] if k == 2 else model.weight.T
    assert model.converged
    torch.testing.assert_close(weight, torch.from_numpy(oracle.coef_), rtol=1e-5, atol=1e-6)
    expected = torch.from_numpy(oracle.predict_proba(x.double()))
    torch.testing.assert_close(model.logits(x).softmax(dim=1), expected, rtol=1e-5, atol=1e-7)


def test_gradient_vanishes_along_a_sweep() -> None:
    x, y = problem(200, 12, 4)
    for model in fit_logistic(x, y, classes=4, l2=[10.0, 0.1, 1e-3, 1e-5]):
        weight, bias = model.weight.clone().requires_grad_(), model.bias.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(x.double() @ weight + bias, y) + model.l2 / 2 * weight.square().sum()
        gradients = torch.autograd.grad(loss, [weight, bias])
        assert model.converged
        assert max(float(g.abs().max()) for g in gradients) < 2e-8


def test_a_warm_start_does_not_move_the_optimum() -> None:
    x, y = problem(100, 6, 3)
    warm, cold = fit_logistic(x, y, classes=3, l2=[10.0, 1e-3])[1], fit_logistic(x, y, classes=3, l2=[1e-3])[0]
    torch.testing.assert_close(warm.weight, cold.weight, rtol=0, atol=1e-4)


def test_separable_classes_converge() -> None:
    y = torch.arange(40) % 2
    x = torch.where(y[:, None] == 0, -1.0, 1.0) * torch.linspace(1, 2, 40)[:, None]
    model = fit_logistic(x, y, classes=2, l2=[1e-5])[0]
    assert model.converged
    assert bool((model.logits(x).argmax(dim=1) == y).all())


def test_a_class_without_images_is_never_predicted() -> None:
    x, y = problem(60, 5, 2)
    model = fit_logistic(x, 2 * y + 1, classes=5, l2=[0.1])[0]
    assert set(model.logits(100 * torch.randn(200, 5)).argmax(dim=1).tolist()) == {1, 3}
    twin = fit_logistic(x, y, classes=2, l2=[0.1])[0]
    torch.testing.assert_close(model.logits(x)[:, [1, 3]], twin.logits(x))


def test_one_class_predicts_it() -> None:
    model = fit_logistic(torch.randn(4, 3), torch.full((4,), 1), classes=2, l2=[0.1])[0]
    assert model.converged
    assert model.logits(torch.randn(5, 3)).argmax(dim=1).tolist() == [1] * 5


def test_order_of_images_does_not_matter_and_bits_repeat() -> None:
    x, y = problem(90, 7, 3)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    first, again, permuted = (
        fit_logistic(a, b, classes=3, l2=[1e-2])[0] for a, b in ((x, y), (x, y), (x[order], y[order]))
    )
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.bias, again.bias)
    torch.testing.assert_close(first.weight, permuted.weight, rtol=1e-6, atol=1e-6)


def test_a_fit_that_stops_early_says_so() -> None:
    x, y = problem(90, 7, 3)
    model = fit_logistic(x, y, classes=3, l2=[1e-4], max_iterations=1)[0]
    assert not model.converged
    assert "l2=0.0001" in model.remarks()[0]
    assert "gradient" in model.remarks()[0]


def test_bits_do_not_depend_on_the_threads() -> None:
    x, y = problem(400, 40, 5)
    before = torch.get_num_threads()
    models = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        models.append(fit_logistic(x, y, classes=5, l2=[1e-2])[0])
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert torch.equal(models[0].weight, models[1].weight)
