"""The best trial: metrics, curves, confusion, classes, calibration, and its most confident mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray

from automl.paths import StudyFolder
from automl.ranking import words
from automl.ranking.files import load_curve, load_groups, load_predictions, read_predictions
from automl.ranking.leaderboard import Leaderboard
from automl.ranking.reliability import Bin, calibration_error, reliability
from automl.ranking.statistics import (
    METRICS,
    ClassScore,
    Predictions,
    confusion,
    interval,
    per_class,
    recall_limits,
    score,
)

__all__ = ["Confusion", "Mistake", "MixUp", "Winner", "class_names", "winner"]

MISTAKES = 24
_MOST_CELLS = 200 * 200
_MIXUPS = 5


@dataclass(frozen=True)
class MixUp:
    """How many images of one class were taken for another."""

    images: int
    label: str
    predicted: str


@dataclass(frozen=True)
class Confusion:
    """Who was taken for whom on one split. `counts` is ``(C, C)``, row = true class, None above 200 classes.

    `per_class` has the weakest class (by F1) first.
    """

    split: str
    title: str
    images: int
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...] | None
    per_class: tuple[ClassScore, ...]
    mixups: tuple[MixUp, ...]


@dataclass(frozen=True)
class Mistake:
    """A validation image, by row of the manifest, that was taken for another class with `confidence` 0…1."""

    row: int
    path: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Winner:
    """The best trial. `metrics` are computed from its kept predictions (log loss in nats) on the `images` of
    validation, `metrics_ci95` are their 95 % intervals, `epochs` is its history."""

    trial: int
    images: int
    metrics: Mapping[str, float]
    metrics_ci95: Mapping[str, tuple[float, float]]
    epochs: tuple[Mapping[str, float], ...]
    confusions: tuple[Confusion, ...]
    reliability: tuple[Bin, ...]
    calibration_error: float | None
    mistakes: tuple[Mistake, ...]
    mistaken: int | None


def winner(folder: StudyFolder, study: optuna.Study, board: Leaderboard, paths: Sequence[str]) -> Winner | None:
    """Return the facts about the best trial of `board`, None where there is none.

    Args:
        paths: File of every row of the manifest; may be empty.
    """
    if not board.rows:
        return None
    trial = board.rows[0].trial
    groups = load_groups(folder)
    predictions = load_predictions(folder.trial(trial), groups)
    names = [str(name) for name in study.user_attrs.get("classes") or ()]
    of_test = _of_test(board, names, read_predictions(folder.test_logits, groups))
    confusions = [of_test] if of_test else []
    bins: tuple[Bin, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    if predictions is not None:
        labels = class_names(names, predictions.logits.shape[1])
        counts = confusion(predictions, len(labels))
        title = f"trial {trial} on the validation images"
        confusions.append(_confusion("validation", title, counts, labels, predictions))
        bins = reliability(predictions)
        mistakes = _mistakes(predictions, labels, paths)
    metrics = {} if predictions is None else {name: score(name, predictions) for name in METRICS}
    return Winner(
        trial=trial,
        images=0 if predictions is None else len(predictions.targets),
        metrics=metrics,
        metrics_ci95={} if predictions is None else _intervals(predictions, metrics),
        epochs=tuple(load_curve(folder.trial(trial))),
        confusions=tuple(confusions),
        reliability=bins,
        calibration_error=calibration_error(bins) if bins else None,
        mistakes=mistakes,
        mistaken=None if predictions is None else int((predictions.labels != predictions.targets).sum()),
    )


def _intervals(predictions: Predictions, metrics: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of every one of `metrics` that these images have."""
    found = {name: interval(name, predictions) for name, value in metrics.items() if math.isfinite(value)}
    return {name: (each.low, each.high) for name, each in found.items()}


def class_names(names: Sequence[str], classes: int) -> list[str]:
    """Return `names` where they are as many as there are classes, else numbers."""
    return list(names) if len(names) == classes else [f"class {i}" for i in range(classes)]


def _of_test(board: Leaderboard, names: Sequence[str], said: Predictions | None) -> Confusion | None:
    """The package on the test images, as its own file has it; `said`: what is kept of its predictions."""
    refit = board.refit or {}
    test = refit.get("test") or {}
    counts = np.asarray(test.get("confusion") or [], dtype=np.int64)
    if counts.ndim != 2 or not counts.shape[0] == counts.shape[1] > 0:
        return None
    labels = [str(each.get("label")) for each in test.get("per_class") or ()]
    labels = labels if len(labels) == len(counts) else class_names(names, len(counts))
    if said is not None and not (
        said.logits.shape[1] == len(counts) and np.array_equal(confusion(said, len(counts)), counts)
    ):
        said = None  # not those of its scores
    title = f"trial {refit.get('trial', '–')} {words.handed_over(board)}, on the test images"
    return _confusion("test", title, counts, labels, said)


def _confusion(
    split: str, title: str, counts: NDArray[np.int64], names: Sequence[str], predictions: Predictions | None
) -> Confusion:
    by_group = recall_limits(predictions) if predictions is not None and predictions.groups is not None else None
    scores = per_class(counts, list(names), by_group)
    wrong = np.argwhere(counts * (1 - np.eye(len(counts), dtype=np.int64)) > 0).tolist()
    mixups = [MixUp(int(counts[i, j]), names[i], names[j]) for i, j in wrong]
    return Confusion(
        split=split,
        title=title,
        images=int(counts.sum()),
        classes=tuple(names),
        counts=tuple(map(tuple, counts.tolist())) if counts.size <= _MOST_CELLS else None,
        per_class=tuple(sorted(scores, key=lambda each: (each.f1, each.label))),
        mixups=tuple(sorted(mixups, key=lambda each: (-each.images, each.label, each.predicted))[:_MIXUPS]),
    )


def _mistakes(predictions: Predictions, names: Sequence[str], paths: Sequence[str]) -> tuple[Mistake, ...]:
    labels, sure = predictions.labels, predictions.confidence
    wrong = np.flatnonzero(labels != predictions.targets)
    found = []
    for i in wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES].tolist():
        row = int(predictions.rows[i])
        path = paths[row] if row < len(paths) else ""
        found.append(Mistake(row, path, names[predictions.targets[i]], names[labels[i]], float(sure[i])))
    return tuple(found)
