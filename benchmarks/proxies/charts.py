"""A chart of values with their intervals, one panel per set, as SVG."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pandas as pd

__all__ = ["interval_chart"]

ROW, LABEL, PANEL, TOP = 20, 230, 170, 58
BLUE = "#1f6feb"


def interval_chart(path: Path, table: pd.DataFrame, *, title: str) -> None:
    """Draw the columns proxy, set, tau, low, high (all −1…1): a row per proxy, a panel per set."""
    proxies, sets = list(dict.fromkeys(table["proxy"])), list(dict.fromkeys(table["set"]))
    width, height = LABEL + PANEL * len(sets) + 10, TOP + ROW * len(proxies) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12" font-family="sans">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-size="14">{escape(title)}</text>',
    ]
    parts += [
        f'<text x="{LABEL - 10}" y="{TOP + ROW * row + 14}" text-anchor="end">{escape(proxy)}</text>'
        for row, proxy in enumerate(proxies)
    ]
    for column, name in enumerate(sets):
        middle = LABEL + PANEL * column + PANEL / 2

        def at(value: float, middle: float = middle) -> float:
            return middle + value * (PANEL / 2 - 12)

        parts.append(f'<text x="{middle}" y="44" text-anchor="middle">{escape(name)}</text>')
        for mark in (-1, 0, 1):
            parts.append(f'<line x1="{at(mark)}" x2="{at(mark)}" y1="50" y2="{height - 18}" stroke="#ccc"/>')
            parts.append(f'<text x="{at(mark)}" y="{height - 4}" text-anchor="middle" fill="#666">{mark}</text>')
        for _, row in table[table["set"] == name].dropna(subset=["tau", "low", "high"]).iterrows():
            y = TOP + ROW * proxies.index(row["proxy"]) + 10
            parts.append(
                f'<path d="M{at(row["low"]):.1f} {y}H{at(row["high"]):.1f}" stroke="{BLUE}" stroke-width="2"/>'
            )
            parts.append(f'<circle cx="{at(row["tau"]):.1f}" cy="{y}" r="4" fill="{BLUE}"/>')
    path.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")
