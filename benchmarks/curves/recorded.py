"""The curves that `record.py` wrote, and what both replays do with their results: intervals, tables, a line chart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automl.config import load_config
from automl.search.spec import trains_on_embeddings
from automl.space import Space, make_space

__all__ = ["HERE", "RESULTS", "SETS", "Curve", "interval", "line_chart", "load_curves", "load_space", "markdown"]

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SETS = ("textile", "fashion-mnist")
COLOURS = ("#888888", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#000000")


@dataclass(frozen=True)
class Curve:
    """One configuration trained in full.

    values, losses: validation accuracy and log loss after each epoch; end early where the configuration diverged.
    seconds: of each epoch, one more than `values` where the last one diverged.
    test: accuracy on held-out images after the last epoch; 0 where it diverged.
    """

    configuration: int
    params: Mapping[str, Any]
    values: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    test: float

    @property
    def diverged(self) -> bool:
        return len(self.seconds) > len(self.values)

    @property
    def final(self) -> float:
        """Accuracy of the refit: what the last epoch reached, 0 where it diverged."""
        return 0.0 if self.diverged else self.values[-1]

    @property
    def head_only(self) -> bool:
        """Whether it trains on cached features; the search never stops such a trial early."""
        return trains_on_embeddings({"mixup": 0.0, "cutmix": 0.0, **self.params})


def load_curves(name: str, folder: Path = HERE) -> list[Curve]:
    """Read `<folder>/<name>.csv`."""
    table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
    names = list(table.columns[1 : list(table.columns).index("epoch")])
    curves = []
    for configuration, rows in table.groupby("configuration"):
        measured = rows.dropna(subset=["accuracy"])
        test = rows["test_accuracy"].iloc[-1]
        curves.append(
            Curve(
                int(configuration),
                {each: rows[each].iloc[0] for each in names},
                tuple(measured["accuracy"]),
                tuple(measured["log_loss"]),
                tuple(np.diff(rows["cpu_seconds"], prepend=0.0)),
                0.0 if np.isnan(test) else float(test),
            )
        )
    return curves


def load_space(name: str) -> Space:
    """Return the search space that the configurations of set `name` were drawn from."""
    config = load_config(HERE / f"{name}.yaml")
    return make_space([each.name for each in config.backbones], config.params)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return mean and half width of its 95 % interval."""
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def markdown(table: pd.DataFrame) -> str:
    """Return `table` as a markdown table, its columns as they are."""
    lines = [" | ".join(table.columns), " | ".join("---" for _ in table.columns)]
    lines += [" | ".join(str(each) for each in row) for row in table.itertuples(index=False)]
    return "".join(f"| {line} |\n" for line in lines)


def line_chart(path: Path, series: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str, x: str, y: str) -> None:
    """Write an SVG of `series` (name → x, y), x from 0 and y on a logarithmic scale; values of 0 lie on the bottom."""
    width, height, left, top, right, bottom = 760, 420, 60, 34, 210, 44
    most = max(xs.max() for xs, _ in series.values())
    positive = np.concatenate([ys[ys > 0] for _, ys in series.values()])
    low, high = np.log10(max(positive.min(), 1e-3)), np.log10(positive.max())

    def at(px: float, py: float) -> tuple[float, float]:
        share = (np.log10(max(py, 10**low)) - low) / max(high - low, 1e-9)
        across, up = width - left - right, height - top - bottom
        return round(left + across * px / most, 1), round(height - bottom - up * share, 1)

    def text(px: float, py: float, words: str, anchor: str = "middle", extra: str = "") -> str:
        return f'<text x="{px}" y="{py}" text-anchor="{anchor}" {extra}>{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(left, 20, title, "start", 'font-weight="bold"'),
        text((left + width - right) / 2, height - 8, x),
        text(14, height / 2, y, extra=f'transform="rotate(-90 14 {height / 2})"'),
    ]
    for tick in [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]:
        if low - 1e-9 <= np.log10(tick) <= high + 1e-9:
            across, up = at(0, tick)
            parts.append(f'<path d="M{across} {up}H{width - right}" stroke="#ddd"/>')
            parts.append(text(across - 6, up + 4, f"{tick:g}", "end"))
    for tick in np.linspace(0, most, 6):
        parts.append(text(at(tick, 1)[0], height - bottom + 16, f"{tick:.3g}"))
    for number, (name, (xs, ys)) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = 'stroke-dasharray="5 3"' if number >= len(COLOURS) else ""
        points = " ".join(f"{px},{py}" for px, py in (at(*each) for each in zip(xs, ys, strict=True)))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8" {dash}/>')
        beside = top + 14 + 18 * number
        parts.append(f'<path d="M{width - right + 10} {beside}h18" stroke="{colour}" stroke-width="3" {dash}/>')
        parts.append(text(width - right + 34, beside + 4, name, "start"))
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>", ""]))
