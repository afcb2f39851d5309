"""Earlier studies, to learn from: found in folders, and only read. Nothing is locked and nothing is written, so another
driver may be at work on one; whatever is missing or damaged is an error with its reason, and the caller's to tell.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from automl.config import METRICS, load_config
from automl.data import Audit
from automl.errors import AutoMLError, StorageError, UsageError
from automl.paths import StudyFolder
from automl.search.dataset_features import DatasetFeatures, dataset_features
from automl.search.snapshot import open_to_read, snapshot

__all__ = ["EarlierStudy", "find_studies", "good_trials", "read_study"]

_UNREADABLE = (
    *(SQLAlchemyError, sqlite3.Error, optuna.exceptions.OptunaError),
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
)


@dataclass(frozen=True)
class EarlierStudy:
    """`good` are its best finished trials: what it handed over first, if that is one of them, then the best."""

    metric: str
    maximize: bool
    features: DatasetFeatures
    good: tuple[FrozenTrial, ...]


def find_studies(paths: Iterable[Path], new: StudyFolder) -> list[StudyFolder]:
    """Return the studies at `paths`, each a study folder or a folder of them; one that is named twice is listed once.

    Raises:
        UsageError: There is no study at a path, or it is that of the `new` study.
    """
    found: dict[Path, StudyFolder] = {}
    for path in paths:
        if path.resolve() == new.root.resolve():
            raise UsageError(f"no warm start from {path}: it is the folder of the new study; name earlier ones")
        try:
            inside = sorted(each for each in path.iterdir() if each.is_dir()) if path.is_dir() else []
        except OSError as error:
            raise UsageError(f"no warm start from {path}: {error.strerror or error}") from error
        here = [each for each in ([path] if _is_study(path) else inside) if _is_study(each)]
        if not here:
            raise UsageError(
                f"no warm start from {path}: no study there; expected a study folder such as runs/NAME, or a folder "
                f"of them"
            )
        for each in here:
            found.setdefault(each.resolve(), StudyFolder(each))
    return [each for root, each in found.items() if root != new.root.resolve()]


def read_study(folder: StudyFolder) -> EarlierStudy:
    """Read what an earlier study has found so far.

    Raises:
        AutoMLError: It cannot be read, or there is nothing to learn from; the message says why.
    """
    config = load_config(folder.resolved)
    try:
        study = open_to_read(folder, storage=config.search.storage)
        attrs, trials = study.user_attrs, snapshot(study).get_trials(deepcopy=False)
        maximize = study.direction == StudyDirection.MAXIMIZE
    except _UNREADABLE as error:
        if isinstance(error, AutoMLError):
            raise
        raise StorageError(f"its study cannot be read: {_first_line(error)}") from error
    metric = str(attrs.get("metric", config.search.metric))
    if metric not in METRICS or maximize == (metric == "log_loss"):
        raise UsageError(f'it is ranked by "{metric}", {"larger" if maximize else "smaller"} is better')
    chosen = attrs.get("refitted")  # after training again, where there was time
    good = good_trials(trials, maximize=maximize, chosen=chosen)
    good.sort(key=lambda each: each.number != chosen)
    if not good:
        raise UsageError(f"no trial of it has finished ({len(trials)} were begun)")
    return EarlierStudy(metric, maximize, _features(folder, attrs), tuple(good))


def good_trials(trials: Sequence[FrozenTrial], *, maximize: bool, chosen: int | None = None) -> list[FrozenTrial]:
    """Return the better half of the trials that ran to their end, best first; of equal scores the quicker first. Where
    the budget cut short all that trained more than a head, of those, too.

    Args:
        chosen: Number of the trial that was handed over, which counts although it was cut short.
    """
    told = [
        each
        for each in trials
        if each.state == TrialState.COMPLETE and each.value is not None and math.isfinite(each.value)
    ]
    done = [each for each in told if each.user_attrs.get("reason") != "truncated" or each.number == chosen]
    if all(each.user_attrs.get("from_embeddings") for each in done):
        done = told
    sign = -1.0 if maximize else 1.0
    done.sort(
        key=lambda each: (sign * (each.value or 0.0), each.user_attrs.get("train_seconds", math.inf), each.number)
    )
    return done[: math.ceil(len(done) / 2)]


def _is_study(path: Path) -> bool:
    try:
        return StudyFolder(path).resolved.exists() or StudyFolder(path).database.exists()
    except OSError:  # a folder that may not be looked into
        return False


def _features(folder: StudyFolder, attrs: dict[str, Any]) -> DatasetFeatures:
    """What the study says of its data; one of an earlier version does not, but its audit and its plan do."""
    try:
        if "dataset_features" in attrs:
            return DatasetFeatures.from_dict(attrs["dataset_features"])
        audit = Audit.from_json(folder.audit.read_text("utf-8"))
        return dataset_features(audit, json.loads(folder.plan.read_text("utf-8")))
    except _UNREADABLE as error:
        raise UsageError(f"what its data are like is not known: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
