"""How often intervals of a score hold the truth, by the number of validation images."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from automl.ranking.statistics import METRICS, Predictions, interval, score
from automl.ranking.statistics.metrics import ratio
from automl.ranking.statistics.wilson import wilson_limits
from benchmarks.selection.worlds import CLASSIFIERS, classifier, grouped

__all__ = ["of_accuracy", "of_groups", "of_metrics"]

ACCURACIES = np.linspace(0.6, 0.995, 396)
POPULATION = 300_000
DRAWS = 500


def of_accuracy(sizes: list[int]) -> pd.DataFrame:
    """Return the exact coverage of the interval of the accuracy, over true accuracies from 0.600 to 0.995."""
    rows = []
    for n in sizes:
        hits = np.arange(n + 1)
        low, high = wilson_limits(hits / n, float(n))
        chances = binom.pmf(hits[None], n, ACCURACIES[:, None])
        inside = (low <= ACCURACIES[:, None]) & (ACCURACIES[:, None] <= high)
        coverage = (chances * inside).sum(axis=1)
        worst = int(coverage.argmin())
        rows.append(
            {
                "images": n,
                "mean coverage": coverage.mean(),
                "of accuracies, share between 93 and 97 %": ((coverage >= 0.93) & (coverage <= 0.97)).mean(),
                "worst coverage": coverage[worst],
                "at accuracy": ACCURACIES[worst],
                "mean width": (chances * (high - low)).sum(axis=1).mean(),
            }
        )
    return pd.DataFrame(rows)


def of_groups(studies: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return the coverage of the interval of the accuracy where images are right and wrong in groups."""
    rows = []
    for groups, size in ((20, 15), (50, 10), (100, 10), (400, 5)):
        for accuracy in (0.8, 0.95, 0.99):
            for correlation in (0.3, 0.8):
                held = []
                for _ in range(studies):
                    right, of_group = grouped(accuracy, groups, size, correlation, rng)
                    held.append([accuracy in _interval_of_right(right, each) for each in (of_group, None)])
                coverage, alone = np.mean(held, axis=0)
                rows.append(
                    {
                        "groups": groups,
                        "images of each": size,
                        "accuracy": accuracy,
                        "correlation": correlation,
                        "studies": studies,
                        "coverage": coverage,
                        "if groups were ignored": alone,
                    }
                )
    return pd.DataFrame(rows)


def _interval_of_right(right: NDArray[np.bool_], groups: NDArray[np.int64] | None):
    logits = np.stack([right, ~right], axis=1).astype(np.float32)
    n = len(right)
    return interval("accuracy", Predictions(logits, np.zeros(n, np.int64), np.arange(n), groups))


def of_metrics(sizes: list[int], studies: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return the coverage of the intervals of every other metric, beside that of a percentile bootstrap of counts."""
    rows = []
    for name in CLASSIFIERS:
        logits, targets = classifier(name, POPULATION, rng)
        everyone = Predictions(logits, targets, np.arange(POPULATION))
        truth = {metric: score(metric, everyone) for metric in METRICS[1:]}
        for n in sizes:
            held: dict[tuple[str, str], list[bool]] = {}
            for _ in range(studies):
                logits, targets = classifier(name, n, rng)
                sample = Predictions(logits, targets, np.arange(n))
                for metric, value in truth.items():
                    held.setdefault((metric, "coverage"), []).append(value in interval(metric, sample))
                for metric, (low, high) in _bootstrap(sample, rng).items():
                    held.setdefault((metric, "bootstrap"), []).append(low <= truth[metric] <= high)
            for metric in truth:
                row = {"classifier": name, "images": n, "metric": metric, "truth": truth[metric], "studies": studies}
                for kind in ("coverage", "bootstrap"):
                    row[kind] = np.mean(held[metric, kind]) if (metric, kind) in held else np.nan
                rows.append(row)
    return pd.DataFrame(rows)


def _bootstrap(predictions: Predictions, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Percentile intervals of balanced accuracy and macro F1. Images of one cell of the confusion matrix are alike, so
    a resample of images is one multinomial draw of cells."""
    n, classes = predictions.logits.shape
    cells = np.bincount(predictions.targets * classes + predictions.labels, minlength=classes**2)
    counts = rng.multinomial(n, cells / n, size=DRAWS).reshape(-1, classes, classes).astype(np.float64)
    hits, support, said = np.einsum("bcc->bc", counts), counts.sum(axis=2), counts.sum(axis=1)
    present = ((support > 0) | (said > 0)).sum(axis=1)
    scores = {
        "balanced_accuracy": ratio(hits, support).sum(axis=1) / (support > 0).sum(axis=1),
        "macro_f1": ratio(2 * hits, support + said).sum(axis=1) / present,
    }
    return {name: tuple(np.quantile(each, [0.025, 0.975])) for name, each in scores.items()}
