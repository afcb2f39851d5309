"""Of the trials that there was no time to train again, the one that is ahead of what was chosen of those that were.

The choice among those that were trained again fell on new images, where the luck that picked them for it is gone. On
the images of the search the chosen can be compared with a trial that was not trained again, and how far that is ahead,
added to what the chosen scored again, says what it would have scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from automl.paths import StudyFolder
from automl.ranking.files import load_groups, load_predictions
from automl.ranking.statistics import Interval, difference, score

__all__ = ["Ahead", "ahead_of"]

EQUAL = 1e-6  # scores may differ by the order of their sums


@dataclass(frozen=True)
class Ahead:
    """A trial, and its score less that of the chosen on the validation images of the search, with its 95 % interval."""

    trial: int
    value: float
    limits: Interval

    def of(
        self, score: float, limits: tuple[float, float] | None, *, top: float
    ) -> tuple[float, tuple[float, float] | None]:
        """Return what it would have scored, from 0 to `top`, where the chosen scored `score`, and the interval of that:
        the errors of both, which are of different images, add up as their squares do."""
        found = score + self.value
        if limits is None:
            return min(max(found, 0.0), top), None
        low = math.hypot(score - limits[0], self.value - self.limits.low)
        high = math.hypot(limits[1] - score, self.limits.high - self.value)
        low, found, high = (min(max(each, 0.0), top) for each in (found - low, found, found + high))
        return found, (low, high)


def ahead_of(
    folder: StudyFolder, metric: str, chosen: int, others: Sequence[int], *, larger: bool, winner: int | None = None
) -> Ahead | None:
    """Return which of `others` is furthest ahead of `chosen` on the validation images of the search; None if none is,
    or their predictions are not readable or of other images.

    Args:
        winner: Is returned, wherever it is now, if it is one of `others`: it was ahead of more than there are now.
    """
    if winner in others:
        others = [each for each in others if each == winner]
    groups = load_groups(folder) if others else None
    own = load_predictions(folder.trial(chosen), groups) if others else None
    there = {number: load_predictions(folder.trial(number), groups) for number in others}
    found = {
        number: (score(metric, each) - score(metric, own), each)
        for number, each in there.items()
        if own is not None and each is not None and own.same_images(each)
    }
    sign = 1 if larger else -1
    first = max(found, key=lambda number: sign * found[number][0], default=None)
    if own is None or first is None or (first != winner and sign * found[first][0] <= EQUAL):
        return None
    value, said = found[first]
    return Ahead(first, value, difference(metric, said, own))
