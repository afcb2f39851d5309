"""One line of a leaderboard: a ranked trial, or one without a usable score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl.ranking.latency import Speed

__all__ = ["Failure", "Row"]


@dataclass(frozen=True)
class Row:
    """One ranked trial. Seconds, MB (2**20 bytes) and milliseconds; None where it was not measured.

    `latency_ms` is of one image, the median; `latency` is the whole measurement of the backbone at this resolution.

    `behind_best_ci95` limits score(best) - score(this); its end towards "not behind" is corrected for the number of
    trials compared. "Best" is the first of the search; of trials that were trained again (`confirmed_score` is their
    mean over the new splits) it is the best mean there, which need not be the winner's.
    """

    rank: int
    trial: int
    state: str
    backbone: str
    params: Mapping[str, Any]
    score: float
    ci95: tuple[float, float] | None
    tied_with_best: bool
    epochs: int
    train_seconds: float | None
    model_parameters: int | None
    latency_ms: float | None
    latency: Speed | None
    peak_memory_mb: float | None
    reason: str
    max_epochs: int | None
    trainable_parameters: int | None
    ci_method: str | None
    behind_best_ci95: tuple[float, float] | None
    origin: str | None
    metrics: Mapping[str, float]
    spec: Mapping[str, Any]
    command: str
    confirmed_score: float | None = None
    confirmed_ci95: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """How the trial ended, where that is not "at its last epoch"; else an empty string."""
        of = f" of {self.max_epochs}" if self.max_epochs else ""
        after = {"pruned": "pruned after epoch", "cut short": "cut short by the budget after epoch"}
        return f"{after.get(self.ended, self.ended)} {self.epochs}{of}" if self.ended else ""

    @property
    def ended(self) -> str:
        """As `label`, in a word."""
        known = {"truncated": "cut short", "complete": ""}
        return known.get(self.reason, "pruned" if self.state == "PRUNED" else self.reason)


@dataclass(frozen=True)
class Failure:
    """One trial without a usable score. `command` is empty for a proposal that was never begun."""

    trial: int
    state: str
    backbone: str
    params: Mapping[str, Any]
    reason: str
    message: str
    epochs: int
    command: str
