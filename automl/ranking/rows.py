"""Lines of a leaderboard, made of trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from automl.paths import StudyFolder
from automl.ranking.latency import Speed
from automl.ranking.ranks import epochs_of
from automl.ranking.row import Failure, Row
from automl.ranking.sureness import Sureness
from automl.search.study import backbone_of

__all__ = ["failure", "ranked_row"]


def ranked_row(
    rank: int,
    trial: FrozenTrial,
    score: float,
    sure: Sureness,
    speeds: Mapping[tuple[str, int], Speed],
    folder: StudyFolder,
) -> Row:
    """Return the row of a trial, with its interval and the latency of its backbone.

    Args:
        speeds: By backbone and resolution.
    """
    facts = _facts(trial, folder)
    speed = speeds.get((facts["backbone"], facts["spec"].get("resolution", 0)))
    limits, method = sure.intervals.get(trial.number, (None, None))
    return Row(
        rank=rank,
        score=score,
        ci95=limits,
        ci_method=method,
        behind_best_ci95=sure.behind.get(trial.number),
        tied_with_best=rank == 1 or trial.number in sure.tied,
        latency=speed if speed and speed["one"]["median_ms"] == facts["latency_ms"] else None,
        **facts,
    )


def _identity(trial: FrozenTrial, folder: StudyFolder) -> dict[str, Any]:
    params = {name: value for name, value in trial.params.items() if name != "backbone"}
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "backbone": str(backbone_of(trial) or "unknown"),
        "params": params,
        "epochs": epochs_of(trial),
        "command": f"automl refit {folder.argument} --trial {trial.number}" if "spec" in trial.user_attrs else "",
    }


def _facts(trial: FrozenTrial, folder: StudyFolder) -> dict[str, Any]:
    attrs = trial.user_attrs
    same = ("train_seconds", "model_parameters", "latency_ms", "peak_memory_mb", "max_epochs", "origin")
    return {
        **_identity(trial, folder),
        **{name: attrs.get(name) for name in (*same, "trainable_parameters")},
        "reason": str(attrs.get("reason") or trial.state.name.lower()),
        "metrics": attrs.get("metrics") or {},
        "spec": attrs.get("spec") or {},
    }


def failure(trial: FrozenTrial, folder: StudyFolder) -> Failure:
    """Return the line of a trial without a usable score."""
    reason = trial.user_attrs.get("reason") or "no finite score"
    if reason in {"pruned", "complete", "truncated"}:
        reason = "pruned before its first score" if reason == "pruned" else "no finite score"
    return Failure(**_identity(trial, folder), reason=str(reason), message=str(trial.user_attrs.get("message") or ""))
