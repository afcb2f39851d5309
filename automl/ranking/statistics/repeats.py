"""Configurations that were trained again on several splits: their mean scores, and how far apart these are.

In each run all configurations are trained and scored on the same split, so they are compared by the differences within
runs. The standard error of a mean difference is the larger of two, since each overlooks something:

- *between images*: the differences of single images, summed over the runs that scored them (whole groups, where images
  are grouped). It knows of the images but not of the seeds, and there is one from a single run on.
- *between runs*: the corrected resampled t-test, ``(1/J + n_validation/n_train) s²`` from J runs, which share most of
  their training images and are less independent than they look (C. Nadeau, Y. Bengio, Machine Learning 52, 2003,
  https://doi.org/10.1023/A:1024068626366). s² is twice the variance of one configuration's run
  means, less what its run and its own mean explain, pooled over the configurations compared.

**The pick** is the cheapest within one standard error of the best mean (L. Breiman, J. Friedman, R. Olshen, C. Stone,
Classification and Regression Trees, 1984, section 3.4.3), if it saves a tenth of the cost or more.

**What to expect of it** is not its own mean, which is partly why it was picked. Each run is left out in turn, the pick
is made on the others, and scored on the run left out; of a single run, the images are halved again and again.
``benchmarks/selection`` shows what that leaves of the bias.

**Intervals** are those of `intervals` for all images of all runs together, an image that was in several being one of
its group, widened by what seeds do: by how much more run means vary than their images explain (Student's t, with
Satterthwaite's degrees of freedom), each side by itself (G. Y. Zou, A. Donner, Statistics in Medicine 27, 2008,
https://doi.org/10.1002/sim.3095). They are for one more training with a seed of its own, the refit. A single run does
not show what seeds do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.ranking.statistics.contributions import number_units, unit_sums
from automl.ranking.statistics.intervals import limits, student
from automl.ranking.statistics.predictions import Floats, Ints

__all__ = ["Repeats", "compare_repeats", "expected_of_pick", "limits_of_pick", "limits_of_repeats", "of_both", "pick"]

HALVINGS = 40
WORTH_IT = 0.9  # of the cost
_TAIL = 0.025
_MOST_LOGS = 50.0


@dataclass(frozen=True)
class Repeats:
    """Mean scores of K configurations, and how far they are behind the best mean, each ``(K,)``.

    `errors` are standard errors of `gaps` (in the best's favour positive, for every metric); `low` and `high` are the
    95 % limits of `gaps`, corrected for how many configurations are compared (Bonferroni).
    """

    means: Floats
    gaps: Floats
    errors: Floats
    low: Floats
    high: Floats


def compare_repeats(values: Sequence[NDArray[Any]], images: Sequence[Ints], *, larger: bool, share: float) -> Repeats:
    """Compare configurations by the runs that all of them were trained in.

    Args:
        values: Of every run, the contributions of its validation images, ``(K, n)``.
        images: Of every run, the images' numbers (of their groups, where they are grouped), ``(n,)``.
        larger: Whether larger scores are better.
        share: Validation images per training image of a run.
    """
    every = np.concatenate([each.astype(np.float64) for each in values], axis=1)
    units = number_units(np.concatenate(list(images)))
    means = every.mean(axis=1)
    best = int(np.argmax(means if larger else -means))
    sign = 1.0 if larger else -1.0
    gaps = sign * (means[best] - means)
    apart = sign * (every[best] - every)
    sums = unit_sums(apart - gaps[:, None], units)
    n_units = sums.shape[1]
    by_image = np.sqrt((sums**2).sum(axis=1) * n_units / max(1, n_units - 1)) / every.shape[1]
    if n_units == 1:  # which says nothing of others
        by_image = gaps
    others, runs = len(means) - 1, len(values)
    quantile = _student(max(1, n_units - 1), 1 - _TAIL / max(1, others))
    limits, errors = quantile * by_image, by_image
    if runs > 1 and others > 0:
        _, of_one, freedom = _variance_of_seeds(values)
        between = np.where(np.arange(len(means)) == best, 0.0, np.sqrt((1 / runs + share) * 2 * of_one))
        limits = np.maximum(limits, _student(freedom, 1 - _TAIL / others) * between)
        errors = np.maximum(errors, between)
    return Repeats(means, gaps, errors, gaps - limits, gaps + limits)


def limits_of_repeats(
    metric: str, values: Sequence[NDArray[Any]], targets: Sequence[Ints], images: Sequence[Ints] | None
) -> tuple[Floats, Floats]:
    """Return the 95 % limits of what each configuration will score when it is trained once more, each ``(K,)``.

    Args:
        values: As `compare_repeats`.
        targets: Of every run, the classes of its images, ``(n,)``.
        images: As `compare_repeats`; None where every image stands for itself and there is one run.
    """
    every = np.concatenate(values, axis=1)
    scores = every.mean(axis=1, dtype=np.float64)
    units = None if images is None else np.concatenate(list(images))
    found = limits(metric, scores, every, np.concatenate(list(targets)), units)
    of_seeds, between, freedom = _variance_of_seeds(values)
    if of_seeds == 0 or (metric == "log_loss" and not scores.all()):
        return found.low, found.high
    more, unsure = (each * (1 + 1 / len(values)) for each in (of_seeds, between))
    if metric == "log_loss":  # on a logarithmic scale
        least = np.maximum(found.low, np.finfo(np.float64).tiny)
        middle, low, high, unit = np.log(scores), np.log(least), np.log(found.high), 1 / scores
    else:
        middle, low, high, unit = scores, found.low, found.high, np.ones(len(scores))
    of_images = ((high - low) / (2 * found.z) / unit) ** 2
    z = np.maximum(found.z, student(((of_images + more) / unsure) ** 2 * freedom))
    below, above = (np.hypot(z / found.z * each, z * np.sqrt(more) * unit) for each in (middle - low, high - middle))
    if metric == "log_loss":
        return np.exp(middle - below), np.exp(np.minimum(middle + above, _MOST_LOGS))
    return np.clip(middle - below, 0.0, 1.0), np.clip(middle + above, 0.0, 1.0)


def limits_of_pick(limits: tuple[float, float], luck: float, *, larger: bool) -> tuple[float, float]:
    """Return the limits of what the pick is expected to score: of its mean, moved to the worse by its `luck`, at the
    better end by half of it, since how large that is is not known exactly."""
    worse, better = luck, luck / 2
    low, high = (limits[0] - worse, limits[1] - better) if larger else (limits[0] + better, limits[1] + worse)
    return max(0.0, low), high


def of_both(
    again: float,
    limits: tuple[float, float],
    before: float,
    own: tuple[float, float],
    corrected: float,
    *,
    larger: bool,
) -> tuple[float, tuple[float, float]]:
    """Return what to expect of a configuration that was trained again once, and the limits of that.

    One run does not show what a seed changes, but its trial in the search was another one: the mean of both, and limits
    that hold the intervals of both. In the search it was worth no more than what is expected of the first.

    Args:
        again, limits: Of the run, less the luck of being picked by it.
        before, own: Score and interval in the search.
        corrected: Score of the first of the search, less its luck.
        larger: Whether larger scores are better.
    """
    searched = min(before, corrected) if larger else max(before, corrected)
    low, high = (each + searched - before for each in own)
    return (again + searched) / 2, (min(limits[0], low), max(limits[1], high))


def _variance_of_seeds(values: Sequence[NDArray[Any]]) -> tuple[float, float, int]:
    """Return by how much run means of one configuration vary beyond what images explain that it got wrong by chance
    (0 from a single run), how much they vary with that, and the degrees of freedom of both, over configurations."""
    runs, configurations = len(values), len(values[0])
    if runs < 2 or configurations < 2:
        return 0.0, 0.0, 0
    means = np.stack([each.mean(axis=1, dtype=np.float64) for each in values], axis=1)
    residuals = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    freedom = (configurations - 1) * (runs - 1)
    between = float((residuals**2).sum() / freedom)
    by_chance = []
    for run in values:
        apart = run - run.mean(axis=0, dtype=np.float64)
        apart -= apart.mean(axis=1, keepdims=True)
        n = run.shape[1]
        by_chance.append((apart**2).sum() / ((configurations - 1) * max(1, n - 1) * n))
    return max(0.0, between - float(np.mean(by_chance))), between, freedom


def pick(found: Repeats, costs: Floats) -> int:
    """Return which configuration is chosen, by its place; `costs` ``(K,)`` may be infinite."""
    best = int(found.gaps.argmin())
    cheaper = np.flatnonzero((found.gaps <= found.errors) & (costs <= WORTH_IT * costs[best]) & (costs < np.inf))
    return best if not len(cheaper) else int(cheaper[np.lexsort((found.gaps[cheaper], costs[cheaper]))[0]])


def expected_of_pick(
    values: Sequence[NDArray[Any]],
    images: Sequence[Ints],
    costs: Floats,
    *,
    larger: bool,
    share: float,
    seed: int = 0,
) -> float:
    """Return what the pick is expected to score. Arguments as `compare_repeats` and `pick`."""
    scores = []
    if len(values) > 1:
        for left_out, run in enumerate(values):
            rest = [i for i in range(len(values)) if i != left_out]
            others = compare_repeats([values[i] for i in rest], [images[i] for i in rest], larger=larger, share=share)
            scores.append(run[pick(others, costs)].mean())
        return float(np.mean(scores))
    (run,), units = values, np.unique(images[0])
    rng = np.random.default_rng(seed)
    for _ in range(HALVINGS):
        half = np.isin(images[0], rng.permutation(units)[: len(units) // 2])
        if half.any() and not half.all():
            for one in (half, ~half):
                found = compare_repeats([run[:, one]], [images[0][one]], larger=larger, share=share)
                scores.append(run[pick(found, costs)][~one].mean())
    return float(np.mean(scores)) if scores else float(run.mean(axis=1).max())


def _student(freedom: int, level: float) -> float:
    from scipy.special import stdtrit  # takes a while to import

    return float(stdtrit(freedom, level))
