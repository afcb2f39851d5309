"""What a backbone costs on this device: seconds per image forward and per training step, latency, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from automl.backbones import freeze, set_train_mode
from automl.training import Precision, peak_memory_mb, reset_peak_memory

__all__ = ["Cost", "latency_ms", "measure_cost"]

PROBED_DEPTHS = (0.0, 0.5)
STEPS = 5  # the fastest counts: whatever else the machine does only slows a step down


@dataclass(frozen=True)
class Cost:
    """What was measured for one backbone at one resolution.

    forward_seconds: per image, in evaluation mode.
    step_seconds: per image of a training step, by freeze depth, with the batch size measured at.
    latency_ms: median of one image.
    """

    forward_seconds: float
    step_seconds: dict[float, float]
    start_seconds: float
    latency_ms: float
    peak_memory_mb: float
    parameters: int
    device: str = ""

    def training_seconds_per_image(self, depth: float) -> float:
        """Seconds per image and epoch of training at `depth`, linear between the depths measured.

        At depth 1 only the head trains, on top of one forward pass.
        """
        known = {**self.step_seconds, 1.0: self.forward_seconds}
        depths = sorted(known)
        return float(np.interp(depth, depths, [known[each] for each in depths]))

    def epoch_seconds(self, depth: float, train_images: int, evaluated_images: int) -> float:
        """Seconds of one epoch: training plus evaluation of `evaluated_images`."""
        return self.training_seconds_per_image(depth) * train_images + self.forward_seconds * evaluated_images

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON value; depths become strings."""
        return {**asdict(self), "step_seconds": {str(key): value for key, value in self.step_seconds.items()}}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Cost:
        """Inverse of `to_dict`."""
        return cls(**{**value, "step_seconds": {float(key): each for key, each in value["step_seconds"].items()}})


def measure_cost(
    model: nn.Module,
    *,
    resolution: int,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    start_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Cost:
    """Take a few real training steps of `model` at the probed freeze depths and time them.

    The model's weights are moved by these steps: build a fresh one afterwards.
    """
    reset_peak_memory(device)
    latency = latency_ms(model, resolution=resolution, device=device, precision=precision, clock=clock)
    images = torch.randn(batch_size, 3, resolution, resolution, device=device)
    if precision.channels_last:
        model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    forward_seconds = _forward_seconds(model, images, device=device, precision=precision, clock=clock)
    step_seconds: dict[float, float] = {}
    for depth in PROBED_DEPTHS:
        freeze(model, depth)
        set_train_mode(model)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        updater = torch.optim.AdamW(parameters, lr=1e-6)
        times = []
        for _ in range(1 + STEPS):
            started = clock()
            with torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None):
                logits = model(images)
                loss = functional.cross_entropy(logits, torch.zeros(batch_size, dtype=torch.long, device=device))
            loss.backward()
            updater.step()
            updater.zero_grad()
            _wait(device)
            times.append(clock() - started)
        step_seconds[depth] = min(times[1:]) / batch_size
    return Cost(
        forward_seconds=forward_seconds,
        step_seconds=step_seconds,
        start_seconds=start_seconds,
        latency_ms=latency,
        peak_memory_mb=peak_memory_mb(device),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    )


@torch.inference_mode()
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
    model.eval()
    image = torch.randn(1, 3, resolution, resolution, device=device)
    times = []
    for _ in range(repeats + 3):
        _wait(device)
        started = clock()
        with torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None):
            model(image)
        _wait(device)
        times.append(1000 * (clock() - started))
    return statistics.median(times[3:])


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
    times = []
    for _ in range(3):
        started = clock()
        with torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None):
            model(images)
        _wait(device)
        times.append(clock() - started)
    return min(times[1:]) / len(images)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
