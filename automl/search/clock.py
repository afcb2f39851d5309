"""What still fits into the budget: the driver's view of time.

The time for the refit of the best so far is always kept free. Where the whole search is too short for a trial and its
refit, the trial is tried all the same, in full, and hands over its own weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from automl.search.budget import Budget, CostModel
from automl.search.show import in_words
from automl.search.study import StudyRecord
from automl.space import Space

__all__ = ["Clock"]


class Clock:
    """Compares what trials need with what the refit leaves.

    Args:
        epochs: Of a whole trial, and of the refit.
        first_rung: Epochs after which a trial has something to be judged by.
    """

    def __init__(
        self, record: StudyRecord, budget: Budget, costs: CostModel, space: Space, *, epochs: int, first_rung: int
    ) -> None:
        self._record, self._budget, self._costs, self._space = record, budget, costs, space
        self._epochs, self._first_rung = epochs, min(first_rung, epochs)
        self._at_start = budget.left()

    def search_left(self, params: Mapping[str, Any] | None = None) -> float:
        """Seconds until the search must end so that the incumbent, or `params`, can still be handed over."""
        best = self._record.incumbent()
        candidates = [self._space.params(best.params)] if best is not None else []
        if params is not None:
            candidates.append(self._space.params(params))
        reserves = [self._costs.reserve(each, self._epochs, refit=self.refits(each)) for each in candidates]
        return self._budget.left() - max(reserves, default=0.0)

    def refits(self, params: Mapping[str, Any]) -> bool:
        """Whether a search this long has the time for a whole trial of `params` and its refit."""
        return self._costs.refit_fits(self._space.params(params), self._epochs, self._at_start)

    def fits(self, params: Mapping[str, Any], epochs: int | None = None) -> bool:
        """Whether a trial of `params` that starts now trains for `epochs` in time (default: until its first rung, or,
        without a refit, to its end)."""
        if epochs is None and not self.refits(params):
            epochs = self._epochs
        return self.seconds(params, epochs) <= self.search_left(params)

    def seconds(self, params: Mapping[str, Any], epochs: int | None = None) -> float:
        """Predicted seconds of `epochs` of a trial of `params` (until its first rung), its start included."""
        return self._costs.trial_seconds(self._space.params(params), epochs or self._first_rung)

    def too_long(self, params: Mapping[str, Any]) -> str:
        """Say that it does not."""
        short, left = in_words(self._space.params(params)), max(0.0, self.search_left(params))
        epochs = None if self.refits(params) else self._epochs
        return f"{short} needs about {self.seconds(params, epochs):.0f} s, {left:.0f} s are left"

    def refit_time(self, trial: FrozenTrial) -> tuple[float, float]:
        """Return the seconds there are for the refit of `trial`, and those predicted for an epoch of it (with its share
        of the start)."""
        params = self._space.params(trial.params)
        there = self._budget.left() - self._costs.closing_seconds(params)
        return there, self._costs.refit_seconds(params, self._epochs) / self._epochs
