"""Figures of the winner: its losses and scores by epoch, its confusion, its calibration, and the map of the images."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from automl.ranking import words
from automl.ranking.embedding_map import EmbeddingMap
from automl.ranking.figures import ACCENT, COLOURS, MUTED, SYMBOLS, Figure, figure, trace
from automl.ranking.reliability import Bin

__all__ = ["confusion", "embedding", "losses", "reliability", "scores"]

_SCORES = ("accuracy", "balanced_accuracy", "macro_f1")  # besides what the leaderboard ranks by


def losses(epochs: Sequence[Mapping[str, float]]) -> Figure | None:
    """Training loss and validation log loss of one trial by epoch."""
    lines = (("train_loss", "training", "var(--c2)", "dot"), ("log_loss", "validation", ACCENT, "solid"))
    return _by_epoch(epochs, lines, "loss (nats)", 1.0)


def scores(epochs: Sequence[Mapping[str, float]], metric: str) -> Figure | None:
    """Validation scores of one trial by epoch, first that of `metric` (the log loss is in `losses`)."""
    shown = dict.fromkeys((*(() if metric == "log_loss" else (metric,)), *_SCORES))
    styles = zip(shown, COLOURS, ("solid", "dash", "dot", "dashdot"), strict=False)
    lines = tuple((name, words.metric_name(name), color, dash) for name, color, dash in styles)
    return _by_epoch(epochs, lines, "validation score (%)", 100.0)


def _by_epoch(
    epochs: Sequence[Mapping[str, float]], lines: Sequence[tuple[str, str, str, str]], label: str, unit: float
) -> Figure | None:
    data = []
    for key, name, color, dash in lines:
        found = [(line["epoch"], round(unit * line[key], 4)) for line in epochs if key in line]
        if found:
            style = {"color": color, "dash": dash, "width": 2}
            x, y = [epoch for epoch, _ in found], [value for _, value in found]
            data.append(trace(x, y, name=name, mode="lines+markers", line=style))
    return figure(data, "epoch", label, height=320, xaxis={"dtick": 1} if len(epochs) <= 12 else {}) if data else None


def reliability(bins: Sequence[Bin]) -> Figure | None:
    """Share of right answers against confidence, with 95 % intervals; on the dotted line they agree."""
    if not bins:
        return None
    line = {"color": MUTED, "dash": "dot", "width": 1.5}
    data = [trace([0, 100], [0, 100], name="as sure as right", mode="lines", line=line, hoverinfo="skip")]
    right = [round(100 * each.accuracy, 3) for each in bins]
    error = {"type": "data", "symmetric": False, "color": ACCENT, "thickness": 1.5, "width": 0}
    error["array"] = [round(100 * (each.accuracy95[1] - each.accuracy), 3) for each in bins]
    error["arrayminus"] = [round(100 * (each.accuracy - each.accuracy95[0]), 3) for each in bins]
    most = max(each.images for each in bins)
    size = [round(6 + 16 * (each.images / most) ** 0.5, 1) for each in bins]
    told = trace([round(100 * each.confidence, 3) for each in bins], right, name="images by confidence", mode="markers")
    told |= {"cliponaxis": False, "error_y": error, "marker": {"color": ACCENT, "size": size}}
    told["text"] = [words.count(each.images, "image") for each in bins]
    told["hovertemplate"] = "%{text}<br>%{x:.1f} % sure, %{y:.1f} % right<extra></extra>"
    reach = {"range": [-3, 103]}
    return figure([*data, told], "confidence (%)", "right (%)", height=400, xaxis=reach, yaxis=reach)


def embedding(found: EmbeddingMap | None, classes: Sequence[str], paths: Sequence[str]) -> Figure | None:
    """The map of the images, coloured by class; rings are the winner's mistakes."""
    if found is None:
        return None
    data = []
    targets, mistaken = np.array(found.targets), np.array([each is True for each in found.mistaken])
    names = [classes[i] if i < len(classes) else f"class {i}" for i in range(int(targets.max()) + 1)]
    for place, target in enumerate(np.unique(targets).tolist()):
        inside = np.flatnonzero(targets == target)
        styled = place < len(SYMBOLS)
        marker = {"symbol": SYMBOLS[place % len(SYMBOLS)], "color": COLOURS[place] if styled else MUTED, "size": 6}
        files = [Path(paths[found.rows[i]]).name if found.rows[i] < len(paths) else "" for i in inside]
        each = trace([found.x[i] for i in inside], [found.y[i] for i in inside], mode="markers", marker=marker)
        each |= {"name": html.escape(names[target]), "opacity": 0.75, "showlegend": styled}
        each["text"] = [f"{html.escape(names[target])}<br>{html.escape(name)}" for name in files]
        data.append(each | {"hovertemplate": "%{text}<extra></extra>"})
    wrong = np.flatnonzero(mistaken)
    if len(wrong):
        ring = {"symbol": "circle-open", "size": 14, "color": "var(--text)", "line": {"width": 2}}
        x, y = [found.x[i] for i in wrong], [found.y[i] for i in wrong]
        data.append(trace(x, y, name="mistaken", mode="markers", marker=ring, hoverinfo="skip"))
    bare = {"showticklabels": False, "ticks": "", "showgrid": False}
    return figure(data, "first dimension (no unit)", "second dimension", height=520, xaxis=bare, yaxis=bare)


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Heat map of a confusion matrix ``(C, C)``, each row as shares of its class."""
    table = np.asarray(counts)
    shares = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    names = [html.escape(str(name)) for name in classes]
    heat = trace(names, names, type="heatmap", z=shares.round(1).tolist(), zmin=0, zmax=100, xgap=1, ygap=1)
    heat |= {"colorscale": [[0, "var(--surface)"], [1, ACCENT]], "customdata": table.tolist()}
    heat["hovertemplate"] = "true %{y}<br>predicted %{x}<br>%{customdata} images, %{z} %<extra></extra>"
    heat["colorbar"] = {"title": {"text": "% of class"}, "thickness": 10, "outlinewidth": 0}
    size = min(900, 160 + 16 * len(names))
    axis = {"type": "category", "showgrid": False}  # names that are numbers are names
    yaxis = {**axis, "autorange": "reversed"}
    return figure([heat], "predicted class", "true class", height=size, yaxis=yaxis, xaxis=axis)
