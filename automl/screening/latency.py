"""How long a model takes for one image, and for a batch, on this device."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from automl.training import Precision, is_out_of_memory

__all__ = ["Latency", "Speed", "measure_latency", "measure_speed", "timed"]

WARM_UP = 3  # passes before latency is timed
LEAST_PASSES = 3


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a batch of so many `images` through a model: median and 95th percentile of `passes`."""

    images: int
    median_ms: float
    p95_ms: float
    passes: int


@dataclass(frozen=True)
class Speed:
    """Latency of a model on `device` (its name; of a CPU, with its threads), of `one` image and of a `batch`."""

    device: str
    precision: str
    one: Latency
    batch: Latency

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON value."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Speed:
        """Inverse of `to_dict`."""
        one, batch = (Latency(**value[name]) for name in ("one", "batch"))
        return cls(value["device"], value["precision"], one, batch)


def measure_speed(
    model: nn.Module,
    *,
    batch: int,
    resolution: int,
    device: torch.device,
    precision: Precision,
    repeats: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time one image and `batch` of them: half as many, and again, where so many do not fit on the device, or one after
    the other would take longer than `seconds`. Else as `measure_latency`."""

    def of(images: int) -> Latency:
        return measure_latency(
            model, images=images, resolution=resolution, device=device, precision=precision, repeats=repeats,
            seconds=seconds, clock=clock,
        )  # fmt: skip

    threads = torch.get_num_threads()
    cpu = f"CPU, {threads} thread{'' if threads == 1 else 's'}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    one = of(1)
    while batch > 1 and batch * one.median_ms > 1000 * seconds:
        batch //= 2
    while batch > 1:
        try:
            return Speed(name, precision.name, one, of(batch))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            batch //= 2
    return Speed(name, precision.name, one, one)


@torch.inference_mode()
def measure_latency(
    model: nn.Module,
    *,
    images: int,
    resolution: int,
    device: torch.device,
    precision: Precision,
    repeats: int,
    seconds: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time batches of `images` through `model`, after three to warm up.

    Args:
        repeats: Passes that are timed.
        seconds: Of timed passes, after which no further one begins, once there are three.
    """
    model.eval()
    batch = torch.randn(images, 3, resolution, resolution, device=device)

    def forward() -> None:
        with torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None):
            model(batch)

    for _ in range(WARM_UP):
        timed(forward, device, clock)
    found = list[float]()
    while len(found) < repeats and (len(found) < LEAST_PASSES or sum(found) < 1000 * seconds):
        found.append(1000 * timed(forward, device, clock))
    return Latency(images, statistics.median(found), float(np.quantile(found, 0.95)), len(found))


def timed(call: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of `call`, what it started on the device included."""
    _wait(device)
    started = clock()
    call()
    _wait(device)
    return clock() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
