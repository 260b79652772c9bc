"""The loop against hand-written steps: accumulation, clipping, averages, bad numbers, stops."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from underpaint.core import Step, weighted_mean
from underpaint.training.loop import LoopConfig, NonFiniteLoss, TrainState, start_average, train
from underpaint.training.spikes import LossHistory

BATCH, WIDTH = 64, 5


class Regression(nn.Module):
    """Least squares; small enough to follow by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(WIDTH, 1)
        self.norm = nn.BatchNorm1d(WIDTH, affine=False)
        self.use_norm = False
        nn.init.constant_(self.encoder.weight, 0.3)
        nn.init.constant_(self.encoder.bias, -0.1)

    def forward(self, batch: Any) -> Step:
        image = batch["image"]
        error = self.encoder(self.norm(image) if self.use_norm else image)[:, 0] - image.sum(dim=1)
        return Step(weighted_mean(error.square(), batch["weight"]), {"mean_image": image.mean()})


def whole_batch(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    weight = (torch.rand(BATCH, generator=generator) > 0.1).float()
    return {"image": torch.randn(BATCH, WIDTH, generator=generator), "weight": weight}


def stream(accumulation: int, *, poisoned: tuple[int, ...] = ()) -> Iterator[dict[str, Tensor]]:
    step = 0
    while True:
        batch = whole_batch(step)
        if step in poisoned:
            batch["image"][3, 2] = math.nan
        parts = {name: value.chunk(accumulation) for name, value in batch.items()}
        yield from ({name: value[i] for name, value in parts.items()} for i in range(accumulation))
        step += 1


class Recorder:
    """Keeps what the loop reports."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.saved: list[int] = []
        self.evaluated: list[int] = []

    def log(self, state: TrainState, values: dict[str, Any]) -> None:
        self.logged.append((state.step, {name: float(value) for name, value in values.items()}))

    def save(self, state: TrainState) -> None:
        self.saved.append(state.step)

    def evaluate(self, state: TrainState) -> None:
        self.evaluated.append(state.step)


def run_loop(
    state: TrainState,
    batches: Iterator[dict[str, Tensor]],
    *,
    stop_after: float = math.inf,
    rate: float = 0.02,
    **changes: Any,
) -> Recorder:
    recorder = Recorder()
    values: dict[str, Any] = {
        "steps": 5,
        "batch_size": BATCH,
        "accumulation": 1,
        "clip": math.inf,
        "precision": "fp32",
        "ema_decay": 0.0,
        "log_every": 1,
        "save_every": 2,
        "evaluate_every": 3,
        "max_skipped": 2,
    }
    train(
        state,
        batches,
        config=LoopConfig(**(values | changes)),
        schedule=lambda seen: rate * (1 + seen / BATCH),
        log=recorder.log,
        save=recorder.save,
        evaluate=recorder.evaluate,
        stopped=lambda: state.step >= stop_after,
    )
    return recorder


def new_state(*, ema_decay: float = 0.0) -> TrainState:
    objective = Regression()
    optimizer = torch.optim.SGD([{"params": list(objective.encoder.parameters()), "lr_scale": 1.0}], lr=0.0)
    return TrainState(objective, optimizer, start_average(objective, ema_decay))


def by_hand(steps: int, *, clip: float = math.inf, skipped: tuple[int, ...] = ()) -> list[tuple[Tensor, Tensor, float]]:
    """(weight, bias, gradient norm) after each step of plain gradient descent with the derivatives written out."""
    weight, bias = torch.full((WIDTH,), 0.3, dtype=torch.float64), torch.tensor(-0.1, dtype=torch.float64)
    trace = []
    for step in range(steps):
        batch = whole_batch(step)
        x, keep = batch["image"].double(), batch["weight"].double()
        slope = 2 * keep * (x @ weight + bias - x.sum(dim=1)) / BATCH
        gradient, gradient_bias = slope @ x, slope.sum()
        norm = float(torch.cat([gradient, gradient_bias[None]]).norm())
        if step not in skipped:
            factor = 0.02 * (1 + step) * min(1.0, clip / norm)
            weight, bias = weight - factor * gradient, bias - factor * gradient_bias
        trace.append((weight, bias, norm))
    return trace


def assert_weights(state: TrainState, expected: tuple[Tensor, Tensor, float]) -> None:
    encoder = state.objective.encoder
    assert isinstance(encoder, nn.Linear)
    torch.testing.assert_close(encoder.weight[0].double(), expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(encoder.bias[0].double(), expected[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("accumulation", [1, 2, 4, 64])
def test_accumulation_changes_nothing(accumulation: int) -> None:
    state = new_state()
    recorder = run_loop(state, stream(accumulation), accumulation=accumulation)
    expected = by_hand(5)
    assert_weights(state, expected[-1])
    assert [values["grad_norm"] for _, values in recorder.logged] == pytest.approx(
        [norm for *_, norm in expected], 1e-5
    )
    means = [float(whole_batch(step)["image"].mean()) for step in range(5)]
    assert [values["mean_image"] for _, values in recorder.logged] == pytest.approx(means, abs=1e-6)


def test_clipping_scales_the_gradient_and_logs_the_norm_before() -> None:
    state = new_state()
    expected = by_hand(5, clip=0.5)
    assert max(norm for *_, norm in expected) > 0.5, "the clip must bite"
    recorder = run_loop(state, stream(2), accumulation=2, clip=0.5)
    assert_weights(state, expected[-1])
    assert [values["grad_norm"] for _, values in recorder.logged] == pytest.approx(
        [norm for *_, norm in expected], 1e-4
    )


def test_the_average_follows_its_recurrence_buffers_included() -> None:
    state = new_state(ema_decay=0.8)
    objective = state.objective
    assert isinstance(objective, Regression)
    objective.use_norm = True
    average = {name: value.clone() for name, value in objective.state_dict().items()}
    for step in range(1, 6):
        run_loop(state, iter([whole_batch(step)]), steps=step, ema_decay=0.8)
        for name, value in objective.state_dict().items():
            average[name] = 0.8 * average[name] + 0.2 * value if value.is_floating_point() else value.clone()
    assert state.average is not None
    kept = state.average.state_dict()
    assert kept.keys() == average.keys()
    for name, value in average.items():
        torch.testing.assert_close(kept[name], value, msg=lambda text, name=name: f"{name}: {text}")
    assert state.product is state.average
    assert not torch.equal(kept["encoder.weight"], objective.state_dict()["encoder.weight"])


def test_a_bad_number_skips_weights_and_average_alike() -> None:
    state, clean = new_state(ema_decay=0.8), new_state(ema_decay=0.8)
    recorder = run_loop(state, stream(2, poisoned=(1, 3)), accumulation=2, ema_decay=0.8)
    assert_weights(state, by_hand(5, skipped=(1, 3))[-1])
    average = torch.full((WIDTH,), 0.3, dtype=torch.float64)
    for step, (weight, *_) in enumerate(by_hand(5, skipped=(1, 3))):
        average = average if step in (1, 3) else 0.8 * average + 0.2 * weight
    assert state.average is not None
    torch.testing.assert_close(state.average.state_dict()["encoder.weight"][0].double(), average, rtol=0, atol=1e-6)
    assert state.step == 5
    assert state.skipped == 0
    assert math.isnan(recorder.logged[1][1]["loss"])
    run_loop(clean, stream(2), accumulation=2, ema_decay=0.8)
    assert not torch.equal(
        clean.objective.state_dict()["encoder.weight"], state.objective.state_dict()["encoder.weight"]
    )


def test_a_bad_number_leaves_the_running_statistics_as_they_were() -> None:
    state, expected = new_state(), nn.BatchNorm1d(WIDTH, affine=False)
    objective = state.objective
    assert isinstance(objective, Regression)
    objective.use_norm = True
    run_loop(state, stream(2, poisoned=(1,)), accumulation=2, steps=3)
    for step in (0, 2):
        for part in whole_batch(step)["image"].chunk(2):
            expected(part)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(objective.norm.state_dict()[name], value)


def spiking(at: int) -> Iterator[dict[str, Tensor]]:
    """Batches of which one is a hundred times as large."""
    for step, batch in enumerate(stream(1)):
        yield {**batch, "image": 100 * batch["image"]} if step == at else batch


def test_a_spike_is_skipped_and_its_window_recorded() -> None:
    """The poisoned batch is met after the first half window of losses, and the resumed run decides alike."""
    state, clean = new_state(), new_state()
    recorder = run_loop(state, spiking(40), steps=45, spike_factor=8.0, rate=1e-4)
    assert state.history.skipped == [[40 * BATCH, 41 * BATCH]]
    assert len(state.history.recent) == 44
    run_loop(clean, spiking(40), steps=45, rate=1e-4)
    assert clean.history.skipped == []
    loss = {step: values["loss"] for step, values in recorder.logged}
    assert loss[41] > 8 * max(loss[40], loss[42])
    resumed = new_state()
    batches = spiking(40)
    run_loop(resumed, batches, steps=45, spike_factor=8.0, rate=1e-4, stop_after=38)
    resumed.history = LossHistory(list(resumed.history.recent), [])
    run_loop(resumed, batches, steps=45, spike_factor=8.0, rate=1e-4)
    assert resumed.history == state.history
    for name, value in state.objective.state_dict().items():
        assert torch.equal(value, resumed.objective.state_dict()[name])


def test_spikes_in_a_row_end_the_run_and_windows_merge() -> None:
    def worse() -> Iterator[dict[str, Tensor]]:
        for step, batch in enumerate(stream(1)):
            yield {**batch, "image": 100 * batch["image"]} if step >= 40 else batch

    state = new_state()
    with pytest.raises(NonFiniteLoss, match="or a spike, in 2 steps in a row, up to step 42"):
        run_loop(state, worse(), steps=60, spike_factor=8.0, rate=1e-4)
    assert state.history.skipped == [[40 * BATCH, 42 * BATCH]]


def test_every_moment_belongs_to_one_phase() -> None:
    state = new_state()

    def slow(seconds: float, phase: list[float]) -> None:
        time.sleep(seconds)
        phase.append(seconds)

    evaluated: list[float] = []
    saved: list[float] = []
    started = time.perf_counter()
    train(
        state,
        stream(1),
        config=LoopConfig(
            steps=4,
            batch_size=BATCH,
            accumulation=1,
            clip=math.inf,
            precision="fp32",
            ema_decay=0.0,
            log_every=1,
            save_every=2,
            evaluate_every=2,
            max_skipped=1,
        ),
        schedule=lambda seen: 0.01,
        log=lambda state, values: None,
        save=lambda state: slow(0.05, saved),
        evaluate=lambda state: slow(0.03, evaluated),
        stopped=lambda: False,
    )
    whole = time.perf_counter() - started
    spent = state.clock.seconds
    assert spent["evaluate"] >= sum(evaluated) == pytest.approx(0.06)
    assert spent["save"] >= sum(saved) == pytest.approx(0.1)
    assert all(spent[phase] > 0 for phase in ("data", "forward", "backward", "optimizer", "other"))
    assert sum(spent.values()) == pytest.approx(whole, abs=0.02)
    assert state.seconds == pytest.approx(sum(spent.values()) - spent["evaluate"] - spent["save"])


def test_a_bad_number_is_logged_whatever_the_cadence() -> None:
    recorder = run_loop(new_state(), stream(1, poisoned=(1,)), log_every=100)
    assert [step for step, _ in recorder.logged] == [2, 5]


def test_bad_numbers_in_a_row_end_the_run() -> None:
    state = new_state()
    with pytest.raises(NonFiniteLoss, match=r"or a spike, in 2 steps in a row, up to step 4; a lower optim\.base_lr"):
        run_loop(state, stream(1, poisoned=(2, 3)))
    assert_weights(state, by_hand(2)[-1])
    run_loop(new_state(), stream(1, poisoned=(0, 2, 4)))  # as many, but not in a row


def test_cadences_and_the_end() -> None:
    recorder = run_loop(new_state(), stream(1), steps=7, log_every=4)
    assert [step for step, _ in recorder.logged] == [4, 7]
    assert recorder.saved == [2, 4, 6, 7]
    assert recorder.evaluated == [3, 6, 7]


def test_a_stop_saves_and_the_rest_follows_later() -> None:
    state, batches = new_state(), stream(1)
    recorder = run_loop(state, batches, stop_after=3)
    assert state.step == 3
    assert recorder.saved == [2, 3]
    assert_weights(state, by_hand(3)[-1])
    seconds = state.seconds
    run_loop(state, batches)
    assert_weights(state, by_hand(5)[-1])
    assert state.seconds > seconds > 0


def test_the_rate_is_that_of_the_samples_seen_before_the_step() -> None:
    recorder = run_loop(new_state(), stream(1))
    assert [values["lr"] for _, values in recorder.logged] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])


def test_bf16_computes_in_bf16_and_keeps_fp32_weights() -> None:
    seen: list[torch.dtype] = []
    state, plain = new_state(), new_state()
    encoder = state.objective.encoder
    assert isinstance(encoder, nn.Linear)
    encoder.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    run_loop(state, stream(1), precision="bf16")
    run_loop(plain, stream(1))
    assert set(seen) == {torch.bfloat16}
    assert encoder.weight.dtype == torch.float32
    difference = (encoder.weight.detach() - plain.objective.state_dict()["encoder.weight"]).abs().max()
    assert 0 < float(difference) < 0.05
