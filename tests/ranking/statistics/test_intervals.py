"""Intervals: known values, closed forms, and how often they hold the truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, gamma, t

from automl.ranking.statistics import METRICS, Predictions, contributions, interval, limits, score, wilson
from automl.ranking.statistics.wilson import wilson_limits
from tests.ranking.made import random_predictions


def test_wilson_known_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("hits", [0, 1, 57, 99, 100])
def test_wilson_is_scipys(hits: int) -> None:
    expected = binomtest(hits, 100).proportion_ci(method="wilson")
    assert wilson(hits, 100) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("n", [100, 300, 1000, 5000])
def test_the_interval_of_accuracy_covers_95_percent(n: int) -> None:
    low, high = wilson_limits(np.arange(n + 1) / n, float(n))
    accuracies = np.linspace(0.6, 0.995, 200)
    inside = (low <= accuracies[:, None]) & (accuracies[:, None] <= high)
    coverage = (binom.pmf(np.arange(n + 1), n, accuracies[:, None]) * inside).sum(axis=1)
    assert 0.94 < coverage.mean() < 0.96


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_hold_the_score(metric: str) -> None:
    predictions = random_predictions(5)
    found = interval(metric, predictions)
    assert score(metric, predictions) in found
    assert found.low < found.high


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auroc"])
def test_no_errors_is_not_certainty(metric: str) -> None:
    predictions = random_predictions(6, n=30, classes=2, skill=60.0)
    assert score(metric, predictions) == 1.0
    size = 30.0 if metric == "accuracy" else 4 / (1 / np.bincount(predictions.targets)).sum()
    found = interval(metric, predictions)
    tolerance = 0.02 if metric in ("balanced_accuracy", "macro_f1") else 1e-9  # a class may be less sure than another
    assert (found.low, found.high) == pytest.approx(wilson(size, size), abs=tolerance)
    assert found.low < 0.9


def test_balanced_accuracy_varies_as_its_classes_do() -> None:
    predictions = random_predictions(2, n=2000, skill=1.5)
    targets, right = predictions.targets, predictions.labels == predictions.targets
    shares, counts = np.array([right[targets == each].mean() for each in range(4)]), np.bincount(targets)
    error = np.sqrt((shares * (1 - shares) / counts).sum()) / 4
    found = interval("balanced_accuracy", predictions)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.02)


def test_the_interval_of_balanced_accuracy_covers_where_one_class_is_rare() -> None:
    rng, held = np.random.default_rng(4), []
    for _ in range(400):
        targets = (rng.random(1000) < 0.05).astype(np.int64)
        labels = np.where(rng.random(1000) < np.where(targets == 1, 0.055, 0.0025), 1 - targets, targets)
        found = interval("balanced_accuracy", Predictions(np.eye(2)[labels], targets, np.arange(1000)))
        held.append(1 - (0.055 + 0.0025) / 2 in found)
    assert np.mean(held) >= 0.92  # 0.82 if the variance is taken from the errors that were seen


def test_a_rare_class_without_errors_widens_the_interval() -> None:
    targets = np.repeat([0, 1], [995, 5])
    labels = targets.copy()
    labels[:10] = 1
    predictions = Predictions(np.eye(2)[labels], targets, np.arange(1000))
    found = interval("balanced_accuracy", predictions)
    assert score("balanced_accuracy", predictions) > 0.99
    assert found.low < 0.97  # one image of the rare class is a tenth


def test_log_loss_has_the_limits_of_weighted_rare_events() -> None:
    predictions = random_predictions(3, n=500)
    found, value, losses = interval("log_loss", predictions), score("log_loss", predictions), predictions.losses
    squares = (losses - value) ** 2
    variance, outstanding = squares.sum() / 499 / 500, squares.sum() ** 2 / (squares**2).sum()
    assert found.low == pytest.approx(gamma.ppf(0.025, value**2 / variance, scale=variance / value))
    more = np.maximum(losses, -np.log1p(-np.exp(-losses))).mean() / 2 / 500
    above, spread = value + more, variance + more**2
    of_events = gamma.ppf(0.975, above**2 / spread, scale=spread / above)
    symmetric = value * np.exp(t.ppf(0.975, outstanding) * np.sqrt(variance) / value)
    assert found.high == pytest.approx(max(of_events, symmetric))


def losses_of(*losses: float, groups: NDArray[np.int64] | None = None) -> Predictions:
    """Predictions of two classes with these losses."""
    right = np.exp(-np.array(losses))
    with np.errstate(divide="ignore"):
        logits = np.log(np.stack([right, 1 - right], axis=1))
    return Predictions(logits, np.zeros(len(losses), np.int64), np.arange(len(losses)), groups)


def test_log_loss_without_a_mistake_is_not_certain() -> None:
    """A mistake would have cost 5.3 each; 1.8 of 100 images may be mistakes though none was among these."""
    found = interval("log_loss", losses_of(*[0.005] * 100))
    assert found.low == pytest.approx(0.005, rel=0.01)
    assert 0.09 < found.high < 0.11


def test_log_loss_with_one_great_mistake_has_a_usable_interval() -> None:
    found = interval("log_loss", losses_of(6.0, *[0.005] * 299))
    assert 0.0001 < found.low < 0.01
    assert 0.1 < found.high < 0.5


def test_log_loss_of_one_group_and_of_no_loss_is_finite() -> None:
    for each in (losses_of(*[0.3, 0.1, 0.2], groups=np.zeros(3, np.int64)), losses_of(*[0.0] * 50)):
        found = interval("log_loss", each)
        assert 0 <= found.low <= score("log_loss", each) < found.high < 50


@pytest.mark.parametrize("often", [0.01, 0.03])
def test_log_loss_holds_the_truth_where_mistakes_are_rare_and_great(often: float) -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        losses = np.where(rng.random(100) < often, 6.0, 0.005)
        held.append(often * 6 + (1 - often) * 0.005 in interval("log_loss", losses_of(*losses)))
    assert 0.93 <= np.mean(held) <= 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_copies_in_a_group_say_as_much_as_one(metric: str) -> None:
    one = random_predictions(7, n=90, skill=1.5)
    logits, targets, rows = (np.repeat(each, 8, axis=0) for each in (one.logits, one.targets, one.rows))
    copies = Predictions(logits, targets, np.arange(len(rows)))
    grouped, alone, single = (
        interval(metric, each) for each in (dataclasses.replace(copies, groups=rows), copies, one)
    )
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high), rel=0.02)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    assert "groups" in grouped.method


def test_many_trials_at_once_are_as_one_by_one() -> None:
    trials = [random_predictions(0, skill=skill) for skill in (1.0, 2.0, 3.0)]
    values = np.stack([contributions("macro_f1", each) for each in trials])
    found = limits("macro_f1", values.mean(axis=1), values, trials[0].targets)
    for i, each in enumerate(trials):
        alone = interval("macro_f1", each)
        assert (found.low[i], found.high[i]) == pytest.approx((alone.low, alone.high), abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "groups"), [("macro_f1", False), ("log_loss", False), ("auroc", False), ("accuracy", True)]
)
def test_coverage_of_simulated_trials(metric: str, groups: bool) -> None:
    rng = np.random.default_rng(1)

    def sample(n: int) -> Predictions:
        targets, of_group = rng.integers(3, size=n), np.arange(n) // 5
        shared = 1.5 * rng.normal(size=of_group[-1] + 1)[of_group] if groups else np.zeros(n)
        logits = rng.normal(size=(n, 3))
        logits[np.arange(n), targets] += 2.2 + shared
        return Predictions(logits, targets, np.arange(n), of_group if groups else None)

    truth = score(metric, sample(200_000))
    held = [truth in interval(metric, sample(250)) for _ in range(400)]
    assert 0.92 <= np.mean(held) <= 0.99
