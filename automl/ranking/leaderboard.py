"""The leaderboard of a study: which configuration is best, how sure that is, and what became of every other trial.

Reads the Optuna study and the files that trials leave, never live objects, so it can be built at any moment: in the
middle of a search, after a crash, or years later from the folder alone. Whatever is missing (predictions, a plan, a
refit) costs its own column and is named in `Leaderboard.notes`; it never stops the build.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.paths import StudyFolder
from automl.ranking import tables
from automl.ranking.files import load_groups, load_json, load_predictions
from automl.ranking.statistics import METRICS, Predictions, difference, interval, score

__all__ = ["RULES", "SCHEMA_VERSION", "Failure", "Leaderboard", "Row", "best_trial", "build"]

SCHEMA_VERSION = 1
RULES = (
    "Finished trials come before pruned ones, whatever their scores. A trial that was resumed has one row, its latest.",
    (
        "Finished trials are ranked by score; equal scores by fewer parameters, then lower log loss, then the earlier "
        "trial. A trial that the budget cut short (truncated) counts with the epochs it reached and is labelled."
    ),
    (
        "Pruned trials are ranked by the epochs they reached, then by their score there: who was let run longer had "
        "won the comparison before."
    ),
    (
        "A finished trial is tied with the best when the 95 % interval of the paired difference on the same "
        "validation images contains zero (per pair, without a correction for the number of trials)."
    ),
)
_NOT_RANKED = frozenset({"diverged", "out_of_memory", "crashed"})
_SAME_SCORE = 1e-4


@dataclass(frozen=True)
class Row:
    """One ranked trial. Seconds, MB (2**20 bytes) and milliseconds; None where it was not measured."""

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

    @property
    def label(self) -> str:
        """How the trial ended, where that is not "at its last epoch"; else an empty string."""
        of = f" of {self.max_epochs}" if self.max_epochs else ""
        words = {"truncated": "cut short by the budget after epoch", "complete": ""}
        word = words.get(self.reason, "pruned after epoch" if self.state == "PRUNED" else self.reason)
        return f"{word} {self.epochs}{of}" if word else ""


@dataclass(frozen=True)
class Failure:
    """One trial without a usable score."""

    trial: int
    state: str
    backbone: str
    params: Mapping[str, Any]
    reason: str
    message: str
    epochs: int
    command: str


@dataclass(frozen=True)
class Leaderboard:
    """The ranked trials of a study and everything that was not ranked.

    `direction` is "maximize" or "minimize", `counts` the number of trials by Optuna's state, `stop_reason` is None
    while the search runs, `refit` the content of ``model/metrics.json`` or None.
    """

    study: str
    metric: str
    direction: str
    stop_reason: str | None
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    refit: Mapping[str, Any] | None
    counts: Mapping[str, int]
    validation_images: int | None
    rules: tuple[str, ...] = RULES
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Row | None:
        return self.rows[0] if self.rows else None

    @property
    def tied(self) -> tuple[Row, ...]:
        """The rows that cannot be told apart from the best, without the best."""
        return tuple(row for row in self.rows[1:] if row.tied_with_best)

    def to_dict(self) -> dict[str, Any]:
        """Return what `to_json` writes: plain types, no NaN or infinity."""
        content: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
        for each in fields(self):
            content[each.name] = getattr(self, each.name)
        for name in ("rows", "failures"):
            content[name] = [{each.name: getattr(row, each.name) for each in fields(row)} for row in content[name]]
        plain = _plain(content)
        assert isinstance(plain, dict)
        return plain

    def to_json(self) -> str:
        """Return the contract of DESIGN.md, ``schema_version`` 1 (keys may be added, none removed)."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return one line per trial, those without a score last; safe to open in a spreadsheet."""
        return tables.to_csv(self)

    def to_markdown(self) -> str:
        """Return the answer, a table, and the rules, for a README or a pull request."""
        return tables.to_markdown(self)


def build(folder: StudyFolder, *, study: optuna.Study) -> Leaderboard:
    """Rank the trials of `study`, with intervals from the predictions kept in `folder`; `RULES` says how."""
    attrs = study.user_attrs
    metric, seed = str(attrs.get("metric", "accuracy")), int(attrs.get("seed") or 0)
    sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state.is_finished()]
    latest = {trial.user_attrs.get("root", trial.number): trial for trial in finished if _is_ranked(trial)}
    ranked = sorted(latest.values(), key=lambda trial: _order(trial, sign))  # of a resumed trial the last attempt
    notes: list[str] = []
    groups = load_groups(folder)
    missing: list[int] = []
    stale: list[int] = []
    best: Predictions | None = None
    rows: list[Row] = []
    for rank, trial in enumerate(ranked, start=1):
        value, ci, behind = _score(trial), None, None
        assert value is not None
        predictions = load_predictions(folder.trial(trial.number), groups)
        if predictions is None:
            missing.append(trial.number)
        elif metric in METRICS and abs(score(metric, predictions) - value) > _SAME_SCORE:
            stale.append(trial.number)
            predictions = None
        if predictions is not None and metric in METRICS:
            ci = interval(metric, predictions, seed=[seed, trial.number])
            if rank == 1:
                best = predictions
            elif best is not None and best.same_images(predictions) and trial.state == ranked[0].state:
                behind = difference(metric, best, predictions, seed=[seed, ranked[0].number, trial.number])
        rows.append(
            Row(
                rank=rank,
                score=value,
                ci95=(ci.low, ci.high) if ci else None,
                ci_method=ci.method if ci else None,
                behind_best_ci95=(behind.low, behind.high) if behind else None,
                tied_with_best=rank == 1 or (behind is not None and 0.0 in behind),
                **_facts(trial, folder),
            )
        )
    if missing:
        notes.append(f"No interval, no comparison: trials without readable predictions: {_list(missing)}.")
    if stale:
        notes.append(f"No interval: the predictions kept are not those of the score, trials {_list(stale)}.")
    package = load_json(folder.model / "metrics.json")
    refit = package if package is not None and "test" in package else None  # else of a search that has not ended
    return Leaderboard(
        study=folder.name,
        metric=metric,
        direction=study.direction.name.lower(),
        stop_reason=attrs.get("stop_reason"),
        rows=tuple(rows),
        failures=tuple(_failure(trial, folder) for trial in finished if not _is_ranked(trial)),
        refit=refit,
        counts={state.name: sum(trial.state == state for trial in trials) for state in TrialState},
        validation_images=None if best is None else len(best.targets),
        notes=tuple(notes),
    )


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the finished trial that the leaderboard of `study` has first, which the refit retrains; None if none is.

    ``study.best_trial`` takes another one where scores are equal, as they often are on few validation images.
    """
    sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
    finished = [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if _is_ranked(trial)]
    return min(finished, key=lambda trial: _order(trial, sign), default=None)


def _is_ranked(trial: FrozenTrial) -> bool:
    good = trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and _score(trial) is not None
    return good and trial.user_attrs.get("reason") not in _NOT_RANKED


def _score(trial: FrozenTrial) -> float | None:
    """The value told; for a pruned trial the one it last reported."""
    value = trial.value if trial.state == TrialState.COMPLETE else None
    if value is None and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return value if value is not None and math.isfinite(value) else None


def _epochs(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("epochs") or len(trial.intermediate_values))


def _order(trial: FrozenTrial, sign: float) -> tuple[float, ...]:
    value, log_loss = _score(trial), (trial.user_attrs.get("metrics") or {}).get("log_loss")
    assert value is not None
    pruned = trial.state == TrialState.PRUNED
    parameters = trial.user_attrs.get("model_parameters")
    return (
        pruned,
        -_epochs(trial) if pruned else 0,
        sign * value,
        math.inf if parameters is None else parameters,
        math.inf if log_loss is None or math.isnan(log_loss) else log_loss,
        trial.number,
    )


def _identity(trial: FrozenTrial, folder: StudyFolder) -> dict[str, Any]:
    spec = trial.user_attrs.get("spec") or {}
    params = {name: value for name, value in trial.params.items() if name != "backbone"}
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "backbone": str(trial.params.get("backbone") or spec.get("backbone") or "unknown"),
        "params": params,
        "epochs": _epochs(trial),
        "command": f"automl refit {shlex.quote(str(folder.root))} --trial {trial.number}",
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


def _failure(trial: FrozenTrial, folder: StudyFolder) -> Failure:
    reason = trial.user_attrs.get("reason") or "no finite score"
    if reason in {"pruned", "complete", "truncated"}:
        reason = "pruned before its first score" if reason == "pruned" else "no finite score"
    return Failure(**_identity(trial, folder), reason=str(reason), message=str(trial.user_attrs.get("message") or ""))


def _plain(value: Any) -> Any:
    """Plain JSON types; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _list(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown} and {len(numbers) - 10} more" if len(numbers) > 10 else shown
