"""What all figures of the report share: plain Plotly JSON (``{"data", "layout"}``) in the page's colours.

Optuna's own plots show neither intervals nor the states this project distinguishes, so the figures are drawn here.
Colours are CSS variables (``var(--c1)``) that the page resolves for light, dark and print; series differ in symbol as
well as in colour (M. Okabe, K. Ito, Color Universal Design, 2008). Text is escaped, since Plotly reads it as HTML.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from automl.ranking import words
from automl.ranking.leaderboard import Leaderboard, Row

__all__ = ["ACCENT", "COLOURS", "MUTED", "SYMBOLS", "Figure", "axis", "figure", "hover", "points", "scaled", "trace"]

Figure = dict[str, Any]

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
COLOURS = tuple(f"var(--c{i})" for i in range(1, len(SYMBOLS) + 1))
MUTED, ACCENT = "var(--muted)", "var(--accent)"


def trace(x: Sequence[Any], y: Sequence[Any], **more: Any) -> Figure:
    """A scatter trace, or another `type`."""
    return {"type": "scatter", "x": list(x), "y": list(y), **more}


def points(board: Leaderboard, rows: Sequence[Row], x: Sequence[Any], **more: Any) -> Figure:
    """Scores of `rows` as markers, with everything about the trial on hover."""
    y, text = scaled(board, [row.score for row in rows]), [hover(board, row) for row in rows]
    return trace(x, y, mode="markers", text=text, hovertemplate="%{text}<extra></extra>", **more)


def hover(board: Leaderboard, row: Row) -> str:
    text = f"trial {row.trial}: {words.number(board.metric, row.score)}"
    lines = [text, words.short(row.backbone), *words.describe(row.params), row.label]
    return "<br>".join(html.escape(line) for line in lines if line)


def scaled(board: Leaderboard, values: Sequence[float]) -> list[float]:
    """Scores in the unit of `axis`: percent, or nats."""
    return [round(value if board.metric == "log_loss" else 100 * value, 4) for value in values]


def axis(board: Leaderboard) -> str:
    unit = "nats" if board.metric == "log_loss" else "%"
    return f"validation {words.metric_name(board.metric)} ({unit})"


def figure(
    data: list[Figure],
    x: str,
    y: str,
    *,
    height: int = 380,
    xaxis: Figure | None = None,
    yaxis: Figure | None = None,
    legend: Figure | None = None,
) -> Figure:
    """Traces with named axes, in the page's fonts and colours."""
    common = {"gridcolor": "var(--line)", "linecolor": "var(--line)", "zeroline": False, "automargin": True}
    common |= {"ticks": "outside", "tickcolor": "var(--line)", "ticklen": 5}
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
        "xaxis": common | {"title": {"text": x, "standoff": 10}} | (xaxis or {}),
        "yaxis": common | {"title": {"text": y, "standoff": 10}} | (yaxis or {}),
    }
    return {"data": data, "layout": layout}
