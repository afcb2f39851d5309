"""Where good configurations lie, after what earlier searches found: a density over the search space.

A mixture, in equal parts, of one kernel around each good configuration and the uniform density, so that nothing is
ruled out. A kernel is a product over the hyperparameters: a normal density on the range (or its logarithm), cut off at
its ends, and for choices Aitchison and Aitken's (Biometrika 63, 1976).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

__all__ = ["Prior", "alike", "place"]

WIDTH = 0.1  # standard deviation of a kernel, as a part of the range
SPREAD = 0.2  # part of a kernel's mass that is spread evenly over all choices


def place(distribution: FloatDistribution | IntDistribution, value: float) -> float:
    """Return where `value` lies in its range, 0 to 1; on a logarithmic scale where the range has one."""
    low, high = float(distribution.low), float(distribution.high)
    if high == low:
        return 0.5
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def alike(distributions: Mapping[str, BaseDistribution], one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configurations make the same choices, at less than a tenth of its range between any two numbers."""
    return all(
        one[name] == other[name]
        if isinstance(each, CategoricalDistribution)
        else abs(place(each, one[name]) - place(each, other[name])) < WIDTH  # type: ignore[arg-type]
        for name, each in distributions.items()
    )


class Prior:
    """The density around `good` configurations, each with a value for every one of `distributions`."""

    def __init__(self, distributions: Mapping[str, BaseDistribution], good: Sequence[Mapping[str, Any]]) -> None:
        self._distributions = dict(distributions)
        self._good = [dict(each) for each in good]

    def __call__(self, params: Mapping[str, Any]) -> float:
        """Return the density of `params` as a multiple of the uniform one's: above 1 where much is expected. Of what
        they lack, every value counts alike."""
        known = {name: each for name, each in self._distributions.items() if name in params}
        kernels = [
            math.prod(_kernel(each, centre[name], params[name]) for name, each in known.items())
            for centre in self._good
        ]
        return (math.fsum(kernels) + 1.0) / (len(kernels) + 1)


def _kernel(distribution: BaseDistribution, centre: Any, value: Any) -> float:
    """The density of `value` around `centre`, as a multiple of the uniform one's."""
    if isinstance(distribution, CategoricalDistribution):
        return SPREAD + ((1 - SPREAD) * len(distribution.choices) if value == centre else 0.0)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    at, middle = place(distribution, value), place(distribution, centre)
    scale = WIDTH * math.sqrt(2)
    inside = 0.5 * (math.erf((1 - middle) / scale) + math.erf(middle / scale))
    return math.exp(-(((at - middle) / scale) ** 2)) / (WIDTH * math.sqrt(2 * math.pi) * inside)
