"""How a search stands: who drives it, what runs, what is best so far, and how much of its budget is left."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.paths import StudyFolder
from automl.ranking import words
from automl.ranking.files import load_groups, load_json, load_predictions
from automl.ranking.ranks import best_trial, confirmation_of, score_of
from automl.ranking.statistics import METRICS, interval
from automl.search.lock import driver_of
from automl.search.show import in_words
from automl.search.snapshot import snapshot
from automl.search.study import counts

__all__ = ["Running", "Status", "look", "status_lines"]


@dataclass(frozen=True)
class Running:
    """A running trial: epochs done (0 before the first) of how many, the metric after the last, seconds so far."""

    trial: int
    what: str
    epoch: int
    max_epochs: int
    score: float | None
    seconds: float


@dataclass(frozen=True)
class Status:
    """A study at one moment. `driver` is None when nobody drives it; `best` is None before the first finished trial.

    `trials` counts by Optuna's state; `again` is how many confirmation runs are done, and of how many, until one is
    chosen, on `redrawn` splits or not; `tested` is whether the model handed over was scored on the test images; `gpus`
    is one line per GPU of this machine, as nvidia-smi has it.
    """

    study: str
    metric: str
    driver: str | None
    stop_reason: str | None
    budget_seconds: float
    spent_seconds: float
    trials: dict[str, int]
    trials_per_hour: float | None
    running: list[Running]
    best: dict[str, Any] | None
    gpus: list[str]
    again: tuple[int, int] | None = None
    redrawn: bool = True
    tested: bool = True

    @property
    def left_seconds(self) -> float:
        return max(0.0, self.budget_seconds - self.spent_seconds)

    def to_json(self) -> str:
        return json.dumps({"schema_version": 1, **asdict(self), "left_seconds": self.left_seconds}, indent=1)


def look(folder: StudyFolder, study: optuna.Study, *, now: Callable[[], float] = time.time) -> Status:
    """Read how `study` stands. Takes no lock and writes nothing."""
    study, driver = snapshot(study), driver_of(folder)
    attrs = study.user_attrs
    trials = study.get_trials(deepcopy=False)
    spent = float(attrs.get("spent_seconds", 0.0))
    if driver is not None:
        spent = max(spent, float(attrs.get("spent_before", 0.0)) + now() - driver.since)
    done = [each for each in trials if each.state.is_finished() and counts(each)]
    stages, package = attrs.get("stage_seconds", {}), load_json(folder.model / "metrics.json") or {}
    tested = "test" in package and attrs.get("handing_over") is None  # of an earlier end, if that was cut off
    searched = spent - sum(
        stages.get(stage, 0.0) for stage in ("audit", "screening", "confirmation", "refit", "handing over")
    )
    return Status(
        study=str(folder.root),
        metric=str(attrs.get("metric", "accuracy")),
        driver=str(driver) if driver is not None else None,
        stop_reason=attrs.get("stop_reason"),
        budget_seconds=float(attrs.get("budget_seconds", 0.0)),
        spent_seconds=round(spent, 1),
        trials={state.name: sum(each.state == state for each in trials) for state in TrialState},
        trials_per_hour=round(3600 * len(done) / searched, 1) if done and searched > 0 else None,
        running=[_running(each, now()) for each in trials if each.state == TrialState.RUNNING and driver is not None],
        best=_best(folder, study),
        gpus=_gpus() if driver is not None else [],
        again=_again(study) if driver is not None or not tested else None,
        redrawn=bool((confirmation_of(study) or {}).get("redrawn", True)),
        tested=tested,
    )


def _again(study: optuna.Study) -> tuple[int, int] | None:
    kept = confirmation_of(study)
    if not kept or "winner" in kept or "over" in kept:
        return None
    return len(kept["done"]), kept["runs"] * len(kept["trials"])


def _best(folder: StudyFolder, study: optuna.Study) -> dict[str, Any] | None:
    """The incumbent as the leaderboard has it, without ranking all the others."""
    best, attrs = best_trial(study), study.user_attrs
    if best is None:
        return None
    metric = str(attrs.get("metric", "accuracy"))
    predictions = load_predictions(folder.trial(best.number), load_groups(folder)) if metric in METRICS else None
    ci = interval(metric, predictions) if predictions is not None else None
    return {
        "trial": best.number, "score": score_of(best), "ci95": (ci.low, ci.high) if ci else None,
        "what": in_words(best.user_attrs["spec"]),
    }  # fmt: skip


def _running(trial: FrozenTrial, now: float) -> Running:
    attrs, last = trial.user_attrs, trial.last_step
    return Running(
        trial=trial.number,
        what=in_words(attrs["spec"]) if "spec" in attrs else "",
        epoch=last or 0,
        max_epochs=int(attrs.get("max_epochs", 0)),
        score=None if last is None else trial.intermediate_values[last],
        seconds=round(now - trial.datetime_start.timestamp(), 1) if trial.datetime_start else 0.0,
    )


def _gpus() -> list[str]:
    """Ask nvidia-smi, where there is one: no process of ours may take a CUDA context for this."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = "--query-gpu=index,name,utilization.gpu,memory.used,memory.total"
    try:
        done = subprocess.run([program, query, "--format=csv,noheader"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def status_lines(status: Status) -> list[str]:
    """Return what `automl status` prints."""
    by = status.stop_reason or "an interruption, a kill or an error"
    ended = by if by == "interrupted" else f"stopped by {by}"
    if status.again is not None:
        ended = "cut off while the best were trained again; automl resume goes on"
    elif status.stop_reason is not None and status.best is not None and not status.tested:
        ended += "; its model is not tested yet: automl resume goes on"
    state = f"driven by {status.driver}" if status.driver else f"not running ({ended})"
    spent, left = words.duration(status.spent_seconds), words.duration(status.left_seconds)
    running = "running" if status.driver else "left unfinished"
    states = {name: running if name == "RUNNING" else name.lower() for name in status.trials}
    names = ", ".join(f"{count} {states[name]}" for name, count in status.trials.items() if count)
    pace = f"; {status.trials_per_hour:g} an hour" if status.trials_per_hour else ""
    lines = [
        f"Study    {status.study}: {state}",
        f"Budget   {spent} of {words.duration(status.budget_seconds)} spent, {left} left, refit included",
        f"Trials   {names or 'none yet'}{pace}",
    ]
    for each in status.running:
        score = (
            ""
            if each.score is None
            else f", {words.metric_name(status.metric)} {words.number(status.metric, each.score)}"
        )
        of = f"epoch {each.epoch} of {each.max_epochs}{score}, {words.duration(each.seconds)}"
        lines.append(f"Running  trial {each.trial}: {of}: {each.what}")
    if status.again is not None:
        done, wanted = status.again
        where = "on new splits" if status.redrawn else "on the validation images that were given"
        lines.append(f"Again    {done} of {wanted} trainings of the best {where}")
    if status.best is not None:
        score = words.number(status.metric, status.best["score"])
        bounds = words.bounds(status.metric, status.best["ci95"])
        lines.append(f"Best     trial {status.best['trial']}: {score} ({bounds}): {status.best['what']}")
    return lines + [f"GPU      {line}" for line in status.gpus]
