"""Numbers and sentences of the leaderboard, in the same words wherever a person reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl.ranking.confirmed import Confirmation
    from automl.ranking.leaderboard import Leaderboard, Row
    from automl.ranking.statistics import BestCorrected

__all__ = [
    "STOP_REASONS",
    "answer",
    "bounds",
    "compact",
    "count",
    "describe",
    "difference",
    "difference_bounds",
    "duration",
    "handed_over",
    "integer",
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

STOP_REASONS = {
    "budget": "The time budget is spent.",
    "trials": "The number of trials asked for is reached.",
    "converged": "No trial had improved on the best for long enough.",
    "interrupted": "The search was interrupted and can be resumed.",
    "failures": "Too many trials failed in a row.",
}
_NAMES = {"freeze_depth": "freeze", "learning_rate": "lr", "label_smoothing": "smoothing", "batch_size": "batch"}
_ORDER = ("freeze_depth", "resolution", "learning_rate", "layer_decay", "augmentation", "magnitude")


def metric_name(metric: str) -> str:
    """Return ``macro F1`` for ``macro_f1``."""
    return metric.replace("_", " ").replace("f1", "F1").replace("auroc", "AUROC")


def number(metric: str, value: float | None) -> str:
    """Return a score as a person reads it: ``94.2 %``, or ``0.213`` for the log loss."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if metric in {"log_loss", "ece"} else f"{100 * value:.1f} %"


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


def answer(board: Leaderboard) -> list[str]:
    """Return the outcome of the search in plain sentences."""
    best = board.best
    if best is None:
        failed = f" {count(len(board.failures), 'trial')} ended without a score." if board.failures else ""
        return [f"No trial has a score yet.{failed}"]
    images = f" on {count(board.validation_images, 'validation image')}" if board.validation_images else ""
    scored = (
        f"{number(board.metric, best.score)} {metric_name(board.metric)}{images}"
        + (f", 95 % interval {bounds(board.metric, best.ci95)}." if best.ci95 else "; no interval.")
    )  # fmt: skip
    name = f"{short(best.backbone)} (trial {best.trial})"
    sentences = [f"{name} leads with {scored}"]
    if board.confirmation is not None:
        sentences = [_confirmed(board, name, board.confirmation), f"In the search it had {scored}"]
    if best.state == "PRUNED":
        sentences.append("No trial has finished: this one was pruned, and its score is that of an early epoch.")
    elif best.ci95:
        sentences.append(_ties(board))
    if board.best_corrected is not None and board.confirmation is None:
        sentences.append(_luck(board.metric, board.best_corrected))
    sentences += board.trained_again
    test = test_score(board)
    if test is not None:
        refitted = (board.refit or {}).get("trial")
        who = "it" if refitted in (best.trial, None) else f"trial {refitted}"
        on = int((board.refit or {}).get("trained_on") or 0)
        how = "Retrained in full" if retrained(board) else "Handed over as its trial left it, without a refit"
        if on:
            how = f"Trained on for {count(on, 'epoch')} with the validation images, there being no time for a refit"
        limits = test_interval(board)
        sure = f" (95 % interval {bounds(board.metric, limits)})" if limits else ""
        sentences.append(f"{how}, {who} scored {number(board.metric, test)}{sure} on the test images.")
    elif board.refit is None:
        sentences.append("It has not been retrained in full yet, so no test score is known.")
    return sentences


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


def _confirmed(board: Leaderboard, name: str, found: Confirmation) -> str:
    metric, once = board.metric, found.runs == 1
    often = "once" if once else f"{found.runs} times"
    where = ("on a new split" if once else "on new splits") if found.redrawn else "on the same validation images"
    expected = ""
    if found.expected is not None:
        only = ", of the images alone: one run does not show what a seed changes" if once else ""
        expected = (
            f" Less the luck of being chosen by that, expect {number(metric, found.expected)} "
            f"(95 % interval {bounds(metric, found.expected_ci95)}{only}) on new images."
        )
    elif not found.redrawn and board.best_corrected is not None:
        expected = (
            " These images picked it before, so expect less on new ones: of the best score of the search, that picking "
            f"accounts for about {difference(metric, board.best_corrected.luck)}."
        )
    return (
        f"{name} was chosen: trained again {often} {where}, as {len(found.trials)} of the best were, it scored "
        f"{number(metric, found.chosen.score)} {'there' if once else 'on average'}; {found.why}.{expected}"
    )


def _luck(metric: str, found: BestCorrected) -> str:
    expected = f"{number(metric, found.value)} (95 % interval {bounds(metric, found.ci95)})"
    if found.trials == 1:
        return f"No other trial was compared, so its score owes nothing to picking: expect {expected} on new images."
    picked = f"It was picked as the best of {found.trials:,}, which accounts for about "
    return f"{picked}{difference(metric, found.luck)} of its score: expect {expected} on new images."


def _ties(board: Leaderboard) -> str:
    compared = [row for row in board.rows[1:] if row.behind_best_ci95 is not None]
    tied: tuple[Row, ...] = board.tied
    if board.confirmation is not None:
        others = [each for each in board.confirmation.trials if each.trial != board.confirmation.winner]
        alike, one = sum(each.tied for each in others), len(others) == 1
        if not alike:
            them = "The other one that was trained again is" if one else "All others that were trained again are"
            return f"{them} behind the best mean by more than chance explains."
        them = (
            "The other one that was trained again"
            if one
            else f"Of {len(others)} others that were trained again {alike}"
        )
        return f"{them} {'is' if alike == 1 else 'are'} tied: by these runs not to be told apart from the best mean."
    if not compared:
        return "No other finished trial could be compared with it."
    if not tied and len(compared) == 1:
        return "The only other finished trial is behind it by more than chance explains."
    if not tied:
        return f"All {count(len(compared), 'other finished trial')} are behind it by more than chance explains."
    verb = "is" if len(tied) == 1 else "are"
    sentence = (
        f"{len(tied)} of {count(len(compared), 'other finished trial')} {verb} tied with it: "
        "on these images they cannot be told apart."
    )
    timed = [row for row in (*tied, *board.rows[:1]) if row.latency_ms is not None]
    fastest = min(timed, key=lambda row: (row.latency_ms or 0.0, row.rank), default=None)
    if fastest is not None and board.best is not None and (fastest.latency_ms or 0) < (board.best.latency_ms or 0):
        sentence += (
            f" The fastest of them is {short(fastest.backbone)} (trial {fastest.trial}): "
            f"{milliseconds(fastest.latency_ms)} an image instead of {milliseconds(board.best.latency_ms)}."
        )
    return sentence
