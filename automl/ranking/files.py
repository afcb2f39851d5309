"""Reads what a search leaves in a study folder; a file that is missing, torn or of another shape reads as None."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.paths import StudyFolder, TrialFolder
from automl.ranking.statistics import Predictions

__all__ = [
    "kept_copies",
    "load_audit",
    "load_curve",
    "load_groups",
    "load_json",
    "load_manifest",
    "load_npz",
    "load_predictions",
    "load_screening",
    "read_predictions",
]


def load_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def load_audit(folder: StudyFolder) -> dict[str, Any] | None:
    """Return ``audit.json``; None where it does not count images by class and split."""
    found = load_json(folder.audit)
    counts = (found or {}).get("counts")
    if not isinstance(counts, dict) or not all(isinstance(by_split, dict) for by_split in counts.values()):
        return None
    return found


def load_screening(folder: StudyFolder) -> list[dict[str, Any]]:
    """Return what the plan says of every backbone that was screened; what is of another shape is left out."""
    found = (load_json(folder.plan) or {}).get("screening")
    return [each for each in found if _is_screened(each)] if isinstance(found, list) else []


def _is_screened(each: Any) -> bool:
    """Whether an entry of a plan has a backbone, and only numbers and limits where it has any."""
    if not isinstance(each, dict) or not isinstance(each.get("backbone"), str):
        return False
    numbers = [each.get(name) for name in ("knn_accuracy", "linear_accuracy", "prior", "seconds_per_epoch")]
    for limits in (each.get(name) for name in ("knn_ci95", "linear_ci95")):
        if limits is not None and not (isinstance(limits, list) and len(limits) == 2):
            return False
        numbers += limits or []
    return all(number is None or isinstance(number, int | float) for number in numbers)


def load_curve(folder: TrialFolder) -> list[dict[str, float]]:
    """Return the finite numbers of every epoch in ``metrics.jsonl``, in order of the epochs.

    A torn last line is dropped; of an epoch written twice (a resumed trial) the later line counts.
    """
    epochs: dict[float, dict[str, float]] = {}
    try:
        lines = folder.metrics.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict) and isinstance(content.get("epoch"), int | float):
            epochs[content["epoch"]] = {
                name: float(value)
                for name, value in content.items()
                if isinstance(value, int | float) and math.isfinite(value)
            }
    return [epochs[epoch] for epoch in sorted(epochs)]


def load_predictions(folder: TrialFolder, groups: NDArray[np.int64] | None = None) -> Predictions | None:
    """Return what a trial said about the validation images; `groups` has the group number of every manifest row."""
    return read_predictions(folder.validation_logits, groups)


def read_predictions(path: Path, groups: NDArray[np.int64] | None = None) -> Predictions | None:
    """Return the predictions in an ``.npz`` file."""
    kept = load_npz(path)
    if kept is None or "logits" not in kept or "targets" not in kept:
        return None
    try:
        logits, targets = kept["logits"], np.asarray(kept["targets"], dtype=np.int64)
        rows = np.asarray(kept["rows"] if "rows" in kept else np.arange(len(targets)), dtype=np.int64)
    except (TypeError, ValueError):
        return None
    if logits.ndim != 2 or not len(logits) == len(targets) == len(rows) > 0 or not np.isfinite(logits).all():
        return None
    if targets.min() < 0 or targets.max() >= logits.shape[1]:
        return None
    known = groups is not None and rows.max() < len(groups)
    return Predictions(logits, targets, rows, groups[rows] if known and groups is not None else None)


def load_npz(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return all arrays of an ``.npz`` file."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
            return {name: np.asarray(kept[name]) for name in kept.files}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError):
        return None
    except Exception as error:  # zipfile and zlib raise errors of their own kinds on torn files
        if type(error).__module__ in {"zipfile", "zlib"}:
            return None
        raise


def load_manifest(folder: StudyFolder) -> Any:
    """Return the manifest as a DataFrame (columns path, label, target, split, group), or None."""
    if not folder.manifest.exists():
        return None
    import pandas

    try:
        return pandas.read_parquet(folder.manifest)
    except (OSError, ValueError):
        return None


def load_groups(folder: StudyFolder) -> NDArray[np.int64] | None:
    """Return the group number of every manifest row, ``(N,)``; None where every image stands for itself.

    An image without a group is a group of its own, unless it is an exact copy of another one, with which it is right
    or wrong together.
    """
    if not folder.manifest.exists():
        return None
    import pyarrow.parquet  # its read_table imports pandas, which takes half of the time of a terminal's leaderboard

    copies = kept_copies(load_audit(folder))
    try:
        with pyarrow.parquet.ParquetFile(folder.manifest) as file:
            table = file.read(columns=["group", *(["path"] if copies else [])])
    except (OSError, ValueError, KeyError):
        return None
    names = np.array(["" if each is None else str(each) for each in table["group"].to_pylist()])
    if not copies and not (names != "").any():
        return None
    alone = np.char.add("\0", np.arange(len(names)).astype(str))
    numbers = np.asarray(np.unique(np.where(names == "", alone, names), return_inverse=True)[1], np.int64)
    return _merged(numbers, table["path"].to_pylist(), copies) if copies else numbers


def kept_copies(audit: Mapping[str, Any] | None) -> list[list[str]]:
    """Return the paths of images of the manifest that have the same pixels, by picture, from the content of
    ``audit.json``."""
    try:
        pictures = [
            [copy["path"] for copy in each["copies"] if copy["kept"]] for each in (audit or {}).get("duplicates", [])
        ]
    except (LookupError, TypeError):
        return []
    return [each for each in pictures if len(each) > 1]


def _merged(numbers: NDArray[np.int64], paths: list[str], copies: list[list[str]]) -> NDArray[np.int64]:
    """Return the `numbers` of groups, anew, with one for those that `copies` hold together.

    As `automl.data.split.units_of` does it, whose package imports torch.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    of_path = dict(zip(paths, numbers.tolist(), strict=True))
    known = [[of_path[path] for path in each if path in of_path] for each in copies]
    pairs = [(each[0], other) for each in known for other in each[1:]]
    one, other = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    groups = int(numbers.max()) + 1
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(groups, groups))
    return np.asarray(connected_components(graph, directed=False)[1][numbers], np.int64)
