from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from automl.search.sampler import make_sampler

SPACE: dict[str, optuna.distributions.BaseDistribution] = {
    "size": CategoricalDistribution(["small", "large"]),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
}


def seconds(params: Mapping[str, Any]) -> float:
    return 10.0 if params["size"] == "large" else 1.0


def proposals(cost: Any, *, seeds: int = 20, trials: int = 12, like: bool = True) -> list[str]:
    """The sizes proposed after the random ones: of equal promise, or the large ones far better."""
    sizes = []
    for seed in range(seeds):
        study = optuna.create_study(sampler=make_sampler(seed, cost))
        for number in range(trials):
            trial = study.ask(SPACE)
            if number >= 5:
                sizes.append(trial.params["size"])
            study.tell(trial, 0.5 if like else seconds(trial.params) / 10, state=optuna.trial.TrialState.COMPLETE)
    return sizes


def test_of_candidates_with_like_promise_the_cheaper_is_proposed() -> None:
    assert proposals(None).count("large") / 140 == pytest.approx(0.5, abs=0.15)
    assert proposals(seconds).count("large") / 140 < 0.35


def test_a_difference_that_could_be_noise_changes_nothing() -> None:
    assert proposals(lambda params: 1.0 if params["size"] == "large" else 0.9) == proposals(lambda params: 1.0)


def test_a_seed_gives_the_same_proposals() -> None:
    assert proposals(seconds) == proposals(seconds)


def test_before_there_is_anything_to_learn_from_proposals_are_random() -> None:
    study = optuna.create_study(sampler=make_sampler(0, seconds))
    assert {study.ask(SPACE).params["size"] for _ in range(20)} == {"small", "large"}
