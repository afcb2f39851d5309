from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from automl.search.prior import Prior, alike

SPACE: dict[str, BaseDistribution] = {
    "size": CategoricalDistribution(["small", "large", "huge"]),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "batch": IntDistribution(8, 64),
}
GOOD = [{"size": "small", "rate": 1e-4, "batch": 8}, {"size": "large", "rate": 1e-2, "batch": 32}]


def test_it_is_a_density() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    draws = [Prior(SPACE, GOOD)(study.ask(SPACE).params) for _ in range(20000)]
    assert np.mean(draws) == pytest.approx(1.0, abs=0.06)  # of the uniform one, also at the ends of the ranges


def test_it_is_high_where_something_was_good_and_nowhere_zero() -> None:
    prior = Prior(SPACE, GOOD)
    for each in GOOD:
        assert prior(each) > 10
        assert prior({**each, "rate": 1e-1}) < prior(each) / 10
        assert prior({**each, "size": "huge"}) < prior(each) / 5
    assert prior({"size": "small"}) == pytest.approx((1 + 2.6 + 0.2) / 3)  # of three choices: 0.2 + 0.8 * 3, and 0.2
    assert prior({"size": "huge", "rate": 1e-1, "batch": 64}) == pytest.approx(1 / 3, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, True), ({"rate": 1.5e-2}, True), ({"rate": 3e-2}, False), ({"size": "small"}, False), ({"batch": 36}, True)],
)
def test_configurations_are_alike_that_make_the_same_choices(change: dict[str, object], expected: bool) -> None:
    assert alike(SPACE, GOOD[1], {**GOOD[1], **change}) is expected
