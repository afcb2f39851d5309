"""A map of the images as a frozen backbone sees them: neighbours look alike to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_POINTS", "Embedding", "EmbeddingMap", "embedding_map"]

MAX_POINTS = 1200
_COMPONENTS = 50


@dataclass(frozen=True)
class Embedding:
    """Features of the training and validation images: `vectors` ``(n, F)``, `rows` ``(n,)`` of the manifest."""

    backbone: str
    resolution: int
    vectors: NDArray[np.floating]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class EmbeddingMap:
    """Points of the map, without a unit. `targets` are class numbers; `mistaken` is None where nobody predicted."""

    backbone: str
    resolution: int
    method: str
    images: int
    rows: tuple[int, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    targets: tuple[int, ...]
    mistaken: tuple[bool | None, ...]


def embedding_map(
    embedding: Embedding,
    targets: NDArray[np.int64],
    predicted: dict[int, int],
    *,
    seed: int = 0,
    most: int = MAX_POINTS,
) -> EmbeddingMap | None:
    """Lay the images out in two dimensions: t-SNE of 50 principal components (L. van der Maaten, G. Hinton, JMLR 9,
    2008), which keeps neighbours together; distances between groups mean little.

    Of more than `most` images the mistakes, then other predicted ones, then a random choice of the rest are shown.

    Args:
        targets: Class number of every row of the manifest.
        predicted: Predicted class number by row, for those rows that were predicted.
    """
    n = len(embedding.rows)
    if n < 10 or not np.isfinite(embedding.vectors).all():
        return None
    from sklearn.decomposition import PCA  # takes a while to import
    from sklearn.manifold import TSNE

    rng = np.random.default_rng(seed)
    rows = [int(row) for row in embedding.rows]
    order = rng.permutation(n)
    kind = [2 if row not in predicted else int(predicted[row] == targets[row]) for row in rows]
    chosen = np.sort(order[np.argsort([kind[i] for i in order], kind="stable")][:most])
    vectors = np.asarray(embedding.vectors[chosen], dtype=np.float32)
    components = min(_COMPONENTS, *vectors.shape)
    reduced = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(vectors)
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    laid = TSNE(2, perplexity=perplexity, init="pca", max_iter=500, random_state=seed).fit_transform(reduced)
    rows = [rows[i] for i in chosen]
    return EmbeddingMap(
        backbone=embedding.backbone,
        resolution=embedding.resolution,
        method=f"t-SNE of {components} principal components, perplexity {perplexity:g}",
        images=n,
        rows=tuple(rows),
        x=tuple(laid[:, 0].round(2).tolist()),
        y=tuple(laid[:, 1].round(2).tolist()),
        targets=tuple(int(targets[row]) for row in rows),
        mistaken=tuple(None if row not in predicted else bool(predicted[row] != targets[row]) for row in rows),
    )
