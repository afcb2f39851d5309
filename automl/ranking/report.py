"""Writes the leaderboard report of a study: JSON, CSV, Markdown, and one HTML page that opens offline.

The page holds its styles, its script, plotly.js (from the plotly package) and its images; it asks the network for
nothing, and its content security policy forbids it to. It can be written at any moment of a search.
"""

from __future__ import annotations

import base64
import importlib.resources
import io
import math
import re
import shlex
import statistics as stats
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import optuna
from markupsafe import Markup, escape
from PIL import Image

from automl.errors import AutoMLError
from automl.paths import StudyFolder, make_folder, write_atomic
from automl.ranking import leaderboard, plots, words
from automl.ranking.files import load_curve, load_json, load_manifest, load_predictions
from automl.ranking.importance import importance
from automl.ranking.leaderboard import Leaderboard, Row
from automl.ranking.statistics import Predictions, confusion, per_class

__all__ = ["write"]

_ROWS = 500
_CURVES = 60
_MISTAKES = 12
_TABLE_CLASSES = 15
_THUMBNAIL = 160


def write(
    folder: StudyFolder,
    reports: Path,
    *,
    study: optuna.Study,
    contact_sheets: Mapping[str, Image.Image] | None = None,
    load_thumbnail: Callable[[int], Image.Image] | None = None,
) -> Path:
    """Write ``leaderboard.{json,csv,md}`` and ``index.html`` below `reports` and return the path of the page.

    Args:
        contact_sheets: A picture per augmentation policy, drawn by whoever can augment.
        load_thumbnail: Returns the picture of a row number of the manifest; shows the winner's mistakes.

    Raises:
        OutputError: The folder cannot be written.
    """
    board = leaderboard.build(folder, study=study)
    target = make_folder(folder.report(reports))
    write_atomic(target / "leaderboard.json", board.to_json())
    write_atomic(target / "leaderboard.csv", board.to_csv())
    write_atomic(target / "leaderboard.md", board.to_markdown())
    page = (
        _environment()
        .get_template("report.html")
        .render(**_context(folder, study, board, contact_sheets or {}, load_thumbnail))
    )
    write_atomic(target / "index.html", page)
    return target / "index.html"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("automl.ranking"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(words=words, include_raw=_raw)
    environment.filters.update(breakable=_breakable, tight=_tight)
    environment.filters.update(compact=_compact, total=lambda counts: sum(counts.values()))
    return environment


def _raw(name: str) -> Markup:
    """A file of ours that goes into the page as it is."""
    if name == "plotly.min.js":
        return Markup((importlib.resources.files("plotly") / "package_data" / name).read_text("utf-8"))
    return Markup((importlib.resources.files("automl.ranking") / "templates" / name).read_text("utf-8"))


def _context(
    folder: StudyFolder,
    study: optuna.Study,
    board: Leaderboard,
    contact_sheets: Mapping[str, Image.Image],
    load_thumbnail: Callable[[int], Image.Image] | None,
) -> dict[str, Any]:
    epochs = {row.trial: load_curve(folder.trial(row.trial)) for row in board.rows[:_CURVES]}
    found = importance(study)
    winner = _winner(folder, study, board, load_thumbnail)
    figures = {
        "history": plots.history(board),
        "curves": plots.curves(board, epochs),
        "importance": plots.importances(found),
        "latency": plots.latency(board),
        "backbones": plots.backbones(board),
        "losses": plots.losses(epochs[board.rows[0].trial]) if board.rows else None,
        **{f"confusion-{each['split']}": each.pop("figure") for each in winner["confusions"]},
    }
    plan = load_json(folder.plan) or {}
    return {
        "board": board,
        "attrs": study.user_attrs,
        "run": shlex.quote(str(folder.root)),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "rows": board.rows[:_ROWS],
        "axes": _axes(board),
        "pruned": sum(row.state == "PRUNED" for row in board.rows),
        "figures": {name: figure for name, figure in figures.items() if figure},
        "importance": found,
        "front": plots.front(board),
        "winner": winner,
        "per_backbone": _per_backbone(board, plan),
        "causes": Counter(failure.reason for failure in board.failures).most_common(),
        "plan": plan,
        "audit": load_json(folder.audit),
        "sheets": {name: _data_url(sheet, 1400) for name, sheet in contact_sheets.items()},
    }


def _axes(board: Leaderboard) -> dict[str, dict[str, float]]:
    """Ends of the axes on which intervals are drawn: one for best and test, one for the table.

    That of the table is around the best, as wide as still shows its interval; what lies outside is marked.
    """
    if not board.rows:
        return {"hero": {"low": 0.0, "high": 1.0}, "board": {"low": 0.0, "high": 1.0}}
    limits = [row.ci95 or (row.score, row.score) for row in board.rows]
    test, value = words.test_interval(board), words.test_score(board)
    both = [*limits[0], *(test or ()), *(() if value is None else (value,))]
    width = 6 * max(limits[0][1] - limits[0][0], 0.01)
    low = max(min(each for each, _ in limits), limits[0][0] - width)
    high = min(max(each for _, each in limits), limits[0][1] + width)
    hero, top = max(max(both) - min(both), 0.01), math.inf if board.metric == "log_loss" else 1.0
    return {
        "hero": {"low": max(0.0, min(both) - 0.4 * hero), "high": min(top, max(both) + 0.4 * hero)},
        "board": {"low": low - 0.02 * (high - low), "high": high + max(0.02 * (high - low), 1e-6)},
    }


def _winner(
    folder: StudyFolder,
    study: optuna.Study,
    board: Leaderboard,
    load_thumbnail: Callable[[int], Image.Image] | None,
) -> dict[str, Any]:
    """Confusion matrices, per-class tables and mistakes of the best trial, and of the refit on the test images."""
    content: dict[str, Any] = {"confusions": [], "mistakes": [], "unshown": 0}
    names = [str(name) for name in study.user_attrs.get("classes") or ()]
    test = (board.refit or {}).get("test") or {}
    counts = np.asarray(test.get("confusion") or [], dtype=np.int64)
    if counts.ndim == 2 and counts.shape[0] == counts.shape[1] > 0:
        labels = [str(each.get("label")) for each in test.get("per_class") or ()]
        labels = labels if len(labels) == len(counts) else _names(names, len(counts))
        content["confusions"].append(_confusion("test", "the refit on the test images", counts, labels))
    predictions = load_predictions(folder.trial(board.rows[0].trial)) if board.rows else None
    if predictions is None:
        return content
    labels = _names(names, predictions.logits.shape[1])
    counts = confusion(predictions, len(labels))
    title = f"trial {board.rows[0].trial} on the validation images"
    content["confusions"].append(_confusion("validation", title, counts, labels))
    if load_thumbnail is not None:
        _add_mistakes(content, folder, predictions, labels, load_thumbnail)
    return content


def _names(names: list[str], classes: int) -> list[str]:
    return names if len(names) == classes else [f"class {i}" for i in range(classes)]


def _confusion(split: str, title: str, counts: np.ndarray[Any, np.dtype[np.int64]], names: list[str]) -> dict[str, Any]:
    wrong = [
        (int(counts[i, j]), names[i], names[j]) for i, j in np.argwhere(counts * (1 - np.eye(len(counts))) > 0).tolist()
    ]
    small = len(names) <= _TABLE_CLASSES
    return {
        "split": split,
        "title": title,
        "names": names,
        "counts": counts.tolist() if small else None,
        "figure": None if small else plots.confusion(counts, names),
        "images": int(counts.sum()),
        "wrong": sorted(wrong, key=lambda each: (-each[0], each[1:]))[:5],
        "classes": sorted(per_class(counts, names), key=lambda each: (each.f1, each.label)),
    }


def _add_mistakes(
    content: dict[str, Any],
    folder: StudyFolder,
    predictions: Predictions,
    names: list[str],
    load_thumbnail: Callable[[int], Image.Image],
) -> None:
    """Add the most confident mistakes; a picture that cannot be read is counted."""
    table, labels, sure = load_manifest(folder), predictions.labels, predictions.confidence
    wrong = np.flatnonzero(labels != predictions.targets)
    for i in wrong[np.argsort(-sure[wrong], kind="stable")][:_MISTAKES].tolist():
        row = int(predictions.rows[i])
        try:
            picture = _data_url(load_thumbnail(row), _THUMBNAIL)
        except (OSError, AutoMLError, LookupError, ValueError):
            content["unshown"] += 1
            continue
        content["mistakes"].append(
            {
                "picture": picture,
                "file": Path(str(table["path"].iloc[row])).name if table is not None and row < len(table) else "",
                "true": names[predictions.targets[i]],
                "predicted": names[labels[i]],
                "sure": float(sure[i]),
            }
        )


def _data_url(picture: Image.Image, longest: int) -> str:
    small = picture.convert("RGB")
    small.thumbnail((longest, longest))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _per_backbone(board: Leaderboard, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Trials, scores and cost of every backbone that was screened or tried, in order of its best trial."""
    screened = {str(each.get("backbone")): each for each in plan.get("screening") or () if isinstance(each, dict)}
    lost = Counter(failure.backbone for failure in board.failures)
    tried: dict[str, list[Row]] = {}
    for row in board.rows:
        tried.setdefault(row.backbone, []).append(row)
    table = []
    for name in dict.fromkeys([*tried, *lost, *screened]):
        rows, probe = tried.get(name, []), screened.get(name, {})
        seconds = [row.train_seconds for row in rows if row.train_seconds is not None]
        table.append(
            {
                "name": name,
                "ranked": len(rows),
                "failed": lost[name],
                "best": rows[0] if rows else None,
                "median": stats.median(row.score for row in rows) if rows else None,
                "seconds": math.fsum(seconds) if seconds else None,
                **{key: probe.get(key) for key in ("knn_accuracy", "linear_accuracy", "seconds_per_epoch")},
                "included": probe.get("included"),
                "why": probe.get("reason") or "",
            }
        )
    return table


def _breakable(name: str) -> Markup:
    """A name that a narrow screen may break after its separators."""
    return Markup(re.sub(r"([._/])", r"\1<wbr>", str(escape(name))))


def _tight(sentence: str) -> str:
    """A sentence whose units stay with their numbers."""
    return re.sub(r"(?<=\d) (?=(%|ms|s|min|h|px|MB)\b|%)", "\u00a0", sentence)


def _compact(value: Any) -> str:
    """One value of a spec or a plan as short text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_compact, value)) if isinstance(value, list | tuple) else str(value)
