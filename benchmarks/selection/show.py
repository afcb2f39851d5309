"""The simulation's tables as Markdown and charts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.selection.worlds import POPULATIONS

__all__ = ["charts", "summary"]

LARGE = 1.5  # points that the naive estimate must be off by for the correction to be judged
COLOURS = {"naive": "#888888", "bootstrap bias correction": "#0072b2", "corrected": "#d55e00"}


def summary(tables: Mapping[str, pd.DataFrame], *, quick: bool) -> str:
    """Return the tables and what is to be read from them."""
    studies = tables["studies"]
    parts = [
        "# Simulated studies\n",
        "Written by `python -m benchmarks.selection" + (" --quick`, too few studies to judge by." if quick else "`."),
        "True accuracies are known here, so it can be seen whether intervals hold them, how far the best score is from",
        "what the best trial is worth, and whether the trial that is really best is among the tied. Points are 0.01.\n",
        "Populations of trials: " + "; ".join(f"*{name}*: {what}" for name, what in POPULATIONS.items()) + ".",
        "*Correlation* is what trials share of what makes an image hard.\n",
        "## Intervals of the accuracy\n",
        "Exact, by the binomial distribution, and averaged evenly over true accuracies from 0.600 to 0.995. A count of",
        "images is whole, so the coverage of any such interval swings about its mean; the worst point is named.\n",
        _markdown(tables["intervals"]),
        "## Intervals where images come in groups\n",
        "Mean over correlations within groups. *If groups were ignored* is Wilson's interval of all images.\n",
        _markdown(_mean(tables["groups"], ["groups", "accuracy"], ["coverage", "if groups were ignored"])),
        "## Intervals of the other metrics\n",
        "Mean over classifiers, and the worst of them; *bootstrap* is a percentile bootstrap.\n",
        _markdown(_metrics(tables["metrics"])),
        "## The best score, naive and corrected\n",
        _verdict(studies),
        "Mean bias in points, by population and trials, over correlations; `sd` is the standard deviation of what the",
        "corrected estimate misses the truth by in one study.\n",
        _markdown(_biases(studies)),
        "## The tied set\n",
        "How often it holds the trial that is really best, and how many trials it holds on average; beside it paired",
        "comparisons with a Bonferroni correction, and with none.\n",
        _markdown(_ties(studies)),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _verdict(studies: pd.DataFrame) -> str:
    large = studies[(studies["naive bias"] > LARGE) & (studies["population"] != "adaptive, shared")]
    lines = [f"Of {len(studies)} kinds of study, the naive estimate is off by more than {LARGE} points in {len(large)}"]
    lines.append('(without those of "adaptive, shared", which are below). Over these:\n')
    error = (large["corrected bias sd"] / np.sqrt(large["studies"])).to_numpy()
    rows = []
    for name in ("naive", "bootstrap of the bias", "empirical Bayes", "bootstrap bias correction", "corrected"):
        bias = large[f"{name} bias"]
        rows.append(
            {
                "estimate": name,
                "mean absolute bias": bias.abs().mean(),
                "largest": bias.abs().max(),
                "share within 0.3": (bias.abs() <= 0.3).mean(),
                "within 0.3 and two standard errors": (bias.abs() <= 0.3 + 2 * error).mean(),
                "mean sd in one study": large[f"{name} bias sd"].mean(),
            }
        )
    return "\n".join([*lines, _markdown(pd.DataFrame(rows))])


def _biases(studies: pd.DataFrame) -> pd.DataFrame:
    names = ["naive bias", "bootstrap bias correction bias", "empirical Bayes bias", "corrected bias"]
    more = ["corrected bias sd", "naive interval holds", "corrected interval holds"]
    return _mean(studies, ["population", "images", "trials"], names + more)


def _ties(studies: pd.DataFrame) -> pd.DataFrame:
    kinds = ("tied", "Bonferroni", "uncorrected")
    columns = ["tied holds best", "tied"]
    columns += [f"{kind} {what}" for kind in kinds[1:] for what in ("holds best", "tied")]
    return _mean(studies, ["population", "images", "trials"], columns)


def _metrics(metrics: pd.DataFrame) -> pd.DataFrame:
    grouped = metrics.groupby(["metric", "images"], sort=False)
    columns = {}
    for kind in ("coverage", "bootstrap"):
        columns[kind], columns[f"worst {kind}"] = grouped[kind].mean(), grouped[kind].min()
    return pd.DataFrame(columns).reset_index()


def _mean(table: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    return table.groupby(keys, sort=False)[columns].mean().reset_index()


def _markdown(table: pd.DataFrame) -> str:
    def cell(value: object, column: str) -> str:
        if isinstance(value, float) and np.isnan(value):
            return "–"
        if not isinstance(value, float):
            return str(value)
        if column in ("tied", "Bonferroni tied", "uncorrected tied"):
            return f"{value:.1f}"
        share = any(word in column for word in ("coverage", "holds", "share", "within", "bootstrap", "ignored"))
        share = share and "bias" not in column
        return f"{100 * value:.1f} %" if share else f"{value:.3f}" if "accuracy" in column else f"{value:.2f}"

    lines = [" | ".join(table.columns), " | ".join("---" for _ in table.columns)]
    for row in table.itertuples(index=False):
        lines.append(" | ".join(cell(value, column) for value, column in zip(row, table.columns, strict=True)))
    return "".join(f"| {line} |\n" for line in lines)


def charts(studies: pd.DataFrame, folder: Path) -> None:
    """Write `bias.svg`: what is left of the naive bias; and `tied.svg`: sizes of the tied sets."""
    by_naive = {name: (studies["naive bias"], studies[f"{name} bias"]) for name in COLOURS if name != "naive"}
    _scatter(
        folder / "bias.svg",
        by_naive,
        title="bias of the estimate of the best (points), one mark per kind of study",
        x="bias of the naive estimate",
        y="bias that is left",
        band=0.3,
    )
    several = studies[studies["trials"] > 10]
    sizes = {
        name: (100 * several["Bonferroni tied"] / several["trials"], 100 * several[column] / several["trials"])
        for name, column in {"naive": "uncorrected tied", "corrected": "tied"}.items()
    }
    _scatter(
        folder / "tied.svg",
        {"uncorrected": sizes["naive"], "simultaneous": sizes["corrected"]},
        title="trials in the tied set (% of all), one mark per kind of study",
        x="with a Bonferroni correction",
        y="tied",
        band=None,
    )


def _scatter(
    path: Path,
    series: Mapping[str, tuple[pd.Series, pd.Series]],
    *,
    title: str,
    x: str,
    y: str,
    band: float | None,
) -> None:
    width, height, left, top, right, bottom = 760, 420, 60, 34, 210, 44
    xs, ys = (np.concatenate([each[i].to_numpy() for each in series.values()]) for i in (0, 1))
    x_low, x_high, y_low, y_high = 0.0, float(xs.max()), min(0.0, float(ys.min())), float(ys.max())

    def at(px: float, py: float) -> tuple[float, float]:
        across = left + (px - x_low) / (x_high - x_low) * (width - left - right)
        return round(across, 1), round(height - bottom - (py - y_low) / (y_high - y_low) * (height - top - bottom), 1)

    def text(px: float, py: float, words: str, anchor: str = "middle", extra: str = "") -> str:
        return f'<text x="{px}" y="{py}" text-anchor="{anchor}" {extra}>{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12" font-family="sans">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(left, 20, title, "start", 'font-weight="bold"'),
        text((left + width - right) / 2, height - 8, x),
        text(14, height / 2, y, extra=f'transform="rotate(-90 14 {height / 2})"'),
    ]
    if band is not None:
        (_, above), (_, below) = at(0, band), at(0, -band)
        parts.append(
            f'<rect x="{left}" y="{above}" width="{width - left - right}" height="{below - above}" fill="#eee"/>'
        )
    for tick in np.linspace(y_low, y_high, 6):
        across, up = at(x_low, tick)
        parts += [
            f'<path d="M{across} {up}H{width - right}" stroke="#ddd"/>',
            text(across - 6, up + 4, f"{tick:.3g}", "end"),
        ]
    parts += [text(at(tick, y_low)[0], height - bottom + 16, f"{tick:.3g}") for tick in np.linspace(x_low, x_high, 6)]
    for number, (name, (across, up)) in enumerate(series.items()):
        colour, beside = list(COLOURS.values())[number + 1], top + 14 + 18 * number
        marks = (at(*each) for each in zip(across, up, strict=True))
        parts += [f'<circle cx="{px}" cy="{py}" r="3" fill="{colour}" fill-opacity="0.6"/>' for px, py in marks]
        parts.append(f'<circle cx="{width - right + 16}" cy="{beside}" r="4" fill="{colour}"/>')
        parts.append(text(width - right + 28, beside + 4, name, "start"))
    path.write_text("\n".join([*parts, "</svg>", ""]))
