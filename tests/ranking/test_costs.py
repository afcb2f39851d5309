from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from automl.ranking.costs import foreseen


def trial(backbone: str, predicted: tuple[float, float], start: float, epoch: float, **attrs: Any) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=attrs.pop("state", TrialState.COMPLETE),
        value=0.5 if attrs.get("reason") != "paused" else None,
        params={"backbone": backbone},
        distributions={"backbone": optuna.distributions.CategoricalDistribution(["a", "b"])},
        user_attrs={
            "predicted_seconds": list(predicted), "startup_seconds": start, "epoch_seconds": epoch, "epochs": 4, **attrs
        },
    )  # fmt: skip


def test_prediction_and_truth_are_compared_per_kind() -> None:
    trials = [
        trial("a", (2.0, 10.0), 1.0, 12.0),  # 42 against 49
        trial("a", (2.0, 10.0), 2.0, 8.0, epochs=1, state=TrialState.PRUNED, reason="paused"),  # 12 against 10
        trial("b", (0.0, 5.0), 0.0, 5.0),
        trial("b", (1.0, 0.0), 2.0, 0.0, from_embeddings=True),
        trial("b", (1.0, 100.0), 2.0, 1.0, resumes=1),
    ]
    found = {each.what: each for each in foreseen(trials)}
    assert found.keys() == {"all", "a", "b", "heads on kept features"}
    assert (found["a"].trials, found["a"].predicted_seconds, found["a"].taken_seconds) == (2, 27.0, 29.5)
    assert found["a"].error == pytest.approx((7 / 49 + 0.2) / 2)
    assert (found["b"].trials, found["b"].error) == (1, 0.0)
    assert found["heads on kept features"].error == 0.5
    assert found["all"].trials == 4


def test_trials_of_earlier_versions_say_nothing() -> None:
    old = trial("a", (1.0, 1.0), 1.0, 1.0)
    del old.user_attrs["predicted_seconds"]
    assert foreseen([old]) == ()


def test_memory_is_compared_where_it_was_predicted_and_can_be_measured() -> None:
    trials = [
        trial("a", (1.0, 1.0), 1.0, 1.0, predicted_mb=900.0, peak_memory_mb=1000.0, device="NVIDIA H100"),
        trial("a", (1.0, 1.0), 1.0, 1.0, predicted_mb=900.0, peak_memory_mb=4000.0, device="cpu"),  # of a warm worker
        trial("b", (1.0, 1.0), 1.0, 1.0, predicted_mb=None, peak_memory_mb=1000.0, device="NVIDIA H100"),
    ]
    found = {each.what: each for each in foreseen(trials)}
    assert (found["a"].predicted_mb, found["a"].taken_mb, found["a"].memory_error) == (900.0, 1000.0, 0.1)
    assert (found["all"].trials, found["all"].memory_error) == (3, 0.1)
    assert found["b"].memory_error is None
