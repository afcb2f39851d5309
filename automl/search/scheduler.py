"""Early stopping: asynchronous successive halving with rungs per group of trials (ASHA, arXiv 1810.05934).

A group is a backbone and how much of it trains: a frozen backbone starts high and flattens, a trainable one starts low
and overtakes, so a rung that compares the two throws slow warmers away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

import numpy as np

__all__ = ["Rungs", "group_of"]


def group_of(backbone: str, freeze_depth: float) -> tuple[str, str]:
    """Return the group of a trial: trials are compared at rungs only within it."""
    if freeze_depth == 1.0:
        return backbone, "head only"
    return backbone, "mostly frozen" if freeze_depth > 0.5 else "mostly trainable"


class Rungs:
    """Decides at each rung epoch whether a trial goes on.

    A trial stops if it is below the top ``1/reduction`` of its group's values at the same rung. The first of a group
    always goes on, as in ASHA.
    """

    def __init__(self, *, grace_epochs: int, reduction: int, max_epochs: int, maximize: bool) -> None:
        self.epochs: list[int] = []
        epoch = grace_epochs
        while epoch < max_epochs:
            self.epochs.append(epoch)
            epoch *= reduction
        self._reduction = reduction
        self._sign = 1.0 if maximize else -1.0
        self._values: defaultdict[tuple[Hashable, int], dict[int, float]] = defaultdict(dict)

    def goes_on(self, trial: int, group: Hashable, epoch: int, value: float) -> bool:
        """Record `value` of `trial` at `epoch` and return whether it goes on; always True between rungs."""
        if epoch not in self.epochs:
            return True
        recorded = self._values[group, epoch]
        others = [each for number, each in recorded.items() if number != trial]
        recorded[trial] = self._sign * value
        if not others:
            return True
        return recorded[trial] >= float(np.percentile(others, 100 * (1 - 1 / self._reduction)))
