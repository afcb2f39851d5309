"""Two-sided 95 % intervals of scores.

- *Accuracy, independent images*: Wilson's score interval. It has a closed form and keeps its coverage where few
  images are wrong, which is where good models live (E. B. Wilson, JASA 22, 1927; recommended for small samples by
  L. D. Brown, T. T. Cai, A. DasGupta, Statistical Science 16(2), 2001, https://doi.org/10.1214/ss/1009213286).
- *Every other share, and grouped images* (several of one patient, part or scene, right or wrong together): Wilson's
  interval at the effective number of images, that is, at which a plain share would vary as much as this score does
  (E. L. Korn, B. I. Graubard, Survey Methodology 24(2), 1998; for Wilson's: N. Dean, M. Pagano, Journal of Survey
  Statistics and Methodology 3(4), 2015, https://doi.org/10.1093/jssam/smv024). The variance is that of the
  contributions, summed within groups, whose number also sets the quantile (Student's t). A variance seen in few errors
  says little: it is averaged with what equal chances of error everywhere would give (of groups, if half of them were
  common to a group), which counts as four errors (for AUROC half a one).
- *Log loss*: the same variance, as a symmetric interval of its logarithm.

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

__all__ = ["Interval", "Limits", "interval", "limits", "student"]

_PRIOR_ERRORS = 4.0
_PRIOR_ERRORS_AUROC = 0.5  # an image that is out of place is a small part of an error


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
    z: float
    method: str


def interval(metric: str, predictions: Predictions) -> Interval:
    """Return the 95 % interval of one trial's score; the module docstring says by which method."""
    values = parts.contributions(metric, predictions)[None]
    found = limits(metric, values.mean(axis=1), values, predictions.targets, predictions.groups)
    return Interval(float(found.low[0]), float(found.high[0]), found.method)


def limits(metric: str, scores: Floats, values: NDArray[Any], targets: Ints, groups: Ints | None = None) -> Limits:
    """Return the 95 % intervals of trials that were scored on the same images.

    Args:
        scores: ``(T,)``.
        values: Contributions ``(T, n)``.
        targets, groups: Class and group of every image, ``(n,)``.
    """
    n = len(targets)
    if metric == "accuracy" and groups is None:
        sizes: Floats = np.full(len(scores), float(n))
        return Limits(*wilson_limits(scores, sizes), sizes, Z95, "Wilson")
    units = parts.number_units(groups)
    n_units = n if units is None else int(units.max()) + 1
    variances, errors = _variances(scores, values, units)
    z, of = (Z95, "images") if units is None else (student(n_units - 1), "groups")
    if metric == "log_loss":
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.exp(np.nan_to_num(z * np.sqrt(variances) / scores))
        return Limits(
            scores / factor, scores * factor, np.full(len(scores), np.nan), z, f"variance over {of}, log scale"
        )
    even = parts.balanced_size(metric, targets) * 2 / (1 + n / n_units)
    spread = scores * (1 - scores)
    known = (variances > 0) & (spread > 0)
    sizes = np.full(len(scores), even)
    seen, prior = errors[known], _PRIOR_ERRORS_AUROC if metric == "auroc" else _PRIOR_ERRORS
    sizes[known] = (seen + prior) / (seen * variances[known] / spread[known] + prior / even)
    return Limits(*wilson_limits(scores, sizes, z), sizes, z, f"Wilson, effective number of {of}")


def _variances(scores: Floats, values: NDArray[Any], units: Ints | None) -> tuple[Floats, Floats]:
    """Return the variance of each score, and in how many units it was seen: a variance that rests on m units that
    stand out is about as sure as one of m errors, ``(sum of squares)² / (sum of fourth powers)``."""
    n = values.shape[1]
    variances, errors = np.zeros(len(scores)), np.zeros(len(scores))
    for rows in parts.blocks(values):
        squares = parts.unit_sums(values[rows] - scores[rows, None], units) ** 2
        total, n_units = squares.sum(axis=1), squares.shape[1]
        variances[rows] = total / n**2 * n_units / max(1, n_units - 1)
        fourth = (squares**2).sum(axis=1)
        np.divide(total**2, fourth, out=errors[rows], where=fourth > 0)
    return variances, errors


def student(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t."""
    from scipy.special import stdtrit  # only where images are grouped: a leaderboard starts without scipy

    return float(stdtrit(max(1.0, freedom), 0.975))
