"""What the search proposes after the defaults: Optuna's TPE, and of candidates with like promise the cheapest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

__all__ = ["CheapestOf", "make_sampler"]

CANDIDATES = 2
CHEAPER = 0.8  # so that the noise of measured costs hardly changes what a seed gives


class CheapestOf(BaseSampler):
    """Proposes the cheapest of some candidates of another sampler, where that samples all parameters jointly.

    Args:
        sampler: Gives the candidates; each is drawn as if it were the only one.
        cost: Predicted seconds of parameters.
    """

    def __init__(self, sampler: BaseSampler, candidates: int, cost: Callable[[Mapping[str, Any]], float]) -> None:
        self._sampler, self._candidates, self._cost = sampler, candidates, cost

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        chosen = self._sampler.sample_relative(study, trial, search_space)
        for _ in range(self._candidates - 1 if chosen else 0):
            other = self._sampler.sample_relative(study, trial, search_space)
            if self._cost(other) < CHEAPER * self._cost(chosen):
                chosen = other
        return chosen

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        self._sampler.after_trial(study, trial, state, values)


def make_sampler(
    seed: int, cost: Callable[[Mapping[str, Any]], float] | None = None, candidates: int = CANDIDATES
) -> BaseSampler:
    """TPE over all parameters jointly, after five trials; concurrent trials count as poor until they end. With `cost`,
    the cheapest of so many candidates."""
    sampler = TPESampler(seed=seed, n_startup_trials=5, multivariate=True, constant_liar=True)
    return sampler if cost is None else CheapestOf(sampler, candidates, cost)
