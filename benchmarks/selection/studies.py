"""What a leaderboard says of simulated studies: how biased the best score is, naive and corrected, and who is tied."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from automl.ranking.statistics import compare_with_best, correct_best, limits
from benchmarks.selection.worlds import draw

__all__ = ["Cell", "run"]

BOOTSTRAPS = 100


@dataclass(frozen=True)
class Cell:
    """One kind of study, and how many of it."""

    population: str
    trials: int
    images: int
    correlation: float
    studies: int


def run(cell: Cell, rng: np.random.Generator) -> dict[str, float | str | int]:
    """Return means over the studies of `cell`. Biases and their standard deviations are in points (0.01)."""
    started = time.perf_counter()
    found = [_study(cell, rng) for _ in range(cell.studies)]
    columns = {name: np.array([each[name] for each in found], dtype=np.float64) for name in found[0]}
    row: dict[str, float | str | int] = asdict(cell)
    for name, values in columns.items():
        row[name] = round(float(values.mean()), 4)
        if name.endswith("bias"):
            row[f"{name} sd"] = round(float(values.std(ddof=1)), 4)
    return row | {"seconds": round(time.perf_counter() - started, 2)}


def _study(cell: Cell, rng: np.random.Generator) -> dict[str, float]:
    truth, right = draw(cell.population, cell.trials, cell.images, cell.correlation, rng)
    scores = right.mean(axis=1)
    best = int(scores.argmax())  # of equal scores the earlier trial
    targets = np.zeros(cell.images, np.int64)
    own = limits("accuracy", scores, right, targets)
    seed = int(rng.integers(2**31))
    corrected = correct_best(right, scores, best, own, larger=True, seed=seed)
    tied = compare_with_best(right, scores, best, larger=True, seed=seed).tied
    assert corrected is not None
    reached, really_best = truth[best], int(truth.argmax())
    uncorrected, bonferroni = _behind(right, scores, best)
    outside, shift = _bootstraps(right, scores, best, rng)
    return {
        "naive bias": 100 * (scores[best] - reached),
        "corrected bias": 100 * (corrected.value - reached),
        "bootstrap bias correction bias": 100 * (outside - reached),
        "bootstrap of the bias bias": 100 * (shift - reached),
        "empirical Bayes bias": 100 * (_empirical_bayes(right, scores) - reached),
        "intervals hold": ((own.low <= truth) & (truth <= own.high)).mean(),
        "naive interval holds": own.low[best] <= reached <= own.high[best],
        "corrected interval holds": corrected.ci95[0] <= reached <= corrected.ci95[1],
        "corrected interval width": 100 * (corrected.ci95[1] - corrected.ci95[0]),
        "lost": 100 * (truth[really_best] - reached),
        "tied holds best": bool(tied[really_best]),
        "tied": tied.sum(),
        "Bonferroni holds best": bool(bonferroni[really_best]),
        "Bonferroni tied": bonferroni.sum(),
        "uncorrected holds best": bool(uncorrected[really_best]),
        "uncorrected tied": uncorrected.sum(),
    }


def _behind(
    right: NDArray[np.uint8], scores: NDArray[np.float64], best: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Ties by paired comparisons with the best: McNemar's, at 2.5 % each, and with a Bonferroni correction."""
    n = right.shape[1]
    error, gaps = np.sqrt((right != right[best]).sum(axis=1)) / n, scores[best] - scores
    levels = 0.025, 0.025 / max(1, len(scores) - 1)
    alone, all_of_them = (gaps <= NormalDist().inv_cdf(1 - level) * error + 1e-12 for level in levels)
    return alone, all_of_them


def _bootstraps(
    right: NDArray[np.uint8], scores: NDArray[np.float64], best: int, rng: np.random.Generator
) -> tuple[float, float]:
    """The best on resampled images scored on those left out (Tsamardinos et al.), and the score of the best less what
    the best of resampled scores gains over its own score."""
    n, values = right.shape[1], right.astype(np.float32)
    drawn = rng.integers(n, size=(BOOTSTRAPS, n)) + np.arange(BOOTSTRAPS)[:, None] * n
    weights = np.bincount(drawn.reshape(-1), minlength=BOOTSTRAPS * n).reshape(BOOTSTRAPS, n).T.astype(np.float32)
    resampled = values @ weights
    picked, left_out = resampled.argmax(axis=0), weights == 0
    outside = (values[picked] * left_out.T).sum(axis=1) / left_out.sum(axis=0)
    gained = resampled.max(axis=0) / n - scores[picked]
    return float(outside.mean()), float(scores[best] - gained.mean())


def _empirical_bayes(right: NDArray[np.uint8], scores: NDArray[np.float64]) -> float:
    """The best score shrunk towards the mean by a normal prior of the trials, whose variance is what the scores vary
    by beyond the images' noise that trials do not share."""
    trials, n = right.shape
    apart = right - right.mean(axis=0)
    noise = apart.var(axis=1).mean() / n * trials / (trials - 1)
    between = max(0.0, scores.var(ddof=1) - noise)
    return float(scores.mean() + between / max(between + noise, 1e-12) * (scores.max() - scores.mean()))
