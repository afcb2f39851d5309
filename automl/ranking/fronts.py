"""Pareto fronts: the finished trials that no other beats both in score and in what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from automl.ranking.leaderboard import Leaderboard, Row

__all__ = ["COSTS", "Front", "front", "fronts"]

COSTS = ("latency_ms", "model_parameters", "train_seconds")


@dataclass(frozen=True)
class Front:
    """Trial numbers on the front of score against `cost` (one of `COSTS`), cheapest first; the last is the best."""

    cost: str
    trials: tuple[int, ...]


def front(board: Leaderboard, cost: str) -> list[Row]:
    """Return the finished trials that no other finished trial beats in both score and `cost`, cheapest first."""
    sign = -1 if board.direction == "maximize" else 1
    measured = sorted(
        (value, sign * row.score, row.rank, row)
        for row in board.rows
        if row.state == "COMPLETE" and (value := getattr(row, cost)) is not None and math.isfinite(value)
    )
    best, found = math.inf, []
    for _, score, _, row in measured:
        if score < best:
            best = score
            found.append(row)
    return found


def fronts(board: Leaderboard) -> tuple[Front, ...]:
    """Return the front against each cost of which at least one finished trial has a measurement."""
    found = ((cost, front(board, cost)) for cost in COSTS)
    return tuple(Front(cost, tuple(row.trial for row in rows)) for cost, rows in found if rows)
