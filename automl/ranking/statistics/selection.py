"""What the best trial will really score: its own score less what being picked as the best explains.

The best of many noisy scores is partly lucky, the more so the more trials and the fewer images there were. The
correction asks how well *picking the best* does, on images that had no say in the picking (the idea of bootstrap bias
correction: I. Tsamardinos, E. Greasidou, G. Borboudakis, Machine Learning 107, 2018,
https://doi.org/10.1007/s10994-018-5714-4):

1. The images (whole groups, where they are grouped) are split into six parts, again and again. The best trial on four
   parts is scored on the other two, and the best on three parts on the other three. Each mean is an honest estimate
   of what is picked from two thirds, and from half, of the images.
2. From fewer images worse trials are picked. Scores of two thirds of the images vary by a half more than those of
   all, and scores of half of them by as much again, so a straight line through both means leads back to picking from
   all images: ``2 × (two thirds) - (half)``. This is simulation extrapolation (J. R. Cook, L. A. Stefanski, JASA 89,
   1994, https://doi.org/10.2307/2290994). The estimate is never better than the score itself.

Bootstrap bias correction draws with replacement, which adds as much noise as halving the images and stops there: it is
pessimistic where trials differ. Empirical Bayes (B. Efron, JASA 106, 2011) varies less where trials are many and alike,
but is off either way among ten, by a sixth of the bias on average. ``benchmarks/selection`` compares them.

**Interval.** Wilson's (on a log scale, for log loss), at five sixths of the effective number of images: the
estimate varies more than one score. Its end towards better scores reaches at least as far as that of a quarter of the
way to the score itself. ``benchmarks/selection`` shows how often it holds the truth: least where trials share nothing
of what makes an image hard, as no real ones do.

**What it does not see**: luck that trials share because later ones were proposed near earlier lucky ones and make the
same mistakes, and luck with which trials survived early stopping.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.ranking.statistics.comparison import contenders
from automl.ranking.statistics.contributions import count_units, number_units, unit_sums
from automl.ranking.statistics.intervals import Limits
from automl.ranking.statistics.predictions import Floats, Ints
from automl.ranking.statistics.wilson import wilson_limits

__all__ = ["BestCorrected", "correct_best"]

PARTS = 6
SPLITS = 30
LEAST_UNITS = 30
_MORE_VARIANCE = 1.2
_TOWARDS_SCORE = 0.25
_METHOD = "picking on 2/3 and 1/2 of the images, scoring on the rest, extrapolated to all"


@dataclass(frozen=True)
class BestCorrected:
    """The selection-corrected estimate of the best score: what the trial that was picked is expected to score.

    `luck` is how much worse that is than its score, in the metric's unit (0 or more); `trials` is how many it was
    picked from.
    """

    value: float
    ci95: tuple[float, float]
    luck: float
    trials: int
    method: str


def correct_best(
    values: NDArray[Any],
    scores: Floats,
    best: int,
    own: Limits,
    *,
    larger: bool,
    preference: NDArray[Any] | None = None,
    groups: Ints | None = None,
    seed: int = 0,
) -> BestCorrected | None:
    """Return the corrected estimate of the score of the trial `best`; None on fewer than 30 images (groups).

    Args:
        values: Contributions ``(T, n)`` on the same images.
        scores: ``(T,)``.
        best: Row of the trial with the best score.
        own: Intervals of the scores, each ``(T,)``.
        larger: Whether larger scores are better.
        preference: Which of two equal scores is picked: the one with the lower number, ``(T,)``; default: the first.
        groups: Group of every image, ``(n,)``.
    """
    score, size, z = (float(each[best]) for each in (scores, own.sizes, own.z))
    if len(scores) == 1:
        return BestCorrected(score, (float(own.low[best]), float(own.high[best])), 0.0, 1, "one trial, nothing picked")
    units = number_units(groups)
    n_units = count_units(values, units)
    if n_units < LEAST_UNITS:
        return None
    rows = np.flatnonzero(contenders(values, scores, best, larger=larger, groups=groups))
    if preference is not None:
        rows = rows[np.argsort(preference[rows], kind="stable")]
    rng = np.random.default_rng(seed)
    two_thirds, half = _picked(values[rows], units, n_units, 1 if larger else -1, rng)
    value = 2 * two_thirds - half
    value = min(score, value) if larger else max(score, value)
    nearer = value + (score - value) * _TOWARDS_SCORE
    if math.isnan(size):
        wider, down = math.sqrt(_MORE_VARIANCE), float(own.low[best]) / score if score > 0 else 1.0
        low = min(value * down**wider, nearer * down)
        high = value + wider * (float(own.high[best]) - score)
    else:
        value, nearer = max(0.0, value), max(0.0, nearer)
        low, high = (float(each) for each in wilson_limits(value, size / _MORE_VARIANCE, z))
        high = max(high, float(wilson_limits(nearer, size, z)[1]))
    return BestCorrected(value, (low, high), abs(score - value), len(scores), _METHOD)


def _picked(
    values: NDArray[Any], units: Ints | None, n_units: int, sign: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the mean score, on the other images, of what is best on two thirds, and on half, of the images."""
    images = np.ones(n_units) if units is None else np.bincount(units)
    sums = unit_sums(values, units)
    telling = (sums != sums[:1]).any(axis=0)
    common = sums[0] * ~telling
    part_of = np.empty((n_units, SPLITS), dtype=np.int64)
    for split in range(SPLITS):
        part_of[rng.permutation(n_units), split] = np.arange(n_units) % PARTS
    member = (part_of[:, :, None] == np.arange(PARTS)).reshape(n_units, -1).astype(np.float32)
    in_part = sums[:, telling].astype(np.float32) @ member[telling] + (common @ member).astype(np.float32)
    in_part, sizes = in_part.reshape(-1, SPLITS, PARTS), (images @ member).reshape(SPLITS, PARTS)
    honest = []
    for parts in (PARTS * 2 // 3, PARTS // 2):
        chosen = np.zeros((math.comb(PARTS, parts), PARTS), dtype=np.float32)
        for row, each in zip(chosen, itertools.combinations(range(PARTS), parts), strict=True):
            row[list(each)] = 1
        picked = (sign * in_part @ chosen.T).argmax(axis=0)  # (splits, choices of parts)
        elsewhere = (in_part[picked, np.arange(SPLITS)[:, None]] * (1 - chosen)).sum(axis=2)
        honest.append(float((elsewhere / (sizes @ (1 - chosen).T)).mean()))
    return honest[0], honest[1]
