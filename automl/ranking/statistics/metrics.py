"""The metrics that trials are ranked by, equal to scikit-learn's, without its import.

Metrics of labels are functions of three counts per class (hits, images of the class, predictions of the class), with
scikit-learn's conventions: macro averages run over the classes that occur in the targets or the predictions, a ratio
without a denominator is 0, balanced accuracy averages over the classes that occur in the targets.

AUROC is the area under the ROC curve: with two classes that of the class 1, with more the mean over classes of "this
class against the rest" (scikit-learn's ``multi_class="ovr"``), from softmax probabilities. A class that all or none of
the images have has no curve: it is left out of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.ranking.statistics.predictions import Floats, Ints, Predictions
from automl.ranking.statistics.wilson import wilson

__all__ = [
    "METRICS",
    "ClassScore",
    "confusion",
    "curves",
    "larger_is_better",
    "per_class",
    "ratio",
    "score",
]

METRICS = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "log_loss", "auroc")


@dataclass(frozen=True)
class ClassScore:
    """One row of the per-class table; `recall95` is the 95 % interval of the recall."""

    label: str
    precision: float
    recall: float
    recall95: tuple[float, float] | None
    f1: float
    support: int


def larger_is_better(metric: str) -> bool:
    return metric != "log_loss"


def score(metric: str, predictions: Predictions) -> float:
    """Return one of `METRICS` for one trial (equal to scikit-learn's); NaN for AUROC where no class has a curve.

    Raises:
        ValueError: There is no such metric.
    """
    if metric == "log_loss":
        return float(predictions.losses.mean())
    if metric == "auroc":
        areas = [area for _, area in curves(predictions)]
        return float(np.mean(areas)) if areas else math.nan
    targets, labels, classes = predictions.targets, predictions.labels, predictions.logits.shape[1]
    hits = np.bincount(targets[targets == labels], minlength=classes)
    support, predicted = np.bincount(targets, minlength=classes), np.bincount(labels, minlength=classes)
    if metric == "accuracy":
        return float(hits.sum() / support.sum())
    if metric == "balanced_accuracy":
        return float(ratio(hits, support).sum() / (support > 0).sum())
    above_below = {
        "macro_recall": (hits, support),
        "macro_precision": (hits, predicted),
        "macro_f1": (2 * hits, support + predicted),
    }
    if metric not in above_below:
        raise ValueError(f'unknown metric "{metric}": expected one of {", ".join(METRICS)}')
    return float(ratio(*above_below[metric]).sum() / ((support > 0) | (predicted > 0)).sum())


def ratio(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """Return ``above / below``, and 0 where there is nothing to divide by."""
    out: Floats = np.zeros(np.shape(above), dtype=np.float64)
    np.divide(above, below, out=out, where=below > 0)
    return out


def curves(predictions: Predictions) -> list[tuple[Floats, float]]:
    """Return per class with a ROC curve the *placements* of the images ``(n,)`` and the area, their mean on each side.

    The placement of an image of the class is the share of other images that the trial holds less likely to be of the
    class; that of another image is the share of images of the class held more likely (equal counts half). E. R. DeLong,
    D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44(3), 1988, https://doi.org/10.2307/2531595.
    """
    probabilities, classes = predictions.probabilities, predictions.logits.shape[1]
    found = []
    for each in (1,) if classes == 2 else range(classes):
        inside = predictions.targets == each
        if inside.all() or not inside.any():
            continue
        ranks, placements = _ranks(probabilities[:, each]), np.empty(len(inside))
        placements[inside] = (ranks[inside] - _ranks(probabilities[inside, each])) / (~inside).sum()
        placements[~inside] = 1 - (ranks[~inside] - _ranks(probabilities[~inside, each])) / inside.sum()
        found.append((placements, float(placements[inside].mean())))
    return found


def _ranks(values: Floats) -> Floats:
    """Ranks from 1 on; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[place], dtype=np.float64)


def confusion(predictions: Predictions, classes: int) -> Ints:
    """Return counts ``(C, C)``; row = true class, column = predicted class."""
    cells = predictions.targets * classes + predictions.labels
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def per_class(
    counts: Ints, classes: Sequence[str], recall95: Mapping[int, tuple[float, float]] | None = None
) -> list[ClassScore]:
    """Return precision, recall and F1 of every class from a confusion matrix ``(C, C)``.

    Args:
        recall95: Intervals of the recalls, where Wilson's does not do (see `recall_limits`).
    """
    hits, support, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall, f1 = ratio(hits, predicted), ratio(hits, support), ratio(2 * hits, support + predicted)
    return [
        ClassScore(
            label=str(label),
            precision=float(precision[i]),
            recall=float(recall[i]),
            recall95=(recall95 or {}).get(i, wilson(int(hits[i]), int(support[i]))) if support[i] else None,
            f1=float(f1[i]),
            support=int(support[i]),
        )
        for i, label in enumerate(classes)
    ]
