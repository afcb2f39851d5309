"""Pictures that are there twice, re-encoded, resized or brightened: images whose small grey pictures correlate.

Normalised cross-correlation (J. P. Lewis, Fast Normalized Cross-Correlation, Vision Interface, 1995) takes brightness
and contrast off. Where all images are alike, different ones correlate highly, too, so the least that counts follows
from what is usual in the data set. A picture that is hardly more than noise is not found again.

Measured by `benchmarks/near_duplicates.py`, on images as they lie in the pixel cache (2026-11-24): images listed where
no copy was made ("false"), and how many of 100 copies of each kind are found.

    set                     false   JPEG 70   90 % size   5 % brighter / darker   darker, 90 % size, JPEG 70
    textile, 1,400              0       100         100               100 / 100                          100
    photographs, 400 crops      0       100         100               100 / 100                          100
    Fashion-MNIST, 4,000        0        98          60               100 / 100                           34
    digits of 8 px, 1,797       2        97           0               100 / 100                            0

Embeddings do not serve: with EfficientNet-Lite0's features at 224 px and, for each set, the least cosine similarity
that gives no false alarm on it (0.995, 0.990, 0.969, 0.991), 0, 59, 4 and 0 of the copies of 90 % size are found, and
95, 0, 1 and 0 of JPEG 70. A textile and its smaller copy are at 0.983 in the median, two different ones at 0.989. The
distance over that of the tenth neighbour (as D. Lowe's ratio of distances, IJCV 60, 2004) is not much better, and the
distance over its median in the data set (cleanlab's Datalab, factor 0.13) finds fewer. 10,000 images take 2.5 s, 20,000
take 6.4 s (one thread).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["NearDuplicate", "NearDuplicateGroup", "NearDuplicates", "find_near_duplicates"]

MOST_IMAGES = 20_000  # their neighbours take seconds; ten times as many would take a hundred times as long
NEIGHBOURS = 20
SIDE = 32  # pixels of what is correlated
LEAST = 0.99
SHARE = 0.035
LISTED = 100
_COMPONENTS = 128
_MOST_TO_FIT = 4000


@dataclass(frozen=True)
class NearDuplicate:
    """An image, by row of the manifest."""

    row: int
    path: str
    split: str
    label: str


@dataclass(frozen=True)
class NearDuplicateGroup:
    """Images that are almost surely one picture; `correlation` is the least by which one was taken to be another's."""

    correlation: float
    across_splits: bool
    labels_differ: bool
    images: tuple[NearDuplicate, ...]


@dataclass(frozen=True)
class NearDuplicates:
    """`found` groups among `images` looked at, `across_splits` of them in more than one split; `listed` has the first
    100, those across splits in front, the most alike first.

    `least` is the correlation from which on a pair counts; `note` says how they were found, `warning` (or None) what to
    do.
    """

    images: int
    found: int
    across_splits: int
    least: float
    note: str
    warning: str | None
    listed: tuple[NearDuplicateGroup, ...]


def find_near_duplicates(
    pixels: NDArray[Any],
    rows: NDArray[np.int64],
    paths: Sequence[str],
    splits: Sequence[str],
    labels: Sequence[str],
    *,
    copies: Sequence[Sequence[str]] = (),
    seed: int = 0,
) -> NearDuplicates | None:
    """Correlate the image of each of `rows` with those of its 20 nearest neighbours.

    A pair counts when its correlation is at least 0.99, and its distance from 1 at most 3.5 % of what is usual in the
    data set: the median, over all images, for the 20th neighbour. Pairs that share an image are one group. Of more than
    20,000 images a random sample is looked at.

    Args:
        pixels: ``(N, R, R, 3) uint8``, of every row of the manifest; only `rows` are read.
        paths, splits, labels: Of every row of the manifest.
        copies: Paths of files with the same pixels, which are known already: one of each is looked at.

    Returns:
        None where there are fewer than 40 images, too few to say what is usual.
    """
    known = {path for each in copies for path in sorted(each)[1:]}
    candidates = np.array([row for row in rows if paths[row] not in known], dtype=np.int64)
    if len(candidates) < 2 * NEIGHBOURS:
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(candidates)[:MOST_IMAGES])
    small = _small(pixels, rows)
    near = _neighbours(small, seed)
    correlations = np.stack([np.einsum("nf,nf->n", small, small[each]) for each in near.T], axis=1)
    usual = float(np.median(correlations.min(axis=1)))
    least = max(LEAST, 1 - SHARE * (1 - usual))
    first, place = np.nonzero(correlations >= least)
    found = _groups(first, near[first, place], correlations[first, place], len(rows))
    groups = [
        NearDuplicateGroup(
            correlation=correlation,
            across_splits=len({splits[rows[i]] for i in members}) > 1,
            labels_differ=len({labels[rows[i]] for i in members}) > 1,
            images=tuple(
                NearDuplicate(int(rows[i]), paths[rows[i]], splits[rows[i]], labels[rows[i]]) for i in members
            ),
        )
        for correlation, members in found
    ]
    groups.sort(key=lambda each: (not each.across_splits, -each.correlation))
    between = [{each.split for each in group.images} for group in groups if group.across_splits]
    looked = "" if len(rows) == len(candidates) else ", a random sample,"
    note = (
        f"Images of all splits{looked} were compared as grey pictures of {SIDE} px. Here a correlation of "
        f"{least:.4f} counts: at the {NEIGHBOURS}th nearest image it usually is {usual:.4f}. Exact copies are not "
        "listed again. Re-encoded and brightened copies are nearly all found, resized ones of small pictures often "
        "not, crops, flips and rotations never."
    )
    warning = _warning(between)
    return NearDuplicates(len(rows), len(groups), len(between), least, note, warning, tuple(groups[:LISTED]))


def _warning(between: Sequence[set[str]]) -> str | None:
    """Say what pictures in several splits do to the scores. `between`: the splits of each."""
    if not between:
        return None
    one = len(between) == 1
    scores = {"validation": any(splits >= {"train", "validation"} for splits in between)}
    scores["test"] = any("test" in splits for splits in between)
    better = " and ".join(name for name, affected in scores.items() if affected)
    return (
        f"{len(between)} {'picture is' if one else 'pictures are'} in more than one split as near-duplicates: {better} "
        "scores are better than new images would give. Delete all but one of each, or give them one name in the column "
        "group of a table of images, and search again."
    )


def _neighbours(small: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """Places of each picture's nearest ones, ``(n, 20)``, by cosine similarity of the first principal components."""
    from sklearn.decomposition import PCA  # takes a while to import
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    sample = np.random.default_rng(seed).permutation(len(small))[:_MOST_TO_FIT]
    components = min(_COMPONENTS, small.shape[1], len(sample))
    reduced = PCA(components, svd_solver="randomized", random_state=seed).fit(small[sample]).transform(small)
    finder = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(normalize(reduced))
    return np.asarray(finder.kneighbors(return_distance=False), dtype=np.int64)


def _small(pixels: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Grey pictures ``(n, 32 · 32)`` without their mean and of length 1; 0 of a picture of one colour."""
    small = np.empty((len(rows), SIDE * SIDE), dtype=np.float32)
    for place, row in enumerate(rows):
        grey = Image.fromarray(np.ascontiguousarray(pixels[row])).convert("L")
        small[place] = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32).ravel()
    small -= small.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(small, axis=1, keepdims=True)
    small /= np.where(lengths > 0, lengths, 1.0)
    return small


def _groups(
    first: NDArray[np.int64], second: NDArray[np.int64], correlations: NDArray[np.floating], images: int
) -> list[tuple[float, list[int]]]:
    """Return what pairs hold together: the least correlation of the pairs, and the images."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(first)), (first, second)), shape=(images, images))
    _, part = connected_components(graph, directed=False)
    least: dict[int, float] = {}
    members: dict[int, list[int]] = {}
    for one, correlation in zip(part[first].tolist(), correlations.tolist(), strict=True):
        least[one] = min(least.get(one, 1.0), correlation)
    for image in np.union1d(first, second).tolist():
        members.setdefault(int(part[image]), []).append(image)
    return [(least[one], members[one]) for one in least]
