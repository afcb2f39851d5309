"""How often trials that are equally good are told apart where images come in few groups: patients, parts, scenes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from automl.ranking.statistics import Predictions, compare_with_best, difference
from benchmarks.selection.worlds import grouped

__all__ = ["of_ties_in_groups"]

GROUPS, SIZE, ACCURACY, CORRELATION = (1, 2, 3, 5, 10, 20, 50), 20, 0.9, 0.3


def of_ties_in_groups(studies: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return, by number of groups and of trials that are all alike, how often a given one is among the tied, and how
    often the interval of the difference of two leaves out 0, which is there."""
    rows = []
    for groups in GROUPS:
        for trials in (2, 10):
            held, told = [], []
            for _ in range(studies):
                drawn = [grouped(ACCURACY, groups, SIZE, CORRELATION, rng) for _ in range(trials)]
                right, of_group = np.stack([each for each, _ in drawn]).astype(np.uint8), drawn[0][1]
                scores, seed = right.mean(axis=1), int(rng.integers(2**31))
                best = int(scores.argmax())
                held.append(compare_with_best(right, scores, best, larger=True, groups=of_group, seed=seed).tied[0])
                first, second = (_said(each, of_group) for each in right[:2])
                told.append(0.0 not in difference("accuracy", first, second, seed=seed, resamples=1000))
            row = {"groups": groups, "images of each": SIZE, "trials": trials, "studies": studies}
            rows.append(row | {"tied holds best": np.mean(held), "equal told apart": np.mean(told)})
    return pd.DataFrame(rows)


def _said(right: np.ndarray, groups: np.ndarray) -> Predictions:
    n = len(right)
    return Predictions(
        np.stack([1 - right, right], axis=1).astype(np.float32), np.ones(n, np.int64), np.arange(n), groups
    )
