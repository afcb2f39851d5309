from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from automl.errors import UsageError
from automl.search.sampler import BETA, CheapestOf, NotAgain, WeighedTpe, make_sampler

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


def high(params: Mapping[str, Any]) -> float:
    return 100.0 if params["rate"] > 1e-2 else 1.0


def late(trials: int, density: Any) -> int:
    """How many of 40 proposals, after so many trials all alike but for their parameters, have a high rate."""
    found = 0
    for seed in range(4):
        study = optuna.create_study(sampler=make_sampler(seed, density=density))
        for _ in range(trials):
            study.tell(study.ask(SPACE), 0.5)
        for _ in range(10):
            trial = study.ask(SPACE)
            found += trial.params["rate"] > 1e-2
            study.tell(trial, state=TrialState.FAIL)  # teaches nothing
    return found


def test_a_density_draws_the_search_to_where_it_is_high_and_fades() -> None:
    few, many = [late(trials, high) - late(trials, None) for trials in (6, 100)]
    assert few > 20  # of 40
    assert abs(many) < few / 2


def test_the_weight_is_the_density_to_the_power_of_beta_by_trials_with_a_score() -> None:
    study = optuna.create_study()
    for number in range(12):
        trial = study.ask(SPACE)
        study.tell(trial, float(number) if number < 8 else None, state=None if number < 8 else TrialState.FAIL)
    seen: list[Any] = []

    class Kept(WeighedTpe):
        def _compute_acquisition_func(self, samples: Any, below: Any, above: Any) -> Any:
            weighed = super()._compute_acquisition_func(samples, below, above)
            plain = TPESampler._compute_acquisition_func(self, samples, below, above)
            seen.append((samples["rate"], weighed - plain))
            return weighed

    study.sampler = Kept(high, BETA, seed=0, multivariate=True, n_startup_trials=5)
    study.ask(SPACE)
    ((rates, added),) = seen
    assert {rate > 1e-2 for rate in rates} == {True, False}
    assert added == pytest.approx([BETA / 8 * np.log(high({"rate": rate})) for rate in rates])


def test_an_optuna_by_which_nothing_could_be_weighed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(TPESampler, "_compute_acquisition_func")
    with pytest.raises(UsageError, match="--warm-start needs an Optuna"):
        make_sampler(0, density=high)
    make_sampler(0)


def test_an_even_density_changes_nothing() -> None:
    assert late(20, lambda params: 1.0) == late(20, None)


POINTS = [{"size": size, "rate": rate} for size in ("small", "large") for rate in (0.01, 0.1)]


def test_no_point_is_proposed_twice_while_there_are_others() -> None:
    """Scripted proposes the same two points for ever: the others come as those that are most like it."""
    study = optuna.create_study(sampler=NotAgain(Scripted("large", "small"), POINTS, seed=0))
    asked = [study.ask(SPACE).params for _ in range(6)]
    assert asked[0] == {"size": "large", "rate": 0.01}
    assert all(each in asked[:4] for each in POINTS)
    assert asked[4]["rate"] == asked[5]["rate"] == 0.01  # nothing is lacking: as it was proposed


def test_a_proposal_that_was_left_aside_may_come_again() -> None:
    study = optuna.create_study(sampler=NotAgain(Scripted("large"), POINTS, seed=0))
    trial = study.ask(SPACE)
    trial.set_user_attr("reason", "skipped")
    study.tell(trial, state=TrialState.FAIL)
    asked = [study.ask(SPACE).params for _ in range(4)]
    assert trial.params not in asked[:3]
    assert asked[3] == trial.params
