"""The search space: validated `params` of a config → a flat set of Optuna distributions and constants.

The space is flat on purpose: one distribution per hyperparameter, the same for every backbone. Conditional
parameters would force Optuna's samplers to split their history into groups.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from automl.config import PARAMETERS, Range

__all__ = ["Space", "make_space"]


@dataclass(frozen=True)
class Space:
    """What varies (`distributions`, by name) and what does not (`constants`, by name)."""

    distributions: dict[str, BaseDistribution]
    constants: dict[str, Any]

    @property
    def points(self) -> int | None:
        """How many different trials the space holds; None if a hyperparameter is continuous."""
        if any(isinstance(each, FloatDistribution) and each.step is None for each in self.distributions.values()):
            return None
        return math.prod(len(self.choices(name)) for name in self.distributions)

    def every_point(self, most: int = 10_000) -> list[dict[str, Any]]:
        """Return all trials that the space holds; none if they are more than `most`, or if one varies continuously."""
        if self.points is None or self.points > most:
            return []
        every = [self.choices(name) for name in self.distributions]
        return [dict(zip(self.distributions, each, strict=True)) for each in itertools.product(*every)]

    def params(self, sampled: Mapping[str, Any]) -> dict[str, Any]:
        """Return every hyperparameter of a trial: constants, overlaid with what was sampled."""
        return {**self.constants, **sampled}

    def choices(self, name: str) -> list[Any]:
        """Return every value that `name` can take; of a continuous range, its two ends."""
        distribution = self.distributions.get(name)
        if distribution is None:
            return [self.constants[name]]
        if isinstance(distribution, CategoricalDistribution):
            return list(distribution.choices)
        if isinstance(distribution, IntDistribution):
            return list(range(distribution.low, distribution.high + 1, distribution.step))
        assert isinstance(distribution, FloatDistribution)
        if distribution.step is None:
            return [distribution.low, distribution.high]
        steps = round((distribution.high - distribution.low) / distribution.step)
        return [min(distribution.low + index * distribution.step, distribution.high) for index in range(steps + 1)]

    def nearest(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point of the space as close as it can be to `wanted`; what `wanted` omits takes the middle of its
        range, or its first choice."""
        return {
            name: _nearest(name, distribution, wanted.get(name)) for name, distribution in self.distributions.items()
        }


def make_space(backbones: Sequence[str], params: Mapping[str, Any]) -> Space:
    """Turn the `params` of a config into a `Space`; what they omit takes the default of `config.PARAMETERS`."""
    distributions: dict[str, BaseDistribution] = {}
    constants: dict[str, Any] = {}
    for name, value in [("backbone", list(backbones)), *params.items()]:
        kind = PARAMETERS[name].kind if name in PARAMETERS else str
        if isinstance(value, Range):
            if kind is int:
                distributions[name] = IntDistribution(
                    int(value.low), int(value.high), log=value.log, step=int(value.step or 1)
                )
            else:
                distributions[name] = FloatDistribution(value.low, value.high, log=value.log, step=value.step)
        elif isinstance(value, list) and len(value) > 1:
            distributions[name] = CategoricalDistribution([kind(item) for item in value])
        else:
            constants[name] = kind(value[0] if isinstance(value, list) else value)
    for name, parameter in PARAMETERS.items():
        if name not in distributions:
            constants.setdefault(name, parameter.default)
    return Space(distributions, constants)


def _nearest(name: str, distribution: BaseDistribution, wanted: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        if wanted is None or isinstance(wanted, str):
            return wanted if wanted in distribution.choices else distribution.choices[0]
        return min(distribution.choices, key=lambda choice: abs(float(choice or 0) - wanted))
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = distribution.low, distribution.high
    if wanted is None:
        wanted = (low * high) ** 0.5 if distribution.log else (low + high) / 2
    clipped = float(min(max(wanted, low), high))
    if distribution.step is not None and not distribution.log:
        clipped = min(low + round((clipped - low) / distribution.step) * distribution.step, high)
    return round(clipped) if isinstance(distribution, IntDistribution) else clipped
