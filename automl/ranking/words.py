"""Numbers and sentences of the leaderboard, in the same words wherever a person reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl.config import metric_name

if TYPE_CHECKING:
    from automl.ranking.leaderboard import Leaderboard

__all__ = [
    "NOT_TRAINED_AGAIN",
    "PLANNED",
    "STOP_REASONS",
    "bounds",
    "capital",
    "compact",
    "count",
    "describe",
    "difference",
    "difference_bounds",
    "duration",
    "handed_over",
    "integer",
    "left_out",
    "megabytes",
    "metric_name",
    "milliseconds",
    "number",
    "param",
    "retrained",
    "short",
    "test_interval",
    "test_score",
]

PLANNED = {  # the budget of a plan
    "total_seconds": "whole budget",
    "screening_seconds": "until the plan",
    "search_seconds": "search",
    "confirmation_seconds": "training the best again",
    "refit_seconds": "kept for the refit",
    "closing_seconds": "handing over",
    "least_seconds": "least budget that would do",
    "trials_per_hour": "trials an hour (dearest kind that fits, median backbone)",
}
STOP_REASONS = {
    "budget": "The time budget is spent.",
    "trials": "The number of trials asked for is reached.",
    "converged": "No trial had improved on the best for long enough.",
    "interrupted": "The search was interrupted and can be resumed.",
    "failures": "Too many trials failed in a row.",
}
NOT_TRAINED_AGAIN = "not trained again, for lack of time"
_NAMES = {"freeze_depth": "freeze", "learning_rate": "lr", "label_smoothing": "smoothing", "batch_size": "batch"}
_ORDER = ("freeze_depth", "resolution", "learning_rate", "layer_decay", "augmentation", "magnitude")


def capital(sentence: str) -> str:
    """Return `sentence` with a capital at its start."""
    return sentence[:1].upper() + sentence[1:]


def number(metric: str, value: float | None) -> str:
    """Return a score as a person reads it: ``94.2 %``, or ``0.213`` or ``0.0213`` for the log loss. What is not all is
    not 100 %: ``99.97 %``, and 99.99 % at most."""
    if value is None or not math.isfinite(value):
        return "–"
    if metric in {"log_loss", "ece"}:
        return f"{value:.4f}" if metric == "log_loss" and 0 < value < 0.1 else f"{value:.3f}"
    text = f"{100 * value:.1f} %"
    return text if value >= 1 or text != "100.0 %" else f"{min(100 * value, 99.99):.2f} %"


def bounds(metric: str, limits: tuple[float, float] | None) -> str:
    """Return an interval: ``93.6 – 97.9 %``."""
    if limits is None:
        return "–"
    low, high = (number(metric, value).removesuffix(" %") for value in limits)
    return f"{low} – {high}{'' if metric == 'log_loss' else ' %'}"


def integer(value: float | None) -> str:
    """Return ``3.4 M`` for 3400000."""
    if value is None or not math.isfinite(value):
        return "–"
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def duration(value: float | None) -> str:
    """Return seconds as ``45 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if value is None or not math.isfinite(value):
        return "–"
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def milliseconds(value: float | None) -> str:
    """Return ``12.3 ms``, or ``123 ms`` from 100 on."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def left_out(others: int) -> str:
    """Say how many others are not here: "1 other is left out"."""
    return f"{others:,} {'other is' if others == 1 else 'others are'} left out"


def megabytes(value: float | None) -> str:
    """Return ``812 MB``, or ``1.2 GB`` from 1,000 MB on."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value / 1000:.1f} GB" if value >= 1000 else f"{value:.0f} MB"


def count(n: int, thing: str, plural: str | None = None) -> str:
    """Return ``1 trial`` or ``2,000 images``."""
    return f"{n:,} {thing if n == 1 else plural or thing + 's'}"


def compact(value: Any) -> str:
    """Return one value of a spec or a plan as short text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(compact, value)) if isinstance(value, list | tuple) else str(value)


def short(backbone: str) -> str:
    """Return a backbone's name without its provider."""
    return backbone.partition("/")[2] or backbone


def param(name: str, value: Any) -> str:
    """Return one parameter as a person reads it: ``224 px``, ``half frozen``, ``lr 0.0012``."""
    if name == "freeze_depth" and isinstance(value, int | float):
        return {0.0: "all layers train", 1.0: "only the head trains"}.get(float(value), f"{100 * value:.0f} % frozen")
    if name == "resolution":
        return f"{value} px"
    if isinstance(value, float):
        value = f"{value:.2g}" if 0 < abs(value) < 1 else f"{value:g}"
    if name == "optimizer":
        return str(value)
    if name == "augmentation":
        return f"{'no' if value in (None, 'none') else value} augmentation"
    return f"{_NAMES.get(name, name.replace('_', ' '))} {'off' if value is None else value}"


def describe(params: Mapping[str, Any]) -> list[str]:
    """Return all parameters in words, those that matter most first."""
    known = [name for name in _ORDER if name in params]
    if params.get("augmentation") != "rand":
        known = [name for name in known if name != "magnitude"]
    rest = sorted(name for name in params if name not in _ORDER and name != "backbone")
    return [param(name, params[name]) for name in known + rest]


def retrained(board: Leaderboard) -> bool:
    """Whether the package holds a refit, and not a trial's own weights."""
    return board.refit is not None and bool(board.refit.get("refitted", True))


def handed_over(board: Leaderboard) -> str:
    """Return how the model came about that the test score is of: ``after the refit``."""
    if retrained(board):
        return "after the refit"
    return "trained on" if (board.refit or {}).get("trained_on") else "without a refit"


def test_score(board: Leaderboard) -> float | None:
    """Return the package's score on the test images, None before there is one."""
    value = ((board.refit or {}).get("test") or {}).get(board.metric)
    return float(value) if isinstance(value, int | float) else None


def test_interval(board: Leaderboard) -> tuple[float, float] | None:
    """Return the 95 % interval of the package's test score; None before there is one, and where it is not known."""
    test = (board.refit or {}).get("test") or {}
    limits = test.get("metric_ci95") if test.get("metric") == board.metric else None
    if limits is None and board.metric == "accuracy":
        limits = test.get("ci95")
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        return None
    return float(limits[0]), float(limits[1])


def difference_bounds(metric: str, limits: tuple[float, float] | None) -> str:
    """Return limits of a difference of two scores: ``-0.4 to 2.1 points``."""
    if limits is None:
        return "–"
    low, high = (difference(metric, value) for value in limits)
    return f"{low.partition(' ')[0]} to {high}".replace("-", "−")


def difference(metric: str, value: float) -> str:
    """Return a difference of two scores: ``1.3 points``, which are hundredths, or nats of the log loss."""
    return f"{value:.4f} nats" if metric == "log_loss" else f"{100 * value:.1f} points"
