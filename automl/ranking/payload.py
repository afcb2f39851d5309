"""What the page's own script needs of every ranked trial, as columns: small enough for 10,000 of them.

All texts are made here, so that a number reads the same in every part of the page; the script only sorts, filters and
fills in. A column with few different values is stored as these values and an index into them per row.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from automl.paths import StudyFolder
from automl.ranking import words
from automl.ranking.files import load_groups, load_predictions
from automl.ranking.latency import in_words
from automl.ranking.leaderboard import Leaderboard, Row
from automl.ranking.statistics import Predictions, contributions
from automl.ranking.statistics.comparison import LEAST_DRAWN, stretch
from automl.ranking.statistics.contributions import count_units, number_units

__all__ = ["FIRST_ROWS", "column", "predictions", "rows"]

FIRST_ROWS = 50
_MOST_LABELS = 1_500_000
_MOST_TRIALS = 1_000
_MOST_NAMES = 5_000
_FIRST = 10
_FACTS = ("trial", "epochs", "train_seconds", "model_parameters", "latency_ms", "peak_memory_mb")


def column(values: Iterable[Any]) -> Any:
    """Return a list, or ``{"values", "codes"}`` where that is shorter."""
    found = list(values)
    known: dict[Any, int] = {}
    codes = [known.setdefault(value, len(known)) for value in found]
    if len(known) == 1:
        return {"values": list(known), "codes": None}
    return {"values": list(known), "codes": codes} if 2 * len(known) < len(found) else found


_VALUES = ("score", "confirmed_score", "backbone", "state", *_FACTS)


def rows(board: Leaderboard, axis: Mapping[str, float]) -> dict[str, Any]:
    """Return the columns of the table: what it sorts by, what it shows, and the details of each row.

    Args:
        axis: ``low`` and ``high`` end of the axis on which the intervals are drawn.
    """
    metric, span = board.metric, axis["high"] - axis["low"]

    def place(value: float) -> float:
        return round(min(max((value - axis["low"]) / span, 0.0), 1.0), 4)

    every = board.rows
    values = {name: column(getattr(row, name) for row in every) for name in _VALUES}
    limits = [row.ci95 or (row.score, row.score) for row in every]
    bars = {
        "low": column(place(low) for low, _ in limits),
        "high": column(place(high) for _, high in limits),
        "at": column(place(row.score) for row in every),
        "off": column(not axis["low"] <= row.score <= axis["high"] for row in every),
    }
    texts = {
        "score": column(words.number(metric, row.score) for row in every),
        "bounds": column(words.bounds(metric, row.ci95) for row in every),
        "name": column(words.short(row.backbone) for row in every),
        "params": column(" · ".join(words.describe(row.params)) for row in every),
        "label": column(row.label for row in every),
        "train_seconds": column(words.duration(row.train_seconds) for row in every),
        "model_parameters": column(words.integer(row.model_parameters) for row in every),
        "latency_ms": column(words.milliseconds(row.latency_ms) for row in every),
        "peak_memory_mb": column(words.megabytes(row.peak_memory_mb) for row in every),
        "again": column(
            "" if row.confirmed_score is None else words.number(metric, row.confirmed_score) for row in every
        ),
        "behind": column(words.difference_bounds(metric, row.behind_best_ci95) for row in every),
    }
    return {
        "rows": len(every),
        "metric": metric,
        "metric_name": words.metric_name(metric),
        "maximize": board.direction == "maximize",
        "values": values | {"tied": column(row.tied_with_best for row in every)},
        "bars": bars,
        "texts": texts,
        "details": _details(every),
        "command": every[0].command.removesuffix(str(every[0].trial)) if every else "",
    }


def _details(every: Sequence[Row]) -> list[dict[str, Any]]:
    """Columns of texts that an opened row shows, and that a comparison of two rows goes through."""
    found: dict[str, Any] = {
        "origin": column(row.origin or "unknown" for row in every),
        "epochs": column(f"{row.epochs} of {row.max_epochs}" if row.max_epochs else str(row.epochs) for row in every),
        "trainable parameters": column(words.integer(row.trainable_parameters) for row in every),
        "latency in full": column(
            f"{words.milliseconds(row.latency_ms)}, {in_words(row.latency)}" if row.latency else "" for row in every
        ),
        "interval by": column(row.ci_method or "" for row in every),
    }
    for name in dict.fromkeys(name for row in every for name in row.metrics):
        found[words.metric_name(name)] = column(words.number(name, row.metrics.get(name)) for row in every)
    facts = [{"name": name, "kind": "fact", "column": each} for name, each in found.items()]
    chosen = [{**row.spec, **row.params} for row in every]
    names = dict.fromkeys(name for each in chosen for name in each if name not in ("backbone", "weights"))
    params = [
        {
            "name": name.replace("_", " "),
            "kind": "param",
            "column": column(words.compact(each[name]) if name in each else "" for each in chosen),
        }
        for name in names
    ]
    return facts + params


def predictions(folder: StudyFolder, board: Leaderboard, names: Sequence[str], paths: Sequence[str]) -> dict[str, Any]:
    """Return the predicted class of every validation image by the first trials of the leaderboard, for the page to
    compare any two of them: base64 of ``uint8`` (``uint16`` from 257 classes on) ``(trials, images)``.

    Only trials that saw the same images as the first; `files` has the names of images on which they are not unanimous,
    those that divide the first ten most in front. For the log loss and AUROC, which labels do not make, and for few
    groups, which are not drawn, there are `contributions` as well, ``float32`` of the same shape.
    """
    groups = load_groups(folder)
    kept: list[tuple[int, Predictions]] = []
    by_labels = board.metric not in ("log_loss", "auroc")
    for row in board.rows[:_MOST_TRIALS]:
        if row.ci95 is None:
            continue
        found = load_predictions(folder.trial(row.trial), groups)
        if found is None or (kept and not kept[0][1].same_images(found)):
            continue
        if not kept:
            units = number_units(found.groups)
            count = count_units(found.logits.T, units)
            by_labels = by_labels and count >= LEAST_DRAWN
        room = _MOST_LABELS if by_labels else _MOST_LABELS // 5  # a float beside each
        if kept and (len(kept) + 1) * len(found.targets) > room:
            break
        kept.append((row.trial, found))
    if not kept or kept[0][1].logits.shape[1] > 2**16:
        return {}
    first = kept[0][1]
    small = first.logits.shape[1] <= 2**8
    labels = np.stack([each.labels for _, each in kept])
    split = np.flatnonzero((labels != labels[0]).any(axis=0))
    dispute = (labels[:_FIRST] != labels[0]).sum(axis=0)[split]  # those first on which the best trials disagree most
    split = split[np.argsort(-np.minimum(dispute, len(labels[:_FIRST]) - dispute), kind="stable")][:_MOST_NAMES]
    content = {
        "trials": [trial for trial, _ in kept],
        "images": len(first.targets),
        "classes": list(names) if len(names) == first.logits.shape[1] else [],
        "bytes": 1 if small else 2,
        "targets": _base64(first.targets, "u1" if small else "<u2"),
        "labels": _base64(labels, "u1" if small else "<u2"),
        "rows": {int(i): int(first.rows[i]) for i in split},
        "files": {int(i): paths[first.rows[i]] for i in split if first.rows[i] < len(paths)},
    }
    if units is not None:
        content["groups"] = _base64(units, "<u4")
    content["stretch"] = stretch(count) if count > 1 else None
    if not by_labels:
        content["contributions"] = _base64(np.stack([contributions(board.metric, each) for _, each in kept]), "<f4")
    return content


def _base64(values: Any, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()
