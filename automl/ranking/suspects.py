"""Images whose label a simple model doubts: candidates for a second look, not proven errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.ranking.embedding_map import Embedding

__all__ = ["Suspect", "Suspects", "find_suspects"]

FOLDS = 5
MOST_TO_FIT = 4000
LISTED = 200
LEAST_CHECKED, MOST_CLEARED = 10, 0.8
_COMPONENTS = 128
_REGULARISATION = 0.01


@dataclass(frozen=True)
class Suspect:
    """An image, by row of the manifest; probabilities 0…1 of its label and of the class it seems to be."""

    row: int
    path: str
    split: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float


@dataclass(frozen=True)
class Suspects:
    """`found` of `images` looked at; `listed` has the first 200, the most doubtful first. `note` says how.

    `accuracy` is the share of the labels that the model itself agrees with, on images that it was not fitted on.
    Of the validation images that it doubts (`checked`) those are left out whose label the best trial, which was not
    trained on them, agrees with (`cleared`).
    """

    images: int
    found: int
    checked: int
    cleared: int
    accuracy: float
    note: str
    listed: tuple[Suspect, ...]


def find_suspects(
    embedding: Embedding,
    targets: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    paths: list[str],
    splits: list[str],
    classes: list[str],
    *,
    predicted: Mapping[int, int] | None = None,
    seed: int = 0,
) -> Suspects | None:
    """Cross-validate a logistic regression on the embedding and compare its probabilities with the labels.

    An image is a suspect when another class than its label is the most probable, and the more so the larger the
    difference of the two probabilities is (the normalised margin of C. Northcutt, L. Jiang, I. Chuang, Confident
    Learning, JAIR 70, 2021, https://arxiv.org/abs/1911.00068), unless the best trial sides with the label. Where that
    sides with most of the labels doubted, over four fifths of at least ten, the doubts are no evidence, and only what
    both doubt is a suspect. No image is judged by a model that was fitted on it, or on another one of its group.

    Args:
        targets, groups, paths, splits: Of every row of the manifest; without groups each image stands for itself.
        predicted: The class that the best trial sees in validation images, by row.
    """
    everywhere = targets[embedding.rows]
    units = None if groups is None else groups[embedding.rows]
    present, few = _by_images(everywhere, units)
    kept = np.isin(everywhere, present)
    rows, labels = embedding.rows[kept], everywhere[kept]
    probabilities = _cross_validated(embedding.vectors[kept], labels, None if units is None else units[kept], seed)
    if probabilities is None:
        return None
    own = np.searchsorted(present, labels)
    n = np.arange(len(rows))
    suggested = probabilities.argmax(axis=1)
    said, doubted = predicted or {}, np.flatnonzero(suggested != own).tolist()
    checked = [i for i in doubted if int(rows[i]) in said]
    cleared = {i for i in checked if said[int(rows[i])] == labels[i]}
    no_evidence = len(checked) >= LEAST_CHECKED and len(cleared) > MOST_CLEARED * len(checked)
    doubtful = np.array([i for i in (checked if no_evidence else doubted) if i not in cleared], dtype=np.int64)
    margin = probabilities[n, suggested] - probabilities[n, own]
    doubtful = doubtful[np.argsort(-margin[doubtful], kind="stable")]
    listed = tuple(
        Suspect(
            row=int(rows[i]),
            path=paths[rows[i]],
            split=splits[rows[i]],
            label=classes[labels[i]],
            suggested=classes[present[suggested[i]]],
            label_probability=float(probabilities[i, own[i]]),
            suggested_probability=float(probabilities[i, suggested[i]]),
        )
        for i in doubtful[:LISTED].tolist()
    )
    note = (
        f"Probabilities of a logistic regression on {embedding.backbone} features at {embedding.resolution} px, "
        f"cross-validated in {FOLDS} folds{' of whole groups' if groups is not None else ''}; test images are not "
        "looked at. The lower its own accuracy, the more of these are hard images and not wrong labels."
    )
    if len(few):
        named = ", ".join(classes[each] for each in few[:10].tolist()) + (" and more" if len(few) > 10 else "")
        note += f" Classes of fewer than {FOLDS} {'groups' if groups is not None else 'images'} are left out: {named}."
    if checked:
        note += (
            f" Of {len(checked)} validation images that it doubted, the best trial, which was not trained on them, "
            f"sides with the label of {len(cleared)}; those are not listed"
        )
        note += ", nor the training images, whose labels are as likely to be right." if no_evidence else "."
    accuracy = float((suggested == own).mean())
    return Suspects(len(rows), len(doubtful), len(checked), len(cleared), accuracy, note, listed)


def _by_images(labels: NDArray[np.int64], groups: NDArray[np.int64] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the classes that have an image (of a group of its own) for each fold, and those that have not."""
    present, counts = np.unique(labels, return_counts=True)
    if groups is not None:
        counts = np.array([len(np.unique(groups[labels == label])) for label in present])
    return present[counts >= FOLDS], present[counts < FOLDS]


def _cross_validated(
    vectors: NDArray[np.floating], labels: NDArray[np.int64], groups: NDArray[np.int64] | None, seed: int
) -> NDArray[np.float64] | None:
    """Probabilities ``(n, classes present)``, or None where there is nothing to tell apart."""
    present = np.unique(labels)
    if len(present) < 2 or not np.isfinite(vectors).all():
        return None
    from sklearn.decomposition import PCA  # takes a while to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(seed)
    sample = rng.permutation(len(vectors))[:MOST_TO_FIT]
    components = min(_COMPONENTS, vectors.shape[1], len(sample))
    scaled = make_pipeline(StandardScaler(), PCA(components, svd_solver="randomized", random_state=seed))
    scaled.fit(vectors[sample])
    features = scaled.transform(vectors)
    folds = (StratifiedKFold if groups is None else StratifiedGroupKFold)(FOLDS, shuffle=True, random_state=seed)
    probabilities = np.zeros((len(labels), len(present)))
    for train, held_out in folds.split(features, labels, groups):
        fitted = rng.permutation(train)[:MOST_TO_FIT]
        model = LogisticRegression(C=_REGULARISATION, max_iter=200).fit(features[fitted], labels[fitted])
        columns = np.searchsorted(present, model.classes_)
        probabilities[np.ix_(held_out, columns)] = model.predict_proba(features[held_out])
    return probabilities
