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

from automl.errors import UsageError

__all__ = ["BETA", "CheapestOf", "WeighedTpe", "make_sampler"]

CANDIDATES = 2
CHEAPER = 0.8  # so that the noise of measured costs hardly changes what a seed gives
BETA = 10.0  # own trials after which the density counts once


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


class WeighedTpe(TPESampler):
    """TPE whose acquisition function is multiplied with a density to the power of β/n, after n trials with a score: the
    weight of piBO (Hvarfner et al., ICLR 2022), which fades as own trials come in.

    Candidates are drawn as TPE draws them. (To choose among its proposals instead, by the same weight, changed next to
    nothing: they hardly differ, each being the best of 24 candidates.)

    Args:
        density: Of parameters; above zero everywhere.
        options: Of `TPESampler`.
    """

    def __init__(self, density: Callable[[Mapping[str, Any]], float], beta: float, **options: Any) -> None:
        if not hasattr(TPESampler, "_compute_acquisition_func"):  # it is private, and without it nothing is weighed
            raise UsageError("--warm-start needs an Optuna whose TPESampler has _compute_acquisition_func, as 5.0 has")
        super().__init__(**options)
        self._density, self._beta, self._power = density, beta, 0.0

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        scored = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        self._power = self._beta / max(1, len(scored))
        return super().sample_relative(study, trial, search_space)

    def _compute_acquisition_func(self, samples: Any, mpe_below: Any, mpe_above: Any) -> Any:
        found = super()._compute_acquisition_func(samples, mpe_below, mpe_above)  # log l(x) - log g(x)
        spaces = mpe_below._search_space
        points = [
            {name: spaces[name].to_external_repr(samples[name][each]) for name in samples} for each in range(len(found))
        ]
        return found + self._power * np.log([self._density(each) for each in points])


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
    options: dict[str, Any] = {"seed": seed, "n_startup_trials": 5, "multivariate": True, "constant_liar": True}
    sampler = TPESampler(**options) if density is None else WeighedTpe(density, beta, **options)
    return sampler if cost is None else CheapestOf(sampler, candidates, cost)
