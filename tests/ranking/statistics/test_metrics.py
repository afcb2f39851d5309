"""Metrics equal scikit-learn's, and contributions say how they change with the weights of the images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from automl.ranking.statistics import METRICS, Predictions, confusion, contributions, per_class, score
from tests.ranking.made import random_predictions

pytestmark = pytest.mark.filterwarnings(
    "ignore:y_pred contains classes not in y_true", "ignore:The number of unique classes"
)


def by_scikit_learn(metric: str, predictions: Predictions, weights: np.ndarray | None = None) -> float:
    targets, labels = predictions.targets, predictions.labels
    logits = predictions.logits.astype(np.float64)
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    classes = list(range(logits.shape[1]))
    macro = {"average": "macro", "zero_division": 0, "sample_weight": weights}
    if metric == "auroc":
        if len(classes) == 2:
            return float(sk.roc_auc_score(targets, probabilities[:, 1], sample_weight=weights))
        counted = [each for each in classes if 0 < (targets == each).sum() < len(targets)]
        areas = [sk.roc_auc_score(targets == each, probabilities[:, each], sample_weight=weights) for each in counted]
        return float(np.mean(areas))
    return float(
        {
            "accuracy": lambda: sk.accuracy_score(targets, labels, sample_weight=weights),
            "balanced_accuracy": lambda: sk.balanced_accuracy_score(targets, labels, sample_weight=weights),
            "macro_precision": lambda: sk.precision_score(targets, labels, **macro),
            "macro_recall": lambda: sk.recall_score(targets, labels, **macro),
            "macro_f1": lambda: sk.f1_score(targets, labels, **macro),
            "log_loss": lambda: sk.log_loss(targets, probabilities, labels=classes, sample_weight=weights),
        }[metric]()
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("seed", "n", "classes", "skill"), [(0, 300, 4, 3.0), (1, 12, 7, 0.5), (2, 50, 2, 8.0)])
def test_equal_to_scikit_learn(metric: str, seed: int, n: int, classes: int, skill: float) -> None:
    predictions = random_predictions(seed, n, classes, skill)
    assert score(metric, predictions) == pytest.approx(by_scikit_learn(metric, predictions), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 4),
    targets=st.lists(st.integers(0, 3), min_size=2, max_size=30),
    values=st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), min_size=120, max_size=120),
)
@pytest.mark.filterwarnings("ignore")
def test_equal_to_scikit_learn_whatever_occurs(classes: int, targets: list[int], values: list[float]) -> None:
    truth = np.array(targets) % classes
    logits = np.array(values[: len(truth) * classes]).reshape(len(truth), classes)
    predictions = Predictions(logits, truth, np.arange(len(truth)))
    for metric in METRICS:
        if metric != "auroc" or len(set(truth.tolist())) > 1:
            assert score(metric, predictions) == pytest.approx(by_scikit_learn(metric, predictions), abs=1e-9)


def test_auroc_of_many_classes_is_that_of_scikit_learn_in_one_call() -> None:
    predictions = random_predictions(3, 200, 5, 1.0)
    expected = sk.roc_auc_score(predictions.targets, predictions.probabilities, multi_class="ovr")
    assert score("auroc", predictions) == pytest.approx(expected, abs=1e-9)


def test_auroc_counts_ties_half_and_saturated_probabilities_are_ties() -> None:
    logits = np.array([[0.0, 100.0], [0.0, 200.0], [0.0, 300.0], [0.0, -1.0]])
    predictions = Predictions(logits, np.array([1, 0, 1, 0]), np.arange(4))
    assert predictions.probabilities[0, 1] == predictions.probabilities[2, 1] == 1.0
    assert score("auroc", predictions) == 0.75


def test_auroc_leaves_out_classes_without_both_outcomes() -> None:
    predictions = random_predictions(4, 60, 3)
    logits = np.concatenate([predictions.logits, predictions.logits[:, :1]], axis=1)
    wider = Predictions(logits, predictions.targets, predictions.rows)
    assert score("auroc", wider) == pytest.approx(by_scikit_learn("auroc", wider), abs=1e-9)
    one_class = Predictions(logits, np.zeros(60, np.int64), predictions.rows)
    assert np.isnan(score("auroc", one_class))


def test_unknown_metric_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="macro_f1"):
        score("f2", random_predictions(11))


def test_log_loss_survives_huge_logits() -> None:
    predictions = Predictions(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]), np.arange(2))
    assert score("log_loss", predictions) == pytest.approx(5e3)


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


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [2, 5])
def test_contributions_are_the_score_and_its_change_with_each_image(metric: str, classes: int) -> None:
    predictions = random_predictions(7, 80, classes, 1.5)
    values = contributions(metric, predictions).astype(np.float64)
    assert values.mean() == pytest.approx(score(metric, predictions), abs=1e-12)
    for image in (0, 11, 40, 79):
        slopes = []
        for more in (1e-4, -1e-4):
            weights = np.ones(80)
            weights[image] += more
            slopes.append((by_scikit_learn(metric, predictions, weights) - score(metric, predictions)) / more)
        # the derivative of a weighted mean in one weight: (contribution - mean) / n
        assert np.mean(slopes) == pytest.approx((values[image] - values.mean()) / 80, abs=1e-6)
