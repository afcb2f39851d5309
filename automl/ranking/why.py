"""Why the leaderboard is as it is: what mattered, what each backbone gave, what the probes foresaw, what was not tried
and why, what failed, and where the time went.
"""

from __future__ import annotations

import math
import statistics as stats
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from automl.paths import StudyFolder
from automl.ranking.costs import Foreseen, foreseen
from automl.ranking.files import load_json, load_screening
from automl.ranking.importance import Importance, importance, importance_by_backbone
from automl.ranking.leaderboard import Leaderboard, Row
from automl.ranking.not_tried import NotTried, not_tried

__all__ = ["BackboneFacts", "Cause", "ProbeRank", "Why", "why"]


@dataclass(frozen=True)
class BackboneFacts:
    """What was found out about one backbone. Scores in the study's metric, seconds; `prior` is the published ImageNet
    top-1 of its weights and probes are cross-validated accuracies with their 95 % intervals, all 0…1.

    `ranked` and `failed` count trials, `fine_tuned` those that ran to their end and trained more than the head;
    `train_seconds` is the sum over the ranked ones. Best and median are of the trials that ran to their end, if any
    did; `best_is_head` is whether the best trained the head only. `included` says whether the shortlist had it, with
    the `reason`. The ranks (1 is best) are among the backbones with a fine-tuned trial, by the best of these.
    """

    backbone: str
    ranked: int
    failed: int
    best_trial: int | None
    best_score: float | None
    median_score: float | None
    fine_tuned: int
    best_is_head: bool | None
    train_seconds: float | None
    seconds_per_epoch: float | None
    prior: float | None
    knn_accuracy: float | None
    knn_ci95: tuple[float, float] | None
    linear_accuracy: float | None
    linear_ci95: tuple[float, float] | None
    knn_rank: int | None
    linear_rank: int | None
    realised_rank: int | None
    included: bool | None
    reason: str


@dataclass(frozen=True)
class ProbeRank:
    """How a probe's order of the backbones agrees with that of their best fine-tuned trials: Kendall's τ-b, -1…1.

    None where it is not defined: fewer than two backbones, or all equal.
    """

    probe: str
    backbones: int
    kendall_tau: float | None


@dataclass(frozen=True)
class Cause:
    """A reason for which trials ended without a score; `example` is the message of the first."""

    reason: str
    trials: int
    example: str


@dataclass(frozen=True)
class Why:
    """`objective` is the metric that the search optimised, of which the importance is; `stage_seconds` has the seconds
    spent by stage, `budget_seconds` what there was to spend, `foreseen` how well the seconds of trials were predicted.
    """

    objective: str
    importance: Importance
    importance_by_backbone: Mapping[str, Importance]
    backbones: tuple[BackboneFacts, ...]
    probes: tuple[ProbeRank, ...]
    not_tried: tuple[NotTried, ...]
    failures: tuple[Cause, ...]
    stage_seconds: Mapping[str, float]
    budget_seconds: float | None
    foreseen: tuple[Foreseen, ...]


def why(
    folder: StudyFolder,
    study: optuna.Study,
    board: Leaderboard,
    *,
    whole: optuna.Study | None = None,
    backbones_shown: int | None = None,
) -> Why:
    """Collect the facts from the leaderboard, the study's attributes and trials, and the plan's file.

    Args:
        whole: The study with the trials that a filter left out: those were tried, too.
        backbones_shown: For how many backbones importance is wanted, the most tried ones; default: for all.
    """
    plan = load_json(folder.plan) or {}
    screened = {str(each["backbone"]): each for each in load_screening(folder) if "backbone" in each}
    backbones = _backbones(board, screened)
    first: dict[str, str] = {}
    for failure in board.failures:
        first.setdefault(failure.reason, failure.message)
    causes = Counter(failure.reason for failure in board.failed)
    budget = study.user_attrs.get("budget_seconds")
    return Why(
        objective=str(study.user_attrs.get("metric", "accuracy")),
        importance=importance(study),
        importance_by_backbone=importance_by_backbone(study, backbones_shown),
        backbones=backbones,
        probes=tuple(_probe(name, backbones) for name in ("knn", "linear")),
        not_tried=tuple(not_tried(whole or study, plan, screened)),
        failures=tuple(Cause(reason, n, first[reason]) for reason, n in causes.most_common()),
        stage_seconds=dict(study.user_attrs.get("stage_seconds") or {}),
        budget_seconds=None if budget is None else float(budget),
        foreseen=foreseen(study.get_trials(deepcopy=False)),
    )


def _backbones(board: Leaderboard, screened: Mapping[str, Mapping[str, Any]]) -> tuple[BackboneFacts, ...]:
    """In the order of their best trials; those without a score last."""
    lost = Counter(failure.backbone for failure in board.failed)
    tried: dict[str, list[Row]] = {}
    for row in board.rows:
        tried.setdefault(row.backbone, []).append(row)
    best = board.best_by_backbone
    whole = {name: [row for row in rows if row.state == "COMPLETE"] for name, rows in tried.items()}
    tuned = {name: [row for row in rows if not _is_head(row)] for name, rows in whole.items()}
    realised = {name: float(-rows[0].rank) for name, rows in tuned.items() if rows}
    ranks = {probe: _ranks(screened, f"{probe}_accuracy", realised) for probe in ("knn", "linear")}
    both = sorted((name for name in realised if name in ranks["linear"]), key=lambda name: -realised[name])
    table = []
    for name in dict.fromkeys([*tried, *lost, *screened]):
        rows, probe = tried.get(name, []), screened.get(name, {})
        judged = whole.get(name) or rows
        seconds = [row.train_seconds for row in rows if row.train_seconds is not None]
        table.append(
            BackboneFacts(
                backbone=name,
                ranked=len(rows),
                failed=lost[name],
                best_trial=best[name].trial if rows else None,
                best_score=best[name].score if rows else None,
                median_score=stats.median(row.score for row in judged) if judged else None,
                fine_tuned=len(tuned.get(name, [])),
                best_is_head=_is_head(best[name]) if rows else None,
                train_seconds=math.fsum(seconds) if seconds else None,
                seconds_per_epoch=probe.get("seconds_per_epoch"),
                prior=probe.get("prior"),
                knn_accuracy=probe.get("knn_accuracy"),
                knn_ci95=_pair(probe.get("knn_ci95")),
                linear_accuracy=probe.get("linear_accuracy"),
                linear_ci95=_pair(probe.get("linear_ci95")),
                knn_rank=ranks["knn"].get(name),
                linear_rank=ranks["linear"].get(name),
                realised_rank=1 + both.index(name) if name in both else None,
                included=probe.get("included"),
                reason=str(probe.get("reason") or ""),
            )
        )
    return tuple(table)


def _is_head(row: Row) -> bool:
    return {**row.params, **row.spec}.get("freeze_depth") == 1.0


def _pair(value: Any) -> tuple[float, float] | None:
    return None if value is None else (float(value[0]), float(value[1]))


def _ranks(screened: Mapping[str, Mapping[str, Any]], key: str, realised: Mapping[str, float]) -> dict[str, int]:
    """Rank by probe, equal values sharing the better rank, among the backbones that have a score too."""
    values = {name: float(each[key]) for name, each in screened.items() if name in realised and each.get(key)}
    return {name: 1 + sum(other > value for other in values.values()) for name, value in values.items()}


def _probe(probe: str, backbones: Sequence[BackboneFacts]) -> ProbeRank:
    """Kendall's τ-b (M. G. Kendall, Biometrika 33, 1945), which allows for ties."""
    pairs = [
        (float(rank), float(each.realised_rank))
        for each in backbones
        if (rank := getattr(each, f"{probe}_rank")) is not None and each.realised_rank is not None
    ]
    return ProbeRank(probe, len(pairs), _kendall_tau(pairs))


def _kendall_tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    """As `scipy.stats.kendalltau`, which is not used because importing it takes longer than all else here."""
    if len(pairs) < 2:
        return None
    x, y = (np.sign(np.subtract.outer(side, side)) for side in np.array(pairs).T)
    untied = float(np.abs(x).sum() * np.abs(y).sum())
    return float((x * y).sum() / math.sqrt(untied)) if untied else None
