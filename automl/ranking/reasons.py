"""Why the leaderboard is as it is, in lines of text: for the terminal and for Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl.ranking import words
from automl.ranking.lessons import lesson_lines

if TYPE_CHECKING:
    from automl.ranking.facts import Facts
    from automl.ranking.leaderboard import Leaderboard

__all__ = ["BACKBONES_SHOWN", "why_lines"]

_COSTS = {"latency_ms": "latency", "model_parameters": "parameters", "train_seconds": "training time"}
_PROBES = {"knn": "k-NN", "linear": "linear"}
_FRONT = 6
BACKBONES_SHOWN = 5


def why_lines(board: Leaderboard, facts: Facts) -> list[str]:
    """Return a line each for the fronts, importance, probes, what was not tried, failures, and the time spent."""
    searched = " in the search" if board.confirmation else ""
    lines = [
        f"Best score{searched} for its {_COSTS[each.cost]}: {_front(board, each.cost, each.trials)}"
        for each in facts.fronts
    ]
    found = facts.why
    objective = "" if board.metric == found.objective else f" for {words.metric_name(found.objective)}"
    if found.importance.shares:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found.importance.shares.items())
        lines.append(f"What mattered{objective}: {shares}. {found.importance.note}")
    else:
        lines.append(f"What mattered: {found.importance.note}")
    told_apart = [(name, each) for name, each in found.importance_by_backbone.items() if each.shares]
    if len(told_apart) > 1:
        for name, each in told_apart[:BACKBONES_SHOWN]:
            top = ", ".join(f"{key} {100 * share:.0f} %" for key, share in list(each.shares.items())[:3])
            lines.append(f"What mattered for {words.short(name)}: {top} ({words.count(each.trials, 'finished trial')})")
    told = [
        f"{_PROBES[each.probe]} {each.kendall_tau:+.2f} over {words.count(each.backbones, 'backbone')}"
        for each in found.probes
        if each.kendall_tau is not None
    ]
    if told:
        lines.append(f"Rank by probe against that of the best trials past the head, Kendall's τ: {', '.join(told)}")
    lines += lesson_lines(board, facts.warm_start)
    lines += [f"Not tried: {each.what}: {each.why}" for each in found.not_tried]
    if found.failures:
        causes = ", ".join(f"{each.reason.replace('_', ' ')} {each.trials}" for each in found.failures)
        lines.append(f"Without a score: {causes}")
    if found.stage_seconds:
        spent = ", ".join(f"{name} {words.duration(seconds)}" for name, seconds in found.stage_seconds.items())
        budget = f" of {words.duration(found.budget_seconds)}" if found.budget_seconds else ""
        lines.append(f"Time{budget}: {spent}")
    return lines


def _front(board: Leaderboard, cost: str, trials: tuple[int, ...]) -> str:
    """Trials of a front, the best first: who looks for a cheaper one reads on."""
    rows = {row.trial: row for row in board.rows}
    texts = {"latency_ms": words.milliseconds, "model_parameters": words.integer, "train_seconds": words.duration}
    winner = board.best.trial if board.best and board.confirmation else None
    shown = [
        f"trial {trial}{', the winner' if trial == winner else ''} "
        f"({words.number(board.metric, rows[trial].score)} at {texts[cost](getattr(rows[trial], cost))})"
        for trial in trials[::-1][:_FRONT]
    ]
    return ", ".join(shown) + (f", {len(trials) - _FRONT} cheaper ones" if len(trials) > _FRONT else "")
