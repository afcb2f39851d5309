"""Images that are almost surely the same picture: saved again, resized, brightened, or shot twice.

Files with equal pixels are found by the audit. Here the embedding is asked: two images are near-duplicates when each is
among the other's nearest and their distance is under `RATIO` of the distance to the `BACKGROUND`-th neighbour, that is,
when they stand out from how near images of this kind are anyway (the ratio test of D. Lowe, International Journal of
Computer Vision 60, 2004, https://doi.org/10.1023/B:VISI.0000029664.99615.94, against a neighbour so far down the list
that further copies do not hide a copy). A fixed similarity would not do: it calls half of a set of alike pictures
duplicates, and overlooks those of a varied one.

``python -m benchmarks.near_duplicates``, features of EfficientNet-Lite0 at 224 px: no false alarm among 400 different
images of simulated textiles, of Fashion-MNIST and of digits (at a ratio of 0.8: 7, 58 and 102 pairs). Of copies 5 %
brighter or darker, 85 to 100 % are found; of textiles saved as JPEG of quality 70, 72 %; of pictures of 28 px and less,
hardly any that were saved so or resized. What is listed is a copy, then, but what is not may be one, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automl.ranking.embedding_map import Embedding

__all__ = ["NearDuplicate", "NearDuplicates", "close_pairs", "find_near_duplicates"]

RATIO = 0.5
BACKGROUND = 10
LISTED = 200
MOST = 20_000  # images looked at


@dataclass(frozen=True)
class NearDuplicate:
    """Two images, by row of the manifest. `similarity` is the cosine of their features, `ratio` their distance divided
    by that to the tenth neighbour."""

    rows: tuple[int, int]
    paths: tuple[str, str]
    splits: tuple[str, str]
    labels: tuple[str, str]
    similarity: float
    ratio: float


@dataclass(frozen=True)
class NearDuplicates:
    """`found` pairs among `images` looked at, `across` of them with one image in train and one in validation, and
    `torn` with two labels; `listed` has the first 200, those across splits or labels first. `note` says how."""

    images: int
    found: int
    across: int
    torn: int
    note: str
    listed: tuple[NearDuplicate, ...]


def find_near_duplicates(
    embedding: Embedding,
    paths: list[str],
    splits: list[str],
    labels: list[str],
    *,
    exact: list[list[str]],
    seed: int = 0,
) -> NearDuplicates | None:
    """Return the pairs of near-duplicates, or None where there are too few images to tell.

    Args:
        paths, splits, labels: Of every row of the manifest.
        exact: Paths of files that are known to have the same pixels.
    """
    vectors, rows = embedding.vectors, embedding.rows
    if len(rows) > MOST:
        chosen = np.sort(np.random.default_rng(seed).choice(len(rows), MOST, replace=False))
        vectors, rows = vectors[chosen], rows[chosen]
    if len(rows) < 3 * BACKGROUND or not np.isfinite(vectors).all():
        return None
    same = {path: number for number, group in enumerate(exact) for path in group}

    def known(a: int, b: int) -> bool:
        return paths[a] in same and same[paths[a]] == same.get(paths[b])

    pairs = []
    for i, j, distance, ratio in close_pairs(vectors):
        a, b = int(rows[i]), int(rows[j])
        if not known(a, b):
            pairs.append(
                NearDuplicate(
                    rows=(a, b),
                    paths=(paths[a], paths[b]),
                    splits=(splits[a], splits[b]),
                    labels=(labels[a], labels[b]),
                    similarity=1 - distance**2 / 2,
                    ratio=ratio,
                )
            )
    pairs.sort(key=lambda each: (-len({*each.splits}) - len({*each.labels}), each.ratio, each.rows))
    note = (
        f"By {embedding.backbone} features at {embedding.resolution} px: nearer to each other than {RATIO:g} of the "
        f"distance to the {BACKGROUND}th neighbour. Test images are not looked at."
    )
    across = sum(len({*each.splits}) > 1 for each in pairs)
    torn = sum(len({*each.labels}) > 1 for each in pairs)
    return NearDuplicates(len(rows), len(pairs), across, torn, note, tuple(pairs[:LISTED]))


def close_pairs(vectors: NDArray[np.floating], ratio: float = RATIO) -> list[tuple[int, int, float, float]]:
    """Return ``(i, j, distance, ratio)`` of every pair with i < j that stands out; distances of unit vectors, 0…2."""
    from sklearn.neighbors import NearestNeighbors  # takes a while to import
    from sklearn.preprocessing import normalize

    unit = normalize(np.asarray(vectors, dtype=np.float32))
    neighbours = NearestNeighbors(n_neighbors=BACKGROUND + 1, algorithm="brute").fit(unit)
    distances, indices = neighbours.kneighbors(unit)
    found = {}
    background = distances[:, -1]
    for i, place in zip(*np.nonzero(distances[:, :-1] < ratio * background[:, None]), strict=True):
        j = int(indices[i, place])
        if j == i:
            continue
        apart = float(distances[i, place])
        limit = min(background[i], background[j])
        if apart < ratio * limit:
            found[min(int(i), j), max(int(i), j)] = (apart, apart / float(limit) if limit else 0.0)
    return [(i, j, *found[i, j]) for i, j in sorted(found)]
