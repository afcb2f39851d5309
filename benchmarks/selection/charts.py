"""The simulation's charts: what is left of the bias, and how often intervals and tied sets are right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.selection.show import INHERITED

__all__ = ["charts"]

BLUE, ORANGE = "#0072b2", "#d55e00"


def charts(studies: pd.DataFrame, folder: Path) -> None:
    """Write `bias.svg`: what is left of the naive bias; and `coverage.svg`: how often intervals and tied sets are
    right, by size."""
    usual, inherited = (studies[(studies["population"] == INHERITED) == kind] for kind in (False, True))
    series = {
        "bootstrap bias correction": (usual["naive bias"], usual["bootstrap bias correction bias"], BLUE),
        "corrected": (usual["naive bias"], usual["corrected bias"], ORANGE),
        "corrected, inherited mistakes": (inherited["naive bias"], inherited["corrected bias"], "#888888"),
    }
    _scatter(
        folder / "bias.svg",
        series,
        title="bias of the estimate of the best (points), a mark per kind of study",
        x="bias of the naive estimate",
        y="bias that is left",
        band=(-0.3, 0.3),
    )
    sizes = list(dict.fromkeys(zip(studies["images"], studies["trials"], strict=True)))
    place = np.array([sizes.index(each) for each in zip(studies["images"], studies["trials"], strict=True)], float)
    shown = {"all intervals": ("intervals hold", BLUE), "corrected": ("corrected interval holds", ORANGE)}
    shown["tied set"] = ("tied holds best", "#009e73")
    _scatter(
        folder / "coverage.svg",
        {
            name: (pd.Series(place + 0.25 * (i - 1)), 100 * studies[column], colour)
            for i, (name, (column, colour)) in enumerate(shown.items())
        },
        title="how often the truth is inside (%), a mark per kind of study",
        x="validation images / trials",
        y="studies (%)",
        band=(93.0, 97.0),
        names=[f"{images}/{trials}" for images, trials in sizes],
    )


def _scatter(
    path: Path,
    series: Mapping[str, tuple[pd.Series, pd.Series, str]],
    *,
    title: str,
    x: str,
    y: str,
    band: tuple[float, float],
    names: list[str] | None = None,
) -> None:
    width, height, left, top, right, bottom = 860, 440, 60, 34, 230, 92 if names else 44
    xs, ys = (np.concatenate([each[i].to_numpy() for each in series.values()]) for i in (0, 1))
    across, up = _ticks(float(xs.min()), float(xs.max())), _ticks(float(ys.min()), float(ys.max()))
    if names:
        across = np.arange(len(names), dtype=float)
    low, high = (min(across[0], xs.min()) - 0.2, max(across[-1], xs.max()) + 0.2)

    def at(px: float, py: float) -> tuple[float, float]:
        share = (py - up[0]) / (up[-1] - up[0])
        along = left + (px - low) / (high - low) * (width - left - right)
        return round(along, 1), round(height - bottom - share * (height - top - bottom), 1)

    def text(px: float, py: float, words: str, anchor: str = "middle", extra: str = "") -> str:
        return f'<text x="{px}" y="{py}" text-anchor="{anchor}" {extra}>{words}</text>'

    (_, above), (_, below) = at(0, band[1]), at(0, band[0])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12" font-family="sans">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(left, 20, title, "start", 'font-weight="bold"'),
        text((left + width - right) / 2, height - 8, x),
        text(14, height / 2, y, extra=f'transform="rotate(-90 14 {height / 2})"'),
        f'<rect x="{left}" y="{above}" width="{width - left - right}" height="{below - above}" fill="#eee"/>',
    ]
    for tick in up:
        _, line = at(0, tick)
        parts += [
            f'<path d="M{left} {line}H{width - right}" stroke="#ddd"/>',
            text(left - 6, line + 4, f"{tick:g}", "end"),
        ]
    for i, tick in enumerate(across):
        along, line = at(tick, up[0])[0], height - bottom + 16
        turned = f'transform="rotate(-45 {along} {line})"'
        parts.append(text(along, line, names[i], "end", turned) if names else text(along, line, f"{tick:g}"))
    for number, (name, (along, points, colour)) in enumerate(series.items()):
        beside = top + 14 + 18 * number
        marks = (at(*each) for each in zip(along, points, strict=True))
        parts += [f'<circle cx="{px}" cy="{py}" r="3" fill="{colour}" fill-opacity="0.6"/>' for px, py in marks]
        parts.append(f'<circle cx="{width - right + 16}" cy="{beside}" r="4" fill="{colour}"/>')
        parts.append(text(width - right + 28, beside + 4, name, "start"))
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _ticks(low: float, high: float) -> np.ndarray:
    """Round numbers from at most `low` to at least `high`, about six of them."""
    rough = (high - low) / 5
    scale = 10.0 ** np.floor(np.log10(rough))
    step = scale * min((each for each in (1, 2, 5, 10) if each * scale >= rough), default=10)
    return np.round(np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step, 10)
