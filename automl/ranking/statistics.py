"""How sure a score is: metrics from confusion counts, intervals, and the paired comparison with the best.

**Metrics** of labels are functions of three counts per class (hits, images of the class, predictions of the class),
with scikit-learn's conventions: macro averages run over the classes that occur in the targets or the predictions, a
ratio without a denominator is 0, balanced accuracy averages over the classes that occur in the targets.

**Intervals** are two-sided, at 95 % unless told otherwise.

- *Accuracy, independent images*: Wilson's score interval. It has a closed form and keeps its coverage where few
  images are wrong, which is where good models live (E. B. Wilson, JASA 22, 1927; recommended for small samples by
  L. D. Brown, T. T. Cai, A. DasGupta, Statistical Science 16(2), 2001, https://doi.org/10.1214/ss/1009213286).
- *Every other metric*: the percentile bootstrap over validation images (B. Efron, R. J. Tibshirani, An Introduction
  to the Bootstrap, 1993, chapter 13). Images in the same cell of the confusion matrix are interchangeable, so
  resampling n images is one multinomial draw of n over the occupied cells: exact, and independent of n.
- *Grouped images* (several images of one patient, part or scene): whole groups are resampled, since images of one
  group are right or wrong together (the cluster bootstrap: A. C. Davison, D. V. Hinkley, Bootstrap Methods and their
  Application, 1997, section 3.8). This holds for accuracy too.
- Without a single error a bootstrap has nothing to resample and would claim certainty; Wilson's interval for the
  share of correct images (or groups) stands in.

**Comparisons** with the best trial are a paired bootstrap of the difference on the same images (P. Koehn, EMNLP 2004,
https://aclanthology.org/W04-3250). They are per pair: no correction for the number of trials is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "METRICS",
    "RESAMPLES",
    "ClassScore",
    "Interval",
    "Predictions",
    "confusion",
    "difference",
    "interval",
    "per_class",
    "score",
    "wilson",
]

METRICS = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "log_loss")
RESAMPLES = 2000
_Z95 = 1.959963984540054
_CELLS_AT_ONCE = 4_000_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """Limits of a two-sided interval, and how it was made."""

    low: float
    high: float
    method: str

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class ClassScore:
    """One row of the per-class table; `recall95` is Wilson's interval of the recall."""

    label: str
    precision: float
    recall: float
    recall95: tuple[float, float] | None
    f1: float
    support: int


@dataclass(frozen=True)
class Predictions:
    """What one trial said about the validation images.

    `logits` is ``(n, C)``, `targets` and `rows` (row numbers of the manifest) are ``(n,)``; `groups` is ``(n,)`` with
    the number of each image's group, or None where every image stands for itself.
    """

    logits: NDArray[np.floating[Any]]
    targets: Ints
    rows: Ints
    groups: Ints | None = None

    @property
    def labels(self) -> Ints:
        """Predicted class of each image, ``(n,)``."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def losses(self) -> Floats:
        """Negative log-likelihood of each image's class, ``(n,)``, in nats."""
        logits = np.asarray(self.logits, dtype=np.float64)
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return np.asarray(total - logits[np.arange(len(logits)), self.targets], dtype=np.float64)

    @property
    def confidence(self) -> Floats:
        """Softmax probability of the predicted class of each image, ``(n,)`` in [0, 1]."""
        logits = np.asarray(self.logits, dtype=np.float64)
        return np.asarray(1.0 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1), dtype=np.float64)

    def same_images(self, other: Predictions) -> bool:
        """Whether both trials saw the same images in the same order."""
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.targets, other.targets)


def confusion(predictions: Predictions, classes: int) -> Ints:
    """Return counts ``(C, C)``; row = true class, column = predicted class."""
    cells = predictions.targets * classes + predictions.labels
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def score(metric: str, predictions: Predictions) -> float:
    """Return one of `METRICS` for one trial (equal to scikit-learn's)."""
    if metric == "log_loss":
        return float(predictions.losses.mean())
    targets, labels, classes = predictions.targets, predictions.labels, predictions.logits.shape[1]
    hits = np.bincount(targets[targets == labels], minlength=classes)
    counts = [hits, np.bincount(targets, minlength=classes), np.bincount(labels, minlength=classes)]
    return float(_from_counts(metric, *(np.asarray(count, dtype=np.float64)[None] for count in counts))[0])


def _from_counts(metric: str, hits: Floats, support: Floats, predicted: Floats) -> Floats:
    """Metric of ``(..., C)`` counts per class, returned as ``(...)``."""
    if metric == "accuracy":
        return np.asarray(hits.sum(-1) / support.sum(-1), dtype=np.float64)
    recall = _ratio(hits, support)
    if metric == "balanced_accuracy":
        return _ratio(recall.sum(-1), (support > 0).sum(-1))
    per_class = {
        "macro_recall": lambda: recall,
        "macro_precision": lambda: _ratio(hits, predicted),
        "macro_f1": lambda: _ratio(2 * hits, support + predicted),
    }
    if metric not in per_class:
        raise ValueError(f'unknown metric "{metric}": expected one of {", ".join(METRICS)}')
    return _ratio(per_class[metric]().sum(-1), ((support > 0) | (predicted > 0)).sum(-1))


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    out: Floats = np.zeros(np.shape(above), dtype=np.float64)
    np.divide(above, below, out=out, where=below > 0)
    return out


def wilson(successes: float, n: float, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a share: ``(low, high)`` in [0, 1]; ``(0, 1)`` for n = 0."""
    if n <= 0:
        return 0.0, 1.0
    share, shrink = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == n else min(1.0, centre + half)


def interval(metric: str, predictions: Predictions, *, seed: int | list[int], resamples: int = RESAMPLES) -> Interval:
    """Return the 95 % interval of one trial's score; the module docstring says by which method."""
    labels, targets, groups = predictions.labels, predictions.targets, predictions.groups
    hits = int((labels == targets).sum())
    if metric == "accuracy" and groups is None:
        return Interval(*wilson(hits, len(targets)), method="Wilson")
    if metric != "log_loss" and hits == len(targets):
        return Interval(*wilson(units := _units(predictions), units), method="Wilson (no errors to resample)")
    samples = _bootstrap([predictions], metric, seed, resamples)[0]
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(float(low), float(high), "bootstrap over images" if groups is None else "bootstrap over groups")


def difference(
    metric: str, best: Predictions, other: Predictions, *, seed: int | list[int], resamples: int = RESAMPLES
) -> Interval:
    """Return the 95 % interval of score(best) - score(other), both on the same resampled images.

    Raises:
        ValueError: The two trials were not evaluated on the same images.
    """
    if not best.same_images(other):
        raise ValueError("a paired comparison needs the same images in the same order")
    first, second = _bootstrap([best, other], metric, seed, resamples)
    low, high = np.quantile(first - second, [0.025, 0.975])
    return Interval(float(low), float(high), "paired bootstrap")


def per_class(counts: Ints, classes: list[str] | tuple[str, ...]) -> list[ClassScore]:
    """Return precision, recall and F1 of every class from a confusion matrix ``(C, C)``."""
    hits, support, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall, f1 = _ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, support + predicted)
    return [
        ClassScore(
            label=str(label),
            precision=float(precision[i]),
            recall=float(recall[i]),
            recall95=wilson(int(hits[i]), int(support[i])) if support[i] else None,
            f1=float(f1[i]),
            support=int(support[i]),
        )
        for i, label in enumerate(classes)
    ]


def _units(predictions: Predictions) -> int:
    return len(predictions.targets) if predictions.groups is None else len(np.unique(predictions.groups))


def _bootstrap(trials: list[Predictions], metric: str, seed: int | list[int], resamples: int) -> list[Floats]:
    """Resample the images once and return the metric of each trial on them: arrays ``(resamples,)``."""
    rng = np.random.default_rng(seed)
    targets, groups, classes = trials[0].targets, trials[0].groups, trials[0].logits.shape[1]
    if metric == "log_loss":
        units = np.arange(len(targets)) if groups is None else np.unique(groups, return_inverse=True)[1]
        width, draw, collect = int(units.max()) + 1, _cells(rng, np.unique(units)), _mean_losses(trials, units)
    else:
        kinds, of_image = np.unique(
            np.stack([targets, *(trial.labels for trial in trials)]), axis=1, return_inverse=True
        )
        of_image = of_image.reshape(-1)
        width, draw = kinds.shape[1], _cells(rng, of_image) if groups is None else _clusters(rng, of_image, groups)
        collect = _label_scores(metric, kinds, classes)
    step = max(1, _CELLS_AT_ONCE // max(width, classes))
    parts = [collect(draw(min(step, resamples - start))) for start in range(0, resamples, step)]
    return [np.concatenate([part[i] for part in parts]) for i in range(len(trials))]


def _cells(rng: np.random.Generator, of_image: Ints) -> Callable[[int], Floats]:
    """Draw counts per kind of image, ``(size, kinds)``, images being independent."""
    n, counts = len(of_image), np.bincount(of_image)

    def draw(size: int) -> Floats:
        if len(counts) < n // 2:
            return rng.multinomial(n, counts / n, size=size).astype(np.float64)
        taken = of_image[rng.integers(n, size=(size, n))] + np.arange(size)[:, None] * len(counts)
        return np.bincount(taken.reshape(-1), minlength=size * len(counts)).reshape(size, -1).astype(np.float64)

    return draw


def _clusters(rng: np.random.Generator, of_image: Ints, groups: Ints) -> Callable[[int], Floats]:
    """Draw counts per kind of image, ``(size, kinds)``, taking whole groups."""
    _, group = np.unique(groups, return_inverse=True)
    n_groups, n_kinds = int(group.max()) + 1, int(of_image.max()) + 1
    contents = np.bincount(group * n_kinds + of_image, minlength=n_groups * n_kinds).reshape(n_groups, n_kinds)
    contents = contents.astype(np.float64)

    def draw(size: int) -> Floats:
        weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=size)
        return np.asarray(weights.astype(np.float64) @ contents)

    return draw


def _mean_losses(trials: list[Predictions], units: Ints) -> Callable[[Floats], list[Floats]]:
    sums = np.stack([np.bincount(units, weights=trial.losses) for trial in trials], axis=1)
    sizes = np.bincount(units).astype(np.float64)
    return lambda counts: list((counts @ sums / (counts @ sizes)[:, None]).T)


def _label_scores(metric: str, kinds: Ints, classes: int) -> Callable[[Floats], list[Floats]]:
    """`kinds` is ``(1 + trials, K)``: the true class and each trial's prediction of every kind of image."""
    eye = np.eye(classes)
    truth = eye[kinds[0]]

    def collect(counts: Floats) -> list[Floats]:
        support = counts @ truth
        return [
            _from_counts(metric, counts @ (truth * (kinds[0] == labels)[:, None]), support, counts @ eye[labels])
            for labels in kinds[1:]
        ]

    return collect
