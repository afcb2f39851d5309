from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from automl.screening import Cost, Speed, feasibility, measure_cost, measure_latency, measure_speed
from tests.tiny import BFLOAT16, CHANNELS_LAST, CPU, FLOAT32, tiny

torch.set_num_threads(1)

COST = Cost(
    forward_seconds=0.01,
    fixed_seconds={0.0: 0.4, 0.5: 0.2},
    step_seconds={0.0: 0.05, 0.5: 0.03},
    start_seconds=1.0,
    latency_ms=12.0,
    peak_memory_mb=300.0,
    parameters=1000,
    device="cpu",
)


@pytest.mark.parametrize(
    ("depth", "fixed", "seconds"),
    [(0.0, 0.4, 0.05), (0.25, 0.3, 0.04), (0.5, 0.2, 0.03), (0.75, 0.1, 0.02), (1.0, 0.0, 0.01)],
)
def test_seconds_are_linear_between_the_depths_measured(depth: float, fixed: float, seconds: float) -> None:
    for batch_size, pixels in ((4, 1.0), (16, 1.0), (16, 0.25)):
        each = fixed / batch_size + pixels * seconds  # of the step once, of its images in proportion to their pixels
        found = COST.training_seconds_per_image(depth, batch_size=batch_size, pixels=pixels)
        assert found == pytest.approx(each)
        epoch = COST.epoch_seconds(depth, 100, 40, batch_size=batch_size, pixels=pixels)
        assert epoch == pytest.approx(100 * each + 40 * pixels * 0.01)


def test_a_cost_survives_json() -> None:
    assert Cost.from_dict(json.loads(json.dumps(COST.to_dict()))) == COST


class Clock:
    """A clock that moves by a second each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("precision", [FLOAT32, CHANNELS_LAST, BFLOAT16], ids=str)
def test_what_is_measured_is_per_image_and_in_its_units(precision: object) -> None:
    model = tiny("test_efficientnet")
    count = sum(parameter.numel() for parameter in model.parameters())
    cost = measure_cost(
        model, resolution=32, batch_size=4, device=CPU, precision=precision, start_seconds=2.5,  # type: ignore[arg-type]
        latency_ms=1000.0, clock=Clock(),
    )  # fmt: skip
    assert cost.latency_ms == 1000.0
    assert cost.forward_seconds == 0.25
    assert (cost.fixed_seconds, cost.step_seconds) == ({0.0: 1.0, 0.5: 1.0}, {0.0: 0.0, 0.5: 0.0})
    assert (cost.start_seconds, cost.parameters, cost.device) == (2.5, count, "cpu")
    assert cost.peak_memory_mb > 50


class Busy:
    """A clock by which everything takes a second, but the readings from `since` to `until` a hundred each: something
    else had the machine then."""

    def __init__(self, since: int, until: int) -> None:
        self.now, self.reads, self.busy = 0.0, 0, range(since, until)

    def __call__(self) -> float:
        self.reads += 1
        self.now += 100.0 if self.reads in self.busy else 1.0
        return self.now


def measured(clock: Callable[[], float]) -> Cost:
    model = tiny("test_efficientnet")
    return measure_cost(
        model, resolution=32, batch_size=4, device=CPU, precision=FLOAT32, start_seconds=0, latency_ms=1000.0,
        clock=clock,
    )  # fmt: skip


def test_memory_is_that_of_a_step_and_not_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feasibility, "step_memory_mb", lambda step, model, device: (100.0, 7.0))
    monkeypatch.setattr(feasibility, "available_mb", lambda device, share: 170.0)
    cost = measured(Clock())
    assert (cost.fixed_mb, cost.image_mb) == ({0.0: 100.0, 0.5: 100.0}, {0.0: 7.0, 0.5: 7.0})
    fits = cost.largest_batch(0.0, pixels=1.0, share=1.0)
    assert fits is not None
    assert 1 <= fits <= 10


def each_image(cost: Cost) -> list[float]:
    return [cost.training_seconds_per_image(depth, batch_size=4) for depth in (0.0, 0.5)]


def test_what_a_step_takes_whatever_its_images_is_told_apart() -> None:
    model, seconds = tiny("test_resnet"), [0.0]

    def pass_time(module: object, arguments: tuple[torch.Tensor]) -> None:
        seconds.append(seconds[-1] + 4.0 + 1.5 * len(arguments[0]))

    model.register_forward_pre_hook(pass_time)
    cost = measure_cost(
        model, resolution=32, batch_size=8, device=CPU, precision=FLOAT32, start_seconds=0, latency_ms=5500.0,
        clock=lambda: seconds[-1],
    )  # fmt: skip
    for depth in (0.0, 0.5):
        assert cost.fixed_seconds[depth] == pytest.approx(4.0)
        assert cost.step_seconds[depth] == pytest.approx(1.5)


def test_what_was_measured_while_the_machine_was_busy_is_measured_again() -> None:
    cost = measured(Busy(1, 5))
    assert each_image(cost) == [0.25, 0.25]
    assert cost.forward_seconds == 0.25


def test_what_is_all_slow_alike_is_measured_again_where_one_image_alone_was_quicker() -> None:
    cost = measured(Busy(1, 17))  # all of the first try
    assert each_image(cost) == [0.25, 0.25]
    assert cost.forward_seconds == 0.25


def test_on_a_machine_that_stays_busy_it_ends() -> None:
    cost = measured(Busy(0, 10_000))
    assert each_image(cost) == [25.0, 25.0]


def test_the_measured_step_trains_what_is_not_frozen() -> None:
    model = tiny("test_resnet")
    before = {name: value.clone() for name, value in model.named_parameters()}
    measure_cost(model, resolution=32, batch_size=4, device=CPU, precision=FLOAT32, start_seconds=0, latency_ms=1.0)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert len(moved) > len(before) / 2


@pytest.mark.parametrize(("slower", "dtype"), [(2.0, "float32"), (1.05, "auto"), (0.5, "auto")])
def test_training_steps_compute_in_what_is_quicker(slower: float, dtype: str) -> None:
    model, now = tiny("test_resnet"), [0.0]

    def pass_time(module: nn.Module, arguments: tuple[torch.Tensor]) -> None:
        now[0] += len(arguments[0]) * (slower if torch.is_autocast_enabled("cpu") else 1.0)

    model.register_forward_pre_hook(pass_time)
    cost = measure_cost(
        model, resolution=32, batch_size=8, device=CPU, precision=BFLOAT16, start_seconds=0,
        latency_ms=1000 * slower, others=[CHANNELS_LAST], clock=lambda: now[0],
    )  # fmt: skip
    assert cost.training_dtype == dtype
    assert cost.dtype_seconds == pytest.approx({"bfloat16": 8 * slower, "float32": 8.0})
    assert cost.forward_seconds == pytest.approx(slower), "evaluation stays as the device is best"
    assert each_image(cost) == pytest.approx(2 * [1.0 if dtype == "float32" else slower])
    assert Cost.from_dict(json.loads(json.dumps(cost.to_dict()))) == cost


def test_a_step_that_runs_out_of_memory_is_measured_with_half_as_many_images() -> None:
    model, trained = tiny("test_resnet"), list[int]()

    def refuse(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if module.training and len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        trained.append(len(inputs[0]))

    model.register_forward_pre_hook(refuse)
    cost = measure_cost(
        model, resolution=32, batch_size=16, device=CPU, precision=FLOAT32, start_seconds=0, latency_ms=1000.0,
        clock=Clock(),
    )  # fmt: skip
    assert max(trained) == 4
    assert each_image(cost) == [0.25, 0.25]
    assert {cost.largest_batch(depth, pixels=1.0, share=1.0) for depth in (0.0, 0.5)} == {4}  # of trials, too


def test_a_step_for_which_there_is_no_memory_at_all_is_given_up() -> None:
    model, tried = tiny("test_resnet"), list[int]()

    def refuse(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        tried.append(len(inputs[0]))
        if len(tried) > 4:  # small steps show what a larger one should take
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(refuse)
    with pytest.raises(torch.OutOfMemoryError):
        measure_cost(
            model, resolution=32, batch_size=16, device=CPU, precision=FLOAT32, start_seconds=0, latency_ms=1.0
        )
    assert tried == [2, 4, 2, 4, 16, 8, 4, 2, 1]


def test_what_compared_precisions_holds_no_memory_while_steps_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
    after, adamw = list[int](), torch.optim.AdamW

    def kept(*arguments: Any, **options: Any) -> torch.optim.Optimizer:
        gc.collect()
        after.append(len(alive))
        made = adamw(*arguments, **options)
        alive.add(made)
        return made

    monkeypatch.setattr(torch.optim, "AdamW", kept)
    measure_cost(
        tiny("test_resnet"), resolution=32, batch_size=8, device=CPU, precision=BFLOAT16, start_seconds=0,
        latency_ms=1.0, others=[CHANNELS_LAST], clock=Clock(),
    )  # fmt: skip
    assert after[:3] == [0, 1, 0], "two of the comparison, then none of them"
    assert max(after[3:]) <= 1


def speed(model: nn.Module, batch: int) -> Speed:
    return measure_speed(
        model, batch=batch, resolution=32, device=CPU, precision=FLOAT32, repeats=3, seconds=1e9, clock=Clock()
    )


def test_speed_is_of_one_image_and_of_a_batch_in_evaluation_mode() -> None:
    model = tiny("test_resnet")
    seen: list[tuple[int, bool]] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append((len(inputs[0]), module.training)))
    found = speed(model, 4)
    assert seen == [(1, False)] * 6 + [(4, False)] * 6
    assert (found.one.images, found.batch.images, found.batch.passes) == (1, 4, 3)
    assert found.device.startswith("CPU, ")
    assert Speed.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(("most", "images"), [(5, 4), (2, 2), (1, 1)])
def test_speed_is_of_as_large_a_batch_as_fits(most: int, images: int) -> None:
    model = tiny("test_resnet")

    def refuse(module: object, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError

    model.register_forward_pre_hook(refuse)
    assert speed(model, 16).batch.images == images


@pytest.mark.parametrize(("seconds", "images"), [(1e9, 16), (7.0, 4), (0.5, 1)])
def test_speed_is_of_as_large_a_batch_as_there_is_time_for(seconds: float, images: int) -> None:
    """By its clock a pass takes a second, and so would each image of a batch."""
    found = measure_speed(
        tiny("test_resnet"), batch=16, resolution=32, device=CPU, precision=FLOAT32, repeats=3, seconds=seconds,
        clock=Clock(),
    )  # fmt: skip
    assert (found.one.median_ms, found.batch.images) == (1000.0, images)


def test_latency_is_of_as_many_passes_as_there_is_time_for_and_at_least_three() -> None:
    model = tiny("test_resnet")

    def passes(seconds: float) -> int:
        found = measure_latency(model, images=2, resolution=32, device=CPU, precision=FLOAT32, repeats=20,
                                seconds=seconds, clock=Clock())  # type: ignore[arg-type]  # fmt: skip
        assert (found.images, found.median_ms, found.p95_ms) == (2, 1000.0, 1000.0)
        return found.passes

    assert [passes(seconds) for seconds in (0.5, 4.5, 1e9)] == [3, 5, 20]
