"""Divide images into train, validation and test: stratified by label, never tearing a group or copies apart.

What the user gives is kept. A missing validation or test split is drawn from train. Fractions are of the images drawn
from, and every class gets at least one image on each side.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from automl.data.decode import one_line
from automl.data.manifest import SPLITS
from automl.errors import DataError, UsageError

__all__ = ["assign_splits", "redraw", "units_of"]

_ATTEMPTS = 10
_TOLERANCE = 0.05


def assign_splits(
    rows: pd.DataFrame, labels: list[str], *, seed: int, validation_fraction: float, test_fraction: float
) -> tuple[pd.Series, dict[str, str], list[str]]:
    """Give every row a split.

    Args:
        rows: Usable images in canonical order with columns label, split ("" where not given), group and pixels.
        labels: Every label the source names, also those of which no image is usable.
        seed: The same rows and seed give the same split, whatever the paths are.
        validation_fraction: Share of the images drawn from, between 0 and 1.
        test_fraction: Likewise; 0 draws no test split.

    Returns:
        The splits, which of them were "given" or "drawn", and what deserves a warning.

    Raises:
        DataError: There are fewer than two classes, or classes too small to be on every side (all are listed), or a
            given validation split of one class only.
        UsageError: The fractions leave nothing to train on.
    """
    if not 0 < validation_fraction < 1 or not 0 <= test_fraction < 1 or validation_fraction + test_fraction >= 1:
        raise UsageError(
            f"validation fraction {validation_fraction} and test fraction {test_fraction} do not fit: "
            "expected more than 0 for validation, not less than 0 for test, and less than 1 together"
        )
    if len(labels) < 2:
        raise DataError(f'only one class ("{one_line(labels[0])}"): classification needs at least two')
    given = [name for name in SPLITS if (rows["split"] == name).any()]
    if given and "train" not in given:
        raise DataError(f"the given splits are {' and '.join(given)}: expected train among them")
    fractions = {"test": test_fraction, "validation": validation_fraction}
    drawn = {name: share for name, share in fractions.items() if name not in given and share > 0}
    pool = rows[rows["split"] == "train"] if given else rows
    units = units_of(pool)
    _refuse_small_classes(pool, units, labels, sides=["train", *drawn], given=bool(given))
    split = rows["split"].copy() if given else pd.Series("train", index=rows.index, dtype="str")
    if drawn:
        split.loc[pool.index] = _draw(pool["label"], pool["group"], units, drawn, seed)
    notes = []
    for name in drawn if given else []:
        notes.append(f"no {name} split was given: {int((split == name).sum())} train images were set aside for it")
    for name in given:
        absent = sorted(set(labels) - set(rows["label"][rows["split"] == name]))
        if name == "validation" and len(absent) == len(labels) - 1:
            (only,) = set(labels) - set(absent)
            raise DataError(
                f'the given validation split has images of one class only ("{one_line(only)}"): by these the best '
                "model is one that always answers it; give images of the others, too, or leave the validation split out"
            )
        if absent:
            notes.append(f"the given {name} split has no image of {_listed(absent)}")
    origins = {name: "drawn" if name in drawn else "given" for name in SPLITS if name in given or name in drawn}
    return split, origins if given else {"train": "drawn", **origins}, notes


def redraw(rows: pd.DataFrame, *, seed: int) -> npt.NDArray[np.bool_]:
    """Draw another validation split from train and validation, of the same share, by the rules of `assign_splits`.

    Args:
        rows: The images of both, with columns label, split, group and pixels.

    Returns:
        Which rows it has.

    Raises:
        DataError: No other split keeps every group on one side.
    """
    units = units_of(rows)
    labels = sorted(set(rows["label"]))
    _refuse_small_classes(rows, units, labels, sides=["train", "validation"], given=False)
    share = float((rows["split"] == "validation").mean())
    return np.asarray(_draw(rows["label"], rows["group"], units, {"validation": share}, seed) == "validation")


def units_of(rows: pd.DataFrame) -> pd.Series:
    """Number the sets of rows that must stay together: linked by a group or by equal pixels, over any chain of both."""
    own = pd.Series([f"\0{number}" for number in range(len(rows))], index=rows.index)
    group = rows["group"].where(rows["group"] != "", own)
    unit = pd.Series(np.arange(len(rows)), index=rows.index)
    while True:
        merged = unit.groupby(group).transform("min").groupby(rows["pixels"]).transform("min")
        if merged.equals(unit):
            return unit
        unit = merged


def _refuse_small_classes(
    rows: pd.DataFrame, units: pd.Series, labels: list[str], *, sides: list[str], given: bool
) -> None:
    counts = units.groupby(rows["label"]).nunique()
    small = [(label, int(counts.get(label, 0))) for label in labels if counts.get(label, 0) < len(sides)]
    if not small:
        return
    listed = ", ".join(f'"{one_line(label)}" has {count}' for label, count in small)
    what = "independent groups of images" if (rows["group"] != "").any() else "distinct usable images"
    where = " in the given train split" if given else ""
    raise DataError(
        f"classes too small to split, by {what}{where}: {listed}; each class needs at least {len(sides)} "
        f"({', '.join(sides)}): add images or leave the class out"
    )


def _draw(
    labels: pd.Series, groups: pd.Series, units: pd.Series, shares: dict[str, float], seed: int
) -> npt.NDArray[np.str_]:
    draw_once = _draw_grouped if (groups != "").any() else _draw_by_class
    side = np.full(len(labels), "train", dtype="<U10")
    free = np.ones(len(labels), dtype=bool)
    left = 1.0
    for order, (name, share) in enumerate(shares.items()):
        # what is drawn later needs a unit of each class too, beside the one for train
        needed = len(shares) - order
        chosen = draw_once(labels[free], units[free], share / left, needed, [seed, order])
        side[np.flatnonzero(free)[chosen]] = name
        free[np.flatnonzero(free)[chosen]] = False
        left -= share
    return side


def _draw_by_class(
    labels: pd.Series, units: pd.Series, share: float, needed: int, seed: list[int]
) -> npt.NDArray[np.bool_]:
    """Draw from each class by itself, so that even the smallest is on both sides."""
    members = {str(label): np.unique(values) for label, values in units.groupby(labels, sort=True)}
    sizes = np.array([len(values) for values in members.values()])
    counts = np.clip(_apportion(sizes * share), 1, sizes - needed)
    chosen: list[int] = []
    for (label, values), count in zip(members.items(), counts, strict=True):
        state = np.random.SeedSequence([*seed, zlib.crc32(label.encode())]).generate_state(1)[0]
        chosen += list(train_test_split(values, test_size=int(count), random_state=int(state))[1])
    return units.isin(chosen).to_numpy()


def _apportion(quotas: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Round quotas to integers that keep their sum, by largest remainders."""
    floors = np.floor(quotas + 1e-9)
    missing = round(float(quotas.sum())) - int(floors.sum())
    floors[np.argsort(floors - quotas, kind="stable")[: max(0, missing)]] += 1
    return floors.astype(np.int64)


def _draw_grouped(
    labels: pd.Series, units: pd.Series, share: float, needed: int, seed: list[int]
) -> npt.NDArray[np.bool_]:
    """Draw whole groups with scikit-learn's StratifiedGroupKFold, so that every class is on both sides.

    Of the draws tried, the first whose class shares are all within 0.05 of `share` is taken, else the nearest.
    """
    totals = labels.value_counts()
    smallest = int(units.groupby(labels).nunique().min())
    best: tuple[float, npt.NDArray[np.bool_]] | None = None
    for take, folds in (_folds(share), (max(1, round(share * smallest)), smallest)):
        for state in np.random.SeedSequence(seed).generate_state(_ATTEMPTS):
            for chosen in _fold_unions(labels, units, take, folds, int(state)):
                inside = units[chosen].groupby(labels[chosen]).nunique().reindex(totals.index, fill_value=0)
                outside = units[~chosen].groupby(labels[~chosen]).nunique().reindex(totals.index, fill_value=0)
                if (inside < 1).any() or (outside < needed).any():
                    continue
                error = float((labels[chosen].value_counts().reindex(totals.index) / totals - share).abs().max())
                if best is None or error < best[0]:
                    best = (error, chosen)
                if error <= _TOLERANCE:
                    return chosen
        if best is not None:
            return best[1]
    raise DataError(
        "no split was found that keeps every group on one side and has every class on each: "
        "give the splits in the manifest, or use smaller groups"
    )


def _fold_unions(
    labels: pd.Series, units: pd.Series, take: int, folds: int, state: int
) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield, as masks, each run of `take` neighbouring folds of one stratified division into `folds`."""
    folds = min(folds, units.nunique(), int(labels.value_counts().max()))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class smaller than the folds, which the caller checks for
        parts = [part for _, part in splitter.split(np.zeros(len(labels)), labels, units)]
    for first in range(folds):
        chosen = np.zeros(len(labels), dtype=bool)
        chosen[np.concatenate([parts[(first + step) % folds] for step in range(take)])] = True
        yield chosen


def _folds(share: float) -> tuple[int, int]:
    """Return (folds to take, folds) whose quotient is nearest to `share`, with at most ten folds."""
    pairs = [(round(share * folds), folds) for folds in range(2, 11)]
    usable = [(take, folds) for take, folds in pairs if 0 < take < folds] or [(1, 10)]
    return min(usable, key=lambda pair: (abs(pair[0] / pair[1] - share), pair[1]))


def _listed(labels: list[str]) -> str:
    shown = ", ".join(f'"{one_line(label)}"' for label in labels[:10])
    return shown + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
