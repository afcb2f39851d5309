"""What the search proposes after the defaults: Optuna's TPE, weighed by what earlier searches found where there are
some, and of candidates with like promise the cheapest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

__all__ = ["BETA", "CheapestOf", "Weighed", "make_sampler"]

CANDIDATES = 2
CHEAPER = 0.8  # so that the noise of measured costs hardly changes what a seed gives
BETA = 10.0  # trials after which the density counts as much as the sampler
DRAWN = 8  # proposals, of which one is taken by its weight
FADED = 0.05  # exponent below which proposals are no longer weighed


class _Around(BaseSampler):
    """Leaves to another sampler what it does not do itself."""

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

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


class CheapestOf(_Around):
    """Proposes the cheapest of some candidates of another sampler, where that samples all parameters jointly.

    Args:
        sampler: Gives the candidates; each is drawn as if it were the only one.
        cost: Predicted seconds of parameters.
    """

    def __init__(self, sampler: BaseSampler, candidates: int, cost: Callable[[Mapping[str, Any]], float]) -> None:
        super().__init__(sampler)
        self._candidates, self._cost = candidates, cost

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        chosen = self._sampler.sample_relative(study, trial, search_space)
        for _ in range(self._candidates - 1 if chosen else 0):
            other = self._sampler.sample_relative(study, trial, search_space)
            if self._cost(other) < CHEAPER * self._cost(chosen):
                chosen = other
        return chosen


class Weighed(_Around):
    """Weighs the proposals of another sampler by a density to the power of β/n, after n trials with a score.

    The weight is that of piBO (Hvarfner et al., ICLR 2022), which multiplies an acquisition function with it. Here it
    multiplies the density that the other sampler draws from: of several draws one is taken with a probability in
    proportion to its weight (sampling-importance resampling; Smith and Gelfand, The American Statistician 46, 1992).

    Args:
        sampler: Gives the draws, where it samples all parameters jointly; else nothing is weighed.
        density: Of parameters; above zero everywhere.
    """

    def __init__(
        self, sampler: BaseSampler, density: Callable[[Mapping[str, Any]], float], beta: float, seed: int
    ) -> None:
        super().__init__(sampler)
        self._density, self._beta, self._rng = density, beta, np.random.default_rng(seed)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        first = self._sampler.sample_relative(study, trial, search_space)
        scored = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        power = self._beta / max(1, len(scored))
        if not first or power < FADED:
            return first
        drawn = [first, *(self._sampler.sample_relative(study, trial, search_space) for _ in range(DRAWN - 1))]
        logarithms = power * np.log([self._density(each) for each in drawn])
        weights = np.exp(logarithms - logarithms.max())
        return drawn[int(self._rng.choice(len(drawn), p=weights / weights.sum()))]


def make_sampler(
    seed: int,
    cost: Callable[[Mapping[str, Any]], float] | None = None,
    candidates: int = CANDIDATES,
    *,
    density: Callable[[Mapping[str, Any]], float] | None = None,
    beta: float = BETA,
) -> BaseSampler:
    """TPE over all parameters jointly, after five trials; concurrent trials count as poor until they end. With
    `density`, weighed by it while trials are few. With `cost`, the cheapest of so many candidates."""
    sampler: BaseSampler = TPESampler(seed=seed, n_startup_trials=5, multivariate=True, constant_liar=True)
    if density is not None:
        sampler = Weighed(sampler, density, beta, seed)
    return sampler if cost is None else CheapestOf(sampler, candidates, cost)
