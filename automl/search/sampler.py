"""What the search proposes after the defaults: Optuna's TPE, weighed by what earlier searches found where there are
some, of candidates with like promise the cheapest, and of a finite space no point twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from automl.errors import UsageError
from automl.search.study import left_aside, planned_params

__all__ = ["BETA", "CheapestOf", "NotAgain", "WeighedTpe", "make_sampler"]

CANDIDATES = 2
CHEAPER = 0.8  # so that the noise of measured costs hardly changes what a seed gives
BETA = 10.0  # own trials after which the density counts once


class _Around(BaseSampler):
    """Changes what another sampler proposes where that samples all parameters jointly."""

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
    """Proposes the cheapest of some candidates.

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
        chosen = super().sample_relative(study, trial, search_space)
        for _ in range(self._candidates - 1 if chosen else 0):
            other = super().sample_relative(study, trial, search_space)
            if self._cost(other) < CHEAPER * self._cost(chosen):
                chosen = other
        return chosen


class NotAgain(_Around):
    """Proposes no point of a finite space that the study has: instead of one that it has, one of those that it lacks
    and that are most like it; what was proposed and left aside only where it lacks nothing else.

    Args:
        points: All of the space.
    """

    def __init__(self, sampler: BaseSampler, points: Sequence[Mapping[str, Any]], seed: int) -> None:
        super().__init__(sampler)
        self._points, self._random = {_key(each): dict(each) for each in points}, random.Random(seed)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        chosen = super().sample_relative(study, trial, search_space)
        if search_space.keys() != next(iter(self._points.values())).keys():
            return chosen
        others = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        known = {_key(planned_params(each)) for each in others if not left_aside(each)}
        aside = {_key(planned_params(each)) for each in others if left_aside(each)}
        lacking = self._points.keys() - known
        lacking = lacking - aside or lacking
        if not lacking or (chosen and _key(chosen) in lacking):
            return chosen
        there = [each for key, each in self._points.items() if key in lacking]
        alike = [sum(each[name] == value for name, value in chosen.items()) for each in there]
        most = max(alike)
        return self._random.choice([each for each, same in zip(there, alike, strict=True) if same == most])


def _key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        sorted((name, f"{value:.9g}" if isinstance(value, float) else value) for name, value in params.items())
    )


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
    points: Sequence[Mapping[str, Any]] = (),
) -> BaseSampler:
    """TPE over all parameters jointly, after five trials; concurrent trials count as poor until they end. With
    `density`, weighed by it while trials are few. With `cost`, the cheapest of so many candidates. With `points`, which
    are all that there are, none twice."""
    options: dict[str, Any] = {"seed": seed, "n_startup_trials": 5, "multivariate": True, "constant_liar": True}
    sampler: BaseSampler = TPESampler(**options) if density is None else WeighedTpe(density, beta, **options)
    if cost is not None:
        sampler = CheapestOf(sampler, candidates, cost)
    return NotAgain(sampler, points, seed) if points else sampler
