"""How sure the ranking of trials is: their intervals, which are tied with the best, and how lucky the best was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from automl.ranking.ranks import preference
from automl.ranking.scored import Scored
from automl.ranking.statistics import BestCorrected, Limits, compare_with_best, correct_best, limits

__all__ = ["Sureness", "how_sure"]

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Sureness:
    """By trial number: the 95 % interval of the score with its method, and of score(best) - score(trial).

    `images` is how many the best was scored on; None, like `corrected`, where its predictions are not there.
    """

    intervals: Mapping[int, tuple[Bounds, str]] = field(default_factory=dict)
    behind: Mapping[int, Bounds] = field(default_factory=dict)
    tied: frozenset[int] = frozenset()
    corrected: BestCorrected | None = None
    images: int | None = None


def how_sure(
    ranked: Sequence[FrozenTrial],
    scored: Sequence[Scored],
    group_of_row: NDArray[np.int64] | None,
    metric: str,
    *,
    larger: bool,
    seed: int,
) -> Sureness:
    """Return how sure the order of `ranked` is.

    Args:
        scored: Of those trials that have predictions.
        group_of_row: Group of every image of the manifest, or None.
        metric: What they are ranked by.
        larger: Whether larger scores are better.
    """
    place = {trial.number: i for i, trial in enumerate(ranked)}
    intervals: dict[int, tuple[Bounds, str]] = {}
    found = Sureness(intervals)
    for each in scored:
        there = {number: i for i, number in enumerate(each.numbers.tolist()) if number in place}
        if not there:
            continue
        part = each.pick(np.array([there[number] for number in sorted(there, key=lambda n: place[n])], dtype=np.int64))
        groups = each.groups(group_of_row)
        of_part = limits(metric, part.scores, part.values, part.targets, groups)
        numbers = part.numbers.tolist()
        for number, low, high in zip(numbers, of_part.low.tolist(), of_part.high.tolist(), strict=True):
            intervals[number] = (low, high), of_part.method
        if numbers[0] == ranked[0].number:
            found = _against_best(ranked, part, of_part, groups, intervals, larger=larger, seed=seed)
    return found


def _against_best(
    ranked: Sequence[FrozenTrial],
    scored: Scored,
    own: Limits,
    groups: NDArray[np.int64] | None,
    intervals: Mapping[int, tuple[Bounds, str]],
    *,
    larger: bool,
    seed: int,
) -> Sureness:
    """Compare the best, first in `scored`, with the others of its state."""
    by_number = {trial.number: trial for trial in ranked}
    trials = [by_number[number] for number in scored.numbers.tolist()]
    alike = np.array([i for i, trial in enumerate(trials) if trial.state == trials[0].state], dtype=np.int64)
    part, trials = scored.pick(alike), [trials[i] for i in alike]
    compared = compare_with_best(part.values, part.scores, 0, larger=larger, groups=groups, seed=seed)
    keys = sorted(range(len(trials)), key=lambda i: (preference(trials[i])[0], trials[i].number))
    chosen_first = np.empty(len(trials))
    chosen_first[keys] = np.arange(len(trials))
    own = own._replace(low=own.low[alike], high=own.high[alike], sizes=own.sizes[alike], z=own.z[alike])
    corrected = correct_best(
        part.values, part.scores, 0, own, larger=larger, preference=chosen_first, groups=groups, seed=seed
    )
    low, high = (compared.low, compared.high) if larger else (-compared.high, -compared.low)
    behind = dict(zip(part.numbers.tolist(), zip(low.tolist(), high.tolist(), strict=True), strict=True))
    del behind[trials[0].number]
    tied = frozenset(part.numbers[compared.tied].tolist())
    return Sureness(intervals, behind, tied, corrected, len(part.targets))
