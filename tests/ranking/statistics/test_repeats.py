from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from automl.ranking.statistics import Repeats, compare_repeats, expected_of_pick, limits_of_repeats, pick


def right(rng: np.random.Generator, accuracies: list[float], images: int) -> np.ndarray:
    return (rng.random((len(accuracies), images)) < np.array(accuracies)[:, None]).astype(np.uint8)


def test_one_run_of_two_is_the_paired_difference_of_its_images() -> None:
    values = right(np.random.default_rng(0), [0.9, 0.8], 200)
    found = compare_repeats([values], [np.arange(200)], larger=True, share=0.2)
    apart = values[0].astype(float) - values[1]
    np.testing.assert_allclose(found.gaps, [0, apart.mean()])
    np.testing.assert_allclose(found.errors, [0, apart.std(ddof=1) / np.sqrt(200)])
    assert found.high[1] - found.gaps[1] == pytest.approx(1.971957 * found.errors[1], rel=1e-6)


def test_runs_that_disagree_more_than_their_images_explain_set_the_error() -> None:
    """Nadeau and Bengio's corrected t-test, by hand: differences of 0.10, 0.30 and 0.20 in three runs."""
    n = 100_000
    values = []
    for gap in (0.10, 0.30, 0.20):
        run = np.zeros((2, n), dtype=np.uint8)
        run[0, : round(0.9 * n)] = 1
        run[1, : round((0.9 - gap) * n)] = 1
        values.append(run)
    found = compare_repeats(values, [np.arange(n) + n * run for run in range(3)], larger=True, share=0.25)
    error = np.sqrt((1 / 3 + 0.25) * np.var([0.1, 0.3, 0.2], ddof=1))
    assert found.gaps[1] == pytest.approx(0.2)
    assert found.errors[1] == pytest.approx(error)
    half = stats.t(df=2).ppf(0.975) * error
    assert (found.low[1], found.high[1]) == pytest.approx((0.2 - half, 0.2 + half))


def test_an_image_of_several_runs_counts_once() -> None:
    values = right(np.random.default_rng(1), [0.9, 0.8, 0.85], 300)
    images = np.arange(300)
    once = compare_repeats([values], [images], larger=True, share=0.2)
    twice = compare_repeats([values, values], [images, images], larger=True, share=0.2)
    np.testing.assert_allclose(twice.gaps, once.gaps)
    np.testing.assert_allclose(twice.errors, once.errors)


def test_smaller_is_better_where_it_is() -> None:
    losses = np.random.default_rng(2).gamma(2.0, 0.2, (2, 400)) + np.array([[0.0], [0.3]])
    found = compare_repeats([losses], [np.arange(400)], larger=False, share=0.2)
    assert found.gaps[0] == 0
    assert found.low[1] > 0.2


def test_equal_configurations_are_told_apart_in_no_more_than_one_of_twenty_comparisons() -> None:
    """Three equal ones, three runs of 90 images out of 510, each run with luck of its own seed, 2,000 times."""
    rng, apart = np.random.default_rng(3), 0
    for _ in range(2_000):
        hard = rng.normal(size=600)  # images are hard for all
        values, images = [], []
        for _ in range(3):
            chosen = rng.choice(600, size=90, replace=False)
            seeds = 0.85 + rng.normal(scale=0.15, size=3)
            own = rng.normal(size=(3, 90))
            values.append((0.7 * hard[chosen] + 0.7 * own < seeds[:, None]).astype(np.uint8))
            images.append(chosen)
        found = compare_repeats(values, images, larger=True, share=90 / 510)
        apart += bool((found.low > 0).any())
    assert apart / 2_000 < 0.05


def repeats(gaps: list[float], errors: list[float]) -> Repeats:
    every = np.array(gaps)
    return Repeats(0.9 - every, every, np.array(errors), every - 1, every + 1)


@pytest.mark.parametrize(
    ("costs", "picked"),
    [
        ([10.0, 10.0, 1.0], 0),  # the cheap one is too far behind
        ([10.0, 5.0, 1.0], 1),
        ([10.0, 9.5, 1.0], 0),  # not worth it
        ([np.inf, np.inf, np.inf], 0),
    ],
)
def test_the_pick_is_the_cheapest_within_a_standard_error(costs: list[float], picked: int) -> None:
    assert pick(repeats([0.0, 0.01, 0.05], [0.0, 0.02, 0.02]), np.array(costs)) == picked


@pytest.mark.parametrize("runs", [1, 3])
def test_what_is_expected_of_the_pick_owes_nothing_to_the_picking(runs: int) -> None:
    """Ten equal configurations of accuracy 0.8: the best mean is too good, what is expected of it is not."""
    rng, means, expected = np.random.default_rng(5), [], []
    costs = np.ones(10)
    for _ in range(200):
        values = [right(rng, [0.8] * 10, 100) for _ in range(runs)]
        images = [rng.choice(600, 100, replace=False) for _ in range(runs)]
        means.append(compare_repeats(values, images, larger=True, share=0.2).means.max())
        expected.append(expected_of_pick(values, images, costs, larger=True, share=0.2))
    assert np.mean(means) > 0.82
    assert np.mean(expected) == pytest.approx(0.8, abs=0.008)


def test_the_expected_loss_is_not_less_than_the_best_ones() -> None:
    rng = np.random.default_rng(6)
    values = [rng.gamma(2.0, 0.2, (3, 100)) for _ in range(3)]
    images = [np.arange(100) + 100 * run for run in range(3)]
    best = compare_repeats(values, images, larger=False, share=0.2).means.min()
    assert expected_of_pick(values, images, np.ones(3), larger=False, share=0.2) >= best - 1e-12


def test_a_perfect_score_has_limits_that_say_something() -> None:
    """No error in any run of the first, while seeds make the others vary beyond their images."""
    rng, n = np.random.default_rng(9), 200
    values = []
    for shift in (-0.04, 0.0, 0.04):
        run = right(rng, [1.0, 0.92 + shift, 0.92 - shift], n)
        values.append(run)
    images = [rng.choice(1200, n, replace=False) for _ in values]
    low, high = limits_of_repeats("accuracy", values, [np.zeros(n, np.int64)] * 3, images)
    assert 0.75 < low[0] < 0.99
    assert high[0] == 1.0


def test_equal_ones_are_told_apart_as_often_as_is_allowed_where_many_are_compared() -> None:
    """Ten equal ones, two runs: the differences share the best, and their errors are no 9 independent ones."""
    rng, apart = np.random.default_rng(11), 0
    for _ in range(1_000):
        values = [right(rng, list(0.85 + 0.02 * rng.normal(size=10)), 100) for _ in range(2)]
        images = [np.arange(100) + 100 * run for run in range(2)]
        apart += bool((compare_repeats(values, images, larger=True, share=0.2).low > 0).any())
    assert apart / 1_000 < 0.05


@pytest.mark.parametrize("seeds", [0.0, 0.03])
def test_the_limits_hold_the_next_training(seeds: float) -> None:
    """Four configurations of accuracy 0.85, three runs of 200 images, 300 times; `seeds`: what a seed changes."""
    rng, held = np.random.default_rng(7), []
    for _ in range(300):
        values = [right(rng, list(np.clip(0.85 + seeds * rng.normal(size=4), 0, 1)), 200) for _ in range(3)]
        images = [rng.choice(1200, 200, replace=False) for _ in range(3)]
        low, high = limits_of_repeats("accuracy", values, [np.zeros(200, np.int64)] * 3, images)
        refit = 0.85 + seeds * rng.normal(size=4)
        held.append((low <= refit) & (refit <= high))
    assert 0.92 <= np.mean(held) <= 0.99


def test_limits_of_a_loss_are_around_it_and_widen_with_the_seeds() -> None:
    rng = np.random.default_rng(8)
    calm = [rng.gamma(2.0, 0.2, (3, 400)) for _ in range(3)]
    shaken = [each * factor for each, factor in zip(calm, (0.7, 1.0, 1.3), strict=True)]
    shaken = [each * np.array([[1.0], [1.2], [0.8]]) ** (run - 1) for run, each in enumerate(shaken)]
    images = [np.arange(400) + 400 * run for run in range(3)]
    targets = [np.zeros(400, np.int64)] * 3
    widths = []
    for values in (calm, shaken):
        low, high = limits_of_repeats("log_loss", values, targets, images)
        mean = np.concatenate(values, axis=1).mean(axis=1)
        assert ((low < mean) & (mean < high)).all()
        widths.append((high / low).mean())
    assert widths[1] > widths[0]
