"""The study: the only record of a search, and the only code that writes to it.

Every outcome of a trial is told to Optuna on purpose:

    reason          state     value               why
    complete        COMPLETE  last epoch          the trial ran in full
    truncated       COMPLETE  last epoch          time ran out after at least one epoch; labelled
    pruned          PRUNED    last epoch          early stopping; the sampler ranks it by (epoch, value)
    diverged        PRUNED    last epoch or none  FAIL would be ignored and the region sampled again
    out_of_memory   PRUNED    last epoch or none  likewise
    crashed         FAIL      none                says nothing about the parameters
    interrupted     FAIL      none                enqueued again, to go on from its checkpoint
    skipped         FAIL      none                proposed when too little time was left; never started

**Ownership of RUNNING trials.** A driver holds the study's lock for as long as it runs, so a RUNNING trial that is
found after taking the lock has no owner: it is told as interrupted.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from automl.errors import StorageError, UsageError
from automl.paths import StudyFolder, write_atomic

__all__ = [
    "Reason",
    "StudyRecord",
    "check_storage",
    "create_study",
    "driver_lock",
    "load_study",
    "make_sampler",
    "planned_params",
    "storage_kept",
    "storage_url",
]

Reason = Literal["complete", "truncated", "pruned", "diverged", "out_of_memory", "crashed", "interrupted", "skipped"]

optuna.logging.set_verbosity(optuna.logging.WARNING)

_STATES: dict[str, TrialState] = {
    "complete": TrialState.COMPLETE,
    "truncated": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "out_of_memory": TrialState.PRUNED,
    "crashed": TrialState.FAIL,
    "interrupted": TrialState.FAIL,
    "skipped": TrialState.FAIL,
}


def storage_url(folder: StudyFolder, storage: str | None) -> str:
    """Return the URL of the study's storage: `storage`, or SQLite in the study folder."""
    return storage or f"sqlite:///{folder.database.resolve()}"


@contextmanager
def driver_lock(folder: StudyFolder) -> Iterator[None]:
    """Hold the study for this process.

    Raises:
        StorageError: Another driver holds it; the message names its host and process.
    """
    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            holder = json.loads(folder.driver.read_text())
            who = f"process {holder['pid']} on {holder['host']}"
        except (OSError, ValueError, KeyError):
            who = "another process"
        raise StorageError(f"study {folder.root} is in use by {who}; wait for it or stop it first") from None
    try:
        write_atomic(folder.driver, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        yield
    finally:
        lock.release()


def check_storage(storage: str | None) -> None:
    """Reach `storage` before anything costs time; the study folder's own needs no look.

    Raises:
        StorageError: It cannot be reached.
    """
    if storage is not None:
        with _reaching(storage):
            optuna.storages.RDBStorage(storage)


def create_study(
    folder: StudyFolder,
    *,
    storage: str | None,
    direction: Literal["minimize", "maximize"],
    sampler: optuna.samplers.BaseSampler,
) -> optuna.Study:
    """Create the study, in WAL mode where it is SQLite, so that readers never block the driver.

    Raises:
        UsageError: It exists already.
        StorageError: The storage cannot be reached.
    """
    url = storage_url(folder, storage)
    with _reaching(url):
        parts = make_url(url)
        if parts.get_backend_name() == "sqlite" and parts.database:
            with closing(sqlite3.connect(parts.database)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        try:
            return optuna.create_study(
                storage=optuna.storages.RDBStorage(url), study_name=folder.name, direction=direction, sampler=sampler
            )
        except optuna.exceptions.DuplicatedStudyError:
            raise UsageError(
                f"study {folder.name} exists already; go on with: automl resume {folder.root} (or choose another --out)"
            ) from None


def load_study(
    folder: StudyFolder, *, storage: str | None = None, sampler: optuna.samplers.BaseSampler | None = None
) -> optuna.Study:
    """Open an existing study.

    Raises:
        UsageError: There is none in `folder`.
        StorageError: The storage cannot be reached.
    """
    url = storage_url(folder, storage)
    if storage is None and not folder.database.exists():
        raise UsageError(
            f"no study in {folder.root}: expected {folder.database.name} there; start one with automl search"
        )
    with _reaching(url):
        try:
            return optuna.load_study(storage=optuna.storages.RDBStorage(url), study_name=folder.name, sampler=sampler)
        except KeyError:
            raise UsageError(f"no study named {folder.name} in {_shown(url)}; start one with automl search") from None


def planned_params(frozen: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """Return what `frozen` was or will be asked to try: also of a trial that waits, or whose driver was killed while
    its params were being written one after the other."""
    return {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}


class StudyRecord:
    """Asks, reports and tells one study. The driver's only way to write to it."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study

    def ask(self, distributions: Mapping[str, BaseDistribution]) -> optuna.Trial:
        """Return a RUNNING trial: the oldest enqueued one, else what the sampler proposes."""
        trial = self.study.ask(dict(distributions))
        if "origin" not in trial.user_attrs:
            trial.set_user_attr("origin", "sampler")
        return trial

    def epoch(self, trial: optuna.Trial, epoch: int, value: float, facts: Mapping[str, Any]) -> None:
        """Record the metric after an epoch, and `facts` as user attributes.

        Of an epoch recorded twice (a trial killed before its checkpoint was written repeats it) the first value stays.
        """
        if epoch not in self.study._storage.get_trial(trial._trial_id).intermediate_values:
            trial.report(value, epoch)
        for key, fact in facts.items():
            trial.set_user_attr(key, fact)

    def finish(self, trial: optuna.Trial, reason: Reason, message: str = "") -> TrialState:
        """Tell how `trial` ended, as the table of this module says. Returns the state told."""
        frozen = self.study._storage.get_trial(trial._trial_id)
        last = frozen.last_step
        state = _STATES[reason]
        if state == TrialState.COMPLETE and last is None:
            state = TrialState.FAIL
        trial.set_user_attr("reason", reason)
        if message:
            trial.set_user_attr("message", message)
        value = frozen.intermediate_values[last] if state == TrialState.COMPLETE and last is not None else None
        self.study.tell(trial.number, value, state=state)
        return state

    def fail_orphans(self, *, max_retries: int) -> list[int]:
        """Tell every RUNNING trial as interrupted and enqueue its parameters again. Returns their numbers.

        A trial that was interrupted more than `max_retries` times is not enqueued again.
        """
        orphans = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for frozen in orphans:
            self.requeue(optuna.Trial(self.study, frozen._trial_id), frozen, max_retries=max_retries)
        return [frozen.number for frozen in orphans]

    def requeue(
        self, trial: optuna.Trial, frozen: optuna.trial.FrozenTrial, *, max_retries: int, asked: bool = False
    ) -> None:
        """Tell `trial` as interrupted; its parameters are tried again, from its last checkpoint.

        An interruption that a person `asked` for does not count: it says nothing against the trial.
        """
        attrs = frozen.user_attrs
        retries = int(attrs.get("retries", 0))
        params = planned_params(frozen)
        if (asked or retries < max_retries) and params:
            carried = {
                "origin": "retry",
                "planned_as": attrs.get("planned_as", attrs.get("origin", "sampler")),
                "retries": retries if asked else retries + 1,
                "resumes": frozen.number,
                "root": attrs.get("root", frozen.number),
            }
            self.study.enqueue_trial(params, user_attrs=carried)
            message = "the search was interrupted; enqueued again"
        else:
            message = f"the search was interrupted {retries + 1} times during this trial"
        self.finish(trial, "interrupted", message)


def _shown(url: str) -> str:
    """The URL without user and password."""
    scheme, _, rest = url.rpartition("://")
    return f"{scheme}://{rest.split('@')[-1]}" if scheme else rest


def make_sampler(seed: int) -> optuna.samplers.BaseSampler:
    """TPE over all parameters jointly, after five trials; concurrent trials count as poor until they end."""
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, multivariate=True, constant_liar=True)


@contextmanager
def storage_kept(url: str) -> Iterator[None]:
    """Turn the loss of the storage in the middle of a search into a StorageError."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        first = str(error).strip().splitlines()[0]
        raise StorageError(f"lost study storage {_shown(url)}: {first}; go on with automl resume") from error


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, ImportError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StorageError(f"cannot reach study storage {_shown(url)}: {first}") from error
