"""What still fits into the budget: the driver's view of time.

The time for training the best configurations again, and for the refit of the best so far, is always kept free. Where
the whole search is too short for a trial and its refit, the trial is tried all the same, for at least half of its
epochs, and hands over its own weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from automl.search.budget import CONFIRMED, REFIT_MARGIN, Budget, CostModel, half_of, together
from automl.search.show import in_words
from automl.search.study import StudyRecord
from automl.space import Space

__all__ = ["Clock"]

UNUSED_SHARE = 0.25  # of the time from the first trial on
BUSY_FACTOR = 4.0  # by which a machine that did something else during the screening may have been slower


class Clock:
    """Compares what trials need with what the confirmation and the refit leave.

    Args:
        epochs: Of a whole trial, a confirmation run, and the refit.
        repeats: How often each of the best configurations is trained again, at most.
        at_once: Trials that run at the same time.
        first_rung: Epochs after which a trial has something to be judged by.
    """

    def __init__(
        self,
        record: StudyRecord,
        budget: Budget,
        costs: CostModel,
        space: Space,
        *,
        epochs: int,
        first_rung: int,
        repeats: int = 0,
        at_once: int = 1,
    ) -> None:
        self._record, self._budget, self._costs, self._space = record, budget, costs, space
        self._epochs, self._first_rung = epochs, min(first_rung, epochs)
        self._repeats, self._at_once = repeats, at_once
        self._at_start = budget.left()
        self._alone: set[frozenset[tuple[str, Any]]] = set()  # what is tried although its refit no longer fits

    def search_left(self, params: Mapping[str, Any] | None = None) -> float:
        """Seconds until the search must end so that the incumbent, or `params`, can still be handed over."""
        best, kept = self._record.incumbent(), [0.0]
        if best is not None:
            whole = self._space.params(best.params)
            kept.append(self._reserve(whole, refits=self.refits(whole) or self._refits_now(whole)))
        if params is not None:
            whole = self._space.params(params)
            kept.append(self._reserve(whole, refits=self.refits(whole)))
        return self._budget.left() - max(kept)

    def _refits_now(self, params: Mapping[str, Any]) -> bool:
        """Whether there is still the time to refit what was trained, whatever the trial itself would take by now."""
        seconds = self._costs.refit_seconds(params, self._epochs) + self._costs.closing_seconds(params)
        return frozenset(params.items()) not in self._alone and seconds <= self._budget.left()

    def _reserve(self, params: Mapping[str, Any], *, refits: bool) -> float:
        confirming = 0.0
        if refits and self._repeats and self.refits(params):
            best = [self._space.params(each.params) for each in self._record.best(CONFIRMED)]
            several = (best + CONFIRMED * [params])[:CONFIRMED]
            confirming = self._costs.confirmation_seconds(
                several, self._epochs, seconds=self._at_start, repeats=self._repeats, at_once=self._at_once
            )
        return confirming + self._costs.reserve(params, self._epochs, refit=refits)

    def confirmable(self, trials: Sequence[FrozenTrial]) -> tuple[list[FrozenTrial], int]:
        """Return those of `trials`, the best first, that can be trained again before the refit has to begin, in their
        order, and how often each; none where the best cannot, since nothing could then be chosen in its place."""
        found: list[FrozenTrial] = []
        for each in trials:
            least = 1 if len(found) < CONFIRMED else min(2, self._repeats)  # of one run nobody sees what seeds do
            if self.refits(each.params) and self._left_for([*found, each], least) >= 0:
                found.append(each)
        if found and found[0] is not trials[0]:
            return [], 0
        often = [n for n in range(1, self._repeats + 1) if found and self._left_for(found, n) >= 0]
        return found, max(often, default=0)

    def _left_for(self, trials: Sequence[FrozenTrial], runs: int) -> float:
        """Seconds that are left when each of `trials` has been trained again so often."""
        params = [self._space.params(each.params) for each in trials]
        seconds = [self._costs.run_seconds(each, self._epochs) for each in params]
        return self.before_refit(trials) - REFIT_MARGIN * together(runs * sum(seconds), max(seconds), self._at_once)

    def before_refit(self, trials: Sequence[FrozenTrial]) -> float:
        """Seconds until the refit of whichever of `trials` has to begin."""
        params = [self._space.params(each.params) for each in trials]
        return self._budget.left() - max(self._costs.reserve(each, self._epochs, refit=True) for each in params)

    def refits(self, params: Mapping[str, Any]) -> bool:
        """Whether a search this long has the time for a whole trial of `params` and its refit."""
        whole = self._space.params(params)
        return frozenset(whole.items()) not in self._alone and self._costs.refit_fits(
            whole, self._epochs, self._at_start
        )

    def fits_alone(self, params: Mapping[str, Any]) -> bool:
        """Whether half of a trial of `params` that starts now, and is to be handed over itself, is over in time."""
        own = self._costs.reserve(self._space.params(params), self._epochs, refit=False)
        there = min(self.search_left(), self._budget.left() - own)
        return self.seconds(params, half_of(self._epochs)) <= there

    def try_alone(self, params: Mapping[str, Any]) -> None:
        """From now on keep no time for the refit of `params`."""
        self._alone.add(frozenset(self._space.params(params).items()))

    def fits(self, params: Mapping[str, Any], epochs: int | None = None) -> bool:
        """Whether a trial of `params` that starts now trains for `epochs` in time (default: at least as long as it
        should)."""
        return self.seconds(params, epochs or self._least(params)) <= self.search_left(params)

    def _least(self, params: Mapping[str, Any]) -> int:
        """Epochs that a trial should have the time for: until its first rung, or, where there is no time for a refit
        and it is to be handed over itself, half of them, by the end of which its learning rate has decayed."""
        return self._first_rung if self.refits(params) else half_of(self._epochs)

    def doubtful(self, params: Mapping[str, Any]) -> bool:
        """Whether `params` are worth a try although they are not expected to fit: no trial has shown yet what training
        takes, so that the screening may have measured a busy machine, and much time would be left unused."""
        left = self.search_left(params)
        half = self.seconds(params, half_of(self._epochs))
        unused = left >= UNUSED_SHARE * self._at_start and half <= BUSY_FACTOR * left
        return unused and not self._costs.ratios and not self._costs.is_head_only(self._space.params(params))

    def seconds(self, params: Mapping[str, Any], epochs: int | None = None) -> float:
        """Predicted seconds of `epochs` of a trial of `params` (until its first rung), its start included."""
        return self._costs.trial_seconds(self._space.params(params), epochs or self._first_rung)

    def too_long(self, params: Mapping[str, Any]) -> str:
        """Say that it does not."""
        return f"{in_words(self._space.params(params))} {self.needs(params)}"

    def needs(self, params: Mapping[str, Any]) -> str:
        """Say what time a trial of `params` needs, and what is left."""
        refits, left = self.refits(params), max(0.0, self.search_left(params))
        seconds = self.seconds(params, self._least(params))
        return f"needs about {seconds:.0f} s, {left:.0f} s are left" + (" before the refit" if refits else "")

    def refit_time(self, trial: FrozenTrial) -> tuple[float, float]:
        """Return the seconds there are for the refit of `trial`, and those predicted for an epoch of it (with its share
        of the start)."""
        spec = trial.user_attrs["spec"]
        there = self._budget.left() - self._costs.closing_seconds(spec)
        return there, self._costs.refit_seconds(spec, self._epochs) / self._epochs

    def foreseen_on(self, trial: FrozenTrial) -> str:
        """Return the device for which that is predicted."""
        return self._costs.costs[trial.user_attrs["spec"]["backbone"]].device
