"""The report's figures, as plain Plotly JSON (``{"data", "layout"}``).

Optuna's own plots show neither intervals nor the states this project distinguishes, so the figures are drawn here.
Colours are CSS variables (``var(--c1)``) that the page resolves for light, dark and print; series differ in symbol as
well as in colour (M. Okabe, K. Ito, Color Universal Design, 2008). Text is escaped, since Plotly reads it as HTML.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.ranking import words
from automl.ranking.importance import Importance
from automl.ranking.leaderboard import Leaderboard, Row

__all__ = ["Figure", "backbones", "confusion", "curves", "front", "history", "importances", "latency", "losses"]

Figure = dict[str, Any]

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
_MUTED, _ACCENT = "var(--muted)", "var(--accent)"
_HIGHLIGHTED = 6


def history(board: Leaderboard) -> Figure | None:
    """Score by trial number, and the best finished trial so far."""
    if not board.rows:
        return None
    finished = sorted((row for row in board.rows if row.state == "COMPLETE"), key=lambda row: row.trial)
    better = max if board.direction == "maximize" else min
    incumbent = list(itertools.accumulate((row.score for row in finished), better))
    kinds = {
        "finished": ([row for row in finished if not row.label], "circle", _ACCENT),
        "cut short": ([row for row in finished if row.label], "diamond", "var(--c2)"),
        "pruned": ([row for row in board.rows if row.state == "PRUNED"], "x-thin-open", _MUTED),
    }
    data: list[Figure] = []
    if incumbent:
        last = max(row.trial for row in board.rows)
        x, y = [row.trial for row in finished] + [last], [*incumbent, incumbent[-1]]
        line = {"color": _ACCENT, "width": 2, "shape": "hv"}
        data.append(_trace(x, _scaled(board, y), name="best so far", mode="lines", line=line, hoverinfo="skip"))
    for name, (rows, symbol, color) in kinds.items():
        if rows:
            marker = {"symbol": symbol, "color": color, "size": 9, "line": {"width": 2, "color": color}}
            data.append(_points(board, rows, [row.trial for row in rows], name=name, marker=marker))
    return _figure(
        data, "trial number", _axis(board), xaxis={"range": [-0.6, max(row.trial for row in board.rows) + 0.6]}
    )


def curves(board: Leaderboard, epochs: Mapping[int, Sequence[Mapping[str, float]]]) -> Figure | None:
    """Validation score by epoch of every ranked trial; the first six in colour."""
    data: list[Figure] = []
    for row in reversed(board.rows):
        points = [(line["epoch"], line[board.metric]) for line in epochs.get(row.trial, ()) if board.metric in line]
        if not points:
            continue
        first = row.rank <= _HIGHLIGHTED
        line = {"color": f"var(--c{row.rank})" if first else "var(--faint)", "width": 2.5 if row.rank == 1 else 1.5}
        marker = {"symbol": _SYMBOLS[(row.rank - 1) % len(_SYMBOLS)], "size": 6 if first else 3}
        data.append(
            _trace(
                [epoch for epoch, _ in points],
                _scaled(board, [value for _, value in points]),
                name=f"{row.rank}: trial {row.trial}",
                mode="lines+markers",
                line=line,
                marker=marker,
                showlegend=first,
                text=[_hover(board, row)] * len(points),
                hovertemplate="%{text}<br>epoch %{x}: %{y:.3g}<extra></extra>",
            )
        )
    xaxis = {"dtick": 1} if max((len(trace["x"]) for trace in data), default=0) <= 12 else {}
    return _figure(data, "epoch", _axis(board), xaxis=xaxis, legend={"traceorder": "reversed"}) if data else None


def losses(epochs: Sequence[Mapping[str, float]]) -> Figure | None:
    """Training loss and validation log loss of one trial by epoch."""
    data = []
    for key, name, color, dash in (
        ("train_loss", "training", "var(--c2)", "dot"),
        ("log_loss", "validation", _ACCENT, "solid"),
    ):
        points = [(line["epoch"], line[key]) for line in epochs if key in line]
        if points:
            x, y = [epoch for epoch, _ in points], [value for _, value in points]
            line = {"color": color, "dash": dash, "width": 2}
            data.append(_trace(x, y, name=name, mode="lines+markers", line=line))
    return _figure(data, "epoch", "loss (nats)", xaxis={"dtick": 1} if len(epochs) <= 12 else {}) if data else None


def importances(found: Importance) -> Figure | None:
    """Bars of the importance of each parameter."""
    if not found.shares:
        return None
    names = [html.escape(name.replace("_", " ")) for name in found.shares][::-1]
    shares = [100 * share for share in found.shares.values()][::-1]
    bars = _trace(shares, names, type="bar", orientation="h", marker={"color": _ACCENT}, showlegend=False)
    bars |= {"text": [f"{share:.0f} %" for share in shares], "textposition": "outside", "cliponaxis": False}
    bars["hoverinfo"] = "skip"
    height = 90 + 34 * len(names)
    return _figure([bars], "share of importance (%)", "", height=height, xaxis={"range": [0, 1.15 * max(shares)]})


def front(board: Leaderboard) -> list[Row]:
    """Return the finished trials that no other finished trial beats in both score and latency, fastest first."""
    sign = 1 if board.direction == "maximize" else -1
    rows = [row for row in board.rows if row.state == "COMPLETE" and row.latency_ms is not None]
    best, found = -np.inf, []
    for row in sorted(rows, key=lambda row: (row.latency_ms or 0, -sign * row.score, row.rank)):
        if sign * row.score > best:
            best = sign * row.score
            found.append(row)
    return found


def latency(board: Leaderboard) -> Figure | None:
    """Score with interval against latency, by backbone, and the Pareto front."""
    rows = [row for row in board.rows if row.state == "COMPLETE" and row.latency_ms is not None]
    if not rows:
        return None
    names = list(dict.fromkeys(row.backbone for row in rows))
    best = front(board)
    line = {"color": _MUTED, "width": 1.5, "dash": "dot", "shape": "hv"}
    x, y = [row.latency_ms for row in best], _scaled(board, [row.score for row in best])
    data = [_trace(x, y, name="Pareto front", mode="lines", line=line, hoverinfo="skip")]
    for i, name in enumerate(names):
        mine = [row for row in rows if row.backbone == name]
        color = f"var(--c{i + 1})" if i < len(_SYMBOLS) else _MUTED
        marker = {"symbol": _SYMBOLS[i % len(_SYMBOLS)], "color": color, "size": 9}
        data.append(
            _points(
                board,
                mine,
                [row.latency_ms for row in mine],
                name=html.escape(words.short(name)),
                marker=marker,
                error_y=_errors(board, mine) | {"color": color, "thickness": 1, "width": 0},
                showlegend=len(names) <= 2 * len(_SYMBOLS),
            )
        )
    spread = max(row.latency_ms or 1 for row in rows) > 10 * min(row.latency_ms or 1 for row in rows)
    xaxis = {"type": "log"} if spread else {}
    return _figure(data, "latency (ms per image, batch 1)", _axis(board), xaxis=xaxis, height=420)


def backbones(board: Leaderboard) -> Figure | None:
    """Every ranked trial's score by backbone, the backbone of the best trial on top."""
    names = list(dict.fromkeys(row.backbone for row in board.rows))
    if len(names) < 2:
        return None
    data = []
    for state, symbol, color in (("COMPLETE", "circle", _ACCENT), ("PRUNED", "x-thin-open", _MUTED)):
        rows = [row for row in board.rows if row.state == state]
        marker = {"symbol": symbol, "color": color, "size": 10, "opacity": 0.8, "line": {"width": 2, "color": color}}
        trace = _points(board, rows, [], name="finished" if state == "COMPLETE" else "pruned", marker=marker)
        trace |= {"x": trace["y"], "y": [html.escape(words.short(row.backbone)) for row in rows]}
        data += [trace] if rows else []
    labels = [html.escape(words.short(name)) for name in names]
    yaxis = {"categoryorder": "array", "categoryarray": labels[::-1], "showticklabels": False, "ticks": ""}
    yaxis["range"] = [-0.5, len(names) - 0.35]
    figure = _figure(data, _axis(board), "", height=130 + 52 * len(names), yaxis=yaxis)
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yshift": 17, "showarrow": False}
    figure["layout"]["annotations"] = [place | {"y": label, "text": label} for label in labels]
    return figure


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Heat map of a confusion matrix ``(C, C)``, each row as shares of its class."""
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [html.escape(str(name)) for name in classes]
    heat = _trace(names, names, type="heatmap", z=shares.round(1).tolist(), zmin=0, zmax=100, xgap=1, ygap=1)
    heat |= {"colorscale": [[0, "var(--surface)"], [1, _ACCENT]], "customdata": counts.tolist()}
    heat["hovertemplate"] = "true %{y}<br>predicted %{x}<br>%{customdata} images, %{z} %<extra></extra>"
    heat["colorbar"] = {"title": {"text": "% of class"}, "thickness": 10, "outlinewidth": 0}
    size = min(900, 160 + 16 * len(names))
    yaxis = {"autorange": "reversed", "showgrid": False}
    return _figure([heat], "predicted class", "true class", height=size, yaxis=yaxis, xaxis={"showgrid": False})


def _trace(x: Sequence[Any], y: Sequence[Any], **more: Any) -> Figure:
    return {"type": "scatter", "x": list(x), "y": list(y), **more}


def _points(board: Leaderboard, rows: Sequence[Row], x: Sequence[Any], **more: Any) -> Figure:
    y, text = _scaled(board, [row.score for row in rows]), [_hover(board, row) for row in rows]
    return _trace(x, y, mode="markers", text=text, hovertemplate="%{text}<extra></extra>", **more)


def _errors(board: Leaderboard, rows: Sequence[Row]) -> Figure:
    limits = [row.ci95 or (row.score, row.score) for row in rows]
    above = _scaled(board, [high - row.score for row, (_, high) in zip(rows, limits, strict=True)])
    below = _scaled(board, [row.score - low for row, (low, _) in zip(rows, limits, strict=True)])
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below}


def _hover(board: Leaderboard, row: Row) -> str:
    text = f"trial {row.trial}: {words.number(board.metric, row.score)}"
    lines = [text, words.short(row.backbone), *words.describe(row.params), row.label]
    return "<br>".join(html.escape(line) for line in lines if line)


def _scaled(board: Leaderboard, values: Sequence[float]) -> list[float]:
    return [round(value if board.metric == "log_loss" else 100 * value, 4) for value in values]


def _axis(board: Leaderboard) -> str:
    unit = "nats" if board.metric == "log_loss" else "%"
    return f"validation {words.metric_name(board.metric)} ({unit})"


def _figure(
    data: list[Figure],
    x: str,
    y: str,
    *,
    height: int = 380,
    xaxis: Figure | None = None,
    yaxis: Figure | None = None,
    legend: Figure | None = None,
) -> Figure:
    axis = {"gridcolor": "var(--line)", "linecolor": "var(--line)", "zeroline": False, "automargin": True}
    axis |= {"ticks": "outside", "tickcolor": "var(--line)", "ticklen": 5}
    layout = {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "font": {"family": "var(--sans)", "size": 13, "color": "var(--text)"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": "var(--surface)", "bordercolor": "var(--line)", "font": {"color": "var(--text)"}},
        "hovermode": "closest",
        "dragmode": False,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"} | (legend or {}),
        "xaxis": axis | {"title": {"text": x, "standoff": 10}} | (xaxis or {}),
        "yaxis": axis | {"title": {"text": y, "standoff": 10}} | (yaxis or {}),
    }
    return {"data": data, "layout": layout}
