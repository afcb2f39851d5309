from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from automl.search.sampler import BETA, CheapestOf, Weighed, make_sampler

SPACE: dict[str, BaseDistribution] = {
    "size": CategoricalDistribution(["small", "large"]),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
}


class Scripted(RandomSampler):
    """Draws the given sizes in turn."""

    def __init__(self, *sizes: str) -> None:
        super().__init__()
        self._sizes = itertools.cycle(sizes)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return SPACE

    def sample_relative(self, *arguments: Any) -> dict[str, Any]:
        return {"size": next(self._sizes), "rate": 0.01}


def seconds(params: Mapping[str, Any]) -> float:
    return 10.0 if params["size"] == "large" else 1.0


@pytest.mark.parametrize(("drawn", "expected"), [(("large", "small"), "small"), (("small", "large"), "small")])
def test_the_cheaper_of_two_candidates_is_proposed(drawn: tuple[str, str], expected: str) -> None:
    study = optuna.create_study(sampler=CheapestOf(Scripted(*drawn), 2, seconds))
    assert [study.ask(SPACE).params["size"] for _ in range(3)] == [expected] * 3


def test_a_difference_that_could_be_noise_changes_nothing() -> None:
    study = optuna.create_study(
        sampler=CheapestOf(Scripted("large", "small"), 2, lambda params: 1.0 if params["size"] == "large" else 0.9)
    )
    assert study.ask(SPACE).params["size"] == "large"


def proposals(seed: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=make_sampler(seed, seconds))
    asked = []
    for _ in range(30):
        trial = study.ask(SPACE)
        asked.append(trial.params)
        study.tell(trial, trial.params["rate"])
    return asked


def test_a_seed_gives_the_same_proposals() -> None:
    assert proposals(3) == proposals(3)
    assert proposals(3) != proposals(4)


def test_what_was_good_is_proposed_again() -> None:
    late = [each["rate"] for seed in range(5) for each in proposals(seed)[20:]]
    assert sum(rate < 3e-3 for rate in late) > 0.7 * len(late)  # half of the range, and what is lowest there


def test_before_there_is_anything_to_learn_from_proposals_are_random() -> None:
    study = optuna.create_study(sampler=make_sampler(0, seconds))
    asked = [study.ask(SPACE) for _ in range(20)]
    assert {each.params["size"] for each in asked} == {"small", "large"}
    assert {each.state for each in study.trials} == {TrialState.RUNNING}


def drawn_small(trials: int, state: TrialState = TrialState.COMPLETE) -> float:
    """The share of small ones among the proposals, after so many trials, where the density is 9 there and else 1."""
    study = optuna.create_study(
        sampler=Weighed(Scripted("small", "large"), lambda params: 9.0 if params["size"] == "small" else 1.0, BETA, 0)
    )
    for _ in range(trials):
        study.add_trial(optuna.trial.create_trial(state=state, value=0.5 if state == TrialState.COMPLETE else None))
    asked = [study.ask(SPACE).params["size"] for _ in range(300)]
    return asked.count("small") / len(asked)


def test_proposals_are_weighed_by_the_density_to_the_power_of_beta_by_trials() -> None:
    # of four small and four large ones: 9**p / (9**p + 1), p = BETA / n
    assert drawn_small(10) == pytest.approx(0.9, abs=0.05)
    assert drawn_small(20) == pytest.approx(0.75, abs=0.07)
    assert drawn_small(40) == pytest.approx(0.634, abs=0.08)


def test_the_weights_fade() -> None:
    assert drawn_small(1) > 0.99
    assert drawn_small(1, TrialState.FAIL) > 0.99
    assert drawn_small(250) == pytest.approx(0.5, abs=0.01)  # as drawn: small, large, small, …


def test_a_density_draws_the_search_to_where_it_is_high() -> None:
    def late(density: Any) -> int:
        found = 0
        for seed in range(8):
            study = optuna.create_study(sampler=make_sampler(seed, seconds, density=density))
            for number in range(14):
                trial = study.ask(SPACE)
                found += number >= 5 and trial.params["rate"] > 1e-2
                study.tell(trial, 0.5)
        return found

    assert late(lambda params: 100.0 if params["rate"] > 1e-2 else 1.0) > 1.5 * late(None)
