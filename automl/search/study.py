"""The study: the only record of a search, and the only code that writes to it.

Every outcome of a trial is told to Optuna on purpose:

    reason          state     value               why
    complete        COMPLETE  last epoch          the trial ran in full
    truncated       COMPLETE  last epoch          time ran out after at least one epoch; labelled
    paused          PRUNED    last epoch          others were better at a rung; the sampler ranks it by (epoch, value)
    diverged        PRUNED    last epoch or none  FAIL would be ignored and the region sampled again
    out_of_memory   PRUNED    last epoch or none  likewise
    crashed         FAIL      none                says nothing about the parameters
    interrupted     FAIL      none                says nothing about the parameters
    skipped         FAIL      none                when its turn came too little time was left; never started

A trial that is *retried* (crashed or out of memory for the first time, interrupted) is told as FAIL with the attribute
`retried`, and its parameters wait as a new trial that goes on from its last checkpoint: the outcome of that one counts.
So it is with a paused trial that is *resumed*, but for its state; the new one has the attribute `resumed`. Both kinds
name the old one in `resumes`.

**Ownership of RUNNING trials.** A driver holds the study's lock for as long as it runs, so a RUNNING trial that is
found after taking the lock has no owner: it is told as interrupted.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from automl.search.storage import patient

__all__ = ["Reason", "StudyRecord", "backbone_of", "counts", "left_aside", "planned_params"]

Reason = Literal["complete", "truncated", "paused", "diverged", "out_of_memory", "crashed", "interrupted", "skipped"]

optuna.logging.set_verbosity(optuna.logging.WARNING)

_STATES: dict[str, TrialState] = {
    "complete": TrialState.COMPLETE,
    "truncated": TrialState.COMPLETE,
    "paused": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "out_of_memory": TrialState.PRUNED,
    "crashed": TrialState.FAIL,
    "interrupted": TrialState.FAIL,
    "skipped": TrialState.FAIL,
}


def planned_params(frozen: FrozenTrial) -> dict[str, Any]:
    """Return what `frozen` was or will be asked to try: also of a trial that waits, or whose driver was killed while
    its params were being written one after the other."""
    return {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}


def counts(trial: FrozenTrial) -> bool:
    """Whether `trial` is one of those that were asked for, and not a first attempt, a proposal left aside, or what
    went on with one that paused."""
    attrs = trial.user_attrs
    return attrs.get("reason") not in ("interrupted", "skipped") and not attrs.get("retried", attrs.get("resumed"))


def left_aside(trial: FrozenTrial) -> bool:
    """Whether `trial` is a proposal of the sampler that was not followed: what it proposed may still be tried."""
    return trial.user_attrs.get("reason") == "skipped" and not trial.user_attrs.get("set_aside")


def backbone_of(trial: FrozenTrial) -> str | None:
    """Return the backbone of `trial`: where a space has only one, no parameter but its specification names it."""
    return trial.params.get("backbone") or (trial.user_attrs.get("spec") or {}).get("backbone")


class StudyRecord:
    """Asks, reports and tells one study. The driver's only way to write to it."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._seen: list[FrozenTrial] | None = None  # all trials, until the next write

    @property
    def maximize(self) -> bool:
        return self.study.direction == optuna.study.StudyDirection.MAXIMIZE

    def incumbent(self) -> FrozenTrial | None:
        """Return the best COMPLETE trial, or None."""
        done = self.trials(TrialState.COMPLETE)
        return (max if self.maximize else min)(done, key=lambda each: each.value or 0.0) if done else None

    def best(self, count: int) -> list[FrozenTrial]:
        """Return the best COMPLETE trials, the best first."""
        done = self.trials(TrialState.COMPLETE)
        return (heapq.nlargest if self.maximize else heapq.nsmallest)(count, done, key=lambda each: each.value or 0.0)

    @patient
    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in `states` (all without), oldest first. They are shared: do not change them."""
        if self._seen is None:
            self._seen = self.study.get_trials(deepcopy=False)
        return [each for each in self._seen if each.state in states] if states else self._seen

    @patient
    def enqueue(self, params: Mapping[str, Any], **attrs: Any) -> None:
        """Let a trial of `params` wait to be asked for, unless the study has one that was not left aside."""
        if not any(planned_params(each) == params and not left_aside(each) for each in self.trials()):
            self._seen = None
            self.study.enqueue_trial(dict(params), user_attrs=attrs)

    @patient
    def note(self, **attrs: Any) -> None:
        """Set user attributes of the study."""
        for key, value in attrs.items():
            self.study.set_user_attr(key, value)

    @patient
    def ask(self, distributions: Mapping[str, BaseDistribution]) -> optuna.Trial:
        """Return a RUNNING trial: the oldest enqueued one, else what the sampler proposes."""
        self._seen = None
        trial = self.study.ask(dict(distributions))
        if "origin" not in trial.user_attrs:
            trial.set_user_attr("origin", "sampler")
        return trial

    @patient
    def describe(self, trial: optuna.Trial, **attrs: Any) -> None:
        """Set user attributes of `trial`."""
        self._seen = None
        for key, value in attrs.items():
            trial.set_user_attr(key, value)

    @patient
    def epoch(self, trial: optuna.Trial, epoch: int, value: float, facts: Mapping[str, Any]) -> None:
        """Record the metric after an epoch, and `facts` as user attributes.

        Of an epoch recorded twice (a trial killed before its checkpoint was written repeats it) the first value stays.
        """
        known, self._seen = trial._cached_frozen_trial, None  # no one else writes to it
        if epoch not in known.intermediate_values:
            trial.report(value, epoch)
        for key, fact in facts.items():
            if key not in known.user_attrs or known.user_attrs[key] != fact:  # most stay, and each costs a transaction
                trial.set_user_attr(key, fact)

    @patient
    def finish(self, trial: optuna.Trial, reason: Reason, message: str = "", *, retried: bool = False) -> TrialState:
        """Tell how `trial` ended, as the table of this module says. Returns the state told."""
        self._seen = None
        frozen = self.study._storage.get_trial(trial._trial_id)
        last = frozen.last_step
        state = TrialState.FAIL if retried else _STATES[reason]
        if state == TrialState.COMPLETE and last is None:
            state = TrialState.FAIL
        trial.set_user_attr("reason", reason)
        if message:
            trial.set_user_attr("message", message)
        if retried:
            trial.set_user_attr("retried", True)
        value = frozen.intermediate_values[last] if state == TrialState.COMPLETE and last is not None else None
        self.study.tell(trial.number, value, state=state, skip_if_finished=True)
        return state

    @patient
    def retry(self, trial: optuna.Trial, reason: Reason, message: str, *, limit: int | None, **attrs: Any) -> bool:
        """Tell `trial` as retried and enqueue its parameters, unless they were tried again `limit` times for the same
        reason (None: this time does not count). Returns whether it did.

        The new trial is enqueued before the old one is told: a driver that is killed in between finds both, and
        enqueues no second one.

        Args:
            attrs: User attributes of the new trial.
        """
        frozen = self.study._storage.get_trial(trial._trial_id)
        old = frozen.user_attrs
        retries = {**old.get("retries", {})}
        if limit is not None:
            retries[reason] = retries.get(reason, 0) + 1
        whole = "origin" in old or "fixed_params" in frozen.system_attrs  # else its driver was killed while it asked
        if not whole or (limit is not None and retries[reason] > limit):
            return False
        self._again(frozen, "retry", retries=retries, **attrs)
        self.finish(trial, reason, message, retried=True)
        return True

    @patient
    def resume(self, number: int) -> None:
        """Enqueue a paused or truncated trial as a new one that goes on from its checkpoint."""
        frozen = self.trials()[number]
        self._again(frozen, "resume", retries=frozen.user_attrs.get("retries", {}), resumed=True)

    @patient
    def take_up(self, frozen: FrozenTrial) -> None:
        """Enqueue a trial again that was set aside for lack of time."""
        self._again(frozen, "retry", retries=frozen.user_attrs.get("retries", {}))

    def _again(self, frozen: FrozenTrial, origin: str, **attrs: Any) -> None:
        """Enqueue the parameters of `frozen`, unless a driver that was killed has done it."""
        if any(each.user_attrs.get("resumes") == frozen.number for each in self.trials()):
            return
        self._seen, old = None, frozen.user_attrs
        carried = {
            "origin": origin,
            "planned_as": old.get("planned_as", old.get("origin", "sampler")),
            "resumes": frozen.number,
            "root": old.get("root", frozen.number),
            "micro_batch": old.get("micro_batch"),
            "resumed": old.get("resumed", False),
        }
        self.study.enqueue_trial(planned_params(frozen), user_attrs={**carried, **attrs})

    def fail_orphans(self, *, max_retries: int) -> list[int]:
        """Tell every RUNNING trial as interrupted and enqueue its parameters again. Returns their numbers.

        A trial that was interrupted more than `max_retries` times is not enqueued again.
        """
        orphans = self.trials(TrialState.RUNNING)
        for frozen in orphans:
            trial = optuna.Trial(self.study, frozen._trial_id)
            if not self.retry(trial, "interrupted", "the search was interrupted", limit=max_retries):
                times = frozen.user_attrs.get("retries", {}).get("interrupted", 0) + 1
                self.finish(trial, "interrupted", f"the search was interrupted {times} times during this trial")
        return [frozen.number for frozen in orphans]
