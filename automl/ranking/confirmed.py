"""The choice among the best configurations, each trained again with new seeds on new splits.

A trial's score in the search has two faults: it is why the trial was picked, and it comes from one seed and one split.
The confirmation's scores come after the picking. `Confirmation.rule` says how the winner is chosen from
them, and `statistics.repeats` what to expect of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from automl.paths import StudyFolder
from automl.ranking import words
from automl.ranking.ahead import Ahead, ahead_of
from automl.ranking.files import load_groups, load_predictions
from automl.ranking.ranks import confirmation_of, superseded
from automl.ranking.statistics import (
    METRICS,
    Predictions,
    compare_repeats,
    contributions,
    expected_of_pick,
    limits_of_pick,
    limits_of_repeats,
    pick,
)

__all__ = ["Confirmation", "Confirmed", "choose"]

_RULE = (
    "The best configurations were trained again, each with new seeds and {where}. First comes the winner: the best "
    "mean score there{cheaper}{ahead}. Then come the others that are tied with the best mean, by their means; then "
    "the trials that were not trained again and are tied with the first of the search, if that is tied; then the "
    "others that were trained again; then the rest."
)
_CHEAPER = (
    ", or the cheapest (latency of one image; parameters where that is not known of all on one device) that is behind "
    "it by no more than one standard error of their difference, if it saves a tenth"
)
_AHEAD = (
    "; unless one that is tied with the first of the search, and that there was no time to train again, is ahead of it "
    "on the validation images of the search"
)


@dataclass(frozen=True)
class Confirmed:
    """One configuration that was trained again: its mean score over the runs that all were trained in, with its 95 %
    interval, and how much better the best mean is.

    `tied` is whether 0 is within the 95 % limits of that, which are corrected for how many were compared. Without
    `scores` there was no time to train it again, and its score is `ahead` of what of the others was chosen.
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
    """The configurations that were trained again, the best mean first, and which of them was chosen `why`; or what
    there was no time to train again and is ahead of that, as the last of equals among them.

    `expected` is what the winner is expected to score on new images, its mean less what being picked by it explains,
    None without predictions, or where the images are those that picked them. `runs` is how often all were trained
    again, `images` how many validation images a run has, `failed` why others could not be, by trial, `redrawn` whether
    the splits were new: a validation split that was given stays. `with_search`: trained again only once, so what is
    expected is the mean of that and of what its score in the search is worth, and the interval holds both.
    """

    winner: int
    why: str
    expected: float | None
    expected_ci95: tuple[float, float] | None
    runs: int
    images: int
    trials: tuple[Confirmed, ...]
    failed: Mapping[str, str]
    redrawn: bool = True
    with_search: bool = False

    @property
    def rule(self) -> str:
        """How the winner is chosen."""
        new = "on the same new splits of train + validation"
        where = new if self.redrawn else "on the validation images that were given"
        sure = any(each.behind_best_error is not None for each in self.trials)
        return _RULE.format(where=where, cheaper=_CHEAPER if sure else "", ahead="" if self.chosen.scores else _AHEAD)

    @property
    def again(self) -> tuple[Confirmed, ...]:
        """Those that were trained again."""
        return tuple(each for each in self.trials if each.scores)

    @property
    def chosen(self) -> Confirmed:
        """The winner."""
        return next(each for each in self.trials if each.trial == self.winner)


def choose(folder: StudyFolder, study: optuna.Study, winner: int | None = None) -> Confirmation | None:
    """Return the confirmation of `study`, None before two configurations were trained again, one of them the best of
    the search, unless that failed.

    Where predictions are missing there are no intervals, and the best mean wins.

    Args:
        winner: What was chosen before among more than there are now. Its luck is taken to be that of today's choice.
    """
    kept = confirmation_of(study)
    metric = str(study.user_attrs.get("metric", "accuracy"))
    larger = study.direction == optuna.study.StudyDirection.MAXIMIZE
    failed = {str(number): str(why) for number, why in kept.get("failed", {}).items()}
    trials = {each.number: each for each in study.get_trials(deepcopy=False) if each.number in kept.get("trials", [])}
    numbers = [number for number in kept.get("trials", []) if number in trials and str(number) not in failed]
    by_run = {(int(each["trial"]), int(each["run"])): each for each in kept.get("done", [])}
    if winner is None and numbers and numbers[:1] == kept.get("trials", [])[:1] and (numbers[0], 1) not in by_run:
        return None  # the best of the search was cut off: no other may be chosen in its place
    if any((number, 1) not in by_run for number in numbers):  # cut off in the first run: those that had theirs
        numbers = [number for number in numbers if (number, 1) in by_run]
    runs = [run for run in sorted({run for _, run in by_run}) if all((number, run) in by_run for number in numbers)]
    if len(numbers) < 2 or not runs:
        return None
    scores = np.array([[float(by_run[number, run]["score"]) for run in runs] for number in numbers])
    first = by_run[numbers[0], runs[0]]
    share = int(first["validation_images"]) / max(1, int(first["train_images"]))
    predictions = _predictions(folder, numbers, runs) if metric in METRICS else None
    found = compare_repeats(*_of_runs(metric, predictions), larger=larger, share=share) if predictions else None
    means = found.means if found else scores.mean(axis=1)  # of all images of all runs; of the runs' scores
    gaps = found.gaps if found else means.max() - means if larger else means - means.min()
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
    costs = _costs([trials[number] for number in numbers])
    place = pick(found, costs) if found else int(gaps.argmin())
    chosen, why = every[place], _why(metric, every, place, trials, costs)
    luck, sign, redrawn = None, (1 if larger else -1), bool(kept.get("redrawn", True))
    if predictions and redrawn:
        seed = int(study.user_attrs.get("seed") or 0)
        picked = expected_of_pick(*_of_runs(metric, predictions), costs, larger=larger, share=share, seed=seed)
        luck = max(0.0, sign * (chosen.score - picked))
    before = next((each for each in every if each.trial == winner), chosen)
    if before is not chosen:
        chosen, why = before, "it was chosen among all that were trained again, of which some are not here"
    expected = limited = None
    if luck is not None and chosen.ci95:
        expected = chosen.score - sign * luck
        limited = limits_of_pick(chosen.ci95, luck, larger=larger)
    others = _without_time(kept, study) if metric in METRICS else []
    ahead = ahead_of(folder, metric, chosen.trial, others, larger=larger, winner=winner)
    if ahead is not None and winner in (None, ahead.trial):
        if expected is not None:
            expected, limited = ahead.of(expected, limited, top=_top(metric))
        chosen, why = _not_again(ahead, chosen, every, metric, sign)
        every.append(chosen)
    every.sort(key=lambda each: (each.behind_best, each.trial))
    images = int(first["validation_images"])
    return Confirmation(chosen.trial, why, expected, limited, len(runs), images, tuple(every), failed, redrawn)


def _not_again(
    ahead: Ahead, chosen: Confirmed, every: Sequence[Confirmed], metric: str, sign: int
) -> tuple[Confirmed, str]:
    """Return the trial that is `ahead` of the `chosen`, as what it would have scored had it been trained again, and say
    why it is chosen instead."""
    score, ci95 = ahead.of(chosen.score, chosen.ci95, top=_top(metric))
    behind = max(0.0, max(sign * each.score for each in every) - sign * score)
    why = "it was chosen for want of time to train it again, among more than are here"
    if sign * ahead.value > 0:
        why = (
            "there was no time to train it again, but on the validation images of the search it is "
            f"{words.difference(metric, abs(ahead.value))} better than trial {chosen.trial}, which would be chosen of "
            "those that were"
        )
    return Confirmed(ahead.trial, score, ci95, (), behind, None, None, tied=True), why


def _top(metric: str) -> float:
    return math.inf if metric == "log_loss" else 1.0


def _without_time(kept: Mapping[str, Any], study: optuna.Study) -> list[int]:
    """Return what there was no time to train again, of the trials that are here and that no other stands for."""
    if not kept.get("no_time"):
        return []
    trials = study.get_trials(deepcopy=False)
    here = {each.number for each in trials} - superseded(trials)
    return [number for number in kept["no_time"] if number in here]


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


def _of_runs(metric: str, predictions: list[list[Predictions]]) -> tuple[list[NDArray[Any]], list[NDArray[np.int64]]]:
    """Return the contributions ``(K, n)`` and the numbers ``(n,)`` of the images, or of their groups, by run."""
    values = [np.stack([contributions(metric, each) for each in run]) for run in predictions]
    return values, [_units(run[0]) for run in predictions]


def _intervals(metric: str, predictions: list[list[Predictions]]) -> list[tuple[float, float]]:
    """Return the 95 % interval of what each will score when it is trained once more."""
    values, numbers = _of_runs(metric, predictions)
    alone = len(predictions) == 1 and predictions[0][0].groups is None
    low, high = limits_of_repeats(metric, values, [run[0].targets for run in predictions], None if alone else numbers)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _units(predictions: Predictions) -> Any:
    return predictions.rows if predictions.groups is None else predictions.groups


def _costs(trials: Sequence[FrozenTrial]) -> NDArray[np.float64]:
    """Return milliseconds of one image, or, unless all are known, parameters, ``(K,)``."""
    name = "latency_ms" if _are_timed(trials) else "model_parameters"
    found = [each.user_attrs.get(name) for each in trials]
    return np.array([math.inf if None in found else each for each in found], dtype=np.float64)


def _are_timed(trials: Sequence[FrozenTrial]) -> bool:
    """Whether the latency of all is known, and of one device: a study may have gone on elsewhere."""
    devices = {each.user_attrs.get("device") for each in trials}
    return len(devices) == 1 and all(each.user_attrs.get("latency_ms") is not None for each in trials)


def _why(
    metric: str,
    every: Sequence[Confirmed],
    place: int,
    trials: Mapping[int, FrozenTrial],
    costs: NDArray[np.float64],
) -> str:
    """Say why the configuration at `place` is chosen."""
    chosen, best = every[place], min(every, key=lambda each: each.behind_best)
    if chosen.behind_best == best.behind_best:
        if all(each.behind_best_error is None for each in every):
            return "it has the best mean; how sure that is is not known without readable predictions"
        near = [each for each in every if each is not chosen and each.behind_best <= (each.behind_best_error or 0.0)]
        cheaper = "none that is a tenth cheaper is" if near else "no other is"
        return f"it has the best mean, and {cheaper} within a standard error of it"
    behind, error = (words.difference(metric, value) for value in (chosen.behind_best, chosen.behind_best_error or 0.0))
    timed = _are_timed([trials[each.trial] for each in every])
    costs_told = [
        f"{words.milliseconds(cost)} an image" if timed else f"{words.integer(cost)} parameters"
        for cost in costs.tolist()
    ]
    return (
        f"it is the cheapest within a standard error ({error}) of the best mean, trial {best.trial}, which is {behind} "
        f"better but takes {costs_told[every.index(best)]} instead of {costs_told[place]}"
    )
