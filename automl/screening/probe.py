"""Cheap looks at frozen features: k-nearest neighbours and a regularised linear probe, fitted on the training split
and scored on validation images. A probe ranks frozen features, not fine-tuned backbones, and never decides alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

__all__ = ["knn_accuracy", "linear_accuracy"]

NEIGHBOURS = 10
REGULARISATION = 0.01
MAX_IMAGES = 5000

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def knn_accuracy(train: Floats, train_targets: Ints, test: Floats, test_targets: Ints) -> float:
    """Accuracy of a vote of up to 10 nearest neighbours by cosine similarity. Features are ``(n, F)``."""
    neighbours = min(NEIGHBOURS, len(train))
    model = make_pipeline(Normalizer(), KNeighborsClassifier(neighbours, weights="distance"))
    model.fit(train[:MAX_IMAGES], train_targets[:MAX_IMAGES])
    return float(model.score(test[:MAX_IMAGES], test_targets[:MAX_IMAGES]))


def linear_accuracy(train: Floats, train_targets: Ints, test: Floats, test_targets: Ints) -> float:
    """Accuracy of a logistic regression on standardised features ``(n, F)``, with L2 strength C = 0.01."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=200))
    model.fit(train[:MAX_IMAGES], train_targets[:MAX_IMAGES])
    return float(model.score(test[:MAX_IMAGES], test_targets[:MAX_IMAGES]))
