"""Which trials are tied with the best: closed forms, and how often the set holds the one that is really best."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from automl.ranking.statistics import METRICS, Predictions, compare_with_best, difference, interval, score
from tests.ranking.made import noisy_trials, random_predictions


def discordant(better: int, worse: int, n: int = 2000) -> np.ndarray:
    """Two trials: the first alone is right on `better` images, the second alone on `worse`."""
    right = np.ones((2, n), dtype=np.uint8)
    right[1, :better] = 0
    right[0, better : better + worse] = 0
    return right


@pytest.mark.parametrize(("better", "worse", "tied"), [(100, 80, True), (100, 70, False), (60, 60, True)])
def test_two_trials_are_told_apart_as_by_mcnemars_test(better: int, worse: int, tied: bool) -> None:
    right = discordant(better, worse)
    found = compare_with_best(right, right.mean(axis=1), 0, larger=True)
    gap, error = (better - worse) / 2000, np.sqrt(better + worse) / 2000
    assert found.tied.tolist() == [True, tied]
    assert found.low[1] == pytest.approx(gap - 1.96 * error, abs=0.3 * error)
    assert found.high[1] == pytest.approx(gap + 1.96 * error, abs=0.05 * error)


def test_two_trials_that_are_told_apart_are_not_among_many() -> None:
    right = discordant(100, 70)
    others = noisy_trials(np.full(200, 0.945), 2000, np.random.default_rng(0), shared=0.0)
    both = np.concatenate([right, others])
    assert both.mean(axis=1).argmax() == 0
    alone, found = (compare_with_best(each, each.mean(axis=1), 0, larger=True) for each in (right, both))
    assert not alone.tied[1]
    assert found.tied[1]
    assert found.low[1] < 0 < alone.low[1]
    assert (found.tied == (found.low <= 0)).all()
    assert (found.high >= 0).all()


def test_clearly_worse_trials_change_nothing() -> None:
    rng = np.random.default_rng(1)
    right = noisy_trials(np.linspace(0.85, 0.9, 20), 500, rng)
    worse = noisy_trials(np.full(300, 0.3), 500, rng)
    both = np.concatenate([right, worse])
    best = int(right.mean(axis=1).argmax())
    alone, found = (compare_with_best(each, each.mean(axis=1), best, larger=True) for each in (right, both))
    assert alone.tied.tolist() == found.tied[:20].tolist()
    assert not found.tied[20:].any()
    assert (found.low[20:] > 0).all()


def test_the_set_holds_the_best_of_many_equal_trials() -> None:
    rng, held, uncorrected, sizes = np.random.default_rng(2), [], [], []
    for study in range(150):
        right = noisy_trials(np.full(100, 0.85), 200, rng)
        scores = right.mean(axis=1)
        best = int(scores.argmax())
        found = compare_with_best(right, scores, best, larger=True, seed=study)
        held.append(found.tied[17])
        error = np.sqrt((right != right[best]).sum(axis=1)) / 200
        uncorrected.append((scores[best] - scores <= 1.96 * error)[17])
        sizes.append(found.tied.sum())
    assert np.mean(held) >= 0.95
    assert np.mean(uncorrected) < 0.8  # the test can tell
    assert np.mean(sizes) < 100


def test_the_set_is_small_where_trials_differ() -> None:
    rng = np.random.default_rng(3)
    right = noisy_trials(np.linspace(0.6, 0.9, 60), 3000, rng)
    scores = right.mean(axis=1)
    found = compare_with_best(right, scores, int(scores.argmax()), larger=True)
    assert found.tied[59]
    assert found.tied.sum() < 12


def test_groups_of_copies_are_compared_as_single_images() -> None:
    rng = np.random.default_rng(4)
    right = noisy_trials(np.linspace(0.8, 0.9, 10), 400, rng)
    copies, groups, best = np.repeat(right, 4, axis=1), np.repeat(np.arange(400), 4), int(right.mean(axis=1).argmax())
    single = compare_with_best(right, right.mean(axis=1), best, larger=True, seed=5)
    grouped = compare_with_best(copies, copies.mean(axis=1), best, larger=True, groups=groups, seed=5)
    ignored = compare_with_best(copies, copies.mean(axis=1), best, larger=True, seed=5)
    assert grouped.low == pytest.approx(single.low, abs=1e-5)
    assert grouped.tied.tolist() == single.tied.tolist()
    assert ignored.tied.sum() < grouped.tied.sum()


def test_groups_of_uneven_sizes() -> None:
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 30, size=60)
    groups = np.repeat(np.arange(60), sizes)
    right = noisy_trials(np.full(5, 0.85), 60, rng)[:, groups]
    scores, slow = right.mean(axis=1), []
    found = compare_with_best(right, scores, int(scores.argmax()), larger=True, groups=groups)
    for _ in range(2000):
        taken = np.concatenate([np.flatnonzero(groups == each) for each in rng.integers(60, size=60)])
        slow.append(right[:, taken].mean(axis=1) - scores)
    luck = np.array(slow)
    reach = np.quantile(luck.max(axis=1)[:, None] - luck, 0.975, axis=0)
    assert scores.max() - scores - found.low == pytest.approx(reach, rel=0.15)


def test_smaller_losses_are_better() -> None:
    rng = np.random.default_rng(6)
    losses = rng.gamma(2.0, 0.2, size=400) * np.array([1.0, 1.01, 2.0])[:, None]
    found = compare_with_best(losses, losses.mean(axis=1), 0, larger=False)
    assert found.tied.tolist() == [True, False, False]
    assert (found.low[1:] > 0).all()


def test_the_same_seed_gives_the_same_intervals() -> None:
    right = noisy_trials(np.full(8, 0.8), 200, np.random.default_rng(7))
    first, second = (compare_with_best(right, right.mean(axis=1), 0, larger=True, seed=3) for _ in range(2))
    assert np.array_equal(first.low, second.low)


@pytest.mark.parametrize("metric", METRICS)
def test_difference_with_itself_is_zero_and_with_a_far_worse_one_is_not(metric: str) -> None:
    best, worse = random_predictions(8, skill=6.0), random_predictions(8, skill=1.0)
    same, far = difference(metric, best, best, seed=0), difference(metric, best, worse, seed=0)
    assert (same.low, same.high) == (0.0, 0.0)
    assert 0.0 not in far
    assert (far.low > 0) == (metric != "log_loss")


@pytest.mark.parametrize("metric", METRICS)
def test_difference_is_that_of_resampling_images_one_by_one(metric: str) -> None:
    first, second = random_predictions(4, n=400, skill=2.0), random_predictions(4, n=400, skill=1.7)
    rng, slow = np.random.default_rng(0), []
    for _ in range(800):
        taken = rng.integers(400, size=400)
        both = (dataclasses.replace(e, logits=e.logits[taken], targets=e.targets[taken]) for e in (first, second))
        one, other = (score(metric, each) for each in both)
        slow.append(one - other)
    found = difference(metric, first, second, seed=1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(slow), rel=0.12)
    assert (found.high + found.low) / 2 == pytest.approx(np.mean(slow), abs=0.2 * np.std(slow))


def test_pairing_tells_apart_what_intervals_alone_cannot() -> None:
    best = random_predictions(9, n=300, skill=4.0)
    right = np.flatnonzero(best.labels == best.targets)[:9]
    logits = best.logits.copy()
    logits[right, best.targets[right]] -= 100
    worse = dataclasses.replace(best, logits=logits)
    assert score("accuracy", worse) in interval("accuracy", best)
    assert 0.0 not in difference("accuracy", best, worse, seed=0)


def test_difference_refuses_other_images() -> None:
    best = random_predictions(10)
    with pytest.raises(ValueError, match="same images"):
        difference("accuracy", best, dataclasses.replace(best, rows=best.rows + 1), seed=0)


@pytest.mark.parametrize(("apart", "tied"), [(4, True), (5, True), (6, False)])
def test_a_handful_of_images_is_no_more_than_chance(apart: int, tied: bool) -> None:
    """By the exact test of McNemar p is 0.125, 0.063 and 0.031 where one trial wins all images on which two differ."""
    targets = np.zeros(90, np.int64)
    right = np.tile([4.0, 0.0], (90, 1))
    wrong = right.copy()
    wrong[:apart] = [0.0, 4.0]
    found = difference(
        "accuracy", Predictions(right, targets, np.arange(90)), Predictions(wrong, targets, np.arange(90))
    )
    assert (found.low <= 0 <= found.high) == tied


@pytest.mark.parametrize("number", [2, 3, 5, 10, 20, 40])
def test_few_groups_call_no_trial_better_that_is_not(number: int) -> None:
    """Of equal trials that are each better on groups of their own, about 5 % may be told apart."""
    rng, told, tied = np.random.default_rng(number), [], []
    groups = np.repeat(np.arange(number), 30)
    for draw in range(300):
        skill = 0.8 + 0.06 * rng.standard_normal((2, number))
        right = rng.random((2, len(groups))) < skill[:, groups]
        one, other = (Predictions(np.stack([~each, each], axis=1).astype(np.float32), np.ones(len(groups), np.int64),
                                  np.arange(len(groups)), groups) for each in right)  # fmt: skip
        found = difference("accuracy", one, other, seed=draw, resamples=1000)
        told.append(0.0 not in found)
        scores = right.mean(axis=1)
        best = int(scores.argmax())
        tied.append(compare_with_best(right, scores, best, larger=True, groups=groups, seed=draw).tied.all())
    assert np.mean(told) <= 0.09
    assert np.mean(tied) >= 0.91


def test_one_group_tells_no_trials_apart() -> None:
    groups = np.zeros(300, np.int64)
    right = np.arange(300) < np.array([[290], [200], [20]])
    found = compare_with_best(right, right.mean(axis=1), 0, larger=True, groups=groups)
    assert found.tied.all()
    assert (found.low <= 0).all()
    assert (found.high >= 0).all()
    one, other = (Predictions(np.stack([~each, each], axis=1).astype(np.float32), np.ones(300, np.int64),
                              np.arange(300), groups) for each in right[:2])  # fmt: skip
    between = difference("accuracy", one, other)
    assert (between.low, between.high) == (-1.0, 1.0)
