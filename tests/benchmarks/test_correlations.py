from __future__ import annotations

import numpy as np
import pytest

from benchmarks.selection.correlations import MOST, tetrachoric


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.75, 0.95])
def test_the_correlation_behind_two_rows_of_hits_is_found_again(correlation: float) -> None:
    rng = np.random.default_rng(0)
    normal = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], size=40_000)
    found = tetrachoric(normal[:, 0] < 0.8, normal[:, 1] < 0.3)
    assert found == pytest.approx(correlation, abs=0.03)


def test_hits_that_are_the_same_are_as_alike_as_can_be() -> None:
    hits = np.arange(100) < 80
    assert tetrachoric(hits, hits) == pytest.approx(MOST, abs=2e-3)
    assert tetrachoric(hits, ~hits) == pytest.approx(-MOST, abs=2e-3)
