"""Multinomial logistic regression, solved to convergence.

Shape letters: ``n`` training images, ``d`` features, ``k`` classes, ``r`` rank of the features,
``s`` rows of the solver's state: r weights and the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

TOLERANCE = 1e-8
"""Largest entry of the gradient of the mean loss at which a fit counts as converged."""
MAX_ITERATIONS = 100
"""Newton steps; well-posed problems take 5 to 20."""
SMALL = 100_000_000
"""Multiplications of images, features and classes, up to which one thread solves the problem."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LogisticModel:
    """The fitted classifier, in float64. A class without a training image has the bias -inf: it is never predicted."""

    weight: Float64[Tensor, "d k"]
    bias: Float64[Tensor, " k"]
    l2: float
    gradient: float
    """Largest entry of the gradient where the solver stopped."""
    converged: bool

    def logits(self, x: Float[Tensor, "b d"]) -> Float64[Tensor, "b k"]:
        return x.double() @ self.weight + self.bias

    def remarks(self) -> tuple[str, ...]:
        if self.converged:
            return ()
        return (f"the logistic regression with l2={self.l2:g} stopped at the gradient {self.gradient:.1e}",)


def fit_logistic(
    x: Float[Tensor, "n d"],
    y: Int64[Tensor, " n"],
    *,
    classes: int,
    l2: Sequence[float],
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> list[LogisticModel]:
    """Minimise mean cross-entropy + (l2 / 2) * ||W||^2, the bias unpenalised; one model per entry of ``l2``.

    Each model starts from the one before, so a sweep is quickest from strong to weak. The features are first rotated
    to their principal axes: the penalty does not see a rotation, the optimum lies in their span, and there the
    diagonal of the Hessian is a good preconditioner. The solver is Newton's method with conjugate gradients and a
    backtracking line search, which converges from anywhere as the problem is convex.
    """
    assert len(x) == len(y) > 0, (x.shape, y.shape)
    assert min(l2) > 0, l2
    present, target = y.unique(return_inverse=True)
    models = []
    with _threads_that_pay(x.numel() * len(present)):
        axes, rotated = principal_axes(x.double())
        problem = _Problem(rotated, torch.nn.functional.one_hot(target, len(present)).double())
        state = problem.start()
        for strength in l2:
            state, gradient = problem.minimise(state, strength, tolerance=tolerance, max_iterations=max_iterations)
            weight = torch.zeros(x.shape[1], classes, dtype=torch.float64)
            bias = torch.full((classes,), -torch.inf, dtype=torch.float64)
            weight[:, present], bias[present] = axes @ state[:-1], state[-1]
            models.append(
                LogisticModel(weight=weight, bias=bias, l2=strength, gradient=gradient, converged=gradient <= tolerance)
            )
    return models


@contextmanager
def _threads_that_pay(multiplications: int) -> Iterator[None]:
    """One thread for a small problem, whose many short operations would spend their time waiting for each other.

    On two busy cores that is the difference between 2 and 40 seconds; and the bits no longer depend on the threads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if multiplications < SMALL else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def principal_axes(x: Float64[Tensor, "n d"]) -> tuple[Float64[Tensor, "d r"], Float64[Tensor, "n r"]]:
    """An orthonormal basis of the rows of ``x``, and ``x`` in that basis; r is at most min(n, d)."""
    left, scale, right = torch.linalg.svd(x, full_matrices=False)
    return right.T, left * scale


class _Evaluation(NamedTuple):
    loss: float
    gradient: Float64[Tensor, "s k"]
    probability: Float64[Tensor, "n k"]


class _Problem:
    """The loss, its gradient and its Hessian as functions of the state: the weights, and the bias as last row."""

    def __init__(self, x: Float64[Tensor, "n r"], target: Float64[Tensor, "n k"]) -> None:
        self.x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
        self.target = target

    def start(self) -> Float64[Tensor, "s k"]:
        """The optimum under an infinite penalty: no weights, the log frequencies of the classes as bias."""
        state = torch.zeros(self.x.shape[1], self.target.shape[1], dtype=torch.float64)
        state[-1] = self.target.mean(dim=0).log()
        return state

    def evaluate(self, state: Float64[Tensor, "s k"], penalty: Float64[Tensor, "s 1"]) -> _Evaluation:
        log_probability = (self.x @ state).log_softmax(dim=1)
        loss = -(self.target * log_probability).sum() / len(self.x) + 0.5 * (penalty * state.square()).sum()
        probability = log_probability.exp()
        gradient = self.x.T @ (probability - self.target) / len(self.x) + penalty * state
        return _Evaluation(float(loss), gradient, probability)

    def minimise(
        self, state: Float64[Tensor, "s k"], l2: float, *, tolerance: float, max_iterations: int
    ) -> tuple[Float64[Tensor, "s k"], float]:
        """The minimum, and the largest entry of the gradient there."""
        penalty = torch.full((len(state), 1), l2, dtype=torch.float64)
        penalty[-1] = 0
        here = self.evaluate(state, penalty)
        for _ in range(max_iterations):
            if float(here.gradient.abs().max()) <= tolerance:
                break
            moved = self.search(state, here, self.newton_step(here, penalty), penalty)
            if moved is None:  # no decrease left that float64 can show
                break
            state, here = moved
        return state, float(here.gradient.abs().max())

    def newton_step(self, here: _Evaluation, penalty: Float64[Tensor, "s 1"]) -> Float64[Tensor, "s k"]:
        """An approximate solution of ``Hessian step = -gradient``; the closer to the optimum, the more exact."""
        p, n = here.probability, len(self.x)

        def hessian(direction: Tensor) -> Tensor:
            change = self.x @ direction
            change = p * (change - (p * change).sum(dim=1, keepdim=True))
            return self.x.T @ change / n + penalty * direction

        diagonal = self.x.square().T @ (p * (1 - p)) / n + penalty
        # Of the order of the square root of the gradient: superlinear convergence (Nocedal and Wright, section 7.1).
        norm = float(here.gradient.norm())
        return conjugate_gradients(hessian, -here.gradient, diagonal=diagonal, relative=min(0.5, norm**0.5))

    def search(
        self, state: Tensor, here: _Evaluation, step: Tensor, penalty: Tensor
    ) -> tuple[Tensor, _Evaluation] | None:
        """The first of the steps 1, 1/2, 1/4, ... that lowers the loss enough, or None."""
        slope = float((here.gradient * step).sum())
        noise = 4 * torch.finfo(torch.float64).eps * max(1.0, abs(here.loss))
        for halving in range(30):
            length = 0.5**halving
            there = self.evaluate(state + length * step, penalty)
            if there.loss <= here.loss + 1e-4 * length * slope + noise:
                return state + length * step, there
        return None


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor],
    target: Float64[Tensor, "s k"],
    *,
    diagonal: Float64[Tensor, "s k"],
    relative: float,
) -> Float64[Tensor, "s k"]:
    """Solve ``matrix(x) = target``, semi-definite, until the residual is the ``relative`` part of the target.

    ``diagonal`` is that of the matrix: the preconditioner.
    """
    preconditioner = 1 / diagonal.clamp(min=torch.finfo(torch.float64).tiny)
    x, residual = torch.zeros_like(target), target
    direction = preconditioner * residual
    product = float((residual * direction).sum())
    stop = relative * float(target.norm())
    for _ in range(target.numel()):
        image = matrix(direction)
        curvature = float((direction * image).sum())
        if curvature <= 0:  # flat to rounding: where all biases move together, or all probabilities are 0 or 1
            break
        length = product / curvature
        x, residual = x + length * direction, residual - length * image
        if float(residual.norm()) <= stop:
            break
        preconditioned = preconditioner * residual
        product, before = float((residual * preconditioned).sum()), product
        direction = preconditioned + (product / before) * direction
    return x
