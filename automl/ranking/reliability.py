"""How far a model's confidence can be believed: the reliability diagram and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from automl.ranking.statistics import Predictions, interval

__all__ = ["BINS", "Bin", "calibration_error", "reliability"]

BINS = 15


@dataclass(frozen=True)
class Bin:
    """The images whose confidence is in (low, high]: how many, how sure on average, and which share was right.

    `accuracy95` is the interval of that share, by groups where images have some.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float
    accuracy95: tuple[float, float]


def reliability(predictions: Predictions, bins: int = BINS) -> tuple[Bin, ...]:
    """Return the occupied of `bins` bins of equal width, least confident first.

    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, ICML 2017, https://arxiv.org/abs/1706.04599; 15 bins as there.
    """
    sure, right = predictions.confidence, predictions.labels == predictions.targets
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    found = []
    for i in np.unique(place).tolist():
        inside = place == i
        limits = interval("accuracy", predictions.only(inside))
        found.append(
            Bin(
                low=float(edges[i]),
                high=float(edges[i + 1]),
                images=int(inside.sum()),
                confidence=float(sure[inside].mean()),
                accuracy=float(right[inside].mean()),
                accuracy95=(limits.low, limits.high),
            )
        )
    return tuple(found)


def calibration_error(found: tuple[Bin, ...]) -> float:
    """Return the expected calibration error, 0…1: the mean distance of confidence and accuracy over the images."""
    images = sum(each.images for each in found)
    return sum(each.images * abs(each.accuracy - each.confidence) for each in found) / max(images, 1)
