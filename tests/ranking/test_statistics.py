from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as sk

from automl.ranking.statistics import (
    METRICS,
    Predictions,
    confusion,
    difference,
    interval,
    per_class,
    score,
    wilson,
)


def random_predictions(seed: int = 0, n: int = 300, classes: int = 4, skill: float = 3.0) -> Predictions:
    rng = np.random.default_rng(seed)
    targets = rng.choice(classes, size=n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = rng.normal(size=(n, classes)) * 1.5
    logits[np.arange(n), targets] += skill
    return Predictions(logits.astype(np.float32), targets, np.arange(n))


def by_scikit_learn(metric: str, predictions: Predictions, weights: np.ndarray | None = None) -> float:
    targets, labels = predictions.targets, predictions.labels
    if metric == "log_loss":
        logits = predictions.logits.astype(np.float64)
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        classes = list(range(logits.shape[1]))
        return float(sk.log_loss(targets, probabilities, labels=classes, sample_weight=weights))
    return float(
        {
            "accuracy": lambda: sk.accuracy_score(targets, labels),
            "balanced_accuracy": lambda: sk.balanced_accuracy_score(targets, labels),
            "macro_precision": lambda: sk.precision_score(targets, labels, average="macro", zero_division=0),
            "macro_recall": lambda: sk.recall_score(targets, labels, average="macro", zero_division=0),
            "macro_f1": lambda: sk.f1_score(targets, labels, average="macro", zero_division=0),
        }[metric]()
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("seed", "n", "classes", "skill"), [(0, 300, 4, 3.0), (1, 12, 7, 0.5), (2, 50, 2, 8.0)])
def test_metrics_equal_scikit_learn(metric: str, seed: int, n: int, classes: int, skill: float) -> None:
    predictions = random_predictions(seed, n, classes, skill)
    assert score(metric, predictions) == pytest.approx(by_scikit_learn(metric, predictions), abs=1e-9)


def test_confusion_and_per_class_equal_scikit_learn() -> None:
    predictions = random_predictions(3)
    targets, labels = predictions.targets, predictions.labels
    counts = confusion(predictions, 4)
    assert counts.tolist() == sk.confusion_matrix(targets, labels, labels=range(4)).tolist()
    expected = np.array(sk.precision_recall_fscore_support(targets, labels, labels=range(4), zero_division=0)).T
    for row, (precision, recall, f1, support) in zip(per_class(counts, list("abcd")), expected, strict=True):
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx((precision, recall, f1, support))
        assert row.recall95 is not None
        assert row.recall95[0] <= row.recall <= row.recall95[1]


def test_wilson_known_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("metric", METRICS[1:])
def test_fast_bootstrap_agrees_with_resampling_images_one_by_one(metric: str) -> None:
    predictions = random_predictions(4, n=120)
    rng = np.random.default_rng(0)
    slow = []
    for _ in range(1500):
        taken = rng.integers(120, size=120)
        slow.append(score(metric, Predictions(predictions.logits[taken], predictions.targets[taken], predictions.rows)))
    fast = interval(metric, predictions, seed=1)
    assert (fast.low, fast.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.25 * (fast.high - fast.low))
    assert fast.method == "bootstrap over images"


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_hold_the_score_and_repeat_with_the_seed(metric: str) -> None:
    predictions = random_predictions(5)
    first = interval(metric, predictions, seed=[0, 7])
    assert score(metric, predictions) in first
    assert first == interval(metric, predictions, seed=[0, 7])


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_no_errors_is_not_certainty(metric: str) -> None:
    predictions = random_predictions(6, n=30, skill=60.0)
    assert score(metric, predictions) == 1.0
    limits = interval(metric, predictions, seed=0)
    assert (limits.low, limits.high) == pytest.approx((0.886, 1.0), abs=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_grouped_images_widen_the_interval(metric: str) -> None:
    one = random_predictions(7, n=60)
    logits, targets, rows = (np.repeat(each, 8, axis=0) for each in (one.logits, one.targets, one.rows))
    copies = Predictions(logits, targets, np.arange(len(rows)))
    grouped = interval(metric, dataclasses.replace(copies, groups=rows), seed=0)
    alone = interval(metric, copies, seed=0)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    assert grouped.method == "bootstrap over groups"


@pytest.mark.parametrize("metric", METRICS)
def test_difference_with_itself_is_zero_and_with_a_far_worse_one_is_not(metric: str) -> None:
    best, worse = random_predictions(8, skill=6.0), random_predictions(8, skill=1.0)
    same, far = difference(metric, best, best, seed=0), difference(metric, best, worse, seed=0)
    assert (same.low, same.high) == (0.0, 0.0)
    assert 0.0 not in far
    assert (far.low > 0) == (metric != "log_loss")


def test_pairing_tells_apart_what_intervals_alone_cannot() -> None:
    best = random_predictions(9, n=300, skill=4.0)
    right = np.flatnonzero(best.labels == best.targets)[:9]
    logits = best.logits.copy()
    logits[right, best.targets[right]] -= 100
    worse = dataclasses.replace(best, logits=logits)
    assert score("accuracy", worse) in interval("accuracy", best, seed=0)
    assert 0.0 not in difference("accuracy", best, worse, seed=0)


def test_difference_refuses_other_images() -> None:
    best = random_predictions(10)
    with pytest.raises(ValueError, match="same images"):
        difference("accuracy", best, dataclasses.replace(best, rows=best.rows + 1), seed=0)


def test_unknown_metric_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="macro_f1"):
        score("auroc", random_predictions(11))


def test_log_loss_survives_huge_logits() -> None:
    predictions = Predictions(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]), np.arange(2))
    assert score("log_loss", predictions) == pytest.approx(5e3)
