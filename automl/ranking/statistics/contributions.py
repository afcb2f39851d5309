"""Contributions: one number per image whose mean is the score, for every metric.

The contribution of an image is the score plus its empirical influence value, that is, how fast the score moves as the
image gains weight (F. R. Hampel, JASA 69, 1974; B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 21 and 22). Weighted means of contributions are the reweighted score itself for accuracy (correct or not) and
log loss (the loss), and its linear approximation for ratios of counts; for AUROC they are the placements of
DeLong et al. (see `metrics.curves`). Standard errors, paired differences and resampling all follow from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.ranking.statistics.metrics import curves, ratio, score
from automl.ranking.statistics.predictions import Floats, Ints, Predictions

__all__ = ["balanced_size", "blocks", "contributions", "count_units", "number_units", "unit_sums"]

_CELLS_AT_ONCE = 4_000_000


def contributions(metric: str, predictions: Predictions) -> NDArray[Any]:
    """Return the contribution of every image, ``(n,)``: uint8 for accuracy (0 or 1), else float64.

    Raises:
        ValueError: There is no such metric.
    """
    targets, labels = predictions.targets, predictions.labels
    if metric == "accuracy":
        return np.asarray(labels == targets, dtype=np.uint8)
    if metric == "log_loss":
        return predictions.losses
    value, n, classes = score(metric, predictions), len(targets), predictions.logits.shape[1]
    if metric == "auroc":
        return value + _auroc_influence(predictions)
    right = (labels == targets).astype(np.float64)
    support, predicted = np.bincount(targets, minlength=classes) / n, np.bincount(labels, minlength=classes) / n
    hits = np.bincount(targets, weights=right, minlength=classes) / n
    counted = int((support > 0).sum() if metric == "balanced_accuracy" else ((support > 0) | (predicted > 0)).sum())
    if metric == "macro_precision":
        influence = (right - ratio(hits, predicted)[labels]) / predicted[labels]
    elif metric == "macro_f1":
        f1, per_count = ratio(2 * hits, support + predicted), ratio(np.ones(classes), support + predicted)
        influence = (2 * right - f1[targets]) * per_count[targets] - f1[labels] * per_count[labels]
    else:
        influence = (right - ratio(hits, support)[targets]) / support[targets]
    return np.asarray(value + influence / counted, dtype=np.float64)


def _auroc_influence(predictions: Predictions) -> Floats:
    classes = predictions.logits.shape[1]
    counts = np.bincount(predictions.targets, minlength=classes)
    counted = [each for each in ((1,) if classes == 2 else range(classes)) if 0 < counts[each] < counts.sum()]
    total: Floats = np.zeros(len(predictions.targets))
    for each, (placements, area) in zip(counted, curves(predictions), strict=True):
        inside = predictions.targets == each
        total += (placements - area) / np.where(inside, inside.mean(), 1 - inside.mean())
    return total / max(1, len(counted))


def balanced_size(metric: str, targets: Ints) -> float:
    """Return how many independent images of evenly spread classes would say as much about `metric` as these, if
    errors were equally likely everywhere: fewer than there are where a rare class counts as much as a common one."""
    every, n = np.bincount(targets), len(targets)
    counts = every[every > 0].astype(np.float64)
    if metric in ("accuracy", "log_loss") or len(counts) < 2:
        return float(n)
    if metric == "auroc":
        counts = 4 / (1 / counts + 1 / (n - counts))
        counts = counts[: 1 if len(counts) == 2 else None]  # two classes have one curve
    return float(min(n, len(counts) ** 2 / (1 / counts).sum()))


def number_units(groups: Ints | None) -> Ints | None:
    """Return the groups of the images numbered from 0 on, None where every image stands for itself."""
    if groups is None:
        return None
    known, numbers = np.unique(groups, return_inverse=True)
    return np.asarray(numbers, dtype=np.int64) if len(known) < len(groups) else None


def count_units(values: NDArray[Any], units: Ints | None) -> int:
    """Return how many images, or groups of them, `values` ``(T, n)`` are of."""
    return values.shape[1] if units is None else int(units.max()) + 1


def blocks(matrix: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of the rows of `matrix` that are few enough to be worked on in float64 at a time."""
    step = max(1, _CELLS_AT_ONCE // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), step):
        yield slice(start, start + step)


def unit_sums(values: NDArray[Any], units: Ints | None) -> NDArray[Any]:
    """Return `values` ``(..., n)`` summed within units, ``(..., U)``; without units, as they are."""
    if units is None:
        return values
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1, dtype=np.float64))
