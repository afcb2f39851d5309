"""The order of trials: total, the same whatever order they come in, and nobody above who won at a rung."""

from __future__ import annotations

import itertools
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from automl.ranking.ranks import best_trial, in_order, superseded

RUNGS, LAST = (1, 3), 5
DISTRIBUTIONS = {
    "backbone": CategoricalDistribution(["a", "b"]),
    "freeze_depth": CategoricalDistribution([0.0, 0.75, 1.0]),
}


def made(
    number: int, values: list[float], reason: str, *, backbone: str = "a", depth: float = 0.0, **attrs: Any
) -> FrozenTrial:
    states = {"complete": TrialState.COMPLETE, "truncated": TrialState.COMPLETE, "crashed": TrialState.FAIL}
    state = TrialState.RUNNING if reason == "running" else states.get(reason, TrialState.PRUNED)
    trial = create_trial(
        state=state,
        value=values[-1] if state == TrialState.COMPLETE else None,
        params={"backbone": backbone, "freeze_depth": depth},
        distributions=DISTRIBUTIONS,
        intermediate_values=dict(enumerate(values, start=1)),
        user_attrs={"reason": reason, "epochs": len(values), **attrs},
    )
    trial.number = number
    return trial


def numbers(trials: list[FrozenTrial], *, maximize: bool = True) -> list[int]:
    return [trial.number for trial in in_order(trials, maximize=maximize)]


@st.composite
def studies(draw: st.DrawFn) -> list[FrozenTrial]:
    found = []
    for number in range(draw(st.integers(2, 12))):
        reason = draw(st.sampled_from(["complete", "pruned", "paused", "truncated"]))
        epochs = {"complete": LAST, "truncated": draw(st.integers(1, LAST - 1))}.get(
            reason, draw(st.sampled_from(RUNGS))
        )
        values = draw(st.lists(st.integers(0, 6).map(lambda n: n / 6), min_size=epochs, max_size=epochs))
        backbone, depth = draw(st.sampled_from(["a", "b"])), draw(st.sampled_from([0.0, 0.75]))
        found.append(made(number, values, reason, backbone=backbone, depth=depth))
    return found


def won(one: FrozenTrial, other: FrozenTrial, sign: int) -> bool:
    """Whether `one` was compared with `other` where that was stopped, and was let run on."""
    if other.state != TrialState.PRUNED or one.params["freeze_depth"] != other.params["freeze_depth"]:
        return False
    rung = other.last_step or 0
    went_on = (one.last_step or 0) > rung or (one.last_step == rung and one.state == TrialState.COMPLETE)
    if not went_on or one.params["backbone"] == other.params["backbone"]:
        return went_on
    return sign * one.intermediate_values[rung] >= sign * other.intermediate_values[rung]


@settings(max_examples=300, deadline=None)
@given(trials=studies(), maximize=st.booleans(), random=st.randoms())
def test_a_total_order_that_puts_nobody_above_who_won(trials: list[FrozenTrial], maximize: bool, random: Any) -> None:
    ranks = {number: rank for rank, number in enumerate(numbers(trials, maximize=maximize))}
    assert sorted(ranks) == [trial.number for trial in trials]
    for one, other in itertools.permutations(trials, 2):
        if won(one, other, 1 if maximize else -1):
            assert ranks[one.number] < ranks[other.number]
    shuffled = list(trials)
    random.shuffle(shuffled)
    assert numbers(shuffled, maximize=maximize) == numbers(trials, maximize=maximize)


@settings(max_examples=100, deadline=None)
@given(trials=studies())
def test_finished_first_and_by_score(trials: list[FrozenTrial]) -> None:
    order = in_order(trials, maximize=True)
    if any(trial.user_attrs["reason"] == "complete" for trial in trials):
        states = [trial.state for trial in order]
        assert states == sorted(states)  # COMPLETE before PRUNED
        scores = [trial.value or 0.0 for trial in order if trial.state == TrialState.COMPLETE]
        assert scores == sorted(scores, reverse=True)


def test_a_stopped_trial_stays_below_the_one_that_ran_on_and_did_worse_later() -> None:
    trials = [
        made(0, [0.5, 0.9, 0.9, 0.9, 0.95], "complete"),
        made(1, [0.8, 0.7, 0.4], "pruned"),
        made(2, [0.6], "pruned"),
        made(3, [0.5], "pruned", backbone="b"),
        made(4, [0.9], "pruned", backbone="b", depth=0.75),
    ]
    assert numbers(trials) == [0, 4, 1, 2, 3]  # 3 was below 1 at the rung; 4 is of another freeze depth


def test_values_at_rungs_alone_have_no_order() -> None:
    first, second = made(0, [0.5, 0.6, 0.7, 0.8, 0.95], "complete"), made(1, [0.7, 0.8, 0.9, 0.9, 0.94], "complete")
    stopped = made(2, [0.6], "pruned")  # above the first and below the second at the rung
    assert numbers([first, second, stopped]) == [0, 1, 2]


def test_where_no_trial_ran_in_full_a_late_start_is_not_first() -> None:
    trials = [made(0, [0.5, 0.8, 0.9], "paused"), made(1, [0.3], "truncated"), made(2, [0.5, 0.6], "paused")]
    assert numbers(trials) == [0, 2, 1]
    trials.append(made(3, [0.2] * LAST, "complete"))
    assert numbers(trials) == [1, 3, 0, 2]


def test_trials_that_continue_one_another_are_one() -> None:
    paused = made(0, [0.5], "paused")
    assert numbers([paused, made(1, [0.5, 0.7, 0.8], "paused", resumes=0)]) == [1]
    assert numbers([paused, made(1, [0.5, 0.7], "truncated", resumes=0)]) == [1]
    assert numbers([paused, made(1, [0.5], "crashed", resumes=0), made(2, [0.5, 0.6], "truncated", resumes=1)]) == [2]


@pytest.mark.parametrize("reason", ["truncated", "paused", "out_of_memory"])
def test_a_continuation_without_an_epoch_of_its_own_changes_nothing(reason: str) -> None:
    trials = [made(0, [0.5], "paused"), made(1, [0.5], reason, resumes=0)]
    assert numbers(trials) == [0]


@pytest.mark.parametrize("reason", ["running", "crashed"])
def test_what_has_not_ended_or_says_nothing_supersedes_nothing(reason: str) -> None:
    assert numbers([made(0, [0.5], "paused"), made(1, [0.5, 0.9], reason, resumes=0)]) == [0]


def test_a_continuation_that_diverged_ends_the_configuration() -> None:
    trials = [made(0, [0.5], "paused"), made(1, [0.5, 0.6], "diverged", resumes=0)]
    assert numbers(trials) == []
    assert superseded(trials) == {0}


def test_a_retried_trial_that_was_cut_short_at_once_is_ranked() -> None:
    trials = [made(0, [0.5], "crashed"), made(1, [0.5], "truncated", resumes=0)]
    assert numbers(trials) == [1]


def test_best_is_the_first_also_where_none_finished() -> None:
    study = optuna.create_study(direction="maximize")
    for values in ([0.5], [0.4, 0.5, 0.6]):
        study.add_trial(made(0, values, "paused"))
    best = best_trial(study)
    assert best is not None
    assert best.number == 1


@pytest.mark.parametrize("links", [{0: 1, 1: 0}, {0: 0}])
def test_trials_that_name_each_other_end(links: dict[int, int]) -> None:
    trials = [made(n, [0.5] * (n + 1), "paused", resumes=earlier) for n, earlier in links.items()]
    assert len(numbers(trials)) >= 1
