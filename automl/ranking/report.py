"""Writes the leaderboard report of a study: JSON with its schema, CSV, Markdown, and one HTML page that opens offline.

The page holds its styles, its scripts, plotly.js (from the plotly package) and its images; it asks the network for
nothing, and its content security policy forbids it to. It can be written at any moment of a search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from PIL import Image

from automl.paths import StudyFolder, make_folder, write_atomic
from automl.ranking import facts, leaderboard, page, payload, plots, tables, winner_plots, words
from automl.ranking.embedding_map import Embedding, embedding_map
from automl.ranking.files import (
    kept_copies,
    load_audit,
    load_curve,
    load_groups,
    load_manifest,
    load_predictions,
)
from automl.ranking.gallery import Gallery, data_url
from automl.ranking.leaderboard import Leaderboard
from automl.ranking.limits import Limits, limited
from automl.ranking.near_duplicates import NearDuplicates, find_near_duplicates
from automl.ranking.plain import At, dump
from automl.ranking.suspects import find_suspects
from automl.ranking.winner import winner

__all__ = ["write"]

_DISAGREEMENTS, _SMALL = 60, 96
_SUSPECTS = 14
_GROUPS, _OF_A_GROUP = 7, 2
TABLE_CLASSES = 15
_SHEET = 1400


def write(
    folder: StudyFolder,
    reports: Path,
    *,
    study: optuna.Study,
    limits: Limits | None = None,
    metric: str | None = None,
    contact_sheets: Mapping[str, Image.Image] | None = None,
    load_thumbnail: Callable[[int], Image.Image] | None = None,
    load_embedding: Callable[[int], Embedding | None] | None = None,
    load_pixels: Callable[[], NDArray[Any] | None] | None = None,
) -> Path:
    """Write ``leaderboard.{json,schema.json,csv,md}`` and ``index.html`` below `reports`; return the path of the page.

    Args:
        limits: Rank only the trials that keep within these.
        metric: What to rank by; default: the metric that the study optimises.
        contact_sheets: A picture per augmentation policy, drawn by whoever can augment.
        load_thumbnail: Returns the picture of a row number of the manifest.
        load_embedding: Returns the kept embedding of a trial's backbone, or None.
        load_pixels: Returns what is kept of the images, ``(N, R, R, 3) uint8`` by row number of the manifest, or None.

    Raises:
        OutputError: The folder cannot be written.
    """
    target = make_folder(folder.report(reports))
    study, within = limited(study, limits or Limits())
    board = leaderboard.build(folder, study=study, metric=metric)
    found = facts.collect(folder, study, board, within)
    found = _complete(folder, study, board, found, load_embedding)
    pixels = load_pixels() if load_pixels is not None else None
    if pixels is not None:
        found = replace(found, near_duplicates=_near_duplicates(folder, pixels, found.audit))
    content = facts.content(board, found)
    write_atomic(target / "leaderboard.json", dump(content))
    write_atomic(target / facts.SCHEMA_FILE, facts.schema())
    write_atomic(target / "leaderboard.csv", board.to_csv())
    write_atomic(target / "leaderboard.md", tables.to_markdown(board, found))
    context = _context(folder, board, found, content, Gallery(load_thumbnail))
    context["report_options"] = found.limits.options + (f" --metric {metric}" if metric else "")
    context["sheets"] = {name: data_url(sheet, _SHEET) for name, sheet in (contact_sheets or {}).items()}
    write_atomic(target / "index.html", page.render(board.metric, context, target))
    return target / "index.html"


def _complete(
    folder: StudyFolder,
    study: optuna.Study,
    board: Leaderboard,
    found: facts.Facts,
    load_embedding: Callable[[int], Embedding | None] | None,
) -> facts.Facts:
    """Add what only the report has: curves, the winner, the map, the audit and the label suspects."""
    manifest, seed = load_manifest(folder), int(study.user_attrs.get("seed") or 0)
    paths = [] if manifest is None else manifest["path"].astype(str).tolist()
    best = winner(folder, study, board, paths)
    ranked = {row.trial for row in board.rows}
    metric = None if board.metric == study.user_attrs.get("metric", "accuracy") else board.metric
    curves = {
        trial.number: tuple((step, _finite(value)) for step, value in _curve(folder, trial, metric))
        for trial in study.get_trials(deepcopy=False)
        if trial.number in ranked
    }
    embedding = load_embedding(best.trial) if best is not None and load_embedding is not None else None
    laid = suspects = None
    if best is not None and embedding is not None and manifest is not None:
        targets = manifest["target"].to_numpy(np.int64)
        classes = dict(zip(targets.tolist(), manifest["label"].astype(str), strict=True))
        names = [classes.get(i, f"class {i}") for i in range(int(targets.max()) + 1)]
        said = load_predictions(folder.trial(best.trial))
        predicted = {} if said is None else dict(zip(said.rows.tolist(), said.labels.tolist(), strict=True))
        laid = embedding_map(embedding, targets, predicted, seed=seed)
        splits = manifest["split"].astype(str).tolist()
        suspects = find_suspects(
            embedding, targets, load_groups(folder), paths, splits, names, predicted=predicted, seed=seed
        )
    return replace(
        found,
        curves=curves,
        winner=best,
        embedding_map=laid,
        audit=load_audit(folder),
        suspects=suspects,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _near_duplicates(
    folder: StudyFolder, pixels: NDArray[Any], audit: Mapping[str, Any] | None
) -> NearDuplicates | None:
    """Look for near-duplicates within and across the splits."""
    manifest = load_manifest(folder)
    if manifest is None:
        return None
    paths, splits, labels = (manifest[name].astype(str).tolist() for name in ("path", "split", "label"))
    rows = np.arange(len(manifest), dtype=np.int64)
    return find_near_duplicates(pixels, rows, paths, splits, labels, copies=kept_copies(audit))


def _curve(folder: StudyFolder, trial: FrozenTrial, metric: str | None) -> list[tuple[int, float]]:
    """The values by epoch that the trial reported, or of another `metric` as far as its own file has it."""
    if metric is None:
        return sorted(trial.intermediate_values.items())
    return [(int(each["epoch"]), each[metric]) for each in load_curve(folder.trial(trial.number)) if metric in each]


def _context(
    folder: StudyFolder, board: Leaderboard, found: facts.Facts, content: Mapping[str, Any], gallery: Gallery
) -> dict[str, Any]:
    best = found.winner
    manifest = load_manifest(folder)
    paths = [] if manifest is None else manifest["path"].astype(str).tolist()
    names = list(best.confusions[-1].classes) if best is not None and best.confusions else []
    axes = _axes(board)
    compared = payload.predictions(folder, board, names, paths)
    if best is not None:
        gallery.add(each.row for each in best.mistakes)
    suspects = found.suspects.listed[:_SUSPECTS] if found.suspects else ()
    gallery.add(each.row for each in suspects)
    groups = found.near_duplicates.listed[:_GROUPS] if found.near_duplicates else ()
    gallery.add(each.row for group in groups for each in group.images[:_OF_A_GROUP])
    disputed = list(compared.get("rows", {}).values())
    gallery.add(disputed[:_DISAGREEMENTS], _SMALL)
    figures = _figures(board, found, paths)
    return {
        "board": board,
        "facts": At(content),
        "run": folder.argument,
        "axes": axes,
        "pruned": sum(row.state == "PRUNED" for row in board.rows),
        "first_rows": payload.FIRST_ROWS,
        "shown_suspects": len(suspects),
        "shown_groups": len(groups),
        "shown_of_a_group": _OF_A_GROUP,
        "table_classes": TABLE_CLASSES,
        "thinned": len(board.rows) > plots.MOST,
        "figures": figures,
        "gallery": gallery,
        "limits_text": str(found.limits),
        "cost_names": plots.COST_NAMES,
        "data": {
            "figures": figures,
            "rows": payload.rows(board, axes["board"]),
            "curves": content.get("curves") or {},
            "compared": compared,
            "pictures": {row: gallery.pictures[row] for row in disputed if row in gallery.pictures},
        },
    }


def _figures(board: Leaderboard, found: facts.Facts, paths: list[str]) -> dict[str, Any]:
    best, curves = found.winner, found.curves or {}
    figures = {
        "history": plots.history(board),
        "curves": plots.curves(board, curves),
        "importance": plots.importances(found.why.importance),
        "importance-by-backbone": plots.importances_by_backbone(found.why.importance_by_backbone),
        "backbones": plots.backbones(board),
        **{f"cost-{each.cost}": plots.cost(board, each.cost) for each in found.fronts},
    }
    if best is not None:
        figures |= {
            "losses": winner_plots.losses(best.epochs),
            "scores": winner_plots.scores(best.epochs, board.metric),
        }
        figures["reliability"] = winner_plots.reliability(best.reliability)
        names = best.confusions[-1].classes if best.confusions else ()
        figures["embedding"] = winner_plots.embedding(found.embedding_map, names, paths)
        for each in best.confusions:
            if each.counts is not None and len(each.classes) > TABLE_CLASSES:
                figures[f"confusion-{each.split}"] = winner_plots.confusion(each.counts, each.classes)
    return {name: figure for name, figure in figures.items() if figure}


def _axes(board: Leaderboard) -> dict[str, dict[str, float]]:
    """Ends of the axes on which intervals are drawn: one for best and test, one for the table.

    That of the table is around the best, as wide as still shows its interval; what lies outside is marked.
    """
    if not board.rows:
        return {"hero": {"low": 0.0, "high": 1.0}, "board": {"low": 0.0, "high": 1.0}}
    limits = [row.ci95 or (row.score, row.score) for row in board.rows]
    test, value = words.test_interval(board), words.test_score(board)
    both = [*limits[0], *(test or ()), *(() if value is None else (value,))]
    if board.confirmation is not None:
        expected = board.confirmation.expected
        both += [] if expected is None else [expected, *(board.confirmation.expected_ci95 or ())]
    elif board.best_corrected is not None:
        both += [board.best_corrected.value, *board.best_corrected.ci95]
    width = 6 * max(limits[0][1] - limits[0][0], 0.01)
    low = max(min(each for each, _ in limits), limits[0][0] - width)
    high = min(max(each for _, each in limits), limits[0][1] + width)
    hero, top = max(max(both) - min(both), 0.01), math.inf if board.metric == "log_loss" else 1.0
    return {
        "hero": {"low": max(0.0, min(both) - 0.4 * hero), "high": min(top, max(both) + 0.4 * hero)},
        "board": {"low": low - 0.02 * (high - low), "high": high + max(0.02 * (high - low), 1e-6)},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
