"""Configurations that were trained again on several splits: their mean scores, and how far apart these are.

In each run all configurations are trained and scored on the same split, so they are compared by the differences within
runs. The standard error of a mean difference is the larger of two, since each overlooks something:

- *between images*: the differences of single images, summed over the runs that scored them (whole groups, where images
  are grouped). It knows of the images but not of the seeds, and there is one from a single run on.
- *between runs*: the corrected resampled t-test, ``(1/J + n_validation/n_train) s²`` from J runs, which share most of
  their training images and are less independent than they look (C. Nadeau, Y. Bengio, Machine Learning 52, 2003,
  https://doi.org/10.1023/A:1024068626366). s² is pooled over the configurations compared.

**The pick** is the cheapest within one standard error of the best mean (L. Breiman, J. Friedman, R. Olshen, C. Stone,
Classification and Regression Trees, 1984, section 3.4.3), if it saves a tenth of the cost or more.

**What to expect of it** is not its own mean, which is partly why it was picked. Each run is left out in turn, the pick
is made on the others, and scored on the run left out; of a single run, the images are halved again and again.
``benchmarks/selection`` shows what that leaves of the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.ranking.statistics.contributions import number_units, unit_sums
from automl.ranking.statistics.predictions import Floats, Ints

__all__ = ["Repeats", "compare_repeats", "expected_of_pick", "pick"]

HALVINGS = 40
WORTH_IT = 0.9  # of the cost
_TAIL = 0.025


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
    assert units is not None
    means = every.mean(axis=1)
    best = int(np.argmax(means if larger else -means))
    sign = 1.0 if larger else -1.0
    gaps = sign * (means[best] - means)
    apart = sign * (every[best] - every)
    sums = unit_sums(apart - gaps[:, None], units)
    n_units = sums.shape[1]
    by_image = np.sqrt((sums**2).sum(axis=1) * n_units / max(1, n_units - 1)) / every.shape[1]
    others, runs = len(means) - 1, len(values)
    quantile = NormalDist().inv_cdf(1 - _TAIL / max(1, others))
    limits, errors = quantile * by_image, by_image
    if runs > 1 and others > 0:
        by_run = sign * np.stack([each[best].mean() - each.mean(axis=1) for each in values], axis=1)
        freedom = others * (runs - 1)
        spread = ((by_run - by_run.mean(axis=1, keepdims=True)) ** 2).sum() / freedom
        between = np.where(np.arange(len(means)) == best, 0.0, np.sqrt((1 / runs + share) * spread))
        limits = np.maximum(limits, _student(freedom, 1 - _TAIL / others) * between)
        errors = np.maximum(errors, between)
    return Repeats(means, gaps, errors, gaps - limits, gaps + limits)


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
