"""How long a model takes for one image, and for a batch, on this device."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from automl.training import Precision

__all__ = ["Latency", "latency_ms", "measure_latency", "timed"]

WARM_UP = 3  # passes before latency is timed
LEAST_PASSES = 3


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a batch of so many `images` through a model: median and 95th percentile of `passes`."""

    images: int
    median_ms: float
    p95_ms: float
    passes: int


def latency_ms(
    model: nn.Module,
    *,
    resolution: int,
    device: torch.device,
    precision: Precision,
    repeats: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median milliseconds of one image through `model`, after three warm-up passes."""
    return measure_latency(
        model, images=1, resolution=resolution, device=device, precision=precision, repeats=repeats, clock=clock
    ).median_ms


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
