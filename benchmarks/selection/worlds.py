"""Studies whose true accuracies are known: populations of trials, and which images each of them gets right.

An image is right for a trial if a normal number of the pair is below a threshold, which the trial's true accuracy
sets. A share `correlation` of its variance is the image's own, the same for all trials: hard images are hard for every
model. The rest is the trial's, or in part that of its backbone.

Among pairs of trials of real studies the correlation of these numbers, estimated from how often both are right on the
same image (`correlations`), has medians of 0.77 and 0.75 (both trained past the head; one backbone, two), 0.79 (one of
them a head), 0.92 and 0.83 (two heads). The simulation takes 0.8 for all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

__all__ = ["CLASSIFIERS", "POPULATIONS", "World", "classifier", "draw", "grouped"]

World = tuple[NDArray[np.float64], NDArray[np.uint8]]

POPULATIONS = {
    "equal 0.80": "all trials alike",
    "equal 0.95": "all trials alike",
    "few": "one in twenty at 0.85, the rest from 0.60 to 0.70",
    "smooth": "normal, 0.80 ± 0.03",
    "wide": "probit-normal around 0.82, the best of 1,000 at 0.98",
    "beta": "0.30 + 0.65 × beta(5, 2)",
    "backbones": "eight backbones, normal, 0.85 ± 0.04, their trials ± 0.02 and alike in 70 % of their own mistakes",
    "adaptive": "a fifth at random, then near the best so far",
    "adaptive, shared": "the same, and half of a trial's own mistakes are those of the trial it came from",
}


def draw(population: str, trials: int, images: int, correlation: float, rng: np.random.Generator) -> World:
    """Return the true accuracies ``(T,)`` and which images are right ``(T, n) uint8`` of one study."""
    difficulty = np.sqrt(correlation) * rng.standard_normal(images, dtype=np.float32)
    if population.startswith("adaptive"):
        inherited = 0.5 if population.endswith("shared") else 0.0
        return _adaptive(trials, difficulty, 1 - correlation, inherited, rng)
    if population == "backbones":
        truth, own = _backbones(trials, images, rng)
    else:
        truth, own = _accuracies(population, trials, rng), rng.standard_normal((trials, images), dtype=np.float32)
    own *= np.float32(np.sqrt(1 - correlation))
    return truth, (own + difficulty < ndtri(truth).astype(np.float32)[:, None]).astype(np.uint8)


def _accuracies(population: str, trials: int, rng: np.random.Generator) -> NDArray[np.float64]:
    if population.startswith("equal"):
        return np.full(trials, float(population.split()[1]))
    if population == "few":
        truth = rng.uniform(0.6, 0.7, trials)
        truth[rng.permutation(trials)[: max(1, trials // 20)]] = 0.85
        return truth
    if population == "smooth":
        return np.clip(0.8 + 0.03 * rng.standard_normal(trials), 0.3, 0.995)
    if population == "wide":
        return np.asarray(ndtr(0.9 + 0.35 * rng.standard_normal(trials)))
    return 0.3 + 0.65 * rng.beta(5, 2, trials)


def _backbones(trials: int, images: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    of_trial = rng.integers(8, size=trials)
    means, shared = 0.85 + 0.04 * rng.standard_normal(8), rng.standard_normal((8, images), dtype=np.float32)
    truth = np.clip(means[of_trial] + 0.02 * rng.standard_normal(trials), 0.3, 0.995)
    own = np.float32(np.sqrt(0.3)) * rng.standard_normal((trials, images), dtype=np.float32)
    return truth, own + np.float32(np.sqrt(0.7)) * shared[of_trial]


def _adaptive(
    trials: int, difficulty: NDArray[np.float32], share: float, inherited: float, rng: np.random.Generator
) -> World:
    """Later trials are close to one of the best tenth so far, in true accuracy and, by `inherited`, in mistakes."""
    images, first = len(difficulty), max(3, trials // 5)
    thresholds = np.empty(trials, np.float32)
    own, right = np.empty((trials, images), np.float32), np.empty((trials, images), np.uint8)
    thresholds[:first] = ndtri(np.clip(0.75 + 0.05 * rng.standard_normal(first), 0.3, 0.99))
    own[:first] = rng.standard_normal((first, images), dtype=np.float32)
    done, upto = 0, first
    while done < trials:
        mistakes = np.float32(np.sqrt(share)) * own[done:upto] + difficulty
        right[done:upto] = mistakes < thresholds[done:upto, None]
        done, more = upto, min(trials - upto, max(1, trials // 40))
        best = np.argsort(-right[:done].sum(axis=1), kind="stable")[: max(2, done // 10)]
        parents, upto = rng.choice(best, more), done + more
        thresholds[done:upto] = thresholds[parents] + 0.06 * rng.standard_normal(more)
        new = rng.standard_normal((more, images), dtype=np.float32)
        own[done:upto] = np.sqrt(inherited) * own[parents] + np.sqrt(1 - inherited) * new
    return ndtr(thresholds.astype(np.float64)), right


CLASSIFIERS = {  # name → share of each class, by how much its logit stands out, times all logits, share mislabelled
    "2 even classes, accuracy 0.98": ([0.5, 0.5], [3.0, 3.0], 1.0, 0.0),
    "2 classes, one of 5 %": ([0.05, 0.95], [2.5, 3.0], 1.0, 0.0),
    "4 uneven classes, accuracy 0.91": ([0.1, 0.2, 0.3, 0.4], [2.5] * 4, 1.0, 0.0),
    "4 uneven classes, accuracy 0.99": ([0.1, 0.2, 0.3, 0.4], [4.0] * 4, 1.0, 0.0),
    "10 even classes, accuracy 0.96": ([0.1] * 10, [3.5] * 10, 1.0, 0.0),
    "10 uneven classes, accuracy 0.90": ([share / 55 for share in range(1, 11)], [3.0] * 10, 1.0, 0.0),
    "10 even classes, accuracy 0.96, too sure": ([0.1] * 10, [3.5] * 10, 3.0, 0.0),
    "2 even classes, one image of 100 wrong and as sure": ([0.5, 0.5], [6.0, 6.0], 1.0, 0.01),
}


def classifier(name: str, images: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits ``(n, C)`` and targets ``(n,)`` of one of `CLASSIFIERS`."""
    shares, skill, sure, mislabelled = CLASSIFIERS[name]
    targets = rng.choice(len(shares), size=images, p=shares)
    logits = rng.standard_normal((images, len(shares)), dtype=np.float32)
    logits[np.arange(images), targets] += np.asarray(skill, np.float32)[targets]
    logits *= sure
    if mislabelled:  # of two classes
        wrong = rng.random(images) < mislabelled
        targets = np.where(wrong, 1 - targets, targets)
    return 1.5 * logits, targets


def grouped(
    accuracy: float, groups: int, size: int, correlation: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which images are right and their groups, each ``(groups * size,)``; `correlation` as in `draw`, of images
    of one group."""
    of_group = np.repeat(np.arange(groups), size)
    shared = rng.standard_normal(groups)[of_group]
    number = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.standard_normal(groups * size)
    return number < ndtri(accuracy), of_group
