"""What a worker is asked to do, what a trial that is tried again takes over, and what is kept of what workers left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.paths import StudyFolder, TrialFolder, write_atomic
from automl.search.spec import TrialSpec
from automl.search.study import StudyRecord

__all__ = ["Assignment", "cause_of_death", "hand_over", "keep_best_weights"]


@dataclass(frozen=True)
class Assignment:
    """What a worker is asked to do: the trial's number, its specification, seconds until it must stop, and seconds of
    silence after which it is ended."""

    number: int
    spec: TrialSpec
    time_limit: float
    hang_after: float


def hand_over(record: StudyRecord, folder: StudyFolder, old: int, trial: optuna.Trial, *, metric: str) -> None:
    """Give a trial that is tried again the checkpoint and history of its last attempt that had any.

    Args:
        old: Number of the last attempt.
    """
    trials = record.trials()
    while not folder.trial(old).checkpoint.exists() and "resumes" in trials[old].user_attrs:
        old = int(trials[old].user_attrs["resumes"])  # a driver was killed in the middle of this
    source, target = folder.trial(old), folder.trial(trial.number)
    if not source.checkpoint.exists() or not source.metrics.exists():
        return
    target.root.mkdir(parents=True, exist_ok=True)
    for before, after in ((source.metrics, target.metrics), (source.validation_logits, target.validation_logits)):
        if before.exists():
            write_atomic(after, before.read_bytes())
    source.checkpoint.replace(target.checkpoint)
    whole, shortened = trials[old].user_attrs["spec"]["epochs"], list[int]()
    for line in target.metrics.read_text().splitlines():
        epoch = json.loads(line)
        if epoch.get("last", whole) < whole:
            shortened.append(epoch["epoch"])
        record.epoch(trial, epoch["epoch"], epoch[metric], {"epochs": epoch["epoch"]})
    if shortened:
        record.describe(trial, shortened=shortened)


def keep_best_weights(
    record: StudyRecord, folder: StudyFolder, ended: int, *, alone: Callable[[FrozenTrial], bool]
) -> None:
    """Delete the weights of trials that are not the incumbent, or as good, nor the best of those that could only be
    handed over `alone`, there being no time to refit them, now that the trial `ended` is told."""
    trials, best = record.trials(), record.incumbent()
    if best is None or (best.number != ended and not alone(trials[ended])):
        if best is None or trials[ended].value != best.value:
            folder.trial(ended).weights.unlink(missing_ok=True)
        return
    kept = [trials[int(path.parent.name)] for path in folder.all_weights()]
    over = [each for each in kept if each.state.is_finished()]  # what is running has left them for its own end
    scored = [each for each in over if each.state == TrialState.COMPLETE and alone(each)]
    first = (max if record.maximize else min)(scored, key=lambda each: each.value or 0.0, default=best)
    for each in over:
        if each.value != best.value and each.number != first.number:
            folder.trial(each.number).weights.unlink(missing_ok=True)


def cause_of_death(trial: TrialFolder) -> str:
    """Say so if the worker of `trial` was ended because it was silent for too long."""
    if not trial.log.exists() or not (text := trial.log.read_text()).startswith("Timeout ("):
        return ""
    return f"silent for {text[9 : text.index(')')]} h, so it was ended; where it stood: {trial.log}"
