"""Figures of the search: how it went, what the trials cost, what mattered. Of many trials a part is drawn.

A figure with 10,000 marks is slow to draw and no easier to read, so of more than `MOST` trials the best half of these
and an even choice of the others are shown; the page says so (`thinned`).
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence

from automl.ranking import words
from automl.ranking.figures import ACCENT, COLOURS, MUTED, SYMBOLS, Figure, axis, figure, hover, points, scaled, trace
from automl.ranking.fronts import front
from automl.ranking.importance import Importance
from automl.ranking.leaderboard import Leaderboard, Row

__all__ = [
    "COST_NAMES",
    "MOST",
    "backbones",
    "cost",
    "curves",
    "history",
    "importances",
    "importances_by_backbone",
    "thinned",
]

MOST = 1500
_HIGHLIGHTED = 6
_CURVES = 60
COST_NAMES = {"latency_ms": "latency", "model_parameters": "parameters", "train_seconds": "training time"}
_AXES = {
    "latency_ms": "latency (ms per image, batch 1)",
    "model_parameters": "parameters (millions)",
    "train_seconds": "training (s)",
}


def thinned(rows: Sequence[Row]) -> list[Row]:
    """Return at most `MOST` of the rows, in their order: the first half of these, then every so manyth."""
    if len(rows) <= MOST:
        return list(rows)
    half = MOST // 2
    step = (len(rows) - half) / half
    return [*rows[:half], *(rows[half + int(i * step)] for i in range(half))]


def history(board: Leaderboard) -> Figure | None:
    """Score by trial number, and the best finished trial so far."""
    if not board.rows:
        return None
    finished = sorted((row for row in board.rows if row.state == "COMPLETE"), key=lambda row: row.trial)
    better = max if board.direction == "maximize" else min
    shown = thinned(board.rows)
    kinds = {
        "finished": ([row for row in shown if row.state == "COMPLETE" and not row.label], "circle", ACCENT),
        "cut short": ([row for row in shown if row.state == "COMPLETE" and row.label], "diamond", "var(--c2)"),
        "pruned": ([row for row in shown if row.state == "PRUNED"], "x-thin-open", MUTED),
    }
    data: list[Figure] = []
    last = max(row.trial for row in board.rows)
    steps: list[tuple[int, float]] = []
    for row, best in zip(finished, itertools.accumulate((row.score for row in finished), better), strict=True):
        if not steps or best != steps[-1][1]:
            steps.append((row.trial, best))
    if steps:
        steps.append((last, steps[-1][1]))
        line = {"color": ACCENT, "width": 2, "shape": "hv"}
        y = scaled(board, [best for _, best in steps])
        data.append(trace([at for at, _ in steps], y, name="best so far", mode="lines", line=line, hoverinfo="skip"))
    many = len(shown) > 200
    for name, (rows, symbol, color) in kinds.items():
        if rows:
            edge = {"width": 1 if many else 2, "color": color}
            marker = {"symbol": symbol, "color": color, "size": 5 if many else 9, "line": edge}
            data.append(points(board, rows, [row.trial for row in rows], name=name, marker=marker))
    return figure(data, "trial number", axis(board), xaxis={"range": [-0.6 - 0.01 * last, 1.01 * last + 0.6]})


def curves(board: Leaderboard, reported: Mapping[int, Sequence[tuple[int, float | None]]]) -> Figure | None:
    """Validation score by epoch of the first 60 ranked trials; the first six in colour."""
    data: list[Figure] = []
    for row in reversed(board.rows[:_CURVES]):
        found = [(epoch, value) for epoch, value in reported.get(row.trial, ()) if value is not None]
        if not found:
            continue
        first = row.rank <= _HIGHLIGHTED
        line = {"color": COLOURS[row.rank - 1] if first else "var(--faint)", "width": 2.5 if row.rank == 1 else 1.5}
        marker = {"symbol": SYMBOLS[(row.rank - 1) % len(SYMBOLS)], "size": 6 if first else 3}
        data.append(
            trace(
                [epoch for epoch, _ in found],
                scaled(board, [value for _, value in found]),
                name=f"{row.rank}: trial {row.trial}",
                mode="lines+markers",
                line=line,
                marker=marker,
                showlegend=first,
                text=[hover(board, row)] * len(found),
                hovertemplate="%{text}<br>epoch %{x}: %{y:.3g}<extra></extra>",
            )
        )
    xaxis = {"dtick": 1} if max((len(each["x"]) for each in data), default=0) <= 12 else {}
    return figure(data, "epoch", axis(board), xaxis=xaxis, legend={"traceorder": "reversed"}) if data else None


def importances(found: Importance) -> Figure | None:
    """Bars of the importance of each parameter."""
    if not found.shares:
        return None
    names = [html.escape(name.replace("_", " ")) for name in found.shares][::-1]
    shares = [round(100 * share, 2) for share in found.shares.values()][::-1]
    bars = trace(shares, names, type="bar", orientation="h", marker={"color": ACCENT}, showlegend=False)
    bars |= {"text": [f"{share:.0f} %" for share in shares], "textposition": "outside", "cliponaxis": False}
    bars["hoverinfo"] = "skip"
    height = 90 + 34 * len(names)
    return figure([bars], "share of importance (%)", "", height=height, xaxis={"range": [0, 1.15 * max(shares)]})


def importances_by_backbone(found: Mapping[str, Importance]) -> Figure | None:
    """Heat map of the importance of each parameter within each backbone that has enough trials."""
    told = {name: each for name, each in found.items() if each.shares}
    names = list(dict.fromkeys(name for each in told.values() for name in each.shares))
    if len(told) < 2:
        return None
    shares = [[round(100 * each.shares.get(name, 0.0), 1) for name in names] for each in told.values()]
    x = [html.escape(name.replace("_", " ")) for name in names]
    y = [f"{html.escape(words.short(name))} ({each.trials})" for name, each in told.items()]
    heat = trace(x, y, type="heatmap", z=shares, zmin=0, xgap=2, ygap=2, texttemplate="%{z:.0f}")
    heat |= {"colorscale": [[0, "var(--surface)"], [1, ACCENT]], "showscale": False}
    heat["hovertemplate"] = "%{y}<br>%{x}: %{z} %<extra></extra>"
    yaxis = {"autorange": "reversed", "showgrid": False}
    height = 130 + 30 * len(told)
    return figure([heat], "share of importance (%)", "", height=height, yaxis=yaxis, xaxis={"showgrid": False})


def cost(board: Leaderboard, name: str) -> Figure | None:
    """Score with interval against a cost (see `fronts.COSTS`), by backbone, and the Pareto front."""
    rows = thinned([row for row in board.rows if row.state == "COMPLETE" and getattr(row, name) is not None])
    if not rows:
        return None
    unit = 1e6 if name == "model_parameters" else 1.0

    def of(each: Sequence[Row]) -> list[float]:
        return [round(getattr(row, name) / unit, 4) for row in each]

    best = front(board, name)
    line = {"color": MUTED, "width": 1.5, "dash": "dot", "shape": "hv"}
    y = scaled(board, [row.score for row in best])
    data = [trace(of(best), y, name="Pareto front", mode="lines", line=line, hoverinfo="skip")]
    names = list(dict.fromkeys(row.backbone for row in rows))
    many = len(rows) > 200
    for i, backbone in enumerate(names):
        mine = [row for row in rows if row.backbone == backbone]
        color = COLOURS[i] if i < len(COLOURS) else MUTED
        marker = {"symbol": SYMBOLS[i % len(SYMBOLS)], "color": color, "size": 5 if many else 9}
        error = {} if many else {"error_y": _errors(board, mine) | {"color": color, "thickness": 1, "width": 0}}
        label = html.escape(words.short(backbone))
        data.append(points(board, mine, of(mine), name=label, marker=marker, showlegend=len(names) <= 14, **error))
    values = [value for value in of(rows) if value > 0]
    xaxis = {"type": "log"} if values and max(values) > 10 * min(values) and len(values) == len(rows) else {}
    return figure(data, _AXES[name], axis(board), xaxis=xaxis, height=400)


def backbones(board: Leaderboard) -> Figure | None:
    """Every ranked trial's score by backbone, the backbone of the best trial on top."""
    names = list(dict.fromkeys(row.backbone for row in board.rows))
    if len(names) < 2:
        return None
    shown, data = thinned(board.rows), []
    many = len(shown) > 200
    for state, symbol, color in (("COMPLETE", "circle", ACCENT), ("PRUNED", "x-thin-open", MUTED)):
        rows = [row for row in shown if row.state == state]
        edge = {"width": 1 if many else 2, "color": color}
        marker = {"symbol": symbol, "color": color, "size": 6 if many else 10, "opacity": 0.8, "line": edge}
        each = points(board, rows, [], name="finished" if state == "COMPLETE" else "pruned", marker=marker)
        each |= {"x": each["y"], "y": [html.escape(words.short(row.backbone)) for row in rows]}
        data += [each] if rows else []
    labels = [html.escape(words.short(name)) for name in names]
    yaxis = {"categoryorder": "array", "categoryarray": labels[::-1], "showticklabels": False, "ticks": ""}
    yaxis["range"] = [-0.5, len(names) - 0.35]
    drawn = figure(data, axis(board), "", height=130 + (52 if len(names) < 8 else 38) * len(names), yaxis=yaxis)
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yshift": 17, "showarrow": False}
    drawn["layout"]["annotations"] = [place | {"y": label, "text": label} for label in labels]
    return drawn


def _errors(board: Leaderboard, rows: Sequence[Row]) -> Figure:
    limits = [row.ci95 or (row.score, row.score) for row in rows]
    above = scaled(board, [high - row.score for row, (_, high) in zip(rows, limits, strict=True)])
    below = scaled(board, [row.score - low for row, (low, _) in zip(rows, limits, strict=True)])
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
