"""The driver of a search: decides what runs next and what an outcome means. Thin adapters connect it to Ray Tune.

What is tried next stands in the agenda, which trials go on in early stopping; here is what their ends mean.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna
from optuna.trial import TrialState

from automl.config import SearchConfig
from automl.paths import StudyFolder
from automl.search.agenda import Agenda
from automl.search.assignment import Assignment, cause_of_death, hand_over, keep_best_weights
from automl.search.budget import Budget, CostModel
from automl.search.clock import Clock
from automl.search.early_stopping import EarlyStopping, root_of
from automl.search.failures import FailuresInARow
from automl.search.prior import Prior
from automl.search.sampler import make_sampler
from automl.search.show import in_words
from automl.search.spec import TrialSpec, make_spec
from automl.search.study import Reason, StudyRecord
from automl.search.taken import Taken
from automl.space import Space

__all__ = ["Driver"]

logger = logging.getLogger(__name__)

NOTED_EVERY_SECONDS = 10.0  # how much of the time spent a killed driver forgets


@dataclass
class _Running:
    trial: optuna.Trial
    spec: TrialSpec
    root: int
    facts: dict[str, Any] = field(default_factory=dict)
    reason: Reason | None = None
    message: str = ""


class Driver:
    """Hands out trials and records what becomes of them.

    Args:
        defaults: Parameters tried before anything is sampled, in order.
        taken: What is tried of earlier studies, and weighs the sampler's proposals.
        latency: Milliseconds of one image by backbone and resolution, as the screening measured.
        at_once: Trials that run at the same time.
        interrupted: Asked before every decision; once True nothing new starts.
        spent_before: Seconds that earlier runs of this study took.
    """

    def __init__(
        self,
        record: StudyRecord,
        *,
        folder: StudyFolder,
        config: SearchConfig,
        space: Space,
        weights: Mapping[str, str],
        defaults: Sequence[Mapping[str, Any]],
        taken: Sequence[Taken] = (),
        costs: CostModel,
        latency: Mapping[tuple[str, int], float],
        budget: Budget,
        balanced: bool,
        interrupted: Callable[[], bool],
        spent_before: float = 0.0,
        at_once: int = 1,
    ) -> None:
        self.record = record
        self._spent_before = spent_before
        self.stop_reason: str | None = None
        self._folder, self._config, self._space, self._weights = folder, config, space, weights
        self._costs, self._latency, self._budget, self._balanced = costs, latency, budget, balanced
        self._interrupted = interrupted
        self._stopping = EarlyStopping(record, folder, config)
        self.clock = Clock(
            record,
            budget,
            costs,
            space,
            epochs=config.training.epochs,
            first_rung=config.search.grace_epochs,
            repeats=config.search.repeats,
            at_once=at_once,
        )
        self._running: dict[int, _Running] = {}
        self._agenda = Agenda(record, config, space, self._stopping, self.clock, defaults, taken)
        self._failures, self._noted = FailuresInARow(config.search.max_failures), 0.0
        seed = (config.search.seed + len(record.trials())) % 2**32  # a resumed search draws nothing twice
        density = Prior(space.distributions, [space.nearest(each.params) for each in taken]) if taken else None
        record.study.sampler = make_sampler(seed, self._seconds, density=density, points=space.every_point())
        self._take_up()

    def _take_up(self) -> None:
        """Rebuild rungs and costs from the study."""
        for frozen in self.record.trials():
            if frozen.user_attrs.get("set_aside"):
                self.record.take_up(frozen)
            params = self._space.params(frozen.params)
            self._stopping.starts(root_of(frozen), frozen.number)
            if not self._space.distributions.keys() <= frozen.params.keys() or frozen.state == TrialState.WAITING:
                continue  # nothing was trained: it waits, or its driver was killed while it was asked for
            self._stopping.take_up(frozen, params)
            self._costs.learn_from(frozen)

    # What runs next

    def next(self) -> Assignment | None:
        """Return what to run next, or None when nothing new is started; `stop_reason` then says why."""
        while self._goes_on():
            self._agenda.enqueue(self._roots())
            trial = self.record.ask(self._space.distributions)
            assignment = self._assign(trial) if self._agenda.accepts(trial) else None
            if assignment is not None:
                return assignment
        return None

    def _goes_on(self) -> bool:
        """Whether another trial is to be started; else `stop_reason` says why not."""
        if self._interrupted():
            self.stop_reason = "interrupted"
        elif self.stop_reason is None:
            over = self._agenda.over(self._roots())
            if over in ("trials", "converged") and self._running:  # one may be tried again, or let a paused one pass
                return False
            self.stop_reason = over
        return self.stop_reason is None

    @property
    def running(self) -> list[int]:
        """Numbers of the trials that were handed out and whose end has not been told."""
        return list(self._running)

    def _roots(self) -> list[int]:
        return [each.root for each in self._running.values()]

    def _assign(self, trial: optuna.Trial) -> Assignment | None:
        """Return what a worker is to do for `trial`, or tell its end if not one image of it fits into memory."""
        params = self._space.params(trial.params)
        root = int(trial.user_attrs.get("root", trial.number))
        spec = make_spec(
            trial.params,
            config=self._config,
            space=self._space,
            weights=self._weights,
            balanced=self._balanced,
            root=root,
        )
        fits, why = self._costs.micro_batch(asdict(spec))
        if fits == 0:
            self.record.finish(trial, "out_of_memory", f"not started: {why}")
            logger.warning("trial %d is not started: %s: %s", trial.number, in_words(params), why)
            if trial.user_attrs["origin"] == "sampler":  # which learns from it, unless nothing at all fits
                self._failed("out_of_memory", why)
            return None
        smaller = [each for each in (spec.micro_batch, fits, trial.user_attrs.get("micro_batch")) if each]
        dtype = self._costs.costs[spec.backbone].training_dtype
        spec = replace(spec, micro_batch=min(smaller, default=None), dtype=dtype)
        whole = asdict(spec)
        facts = {"spec": whole, "max_epochs": spec.epochs, "predicted_mb": self._costs.step_mb(whole)}
        facts["predicted_seconds"] = [self._costs.start_seconds(whole), self._costs.epoch_seconds(whole)]
        facts["latency_ms"] = self._latency.get((spec.backbone, spec.resolution))
        self.record.describe(trial, **facts)
        if fits:
            self.record.describe(trial, micro_batch_reason=why)
        self._running[trial.number] = _Running(trial, spec, root)
        self._stopping.starts(root, trial.number)
        resumes = trial.user_attrs.get("resumes")
        if resumes is not None:
            hand_over(self.record, self._folder, int(resumes), trial, metric=self._config.search.metric)
        logger.info("trial %d starts (%s): %s", trial.number, trial.user_attrs["origin"], in_words(params))
        return Assignment(trial.number, spec, max(1.0, self.clock.search_left(params)), self.hang_after(whole))

    def _seconds(self, params: Mapping[str, Any]) -> float:
        return self.clock.seconds(params, self._config.training.epochs)

    def hang_after(self, params: Mapping[str, Any]) -> float:
        """Seconds of silence after which a trial is taken to hang."""
        limit = self._config.search.hang_after
        if limit != "auto":
            return float(limit)
        return 120.0 + 10 * (self._costs.start_seconds(params) + self._costs.epoch_seconds(params))

    # What becomes of it

    def report(self, number: int, facts: Mapping[str, Any]) -> bool:
        """Record an epoch (or, with the key `reason`, the end of a trial). Returns whether the trial goes on."""
        running = self._running[number]
        if "reason" in facts:
            running.reason, running.message = facts["reason"], facts.get("message", "")
            return True
        value = float(facts.get(self._config.search.metric, math.nan))  # no AUROC of one class alone
        if not math.isfinite(value):
            running.reason = "diverged"
            running.message = f"{self._config.search.metric} became {value} in epoch {facts['epoch']}"
            return False
        running.facts = dict(facts)
        kept = ("peak_memory_mb", "startup_seconds", "epoch_seconds", "model_parameters", "trainable_parameters")
        more = ("host", "device", "dtype", "training_dtype", "from_embeddings", "metrics")
        attrs = {key: facts[key] for key in (*kept, *more) if key in facts}
        attrs |= {"epochs": facts["epoch"], "train_seconds": facts["seconds"]}
        epoch = int(facts["epoch"])
        if facts.get("last", running.spec.epochs) < running.spec.epochs:
            attrs["shortened"] = [*running.trial.user_attrs.get("shortened", []), epoch]
        self.record.epoch(running.trial, epoch, value, attrs)
        logger.info("trial %d epoch %d/%d: %s %.4f after %.0f s", number, facts["epoch"], running.spec.epochs,
                    self._config.search.metric, value, facts["seconds"])  # fmt: skip
        if self._budget.spent() - self._noted >= NOTED_EVERY_SECONDS:
            self.note_spent()
        if "shortened" in attrs or self._stopping.goes_on(running.root, asdict(running.spec), epoch, value):
            return True
        running.reason = "paused"
        running.message = f"not among the best 1/{self._config.search.reduction} of its kind at epoch {epoch}"
        return False

    def finish(self, number: int, *, error: str | None = None) -> None:
        """Tell the study how a trial ended. `error` is what killed its worker, if something did."""
        running = self._running.pop(number, None)
        if running is None:
            return
        reason, message = running.reason, running.message
        if reason is None:
            if error is None and (self._interrupted() or self.stop_reason == "failures"):
                reason = "interrupted"
            elif error is None:
                reason, message = "truncated", "stopped at the end of the search budget"
            else:
                reason, message = "crashed", cause_of_death(self._folder.trial(number)) or error
        if reason == "truncated" and not self.record.trials()[number].intermediate_values:
            self.record.describe(running.trial, set_aside=True)  # with more time it is tried from the start
            reason, message = "skipped", "the time was over before its first epoch"
        if reason == "interrupted":  # by a person, or by the failures of others: says nothing against the trial
            self.record.retry(running.trial, reason, "the search was interrupted", limit=None)
            return
        if self._retried(running, reason, message):
            return
        if reason in ("crashed", "diverged", "out_of_memory"):
            self._failed(reason, message)
        else:
            self._failures.interrupted()
        state = self.record.finish(running.trial, reason, message)
        if "epoch_seconds" in running.facts:
            facts, spec = running.facts, asdict(running.spec)
            self._costs.learn(spec, float(facts["epoch_seconds"]), facts.get("startup_seconds"))
        logger.info("trial %d ends: %s (%s)%s", number, state.name, reason, f": {message}" if message else "")
        if reason not in ("paused", "truncated"):
            self._folder.trial(number).checkpoint.unlink(missing_ok=True)
        keep_best_weights(self.record, self._folder, number, alone=lambda each: not self.clock.refits(each.params))
        self._stopping.let_go()
        self.note_spent()
        best = self.record.incumbent()
        if best is not None:
            left = max(0.0, self.clock.search_left())
            logger.info("best of %d trials so far: trial %d with %.4f; %.0f s left for the search",
                        self._agenda.counted(), best.number, best.value, left)  # fmt: skip

    def _failed(self, reason: Reason, message: str) -> None:
        if self._failures.too_many(reason, message):
            self.stop_reason = "failures"

    def note_spent(self) -> None:
        """Note the seconds that the study has taken so far."""
        self._noted = self._budget.spent()
        self.record.note(spent_seconds=self._spent_before + self._noted)

    def _retried(self, running: _Running, reason: Reason, message: str) -> bool:
        """Try once more what crashed, and with half as many images at a time what ran out of memory. The worker process
        of either is not used again."""
        micro_batch = running.spec.micro_batch or running.spec.batch_size
        if reason == "crashed":
            again = self.record.retry(running.trial, reason, message, limit=1)
        elif reason == "out_of_memory" and micro_batch > 1:
            again = self.record.retry(running.trial, reason, message, limit=1, micro_batch=(micro_batch + 1) // 2)
        else:
            return False
        if again:
            logger.warning("trial %d ends: %s: %s; it is tried again", running.trial.number, reason, message)
        return again

    def finish_rest(self) -> None:
        """Tell the trials that were stopped from outside: interrupted by a signal, else truncated."""
        for number in list(self._running):
            self.finish(number)
        self._agenda.note_not_begun(out_of_time=self.stop_reason in (None, "budget") and not self._interrupted())
        self.record.fail_orphans(max_retries=self._config.search.max_retries)  # asked for as a connection broke off

    def past_deadline(self) -> bool:
        """Whether running trials must be stopped from outside, having ignored their own time limit."""
        return bool(self._running) and self.clock.search_left() < -30.0
