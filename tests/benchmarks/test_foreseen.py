from __future__ import annotations

import pandas as pd
from optuna.trial import FrozenTrial, create_trial

from benchmarks.foreseen import rows_of, table


def trial(predicted: float, taken: float, *, head: bool = False, side: int = 64) -> FrozenTrial:
    """A trial of one epoch, whose start took no time."""
    attrs = {"predicted_seconds": [0.0, predicted], "startup_seconds": 0.0, "epoch_seconds": taken, "epochs": 1}
    return create_trial(value=0.5, user_attrs={**attrs, "from_embeddings": head, "spec": {"resolution": side}})


def test_heads_and_resolutions_are_told_apart() -> None:
    trials = [trial(1.5, 1.0, head=True), trial(6.0, 10.0, side=32), trial(9.0, 10.0), trial(12.0, 10.0)]
    again = [trial(1.1, 1.0, head=True), *(trial(11.0, 10.0, side=side) for side in (32, 64, 64))]
    rows = rows_of("one", trials, again)
    assert {row["replayed"] for row in rows} == {0.1}
    errors = {row["trials of"]: (row["trials"], row["error"]) for row in rows}
    assert errors == {
        "all": (4, 0.3), "past the head": (3, 0.2), "heads": (1, 0.5), "32 px": (1, 0.4), "64 px": (2, 0.15),
    }  # fmt: skip
    same = [trial(10.0, 10.0)]
    shown = table(pd.DataFrame(rows + rows_of("two", same, same)))
    assert "| all | 2 | 5 | 15.0 % | 30.0 % | 1 | 5.0 % | 10.0 % | 2 |" in shown
