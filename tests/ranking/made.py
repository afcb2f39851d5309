"""Predictions made on the spot."""

from __future__ import annotations

import numpy as np

from automl.ranking.statistics import Predictions


def random_predictions(seed: int = 0, n: int = 300, classes: int = 4, skill: float = 3.0) -> Predictions:
    """Return predictions that are right the more often, the greater `skill` is, of classes of uneven size."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(classes, size=n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = rng.normal(size=(n, classes)) * 1.5
    logits[np.arange(n), targets] += skill
    return Predictions(logits.astype(np.float32), targets, np.arange(n))


def noisy_trials(accuracies: np.ndarray, images: int, rng: np.random.Generator, *, shared: float = 0.5) -> np.ndarray:
    """Return which images trials of known true accuracies get right, ``(T, n) uint8``; hard images are hard for all."""
    from scipy.special import ndtri

    own = np.sqrt(1 - shared) * rng.normal(size=(len(accuracies), images))
    return (own + np.sqrt(shared) * rng.normal(size=images) < ndtri(accuracies)[:, None]).astype(np.uint8)
