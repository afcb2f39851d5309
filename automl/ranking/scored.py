"""The scores and contributions of all trials of a study, from the validation logits that they kept.

Reading 10,000 files of logits takes many seconds, so what a leaderboard needs of them, one number per image and trial,
is kept in one file per metric (`StudyFolder.ranking`). It is a cache: a trial whose logits are newer, older or of
another size than noted is read again, and a cache that is torn, of another shape or version, or missing is made anew.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.errors import OutputError
from automl.paths import StudyFolder, make_folder, write_atomic
from automl.ranking.files import load_npz, load_predictions
from automl.ranking.statistics import contributions, score

__all__ = ["Scored", "load_scored"]

WORTH_KEEPING = 200  # trials read anew
_VERSION = 1  # of how scores and contributions are computed

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """Trials that saw the same images: their `numbers` ``(T,)``, scores ``(T,)`` and contributions ``(T, n)``, and the
    images' targets and rows of the manifest ``(n,)``."""

    numbers: Ints
    scores: NDArray[np.float64]
    values: NDArray[Any]
    targets: Ints
    rows: Ints

    def pick(self, places: Ints) -> Scored:
        """Return the trials at `places` ``(k,)``, in that order."""
        if np.array_equal(places, np.arange(len(self.numbers))):
            return self
        return Scored(self.numbers[places], self.scores[places], self.values[places], self.targets, self.rows)

    def groups(self, of_row: Ints | None) -> Ints | None:
        """Return the group of every image, given that of every row of the manifest; None where it has none."""
        known = of_row is not None and self.rows.max() < len(of_row)
        return of_row[self.rows] if known and of_row is not None else None


def load_scored(folder: StudyFolder, numbers: Iterable[int], metric: str, *, cache: bool = True) -> list[Scored]:
    """Return the trials `numbers` by the images that they saw, most trials first.

    A trial without readable predictions, or of whose images the metric cannot be computed, is in none.

    Args:
        cache: Write the cache when many trials had to be read. It is always read.
    """
    stamps = _stamps(folder, numbers)
    kept, stamped = _load(folder, metric)
    usable = [i for i, number in enumerate(kept.numbers.tolist()) if stamps.get(number) == stamped[i]] if kept else []
    known = {int(kept.numbers[i]) for i in usable} if kept else set()
    read: dict[bytes, list[Scored]] = {}
    for number in sorted(stamps.keys() - known):
        one = _read(folder, number, metric)
        if one is not None:
            read.setdefault(one.targets.tobytes() + one.rows.tobytes(), []).append(one)
    if kept and usable:
        part = kept.pick(np.array(usable, dtype=np.int64))
        read.setdefault(kept.targets.tobytes() + kept.rows.tobytes(), []).append(part)
    found = sorted((_joined(parts) for parts in read.values()), key=lambda each: -len(each.numbers))
    if cache and len(stamps) - len(known) >= WORTH_KEEPING and found:
        _save(folder, metric, found[0], stamps)
    return found


def _stamps(folder: StudyFolder, numbers: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Return time and size of the predictions of every trial that has some."""
    of, found = folder.validation_logits(), {}
    for number in numbers:
        try:
            state = os.stat(of(number))
        except OSError:
            continue
        found[number] = state.st_mtime_ns, state.st_size
    return found


def _read(folder: StudyFolder, number: int, metric: str) -> Scored | None:
    predictions = load_predictions(folder.trial(number))
    if predictions is None:
        return None
    value = score(metric, predictions)
    if not math.isfinite(value):
        return None
    values = contributions(metric, predictions)
    values = values if values.dtype == np.uint8 else values.astype(np.float32)
    return Scored(np.array([number]), np.array([value]), values[None], predictions.targets, predictions.rows)


def _joined(parts: list[Scored]) -> Scored:
    if len(parts) == 1:
        return parts[0]
    numbers, scores = (np.concatenate([getattr(each, name) for each in parts]) for name in ("numbers", "scores"))
    values = np.concatenate([each.values for each in parts])
    return Scored(numbers, scores, values, parts[0].targets, parts[0].rows)


def _load(folder: StudyFolder, metric: str) -> tuple[Scored | None, list[tuple[int, int]]]:
    kept = load_npz(folder.ranking(metric))
    names = ("numbers", "scores", "values", "targets", "rows", "stamps")
    if kept is None or any(name not in kept for name in names) or kept.get("version") != _VERSION:
        return None, []
    numbers, scores, values, targets, rows, stamps = (kept[name] for name in names)
    shapes = (scores.shape, values.shape, targets.shape, rows.shape, stamps.shape)
    n = len(targets)
    if shapes != (numbers.shape, (len(numbers), n), (n,), (n,), (len(numbers), 2)) or n == 0:
        return None, []
    return Scored(numbers, scores, values, targets, rows), [(int(time), int(size)) for time, size in stamps]


def _save(folder: StudyFolder, metric: str, scored: Scored, stamps: dict[int, tuple[int, int]]) -> None:
    file = io.BytesIO()
    of_trials = np.array([stamps[number] for number in scored.numbers.tolist()], dtype=np.int64)
    arrays = {name: getattr(scored, name) for name in ("numbers", "scores", "values", "targets", "rows")}
    np.savez(file, version=np.array(_VERSION), stamps=of_trials, **arrays)
    try:
        path = folder.ranking(metric)
        make_folder(path.parent)
        write_atomic(path, file.getvalue())
    except OutputError:
        return  # of a study that can only be read, everything is read again each time
