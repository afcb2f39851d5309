"""What training the best again is worth: the bias of the winner's mean, its interval, and the accuracy that is lost.

Of every simulated study the trials tied with the best (at least three, at most ten) are trained again, three times
unless told otherwise, each run on its own validation split of a pool of train + validation images. A configuration's
mistakes are new ones each time; how hard an image is stays, and each run's true accuracy varies by its seed: by half a
point ("alike"), or by half a point times a factor of the configuration's own, log-normal with σ = 1 ("unalike": of some
by 0.1 points, of some by 3). The winner is chosen as the leaderboard does it; the trials are of four backbones, each
with its cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from automl.ranking.statistics import (
    compare_repeats,
    compare_with_best,
    correct_best,
    expected_of_pick,
    limits,
    limits_of_pick,
    limits_of_repeats,
    of_both,
    pick,
)
from benchmarks.selection.worlds import draw

__all__ = ["of_confirmation", "of_repeats"]

RUNS = 3
MOST, LEAST = 10, 3
SHARE = 0.15 / 0.85  # validation images of the pool, as automl draws them
SEEDS = 0.005


@dataclass(frozen=True)
class _Again:
    winner: int
    mean: float
    expected: float
    best_mean: int
    limits: tuple[float, float]
    refit: float


def of_confirmation(
    populations: list[str], sizes: list[int], trials: list[int], correlation: float, studies: int, rng_of
) -> pd.DataFrame:
    """Return a row per kind of study; biases and losses in points (0.01), means over `studies`."""
    rows = []
    for population in populations:
        for images in sizes:
            for number in trials:
                rng = rng_of((population, images, number))
                found = [_study(population, number, images, correlation, rng) for _ in range(studies)]
                rows.append({"population": population, "images": images, "trials": number, **_summary(found)})
    return pd.DataFrame(rows)


def of_repeats(populations: list[str], correlation: float, studies: int, rng_of) -> pd.DataFrame:
    """Return a row for one, two and three runs and each kind of seeds: 300 images, 30 trials, over `populations`."""
    rows = []
    for seeds in ("alike", "unalike"):
        for runs in (1, 2, 3):
            found = []
            for population in populations:
                rng = rng_of((population, runs, seeds))
                found += [_study(population, 30, 300, correlation, rng, runs, seeds) for _ in range(studies)]
            rows.append({"seeds": seeds, "runs": runs, **_summary(found)})
    return pd.DataFrame(rows)


def _summary(found: list[dict[str, float]]) -> dict[str, float]:
    means = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    spread = float(np.std([each["confirmed bias"] for each in found], ddof=1))
    return {"studies": len(found), **means, "confirmed bias sd": spread}


def _study(
    population: str,
    trials: int,
    images: int,
    correlation: float,
    rng: np.random.Generator,
    runs: int = RUNS,
    seeds: str = "alike",
) -> dict[str, float]:
    truth, right = draw(population, trials, images, correlation, rng)
    scores = right.mean(axis=1)
    best = int(scores.argmax())
    seed = int(rng.integers(2**31))
    own = limits("accuracy", scores, right, np.zeros(images, np.int64))
    corrected = correct_best(right, scores, best, own, larger=True, seed=seed)
    tied = compare_with_best(right, scores, best, larger=True, seed=seed).tied
    order = np.argsort(-scores, kind="stable")
    chosen = np.array([number for place, number in enumerate(order) if tied[number] or place < LEAST])[:MOST]
    again = _again(truth[chosen], images, correlation, rng, runs, seeds)
    assert corrected is not None
    winner = chosen[again.winner]
    expected, (low, high) = again.expected, again.limits
    if runs == 1:
        searched = float(own.low[winner]), float(own.high[winner])
        expected, (low, high) = of_both(
            expected, (low, high), scores[winner], searched, corrected.value, larger=True
        )  # fmt: skip
    return {
        "naive bias": 100 * (scores[best] - truth[best]),
        "corrected bias": 100 * (corrected.value - truth[best]),
        "bias of the winner's mean": 100 * (again.mean - truth[winner]),
        "confirmed bias": 100 * (expected - truth[winner]),
        "confirmed interval holds the refit": low <= again.refit <= high,
        "trained again": len(chosen),
        "lost by the first of the search": 100 * (truth.max() - truth[best]),
        "lost by the best mean": 100 * (truth.max() - truth[chosen[again.best_mean]]),
        "lost by the winner": 100 * (truth.max() - truth[winner]),
    }


def _again(
    truth: NDArray[np.float64], images: int, correlation: float, rng: np.random.Generator, runs: int, seeds: str
) -> _Again:
    of_seed = SEEDS * (np.ones(len(truth)) if seeds == "alike" else np.exp(rng.standard_normal(len(truth))))
    pool = round(images / SHARE)
    difficulty = np.sqrt(correlation) * rng.standard_normal(pool)
    values, seen = [], []
    for _ in range(runs):
        rows = rng.choice(pool, size=images, replace=False)
        there = np.clip(truth + of_seed * rng.standard_normal(len(truth)), 0.001, 0.999)
        mistakes = np.sqrt(1 - correlation) * rng.standard_normal((len(truth), images))
        values.append((mistakes + difficulty[rows] < ndtri(there)[:, None]).astype(np.uint8))
        seen.append(rows)
    share = SHARE / (1 - SHARE)
    found = compare_repeats(values, seen, larger=True, share=share)
    costs = 2.0 ** rng.integers(4, size=len(truth))
    winner = pick(found, costs)
    expected = min(found.means[winner], expected_of_pick(values, seen, costs, larger=True, share=share))
    low, high = limits_of_repeats("accuracy", values, [np.zeros(images, np.int64)] * runs, seen)
    refit = np.clip(truth[winner] + of_seed[winner] * rng.standard_normal(), 0.001, 0.999)
    own = float(low[winner]), float(high[winner])
    limited = limits_of_pick(own, float(found.means[winner] - expected), larger=True)
    return _Again(winner, float(found.means[winner]), float(expected), int(found.gaps.argmin()), limited, float(refit))
