"""Two-sided 95 % intervals of scores.

- *Accuracy, independent images*: Wilson's score interval. It has a closed form and keeps its coverage where few
  images are wrong, which is where good models live (E. B. Wilson, JASA 22, 1927; recommended for small samples by
  L. D. Brown, T. T. Cai, A. DasGupta, Statistical Science 16(2), 2001, https://doi.org/10.1214/ss/1009213286).
- *Every other share, and grouped images* (several of one patient, part or scene, right or wrong together): Wilson's
  interval at the effective number of images, that is, at which a plain share would vary as much as this score does
  (E. L. Korn, B. I. Graubard, Survey Methodology 24(2), 1998; for Wilson's: N. Dean, M. Pagano, Journal of Survey
  Statistics and Methodology 3(4), 2015, https://doi.org/10.1093/jssam/smv024). The variance is that of the
  contributions, summed within groups, whose number also sets the quantile (Student's t).
- A variance seen in few errors says little. *Of means over classes*, every class has half an error and half a hit more
  than were counted (Jeffreys' prior, as in Brown et al.; of groups, they are whole groups): a rare class without an
  error may still have some, and its images weigh most. *Of AUROC, and of the accuracy of groups*, the variance is
  averaged with what equal chances of error everywhere would give (of groups, if half of them were common to a group),
  which counts as one error (for AUROC as a quarter of one): as much as keeps the coverage of groups at 93 to 99 %
  where it was chosen (`of_groups` of ``benchmarks/selection``); with other numbers, sizes and correlations it is 91 to
  99 %.
- *Log loss*: few images can make up most of it, and those that would may not be among the images. So its ends are those
  of a sum of weighted rare events, with half a mistake more than was seen at the upper one (M. P. Fay, E. J. Feuer,
  Statistics in Medicine 16(7), 1997, whose gamma distribution is used, with their whole event halved as in Jeffreys'
  prior); a mistake costs what the image at hand would have cost, had its class been another one. The upper end is at
  least that of a symmetric interval of the logarithm, with Student's t of as many degrees of freedom as images (or
  groups) stand out, four at least: half of what F. E. Satterthwaite, Biometrics Bulletin 2(6), 1946, has for a
  variance, since losses are skewed.

A percentile bootstrap covers less where errors or images of a class are few: it cannot draw the errors that were not
made. ``benchmarks/selection`` has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automl.ranking.statistics import contributions as parts
from automl.ranking.statistics.predictions import Floats, Ints, Predictions
from automl.ranking.statistics.wilson import Z95, wilson_limits

__all__ = ["Interval", "Limits", "interval", "limits", "recall_limits", "student"]

_PRIOR_ERRORS = 1.0
_PRIOR_ERRORS_AUROC = 0.25  # an image that is out of place is a small part of an error
_PRIOR_MISTAKES = 0.5
_LEAST_OUTSTANDING = 4.0
_LEAST_LOSS = 1e-7  # of an image, as float32 has it
_MOST_LOGS = 50.0
_TAIL = 0.025


@dataclass(frozen=True)
class Interval:
    """Limits of a two-sided interval, and how it was made."""

    low: float
    high: float
    method: str

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


class Limits(NamedTuple):
    """Intervals of many scores, each ``(T,)``; `sizes` are effective numbers of images (NaN for the log loss), `z` is
    how many standard errors the intervals reach."""

    low: Floats
    high: Floats
    sizes: Floats
    z: Floats
    method: str


def interval(metric: str, predictions: Predictions) -> Interval:
    """Return the 95 % interval of one trial's score; the module docstring says by which method."""
    values = parts.contributions(metric, predictions)[None]
    found = limits(metric, values.mean(axis=1), values, predictions.targets, predictions.groups)
    return Interval(float(found.low[0]), float(found.high[0]), found.method)


def recall_limits(predictions: Predictions) -> dict[int, tuple[float, float]]:
    """Return the 95 % limits of the recall of every class that has images: of the accuracy of its images alone, by
    groups where there are some."""
    found = {}
    for each in np.unique(predictions.targets).tolist():
        of_class = interval("accuracy", predictions.only(predictions.targets == each))
        found[each] = of_class.low, of_class.high
    return found


def limits(metric: str, scores: Floats, values: NDArray[Any], targets: Ints, groups: Ints | None = None) -> Limits:
    """Return the 95 % intervals of trials that were scored on the same images.

    Args:
        scores: ``(T,)``.
        values: Contributions ``(T, n)``.
        targets, groups: Class and group of every image, ``(n,)``.
    """
    n, units = len(targets), parts.number_units(groups)
    n_units = parts.count_units(values, units)
    if metric == "accuracy" and units is None:
        sizes: Floats = np.full(len(scores), float(n))
        return Limits(*wilson_limits(scores, sizes), sizes, np.full(len(scores), Z95), "Wilson")
    of = "images" if units is None else "groups"
    if metric == "log_loss":
        low, high, z = _of_losses(scores, values, units)
        return Limits(low, high, np.full(len(scores), np.nan), z, f"weighted rare events, variance over {of}")
    if metric in ("accuracy", "auroc"):
        sizes = _size(metric, scores, values, units, parts.balanced_size(metric, targets) * 2 / (1 + n / n_units))
    else:
        sizes = _size_of_classes(scores, values, targets, units)
    z = np.full(len(scores), Z95) if units is None else student(np.full(len(scores), n_units - 1))
    return Limits(*wilson_limits(scores, sizes, z), sizes, z, f"Wilson, effective number of {of}")


def _of_losses(scores: Floats, losses: NDArray[Any], units: Ints | None) -> tuple[Floats, Floats, Floats]:
    """Return the limits of mean losses ``(T,)``, and the standard errors that the upper ones reach at least."""
    from scipy.special import gammaincinv

    n_units, (variances, outstanding) = parts.count_units(losses, units), _variances(scores, losses, units)
    freedom = np.maximum(outstanding, _LEAST_OUTSTANDING)
    z = student(freedom if units is None else np.minimum(freedom, n_units - 1))
    spread = variances if units is None else variances * (student(n_units - 1) / Z95) ** 2
    mistaken = np.empty(len(scores))  # mean loss of images that are mistakes, or had they been
    for rows in parts.blocks(losses):
        kept = np.maximum(losses[rows].astype(np.float64), _LEAST_LOSS)
        mistaken[rows] = np.maximum(kept, -np.log(-np.expm1(-kept))).mean(axis=1)
    more = _PRIOR_MISTAKES * mistaken / n_units
    with np.errstate(divide="ignore", invalid="ignore"):
        low = gammaincinv(scores**2 / spread, _TAIL) * spread / scores
        symmetric = scores * np.exp(np.minimum(z * np.sqrt(variances) / scores, _MOST_LOGS))
    low = np.where((spread > 0) & (scores > 0), low, scores if n_units > 1 else 0.0)
    above, spread = scores + more, spread + more**2
    high = gammaincinv(above**2 / spread, 1 - _TAIL) * spread / above
    return np.minimum(low, scores), np.fmax(high, symmetric), z


def _size_of_classes(scores: Floats, values: NDArray[Any], targets: Ints, units: Ints | None) -> Floats:
    """Return the effective numbers of images of means over classes, ``(T,)``."""
    n, classes = len(targets), np.unique(targets, return_inverse=True)[1]
    of_unit = np.arange(n) if units is None else units
    counts = np.bincount(np.unique(np.stack([of_unit, classes]), axis=1)[1]).astype(np.float64)  # units with the class
    kept = (counts / (counts + 1)) ** 2
    added = kept * (1 / 2 + 1 / (4 * counts)) / counts**2 / len(counts) ** 2
    variances = np.empty(len(scores))
    for rows in parts.blocks(values):
        apart = values[rows] - scores[rows, None]
        of_class = parts.unit_sums(apart**2, classes)
        total = of_class.sum(axis=1)
        known = np.divide(of_class @ kept, total, out=np.zeros(len(total)), where=total > 0)
        variances[rows] = known * (parts.unit_sums(apart, units) ** 2).sum(axis=1) / n**2 + added.sum()
    missed = 1 - scores + (scores - 1 / 2) * (1 / (counts + 1)).mean()
    return np.asarray(missed * (1 - missed) / variances)


def _size(metric: str, scores: Floats, values: NDArray[Any], units: Ints | None, even: float) -> Floats:
    """Return the effective numbers of images, ``(T,)``; `even`: with errors that are equally likely everywhere."""
    variances, errors = _variances(scores, values, units)
    spread, sizes = scores * (1 - scores), np.full(len(scores), even)
    known = (variances > 0) & (spread > 0)
    seen, prior = errors[known], _PRIOR_ERRORS_AUROC if metric == "auroc" else _PRIOR_ERRORS
    sizes[known] = (seen + prior) / (seen * variances[known] / spread[known] + prior / even)
    return sizes


def _variances(scores: Floats, values: NDArray[Any], units: Ints | None) -> tuple[Floats, Floats]:
    """Return the variance of each score, and in how many units it was seen: a variance that rests on m units that
    stand out is about as sure as one of m errors, ``(sum of squares)² / (sum of fourth powers)``."""
    n, n_units = values.shape[1], parts.count_units(values, units)
    variances, errors = np.zeros(len(scores)), np.zeros(len(scores))
    for rows in parts.blocks(values):
        squares = parts.unit_sums(values[rows] - scores[rows, None], units) ** 2
        total = squares.sum(axis=1)
        variances[rows] = total / n**2 * n_units / max(1, n_units - 1)
        fourth = (squares**2).sum(axis=1)
        np.divide(total**2, fourth, out=errors[rows], where=fourth > 0)
    return variances, errors


def student(freedom: Any, level: float = 0.975) -> Floats:
    """Return the quantiles of Student's t at `level`, as many as degrees of freedom were given."""
    from scipy.special import stdtrit  # only for groups and the log loss: a leaderboard starts without scipy

    return np.asarray(stdtrit(np.maximum(1.0, freedom), level), dtype=np.float64)
