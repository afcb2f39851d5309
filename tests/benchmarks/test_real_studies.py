from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.real_studies import lost_apart, row_of, tables


def right(*scores: float) -> np.ndarray:
    return np.arange(100) < 100 * np.array(scores)[:, None]


def board(**changes: Any) -> dict[str, Any]:
    rows = [
        {"trial": number, "score": score, "ci95": [score - 0.02, score + 0.02], "tied_with_best": number < 2}
        for number, score in enumerate((0.95, 0.94, 0.90))
    ]
    corrected = {"value": 0.94, "ci95": [0.92, 0.96]}
    return {
        "rows": rows,
        "confirmation": None,
        "best_corrected": corrected,
        "refit": {"test": {"accuracy": 0.93}},
        **changes,
    }


def test_what_was_reported_is_compared_with_what_came_of_it() -> None:
    row = row_of(board(), right(0.92, 0.94, 0.89))
    assert (row["expected"], row["inside"], row["confirmed"]) == (0.94, True, 0)
    assert row["lost"] == pytest.approx(0.02)
    assert row["tau_rank"] == pytest.approx(1 / 3)
    assert row["tied_of_first"] == 2


def test_the_confirmation_is_what_counts_where_there_is_one() -> None:
    confirmed = {"expected": 0.96, "expected_ci95": [0.945, 0.97], "trials": [{}, {}, {}]}
    row = row_of(board(confirmation=confirmed), right(0.92, 0.94, 0.89))
    assert (row["expected"], row["inside"], row["confirmed"]) == (0.96, False, 3)
    table = tables(
        pd.DataFrame(
            [row | {"set": "digits", "seed": 0}, row_of(board(), right(0.9, 0.8, 0.7)) | {"set": "b", "seed": 0}]
        )
    )
    assert "| digits | 1 | 0.00 | 2.5 | +3.00 | +2.00 | 0.33 | 2.00 |" in table
    assert "| all | 2 | 0.50 |" in table


def test_the_luck_of_the_best_of_ten_is_no_loss() -> None:
    rng = np.random.default_rng(0)
    alike = [rng.random((10, 600)) < 0.9 for _ in range(20)]
    assert np.mean([(each.mean(axis=1).max() - each[0].mean()) for each in alike]) > 0.01
    assert abs(np.mean([lost_apart(each, halvings=20) for each in alike])) < 0.004
    better = np.stack([rng.random(600) < share for share in (0.8, 0.9)])
    assert lost_apart(better) == pytest.approx(better[1].mean() - better[0].mean(), abs=0.005)
