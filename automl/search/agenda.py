"""What a search tries next, and when it has tried enough.

Interrupted trials first, then those that an earlier budget cut short, then paused ones whose turn it is, then the sound
defaults (the heads alone, then what earlier studies taught, then the others), then what the sampler proposes. In the
last minutes, when a proposal no longer fits, its head alone on cached features. Where there is no longer the time for
the first of a kind (everything trainable, mostly frozen) and its refit, but for half of it alone, it is tried without.
Where by the screening nothing else ever fitted, the cheapest default is tried all the same before the search ends with
much time left.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.config import SearchConfig
from automl.search.budget import CostModel
from automl.search.clock import Clock
from automl.search.early_stopping import EarlyStopping
from automl.search.rungs import groups_of
from automl.search.show import in_words
from automl.search.study import StudyRecord, counts, left_aside, planned_params
from automl.search.taken import Taken
from automl.space import Space

__all__ = ["Agenda"]

logger = logging.getLogger(__name__)

MAX_SKIPPED = 3  # proposals that no longer fit the time left, and nothing between but heads, until the search is over


class Agenda:
    """Fills the study's queue of waiting trials.

    Args:
        defaults: Parameters tried before anything is sampled, in order. Those that do not fit into the time left are
            asked again later: trials teach what trials cost.
        taken: What is tried of earlier studies, in order; it goes between the defaults that train a head on cached
            features, which take seconds, and the others.
    """

    def __init__(
        self,
        record: StudyRecord,
        config: SearchConfig,
        space: Space,
        stopping: EarlyStopping,
        clock: Clock,
        defaults: Sequence[Mapping[str, Any]],
        taken: Sequence[Taken] = (),
    ) -> None:
        tried = [planned_params(each) for each in record.trials() if not left_aside(each)]
        self._taken = [(space.nearest(each.params), each.attrs) for each in taken]
        heads = [each for each in defaults if CostModel.is_head_only(space.params(each))]
        self.defaults: list[dict[str, Any]] = []  # and what is taken
        for each in [*heads, *(params for params, _ in self._taken), *defaults]:
            if each not in tried and each not in self.defaults:
                self.defaults.append(dict(each))
        self._record, self._config, self._space, self._earlier = record, config, space, len(record.trials())
        self._stopping, self._clock, self._skipped = stopping, clock, 0
        self._record.note(not_begun=self.defaults)  # known whenever the search ends

    def enqueue(self, running: Collection[int]) -> None:
        """Let wait what comes before the sampler's proposals, if anything does. `running`: roots of what runs."""
        if self._record.trials(TrialState.WAITING):
            return
        paused = self._truncated() or self._stopping.resumable(running, self._clock.fits)
        default = self._next_default()
        if paused is not None:
            self._stopping.resume(paused)
        elif default is not None:
            if not self._clock.fits(default) and self._clock.fits_alone(default):
                self._clock.try_alone(default)
            self.defaults.remove(default)
            self._record.note(not_begun=self.defaults)
            attrs = next((attrs for params, attrs in self._taken if params == default), {"origin": "default"})
            self._record.enqueue(default, **attrs)

    def accepts(self, trial: optuna.Trial) -> bool:
        """Whether `trial` fits into the time left; else tell it as skipped. One that waited is set aside until the
        search has more time."""
        if self._clock.fits(trial.params, self._epochs_left(trial)):
            if not CostModel.is_head_only(self._space.params(trial.params)):
                self._skipped = 0
            return True
        if trial.user_attrs["origin"] in ("default", "warm start") and self._clock.doubtful(trial.params):
            return True
        if trial.user_attrs["origin"] != "sampler":
            self._record.describe(trial, set_aside=True)
            self._record.finish(trial, "skipped", self._clock.too_long(trial.params))
            return False
        self._skipped += 1
        self._record.finish(trial, "skipped", self._clock.too_long(trial.params))
        wanted = {**trial.params, "freeze_depth": 1.0, "augmentation": "none", "mixup": 0.0, "cutmix": 0.0}
        head_only = self._space.nearest(wanted)
        if CostModel.is_head_only(self._space.params(head_only)) and self._clock.fits(head_only):
            self._record.enqueue(head_only, origin="sampler")
        return False

    def over(self, running: Collection[int]) -> str | None:
        """Return why nothing more is to be started: "trials", "converged", "budget", or None."""
        if self._truncated() or self._stopping.resumable(running, self._clock.fits):
            return None
        if self._all_begun():
            return "trials"
        if self._converged():
            return "converged"
        return "budget" if self._out_of_time() else None

    def note_not_begun(self, *, out_of_time: bool) -> None:
        """Note the defaults that were not begun, and, where the time was what ended the search, what those need that do
        not fit."""
        too_long = [each for each in self.defaults if not self._clock.fits(each)] if out_of_time else []
        needs = {in_words(self._space.params(each)): self._clock.needs(each) for each in too_long}
        for what, need in needs.items():
            logger.info("not tried: %s %s", what, need)
        self._record.note(not_tried=needs, not_begun=self.defaults)

    def counted(self) -> int:
        """Return how many trials were begun."""
        return sum(each.state != TrialState.WAITING and counts(each) for each in self._record.trials())

    def _next_default(self) -> dict[str, Any] | None:
        """Return the next sound configuration: that fits with its refit, or alone, where nothing of its kind was tried,
        which may teach more than the refit of another kind; else, where much time would be left, that is in doubt."""
        new = self._new_kinds()
        there = (
            each for each in self.defaults if self._clock.fits(each) or (each in new and self._clock.fits_alone(each))
        )
        fitting = next(there, None)
        if fitting is not None or self._skipped < MAX_SKIPPED:
            return fitting
        return min(filter(self._clock.doubtful, self.defaults), key=self._clock.seconds, default=None)

    def _new_kinds(self) -> list[dict[str, Any]]:
        """Return the sound configurations of kinds of which no trial was begun."""
        wanted, trials = self._space.distributions.keys(), self._record.trials()
        begun = [each for each in trials if each.state != TrialState.WAITING and counts(each)]
        kinds = {self._kind(each.params) for each in begun if wanted <= each.params.keys()}
        return [each for each in self.defaults if self._kind(each) not in kinds]

    def _kind(self, params: Mapping[str, Any]) -> str:
        whole = self._space.params(params)
        return groups_of(whole["backbone"], float(whole["freeze_depth"]))[0]

    def _truncated(self) -> FrozenTrial | None:
        """Return a trial that the end of an earlier budget cut short and that now has the time for its last epochs."""
        trials = self._record.trials()
        taken_up = {each.user_attrs.get("resumes") for each in trials}
        for each in trials[: self._earlier]:
            cut = each.user_attrs.get("reason") == "truncated" and each.number not in taken_up
            if cut and self._stopping.has_checkpoint(each):
                left = self._config.training.epochs - int(each.user_attrs.get("epochs", 0))
                if left > 0 and self._clock.fits(each.params, left):
                    return each
        return None

    def _epochs_left(self, trial: optuna.Trial) -> int | None:
        """Return the epochs that the attempt `trial` goes on for at least, None if it starts anew."""
        return 1 if "resumes" in trial.user_attrs else None

    def _all_begun(self) -> bool:
        wanted = self._config.search.trials
        return wanted is not None and self.counted() >= wanted

    def _converged(self) -> bool:
        """Whether every point of a finite space was begun, or the last `patience` trials did not beat the incumbent."""
        begun = [each for each in self._record.trials() if each.state != TrialState.WAITING and counts(each)]
        points, trials = self._space.points, [each for each in begun if each.state.is_finished()]
        if points is not None and len({tuple(sorted(each.params.items())) for each in begun}) >= points:
            return not self._record.trials(TrialState.WAITING)
        patience, best = self._config.search.patience, self._record.incumbent()
        if patience is None or best is None or self.defaults or self._record.trials(TrialState.WAITING):
            return False
        return sum(each.number > best.number for each in trials) >= patience

    def _out_of_time(self) -> bool:
        if self._record.trials(TrialState.WAITING):
            return False
        if self._next_default() is not None:
            return False
        return self._clock.search_left() <= 0 or self._skipped >= MAX_SKIPPED
