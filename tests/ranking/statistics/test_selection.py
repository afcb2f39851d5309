"""The corrected estimate of the best score: exact small cases, and its bias in simulated studies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from automl.ranking.statistics import BestCorrected, correct_best, limits
from automl.ranking.statistics.selection import _picked
from tests.ranking.made import noisy_trials


def corrected(right: np.ndarray, metric: str = "accuracy", **options: object) -> BestCorrected | None:
    scores = right.mean(axis=1)
    best = int(scores.argmax() if metric != "log_loss" else scores.argmin())
    own = limits(metric, scores, right, np.zeros(right.shape[1], dtype=np.int64))
    return correct_best(right, scores, best, own, larger=metric != "log_loss", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_picking_on_some_of_six_images_and_scoring_on_the_rest(seed: int) -> None:
    values = np.random.default_rng(seed).integers(2, size=(5, 6)).astype(np.uint8)
    expected = []
    for chosen in (4, 3):
        honest = []
        for inside in itertools.combinations(range(6), chosen):
            outside = [each for each in range(6) if each not in inside]
            picked = int(values[:, list(inside)].sum(axis=1).argmax())
            honest.append(values[picked, outside].mean())
        expected.append(np.mean(honest))
    assert _picked(values, None, 6, 1, np.random.default_rng(9)) == pytest.approx(tuple(expected), abs=1e-6)


def test_a_clear_winner_was_not_lucky() -> None:
    right = noisy_trials(np.array([0.95, *[0.6] * 30]), 400, np.random.default_rng(0))
    found = corrected(right)
    assert found is not None
    assert found.value == pytest.approx(right[0].mean(), abs=1e-3)
    assert found.luck < 1e-3
    assert found.trials == 31


def test_of_equal_trials_the_luck_is_taken_off() -> None:
    rng, naive, errors, held = np.random.default_rng(1), [], [], []
    for study in range(150):
        right = noisy_trials(np.full(60, 0.85), 200, rng)
        found = corrected(right, seed=study)
        assert found is not None
        naive.append(right.mean(axis=1).max() - 0.85)
        errors.append(found.value - 0.85)
        held.append(found.ci95[0] <= 0.85 <= found.ci95[1])
        assert found.luck == pytest.approx(right.mean(axis=1).max() - found.value)
    assert np.mean(naive) > 0.04
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(150) < 0.01
    assert np.mean(held) >= 0.93


def test_more_trials_are_luckier() -> None:
    rng = np.random.default_rng(2)
    luck = {trials: [] for trials in (3, 100)}
    for trials, each in luck.items():
        for _ in range(40):
            found = corrected(noisy_trials(np.full(trials, 0.85), 200, rng, shared=0.0))
            assert found is not None
            each.append(found.luck)
    assert np.mean(luck[100]) > np.mean(luck[3]) + 0.02


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_never_better_than_the_score_itself(metric: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        values = rng.gamma(1.0, 0.3, size=(10, 60)) if metric == "log_loss" else noisy_trials(np.full(10, 0.8), 60, rng)
        found, scores = corrected(values, metric), values.mean(axis=1)
        assert found is not None
        low, high = found.ci95
        assert low <= found.value <= high
        assert found.value >= scores.min() if metric == "log_loss" else found.value <= scores.max()


def test_log_loss_is_corrected_upwards() -> None:
    rng, errors, naive = np.random.default_rng(4), [], []
    for study in range(80):
        losses = rng.gamma(2.0, 0.2, size=(50, 200))
        found = corrected(losses, "log_loss", seed=study)
        assert found is not None
        naive.append(losses.mean(axis=1).min() - 0.4)
        errors.append(found.value - 0.4)
    assert np.mean(naive) < -0.03
    assert abs(np.mean(errors)) < 0.01


def test_of_equal_scores_the_preferred_is_picked() -> None:
    first = noisy_trials(np.array([0.9]), 60, np.random.default_rng(5))[0]
    second = first[::-1].copy()
    second[np.flatnonzero(second)[:1]] = 0  # one less, so equal only on some of the images
    right = np.stack([first, second])
    found = [corrected(right, preference=np.array(order)) for order in ([0, 1], [1, 0])]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].value > found[1].value


def test_groups_are_split_whole() -> None:
    rng = np.random.default_rng(6)
    right = noisy_trials(np.full(40, 0.85), 120, rng)
    copies, groups = np.repeat(right, 5, axis=1), np.repeat(np.arange(120), 5)
    single, grouped, ignored = corrected(right), corrected(copies, groups=groups), corrected(copies)
    assert single is not None
    assert grouped is not None
    assert ignored is not None
    assert grouped.value == pytest.approx(single.value, abs=1e-5)
    assert ignored.luck < 0.5 * grouped.luck


def test_one_trial_and_few_images() -> None:
    right = noisy_trials(np.full(4, 0.8), 60, np.random.default_rng(7))
    found = corrected(right[:1])
    assert found is not None
    assert (found.value, found.luck, found.trials) == (right[0].mean(), 0.0, 1)
    assert corrected(right[:, :29]) is None
