"""What was measured of a backbone on a device, and what training and evaluation cost by it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from automl.screening.memory import largest_batch

__all__ = ["Cost"]

_BY_DEPTH = ("fixed_seconds", "step_seconds", "fixed_mb", "image_mb")


@dataclass(frozen=True)
class Cost:
    """What was measured for one backbone at one resolution.

    forward_seconds: per image, in evaluation mode.
    fixed_seconds, step_seconds: of a training step (the first whatever the batch, as the optimiser's update and what
        each call costs; the second for each of its images), by freeze depth.
    latency_ms: median of one image.
    fixed_mb, image_mb: memory of a training step (the first whatever the batch, the second for each of its images), by
        freeze depth.
    available_mb: memory that there was on the device.
    batch_norm: whether it has BatchNorm, whose statistics are estimated anew before every evaluation where it trains.
    training_dtype: of the training steps: "auto", or the name of a precision that was quicker than the device's own.
    dtype_seconds: of a training step with half of it frozen, in each precision tried, where several were.

    Raises:
        ValueError: A precision is named that took no seconds.
    """

    forward_seconds: float
    step_seconds: dict[float, float]
    start_seconds: float
    latency_ms: float
    peak_memory_mb: float
    parameters: int
    device: str = ""
    batch_norm: bool = True
    fixed_seconds: dict[float, float] = field(default_factory=dict)
    fixed_mb: dict[float, float] = field(default_factory=dict)
    image_mb: dict[float, float] = field(default_factory=dict)
    available_mb: float = 0.0
    training_dtype: str = "auto"
    dtype_seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.training_dtype != "auto" and not self.dtype_seconds.get(self.training_dtype, 0.0) > 0.0:
            raise ValueError(f"no seconds of a training step in {self.training_dtype!r} are known")

    def largest_batch(self, depth: float, *, pixels: float, share: float) -> int | None:
        """Return how many images of a training step fit into `share` of the memory; None if it was not measured.

        Args:
            pixels: Pixels of an image over those of the images measured.
        """
        if not self.image_mb:
            return None
        fixed, image = self._at(self.fixed_mb, depth), self._at(self.image_mb, depth)
        return largest_batch(fixed, image * pixels, self.available_mb * share)

    def step_mb(self, depth: float, *, images: int, pixels: float) -> float | None:
        """Return the MB that a training step of `images` images takes; None if it was not measured. Else as
        `largest_batch`."""
        if not self.image_mb:
            return None
        return self._at(self.fixed_mb, depth) + images * pixels * self._at(self.image_mb, depth)

    @staticmethod
    def _at(known: dict[float, float], depth: float) -> float:
        depths = sorted(known)
        return float(np.interp(depth, depths, [known[each] for each in depths]))

    def training_seconds_per_image(self, depth: float, *, batch_size: int, pixels: float = 1.0) -> float:
        """Seconds per image and epoch of training at `depth` in batches of `batch_size`, linear between the depths
        measured.

        At depth 1 only the head trains, on top of one forward pass.

        Args:
            pixels: Pixels of an image over those of the images measured.
        """
        fixed = self._at({**self.fixed_seconds, 1.0: 0.0}, depth)
        return fixed / batch_size + pixels * self._at({**self.step_seconds, 1.0: self.forward_seconds}, depth)

    def epoch_seconds(
        self,
        depth: float,
        train_images: int,
        evaluated_images: int,
        *,
        recalibration_images: int = 0,
        batch_size: int,
        pixels: float = 1.0,
    ) -> float:
        """Seconds of one epoch: training, the passes that estimate BatchNorm's statistics, where some trains, and
        evaluation."""
        training = self.training_seconds_per_image(depth, batch_size=batch_size, pixels=pixels)
        passed = evaluated_images + (recalibration_images if self.batch_norm and depth < 1.0 else 0)
        return training * train_images + pixels * self.forward_seconds * passed

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON value; depths become strings."""
        plain = asdict(self)
        return plain | {name: {str(depth): value for depth, value in plain[name].items()} for name in _BY_DEPTH}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Cost:
        """Inverse of `to_dict`."""
        by_depth = {name: {float(key): each for key, each in value.get(name, {}).items()} for name in _BY_DEPTH}
        return cls(**(value | by_depth))
