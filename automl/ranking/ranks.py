"""In which order trials are ranked, and which are: a total order that `RULES` puts in words.

Finished trials come first, by score. A trial that early stopping stopped or paused was compared at its last rung. It
lost there against those that were let run on beyond it: of its own backbone and freeze depth all, since these are
always compared with each other, and of other backbones those that were at least as good at the rung. No stopped trial
is ranked above one that it lost against, so it counts as no better than the worst of them.

Who runs on wins, whatever the values: going by values at rungs alone, there is no order. Of three trials of a group,
let the first two run in full and the second end higher; a third that was stopped at a rung may have been above the
second and below the first there.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.search.rungs import groups_of

__all__ = [
    "CONFIRMED_RULES",
    "RULES",
    "best_of_search",
    "best_trial",
    "confirmation_of",
    "epochs_of",
    "in_order",
    "is_ranked",
    "preference",
    "score_of",
    "superseded",
]

RULES = (
    "Finished trials come before pruned ones, whatever their scores. A trial that was resumed has one row.",
    (
        "Finished trials are ranked by score; equal scores by fewer parameters, then lower log loss, then the earlier "
        "trial. A trial that the budget cut short (truncated) counts with the epochs it reached and is labelled."
    ),
    (
        "Pruned trials (stopped or paused at a rung) are ranked by their score at the epochs they reached, but never "
        "above one that they were compared with at that rung and that was let run on. Where no trial ran in full, "
        "those that were cut short are ranked among them."
    ),
    (
        "A finished trial is tied with the best when the 95 % interval of their difference on the same validation "
        "images contains zero. The intervals hold for all trials at once: their lower ends are corrected for how "
        "many trials were compared, so that the best of them is among the tied in at least 95 of 100 studies."
    ),
    (
        "The corrected score is what the first is expected to score on new images: its own score less what picking "
        "the best of so many explains."
    ),
)
CONFIRMED_RULES = (  # besides how the winner is chosen
    *RULES[:3],
    (
        "Trials that were not trained again were compared with the first of the search, on the same validation images "
        "and for all of them at once. What is tied with it counts as tied as long as it is itself tied with the "
        "winner; where another one won, how far they are behind the winner is not known."
    ),
    (
        "The corrected score is what the first of the search is expected to score on new images: its own score less "
        "what picking the best of so many explains."
    ),
)
_NOT_RANKED = frozenset({"diverged", "out_of_memory", "crashed"})

Score = Callable[[FrozenTrial], float | None]


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the trial that the leaderboard of `study` has first, which the refit retrains: the winner of the
    confirmation, or else the best of the search; None if none is ranked.

    ``study.best_trial`` takes another one where scores are equal, as they often are on few validation images, and
    none where no trial finished.
    """
    first, kept = best_of_search(study), confirmation_of(study)
    if first is None or first.number not in kept.get("trials", []):
        return first
    return next((each for each in study.get_trials(deepcopy=False) if each.number == kept.get("winner")), first)


def best_of_search(study: optuna.Study) -> FrozenTrial | None:
    """Return the trial that is first by the search's own scores; None if none is ranked."""
    maximize = study.direction == optuna.study.StudyDirection.MAXIMIZE
    return next(iter(in_order(study.get_trials(deepcopy=False), maximize=maximize)), None)


def confirmation_of(study: optuna.Study) -> dict[str, Any]:
    """Return what `study` keeps of its confirmation; nothing before there is one.

    The keys: `trials` that are trained again, the best first; `runs` wanted of each; `redrawn`, whether on new splits;
    of those `done` what came of it; `failed`, the reasons by trial; `no_time`, what is tied with the best and for which
    there is no time; and at the end the `winner`, and `why`, or `over` where nothing could be chosen. It counts while
    the best trial of the search is among its trials: a search that went on and found a better one has to confirm again.
    """
    return dict(study.user_attrs.get("confirmation") or {})


def in_order(
    trials: Sequence[FrozenTrial], *, maximize: bool, score: Score | None = None, larger: bool | None = None
) -> list[FrozenTrial]:
    """Return the ranked ones of `trials`, the best first.

    Args:
        maximize: Whether larger objective values, which rungs compare, are better.
        score: What they are ranked by, None for a trial that has none; default: the objective.
        larger: Whether larger scores are better; default: as `maximize`.
    """
    score, hidden = score or score_of, superseded(trials)
    sign = -1.0 if (maximize if larger is None else larger) else 1.0
    values: dict[int, float] = {}
    for trial in trials:
        value = score(trial) if trial.number not in hidden and is_ranked(trial) else None
        if value is not None:
            values[trial.number] = sign * value
    found = [trial for trial in trials if trial.number in values]
    in_full = any(not _is_stopped(each) and each.user_attrs.get("reason") != "truncated" for each in found)
    compared = [each for each in found if _is_stopped(each) or not in_full]
    bounds = _no_better_than_winners(compared, values, -1.0 if maximize else 1.0)

    def order(trial: FrozenTrial) -> tuple[float, ...]:
        number, last = trial.number, (*preference(trial), trial.number)
        if number not in bounds:
            return (False, values[number], 0, False, 0.0, *last)
        return (in_full, bounds[number], -epochs_of(trial), _is_stopped(trial), values[number], *last)

    return sorted(found, key=order)


def _no_better_than_winners(
    trials: Sequence[FrozenTrial], values: Mapping[int, float], sign: float
) -> dict[int, float]:
    """Return the bound of each trial (to be minimised): its value, or if that is worse the worst bound of those that it
    lost against. Sorted by this, then by epochs, every trial comes after those.

    Args:
        sign: Of objective values, so that less is better.
    """
    kinds: defaultdict[Hashable, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        kinds[_group(trial)[1]].append(trial)
    found = {trial.number: values[trial.number] for trial in trials}
    for kind in kinds.values():
        by_epochs = sorted(kind, key=lambda each: (-epochs_of(each), _is_stopped(each)))
        further: list[FrozenTrial] = []
        for (rung, stopped), alike in itertools.groupby(by_epochs, lambda each: (epochs_of(each), _is_stopped(each))):
            losers = list(alike)
            if stopped and further:
                _bound(losers, further, rung, found, sign)
            further += losers
    return found


def _bound(
    losers: Sequence[FrozenTrial], further: Sequence[FrozenTrial], rung: int, found: dict[int, float], sign: float
) -> None:
    """Bound the trials that stopped at `rung` by those of their kind that ran on."""
    own: defaultdict[Hashable, float] = defaultdict(lambda: -math.inf)
    for each in further:
        own[_group(each)] = max(own[_group(each)], found[each.number])
    there = [each for each in further if rung in each.intermediate_values]
    at_rung = sorted((sign * each.intermediate_values[rung], found[each.number]) for each in there)
    reached = [value for value, _ in at_rung]
    worst = [-math.inf, *itertools.accumulate((bound for _, bound in at_rung), max)]
    for each in losers:
        value = sign * each.intermediate_values.get(rung, -sign * math.inf)
        as_good = bisect.bisect_right(reached, value)
        found[each.number] = max(found[each.number], own[_group(each)], worst[as_good])


def superseded(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that another one stands for.

    A trial whose attribute `resumes` names another one has its epochs and goes on from there. The earlier one is
    superseded once the later has ended with more epochs, unless by a failure that says nothing about the parameters;
    a later one that added no epoch is itself superseded by the earlier, if that is ranked.
    """
    known, hidden = {trial.number: trial for trial in trials}, set()
    for later in trials:
        if not later.state.is_finished() or later.state == TrialState.FAIL:
            continue
        earlier, seen = known.get(later.user_attrs.get("resumes", -1)), {later.number}
        while earlier is not None and earlier.number not in seen:
            if epochs_of(later) > epochs_of(earlier):
                hidden.add(earlier.number)
            elif is_ranked(earlier):
                hidden.add(later.number)
            seen.add(earlier.number)
            earlier = known.get(earlier.user_attrs.get("resumes", -1))
    return hidden


def is_ranked(trial: FrozenTrial) -> bool:
    """Whether `trial` has a score that counts."""
    good = trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and score_of(trial) is not None
    return good and trial.user_attrs.get("reason") not in _NOT_RANKED


def score_of(trial: FrozenTrial) -> float | None:
    """Return the value told; of a stopped trial the one it last reported; None where there is none that is finite."""
    value = trial.value if trial.state == TrialState.COMPLETE else None
    if value is None and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return value if value is not None and math.isfinite(value) else None


def epochs_of(trial: FrozenTrial) -> int:
    """Return how many epochs `trial` has reached."""
    return int(trial.user_attrs.get("epochs") or len(trial.intermediate_values))


def preference(trial: FrozenTrial) -> tuple[float, float]:
    """Return what decides between equal scores: parameters, then log loss."""
    attrs = trial.user_attrs
    parameters, log_loss = attrs.get("model_parameters"), (attrs.get("metrics") or {}).get("log_loss")
    return (
        math.inf if parameters is None else float(parameters),
        math.inf if log_loss is None or math.isnan(log_loss) else float(log_loss),
    )


def _is_stopped(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.PRUNED


def _group(trial: FrozenTrial) -> tuple[str, str]:
    """The backbone, and how much of it trains."""
    known = {**(trial.user_attrs.get("spec") or {}), **trial.params}
    return groups_of(str(known.get("backbone")), float(known.get("freeze_depth") or 0.0))[1]
