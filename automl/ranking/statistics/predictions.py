"""What one trial said about the validation images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Ints", "Predictions"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """What one trial said about the validation images.

    `logits` is ``(n, C)``, `targets` and `rows` (row numbers of the manifest) are ``(n,)``; `groups` is ``(n,)`` with
    the number of each image's group, or None where every image stands for itself.
    """

    logits: NDArray[np.floating[Any]]
    targets: Ints
    rows: Ints
    groups: Ints | None = None

    def only(self, chosen: NDArray[np.bool_]) -> Predictions:
        """Return those of the images `chosen`, ``(n,)``."""
        groups = None if self.groups is None else self.groups[chosen]
        return Predictions(self.logits[chosen], self.targets[chosen], self.rows[chosen], groups)

    @property
    def labels(self) -> Ints:
        """Predicted class of each image, ``(n,)``."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def losses(self) -> Floats:
        """Negative log-likelihood of each image's class, ``(n,)``, in nats."""
        logits = np.asarray(self.logits, dtype=np.float64)
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return np.asarray(total - logits[np.arange(len(logits)), self.targets], dtype=np.float64)

    @property
    def probabilities(self) -> Floats:
        """Softmax of the logits, ``(n, C)`` in [0, 1]."""
        logits = np.asarray(self.logits, dtype=np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float64)

    @property
    def confidence(self) -> Floats:
        """Softmax probability of the predicted class of each image, ``(n,)`` in [0, 1]."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    def same_images(self, other: Predictions) -> bool:
        """Whether both trials saw the same images in the same order."""
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.targets, other.targets)
