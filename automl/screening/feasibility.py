"""Measure what a backbone costs on this device: seconds per image forward and per training step, memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from automl.backbones import freeze, set_train_mode
from automl.screening.cost import Cost
from automl.screening.latency import timed
from automl.screening.memory import HEADROOM, available_mb, largest_batch, step_memory_mb
from automl.training import Precision, device_name, is_out_of_memory, peak_memory_mb, reset_peak_memory

__all__ = ["measure_cost", "training_step"]

PROBED_DEPTHS = (0.0, 0.5)
SMALLER = 4  # times fewer images in the steps that show what a step takes whatever its images
STEPS = 5  # at most; the fastest counts: whatever else the machine does only slows a step down
SURE = 1.03  # times the fastest, that another one may have taken for it to count at once
ENOUGH_SECONDS = 4.0  # of steps at one depth
MOST_ALONE = 2.0  # times an image that passes alone, that one of a batch should take; most take less
MOST_FORWARDS = 8.0  # that a training step should take; forward, backward and update are three or four of them
TRIES = 3
ROUNDS = 2  # of the precisions
QUICKER = 0.9  # times as long in the device's own precision, that a step in another should take at most


def measure_cost(
    model: nn.Module,
    *,
    resolution: int,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    start_seconds: float,
    latency_ms: float,
    share: float = 1.0,
    others: Sequence[Precision] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> Cost:
    """Take a few real training steps of `model` at the probed freeze depths: how long they take, how much memory.

    Steps are timed with `batch_size` images, or with as many as fit, and with a quarter as many, and again, up to three
    times, where what comes out is not plausible. They compute in `precision`, or in one of `others` where a step is
    quicker in that; the forward pass in `precision`. The model's weights are moved by these steps: build a fresh one
    afterwards.

    Args:
        start_seconds: That its worker took until now.
        latency_ms: Of one image, which says whether a batch takes what it should.
        share: Of the device's memory, that a trial can have: others are measured beside this one.
    """
    reset_peak_memory(device)
    available = available_mb(device, share)
    if precision.channels_last:
        model.to(memory_format=torch.channels_last)
    format = torch.channels_last if precision.channels_last else torch.contiguous_format

    def images(count: int) -> torch.Tensor:
        return torch.randn(count, 3, resolution, resolution, device=device).contiguous(memory_format=format)

    training, dtype_seconds = precision, dict[str, float]()
    if others:
        steps = {
            each: training_step(model, PROBED_DEPTHS[1], images, precision=each, device=device)
            for each in (precision, *others)
        }
        most = [largest_batch(*step_memory_mb(step, model, device), available * share) for step in steps.values()]
        taken = _in_turns(steps, max(1, min(batch_size, *most)), device, clock)
        quickest = min(taken, key=lambda each: taken[each])
        training = quickest if taken[quickest] <= QUICKER * taken[precision] else precision
        dtype_seconds = {each.name: value for each, value in taken.items()}
        steps.clear()  # with the moments and images that they hold, which the memory below does not count
    fixed: dict[float, float] = {}
    per_image: dict[float, float] = {}
    sizes: dict[float, int] = {}
    for depth in PROBED_DEPTHS:
        step = training_step(model, depth, images, precision=training, device=device)
        fixed[depth], per_image[depth] = step_memory_mb(step, model, device)
        sizes[depth] = max(1, min(batch_size, largest_batch(fixed[depth], per_image[depth], available * share)))
    forward, whole, part = math.inf, dict.fromkeys(PROBED_DEPTHS, math.inf), dict.fromkeys(PROBED_DEPTHS, math.inf)
    for _ in range(TRIES):
        for depth in PROBED_DEPTHS:
            step = training_step(model, depth, images, precision=training, device=device)
            while (seconds_of := _whole_and_part(step, sizes[depth], device, clock)) is None:
                sizes[depth] //= 2
                whole[depth] = part[depth] = math.inf
                left = available * share * HEADROOM - fixed[depth]  # so that trials begin with as few
                per_image[depth] = max(per_image[depth], left / (sizes[depth] + 0.5))
            whole[depth], part[depth] = min(whole[depth], seconds_of[0]), min(part[depth], seconds_of[1])
        batch = images(min(sizes.values()))
        forward = min(forward, _forward_seconds(model, batch, device=device, precision=precision, clock=clock))
        seconds = {depth: whole[depth] / sizes[depth] for depth in sizes}
        if _is_plausible(seconds, forward, latency_ms / 1000) and all(
            _is_smaller(whole[depth], part[depth], size, device) for depth, size in sizes.items()
        ):
            break
    step_seconds = {depth: _each_image(whole[depth], part[depth], size) for depth, size in sizes.items()}
    return Cost(
        forward_seconds=forward,
        fixed_seconds={depth: whole[depth] - size * step_seconds[depth] for depth, size in sizes.items()},
        step_seconds=step_seconds,
        start_seconds=start_seconds,
        latency_ms=latency_ms,
        peak_memory_mb=peak_memory_mb(device),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=device_name(device),
        batch_norm=any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules()),
        fixed_mb=fixed,
        image_mb=per_image,
        available_mb=available,
        training_dtype="auto" if training is precision else training.name,
        dtype_seconds=dtype_seconds,
    )


def _whole_and_part(
    step: Callable[[int, bool], None], size: int, device: torch.device, clock: Callable[[], float]
) -> tuple[float, float] | None:
    """Seconds of a step of `size` images, and of one with `_fewer`; None where there is no memory for it, although two
    small ones had it foreseen."""
    found = []
    try:
        for count in (size, _fewer(size)):
            step(count, True)
            found.append(_fastest(partial(step, count, True), device, clock))
    except Exception as error:
        if not is_out_of_memory(error) or size == 1:
            raise
        return None
    return found[0], found[1]


def training_step(
    model: nn.Module, depth: float, images: Callable[[int], torch.Tensor], *, precision: Precision, device: torch.device
) -> Callable[[int, bool], None]:
    """Return a function that takes one training step of `model`, frozen to `depth`, with so many images; without the
    update, its gradients stay and add up."""
    freeze(model, depth)
    set_train_mode(model)
    model.zero_grad(set_to_none=True)  # of what is frozen now, too
    updater = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-6)
    kept: dict[int, torch.Tensor] = {}

    def step(count: int, update: bool) -> None:
        if count not in kept:
            kept.clear()
            kept[count] = images(count)
        with torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None):
            loss = functional.cross_entropy(model(kept[count]), torch.zeros(count, dtype=torch.long, device=device))
        loss.backward()
        if update:
            updater.step()
            updater.zero_grad()

    return step


def _in_turns(
    steps: Mapping[Precision, Callable[[int, bool], None]],
    size: int,
    device: torch.device,
    clock: Callable[[], float],
) -> dict[Precision, float]:
    """Seconds of each step with `size` images, the fastest of two rounds: what else the machine does comes and goes."""
    found = dict.fromkeys(steps, math.inf)
    for _ in range(ROUNDS):
        for each, step in steps.items():
            step(size, True)
            found[each] = min(found[each], _fastest(partial(step, size, True), device, clock))
    return found


def _fewer(size: int) -> int:
    return min(size, max(2, size // SMALLER))  # batch normalisation may not train on one image


def _each_image(whole: float, part: float, size: int) -> float:
    """Seconds of each image of a step of `size`, which takes `whole`, when one of `_fewer` images takes `part`."""
    less = size - _fewer(size)
    return min(max(whole - part, 0.0) / less, whole / size) if less else whole / size


def _is_smaller(whole: float, part: float, size: int, device: torch.device) -> bool:
    """Whether a step of `_fewer` images, which takes `part`, takes less than one of `size`, which takes `whole`, and
    more for each of its images. On a GPU both may take what it takes to start the work."""
    fewer = _fewer(size)
    least, most = 0.8 * whole * fewer / size, whole if device.type != "cpu" or fewer == size else 0.9 * whole
    return least <= part <= 1.1 * most


def _is_plausible(seconds: Mapping[float, float], forward: float, alone: float) -> bool:
    """Whether steps of these `seconds` per image by depth fit each other, a forward pass, and that of an image `alone`:
    the machine may have been busy while some of it was measured, and a backbone that seems ten times as dear as it is
    would never be tried."""
    whole, half = (seconds[depth] for depth in PROBED_DEPTHS)
    return half <= 1.2 * whole and whole <= MOST_FORWARDS * forward and forward <= MOST_ALONE * alone


def _fastest(call: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of some calls: no more than it takes to see two about as fast."""
    found = list[float]()
    while len(found) < STEPS and sum(found) <= ENOUGH_SECONDS:
        found = sorted([*found, timed(call, device, clock)])
        if len(found) > 1 and found[1] <= SURE * found[0]:
            break
    return found[0]


@torch.inference_mode()
def _forward_seconds(
    model: nn.Module,
    images: torch.Tensor,
    *,
    device: torch.device,
    precision: Precision,
    clock: Callable[[], float],
) -> float:
    """Seconds per image of a forward pass, the faster of two after one to warm up."""
    model.eval()

    def forward() -> None:
        with torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None):
            model(images)

    return min([timed(forward, device, clock) for _ in range(3)][1:]) / len(images)
