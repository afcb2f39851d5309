"""The choice among the best configurations, each trained again with new seeds on new splits.

A trial's score in the search has two faults: it is why the trial was picked, and it comes from one seed and one split.
The confirmation's scores come after the picking. `RULE` says how the winner is chosen from them; the margin is the
one-standard-error rule (L. Breiman, J. Friedman, R. Olshen, C. Stone, Classification and Regression Trees, 1984,
section 3.4.3), which takes the simplest of those that are as good as far as one can tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from automl.paths import StudyFolder
from automl.ranking import words
from automl.ranking.files import load_groups, load_predictions
from automl.ranking.ranks import confirmation_of
from automl.ranking.statistics import METRICS, Predictions, Repeats, compare_repeats, contributions, limits

__all__ = ["RULE", "Confirmation", "Confirmed", "choose"]

RULE = (
    "The best configurations were trained again, each with new seeds and on the same new splits of train + validation. "
    "They come before all others, by their mean score there; first comes the winner, the cheapest (latency of one "
    "image, then parameters) of those within one standard error of the best mean."
)


@dataclass(frozen=True)
class Confirmed:
    """One configuration that was trained again: its mean score over the runs that all were trained in, with its 95 %
    interval, and how much better the best mean is.

    `tied` is whether 0 is within the 95 % limits of that, which are corrected for how many were compared.
    """

    trial: int
    score: float
    ci95: tuple[float, float] | None
    scores: tuple[float, ...]
    behind_best: float
    behind_best_error: float | None
    behind_best_ci95: tuple[float, float] | None
    tied: bool


@dataclass(frozen=True)
class Confirmation:
    """The configurations that were trained again, the best mean first, and which of them was chosen `why`.

    `runs` is how often all of them were, `images` how many validation images a run has, `failed` why others could not
    be, by trial.
    """

    winner: int
    why: str
    runs: int
    images: int
    trials: tuple[Confirmed, ...]
    failed: Mapping[str, str]

    @property
    def chosen(self) -> Confirmed:
        """The winner."""
        return next(each for each in self.trials if each.trial == self.winner)


def choose(folder: StudyFolder, study: optuna.Study) -> Confirmation | None:
    """Return the confirmation of `study`, None before two configurations were trained again.

    Where predictions are missing there are no intervals, and the best mean wins.
    """
    kept = confirmation_of(study)
    metric = str(study.user_attrs.get("metric", "accuracy"))
    larger = study.direction == optuna.study.StudyDirection.MAXIMIZE
    failed = {str(number): str(why) for number, why in kept.get("failed", {}).items()}
    numbers = [int(number) for number in kept.get("trials", []) if str(number) not in failed]
    by_run = {(int(each["trial"]), int(each["run"])): each for each in kept.get("done", [])}
    runs = [run for run in sorted({run for _, run in by_run}) if all((number, run) in by_run for number in numbers)]
    trials = {each.number: each for each in study.get_trials(deepcopy=False) if each.number in numbers}
    if len(numbers) < 2 or not runs or len(trials) < len(numbers):
        return None
    scores = np.array([[float(by_run[number, run]["score"]) for run in runs] for number in numbers])
    first = by_run[numbers[0], runs[0]]
    share = int(first["validation_images"]) / max(1, int(first["train_images"]))
    predictions = _predictions(folder, numbers, runs) if metric in METRICS else None
    found = _compared(metric, predictions, larger, share) if predictions else None
    means = scores.mean(axis=1)
    gaps = (means.max() - means) if larger else (means - means.min())
    intervals = _intervals(metric, predictions) if predictions else None
    every = [
        Confirmed(
            trial=number,
            score=float(means[i]),
            ci95=intervals[i] if intervals else None,
            scores=tuple(scores[i].tolist()),
            behind_best=float(gaps[i]),
            behind_best_error=float(found.errors[i]) if found else None,
            behind_best_ci95=(float(found.low[i]), float(found.high[i])) if found else None,
            tied=bool(found.low[i] <= 0) if found else bool(gaps[i] == 0),
        )
        for i, number in enumerate(numbers)
    ]
    every.sort(key=lambda each: (each.behind_best, each.trial))
    winner, why = _winner(metric, every, trials)
    return Confirmation(winner, why, len(runs), int(first["validation_images"]), tuple(every), failed)


def _predictions(folder: StudyFolder, numbers: Sequence[int], runs: Sequence[int]) -> list[list[Predictions]] | None:
    """Return what each trial said in each run, by run; None unless all are there and of the same images."""
    groups, found = load_groups(folder), []
    for run in runs:
        said = [load_predictions(folder.confirmation(number, run), groups) for number in numbers]
        there = [each for each in said if each is not None]
        if len(there) < len(said) or not all(there[0].same_images(each) for each in there):
            return None
        found.append(there)
    return found


def _compared(metric: str, predictions: list[list[Predictions]], larger: bool, share: float) -> Repeats:
    values = [np.stack([contributions(metric, each) for each in run]) for run in predictions]
    return compare_repeats(values, [_units(run[0]) for run in predictions], larger=larger, share=share)


def _intervals(metric: str, predictions: list[list[Predictions]]) -> list[tuple[float, float]]:
    """Return the 95 % intervals of the mean scores: those of all images of all runs, an image that was in several runs
    being a group of its own."""
    values = np.concatenate([np.stack([contributions(metric, each) for each in run]) for run in predictions], axis=1)
    targets = np.concatenate([run[0].targets for run in predictions])
    alone = len(predictions) == 1 and predictions[0][0].groups is None
    units = None if alone else np.concatenate([_units(run[0]) for run in predictions])
    found = limits(metric, values.mean(axis=1), values, targets, units)
    return list(zip(found.low.tolist(), found.high.tolist(), strict=True))


def _units(predictions: Predictions) -> Any:
    return predictions.rows if predictions.groups is None else predictions.groups


def _winner(metric: str, every: Sequence[Confirmed], trials: Mapping[int, FrozenTrial]) -> tuple[int, str]:
    """Return the winner among `every`, the best mean first, and why it is that one."""
    best = every[0]
    within = [each for each in every if each.behind_best <= (each.behind_best_error or 0.0)]
    chosen = min(within, key=lambda each: (*_cost(trials[each.trial]), each.behind_best))
    if _cost(trials[chosen.trial]) == _cost(trials[best.trial]):
        chosen = best
    if chosen is best:
        alone = len(within) == 1
        return best.trial, (
            "it has the best mean, and no other is within a standard error of it"
            if alone
            else "it has the best mean, and no cheaper one is within a standard error of it"
        )
    behind, error = (words.difference(metric, value) for value in (chosen.behind_best, chosen.behind_best_error or 0.0))
    return chosen.trial, (
        f"it is the cheapest within a standard error ({error}) of the best mean, trial {best.trial}, "
        f"which is {behind} better but takes {_told(trials[best.trial])} instead of {_told(trials[chosen.trial])}"
    )


def _cost(trial: FrozenTrial) -> tuple[float, float]:
    attrs = trial.user_attrs
    latency, parameters = attrs.get("latency_ms"), attrs.get("model_parameters")
    return (
        math.inf if latency is None else float(latency),
        math.inf if parameters is None else float(parameters),
    )


def _told(trial: FrozenTrial) -> str:
    latency, parameters = _cost(trial)
    if math.isfinite(latency):
        return f"{words.milliseconds(latency)} an image"
    return f"{words.integer(parameters)} parameters"
