"""Which trials cannot be told apart from the best: paired comparisons, corrected for how many trials were compared.

A trial is *tied* with the best where it may be the one that is really best. The set of tied trials is built as multiple
comparisons with the best (J. C. Hsu, Multiple Comparisons, 1996, chapter 4) by the steps of a model confidence set
(P. R. Hansen, A. Lunde, J. M. Nason, Econometrica 79(2), 2011, https://doi.org/10.3982/ECTA5771):

1. All trials are rescored on the same resampled images (whole groups, where images are grouped), and of every resample
   the *luck* of a trial is kept: its new score minus its own.
2. A trial stays while the best leads it by no more than the luckiest trial of a resample beats it by, in luck, in all
   but 2.5 % of the resamples: 2.5 % is what a two-sided 95 % interval leaves out on this side.
3. Trials that went cannot be the luckiest any more, so step 2 is repeated among those that stayed, until none goes.

Trials so far behind that step 2 could not keep them (Bonferroni, at 0.1 %) are left out from the start. Against a
Bonferroni correction of paired comparisons the set is smaller, since trials err on the same images, and since those
that are clearly worse do not count. ``benchmarks/selection`` shows how often it holds the best trial.

*Few units* (fewer than a hundred images, or groups where they are grouped) drawn again and again show too little of how
others would differ. So what comes of it is stretched to Student's t with as many degrees of freedom as units less one,
and fewer than ten are weighed by normal numbers instead of drawn (C. F. J. Wu, Annals of Statistics 14(4), 1986,
https://doi.org/10.1214/aos/1176350142). One group says nothing of others: all trials are tied.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.ranking.statistics.contributions import blocks, contributions, count_units, number_units, unit_sums
from automl.ranking.statistics.intervals import Interval, student
from automl.ranking.statistics.predictions import Floats, Ints, Predictions
from automl.ranking.statistics.wilson import Z95

__all__ = ["LEAST_DRAWN", "Comparison", "compare_with_best", "contenders", "difference", "stretch"]

RESAMPLES = 1000
LEAST_RESAMPLES = 400
_PRODUCTS = 1e10  # that a comparison may cost, about a second; more trials and images leave fewer resamples
_TAIL = 0.025
_SURELY_BEHIND = 0.001
_EQUAL = 1e-6  # what single precision may add to a difference
_DRAWN_AT_ONCE = 500_000
LEAST_DRAWN = 10  # units
_FEW = 100
_ALONE = 12.7  # standard errors of one group: Student's t with one degree of freedom

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """Trials compared with the best, each ``(T,)``.

    `low` and `high` limit how much better the best is (in its favour positive, for every metric): `low` is corrected
    for the number of trials, so that 0 lies between them for every tied trial and for no other.
    """

    low: Floats
    high: Floats
    tied: Bools


def compare_with_best(
    values: NDArray[Any], scores: Floats, best: int, *, larger: bool, groups: Ints | None = None, seed: int = 0
) -> Comparison:
    """Compare all trials with the trial `best`.

    Args:
        values: Contributions ``(T, n)`` on the same images.
        scores: ``(T,)``.
        best: Row of the trial with the best score.
        larger: Whether larger scores are better.
        groups: Group of every image, ``(n,)``.
    """
    units, sign = number_units(groups), 1 if larger else -1
    n_units, gaps = count_units(values, units), (scores[best] - scores) * sign
    if n_units == 1:
        return Comparison(gaps - _ALONE * gaps, gaps + _ALONE * gaps, np.ones(len(scores), dtype=bool))
    error, error_of_none = _paired_errors(values, best, units)
    reach = _surely_behind(len(scores), n_units) * error_of_none  # how far behind luck can put a trial that is as good
    among = np.flatnonzero(gaps <= reach + _EQUAL)
    luck = sign * _luck(values[among], scores[among], units, seed)
    while True:
        rivals = luck.max(axis=0)
        stays = _within(rivals, luck, gaps[among] - _EQUAL)
        decided = stays if stays.all() else ~stays
        reach[among[decided]] = _quantile(rivals, luck[decided])
        if stays.all():
            break
        among, luck = among[stays], luck[stays]
    tied = np.zeros(len(scores), dtype=bool)
    tied[among] = True
    z = Z95 if units is None else student(int(units.max()))
    low = gaps - reach
    return Comparison(np.where(tied, np.minimum(low, 0.0), low), gaps + z * error, tied)


def contenders(values: NDArray[Any], scores: Floats, best: int, *, larger: bool, groups: Ints | None = None) -> Bools:
    """Return which trials are not so far behind the best that no luck could have put them there, ``(T,)``."""
    units = number_units(groups)
    _, error_of_none = _paired_errors(values, best, units)
    gaps = (scores[best] - scores) * (1 if larger else -1)
    return np.asarray(gaps <= _surely_behind(len(scores), count_units(values, units)) * error_of_none + _EQUAL)


def difference(
    metric: str, best: Predictions, other: Predictions, *, seed: int | list[int] = 0, resamples: int = 4000
) -> Interval:
    """Return the 95 % interval of score(best) - score(other), both on the same resampled images: one comparison, not
    corrected for how many were or could be made (P. Koehn, EMNLP 2004, https://aclanthology.org/W04-3250).

    Percentiles alone call four images of difference, all won by one trial, more than chance (the exact test of McNemar:
    p = 0.125), since few resamples lack all four. So each end is the further of the percentile and of the other
    percentile mirrored at the difference, and no nearer than the standard error has it; then five are tied and six
    (p = 0.03) are not.

    Raises:
        ValueError: The two trials were not evaluated on the same images.
    """
    if not best.same_images(other):
        raise ValueError("a paired comparison needs the same images in the same order")
    apart = (contributions(metric, best).astype(np.float64) - contributions(metric, other))[None]
    units, value = number_units(best.groups), apart.mean(axis=1)
    sums = unit_sums(apart, units)
    if sums.shape[1] == 1:
        reach = _ALONE * abs(float(value[0]))
    elif sums.shape[1] < LEAST_DRAWN:
        apart = sums[0] - value * (1 if units is None else np.bincount(units))
        reach = Z95 * np.sqrt((apart**2).sum()) / len(best.targets) * stretch(sums.shape[1])
    else:
        changes = _changes(sums, value, units, np.arange(sums.shape[1]), resamples, seed)
        low, high = np.quantile(changes[0], [_TAIL, 1 - _TAIL])
        reach = max(-low, high, Z95 * changes.std()) + (_EQUAL if high > low else 0.0)
    low, high = float(value[0] - reach), float(value[0] + reach)
    if metric != "log_loss":
        low, high = max(-1.0, low), min(1.0, high)
    return Interval(low, high, "paired bootstrap")


def _surely_behind(trials: int, units: int) -> float:
    """Return how many standard errors no luck makes up for."""
    level = 1 - _SURELY_BEHIND / max(2, trials)
    return NormalDist().inv_cdf(level) if units >= _FEW else float(student(units - 1, level))


def stretch(units: int) -> float:
    """Return by how much more than resamples of so many units show others may differ."""
    return 1.0 if units >= _FEW else float(student(units - 1)) / Z95 * (units / (units - 1)) ** 0.5


def _paired_errors(values: NDArray[Any], best: int, units: Ints | None) -> tuple[Floats, Floats]:
    """Return the standard error of each paired difference with the best, ``(T,)``, and what it would be if there were
    no difference (as in McNemar's test)."""
    n, n_units = values.shape[1], count_units(values, units)
    sums, squares = np.zeros(len(values)), np.zeros(len(values))
    of_best = values[best].astype(np.float32)
    for rows in blocks(values):
        apart = unit_sums(of_best - values[rows], units)
        sums[rows], squares[rows] = apart.sum(axis=1), np.einsum("tu,tu->t", apart, apart)
    unbiased = n_units / max(1, n_units - 1)
    about_mean = np.maximum(0.0, squares - sums**2 / n_units)
    return np.sqrt(about_mean * unbiased) / n, np.sqrt(squares * unbiased) / n


def _luck(values: NDArray[Any], scores: Floats, units: Ints | None, seed: int) -> NDArray[np.float32]:
    """Return by how much every trial's score changes in every resample, ``(T, resamples)``, less what is common to all:
    images on which all trials agree are left out."""
    sums = unit_sums(values, units)
    telling = np.flatnonzero((sums != sums[:1]).any(axis=0))
    resamples = int(np.clip(_PRODUCTS / max(1, len(sums) * len(telling)), LEAST_RESAMPLES, RESAMPLES))
    return _changes(sums, scores, units, telling, resamples, seed)


def _changes(
    sums: NDArray[Any], scores: Floats, units: Ints | None, telling: Ints, resamples: int, seed: int | list[int]
) -> NDArray[np.float32]:
    """Return the score on resampled images, or weighed groups, less `scores` ``(T,)``, as far as it comes from the
    units `telling`.

    Args:
        sums: Contributions summed within units, ``(T, U)``.
    """
    rng, n_units = np.random.default_rng(seed), sums.shape[1]
    sizes = np.ones(n_units, dtype=np.int64) if units is None else np.bincount(units)  # images of each
    informative, n = np.ascontiguousarray(sums[:, telling], dtype=np.float32), sizes.sum()
    found = np.empty((len(sums), resamples), dtype=np.float32)
    step = max(1, _DRAWN_AT_ONCE // n_units)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        weights: NDArray[Any]
        if n_units >= LEAST_DRAWN:
            drawn = rng.integers(n_units, size=(size, n_units)) + np.arange(size)[:, None] * n_units
            weights = np.bincount(drawn.reshape(-1), minlength=size * n_units).reshape(size, n_units) - 1
        else:
            weights = rng.standard_normal((size, n_units))
        more = weights @ sizes  # images beyond n: units may differ in size
        part = informative @ weights[:, telling].T.astype(np.float32)
        if more.any():
            part -= np.outer(scores, more).astype(np.float32)
        found[:, start : start + size] = part / n
    return found * np.float32(stretch(n_units))


def _within(rivals: NDArray[np.float32], luck: NDArray[np.float32], gaps: Floats) -> Bools:
    """Return whether `gaps` ``(T,)`` are at most `_quantile`, which takes longer."""
    enough, found = len(rivals) - _kept(len(rivals)), np.empty(len(luck), dtype=bool)
    for rows in blocks(luck):
        found[rows] = (rivals - luck[rows] >= gaps[rows, None]).sum(axis=1) >= enough
    return found


def _quantile(rivals: NDArray[np.float32], luck: NDArray[np.float32]) -> Floats:
    """Return by how much the luckiest trial beats each trial in all but the last 2.5 % of the resamples, ``(T,)``."""
    kept, found = _kept(len(rivals)), np.empty(len(luck))
    for rows in blocks(luck):
        found[rows] = np.partition(rivals - luck[rows], kept, axis=1)[:, kept]
    return found


def _kept(resamples: int) -> int:
    return int(np.ceil((1 - _TAIL) * resamples)) - 1
