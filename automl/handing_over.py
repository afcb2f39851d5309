"""The end of a search: the best trial retrained, or handed over as it is, and the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.config import SearchConfig, load_config
from automl.errors import AutoMLError, NoTrialFinishedError, UsageError
from automl.paths import StudyFolder, no_study
from automl.ranking.files import load_json
from automl.ranking.leaderboard import best_trial
from automl.ranking.ranks import best_of_search, confirmation_of
from automl.refitting import adopt_best, is_whole, more_epochs, refit_best
from automl.reporting import write_report
from automl.search.budget import Budget
from automl.search.cluster import Interrupt
from automl.search.driver import Driver
from automl.search.lock import driver_lock
from automl.search.spec import TrialSpec
from automl.search.storage import load_study, storage_kept, storage_url

if TYPE_CHECKING:
    import optuna

__all__ = ["add_stage", "best_so_far", "finish", "refit_trial", "resolved"]

logger = logging.getLogger(__name__)


def finish(
    config: SearchConfig,
    folder: StudyFolder,
    reports: Path,
    study: optuna.Study,
    driver: Driver,
    budget: Budget,
    interrupt: Interrupt,
    ray_address: str | None,
) -> Path:
    """Refit the best trial, unless it is the one that the package holds, and write the report."""
    _confirmation_over(study)
    best = best_trial(study)
    if best is None and not interrupt():
        page = write_report(folder, reports, study)
        failures = [each.user_attrs.get("message") for each in study.trials if each.user_attrs.get("message")]
        cause = f"; the last failure: {failures[-1]}" if failures else ""
        raise NoTrialFinishedError(f"no trial finished (stopped by {driver.stop_reason}){cause}; see {page}")
    if best is not None and not interrupt():
        started = budget.spent()
        seconds, epoch_seconds = driver.clock.refit_time(best)
        driver.note_spent()
        if not _is_packaged(folder, best, seconds=seconds, epoch_seconds=epoch_seconds):
            study.set_user_attr("handing_over", best.number)
            try:
                metrics = refit_best(
                    config, folder, best, seconds=seconds, epoch_seconds=epoch_seconds,
                    foreseen_on=driver.clock.foreseen_on(best), ray_address=ray_address,
                )  # fmt: skip
            except AutoMLError:
                write_report(folder, reports, study)  # what the search found, all the same
                raise
            _note_package(study, metrics)
            retrained = metrics["refitted"] or metrics.get("trained_on")
            add_stage(study, "refit" if retrained else "handing over", budget.spent() - started)
        elif study.user_attrs.get("handing_over") is not None:  # of another, which was cut off
            study.set_user_attr("handing_over", None)
    driver.note_spent()
    page = write_report(folder, reports, study)
    driver.note_spent()
    return page


def refit_trial(folder: StudyFolder, reports: Path, number: int | None) -> dict[str, Any]:
    """Refit one trial of a study (the best by default), write its package and the report. Returns the metrics.

    Raises:
        UsageError: There is no such trial, or it never finished an epoch.
        NoTrialFinishedError: No trial of the study has finished.
    """
    config = resolved(folder)
    with driver_lock(folder, config.search.storage), storage_kept(storage_url(folder, config.search.storage)):
        study = load_study(folder, storage=config.search.storage)
        trial = best_trial(study) if number is None else _numbered(study, number)
        if trial is None:
            raise NoTrialFinishedError(
                f"no trial of {folder.root} has finished; go on with: automl resume {folder.argument}"
            )
        _confirmation_over(study)
        metrics = refit_best(config, folder, trial)
        _note_package(study, metrics)
        write_report(folder, reports, study)
    return metrics


def best_so_far(folder: StudyFolder) -> Path:
    """Return the folder of the study's model package. Before there is one, or after the best trial has changed, it is
    made of the weights that the best trial so far has left; the test split stays closed.

    Raises:
        UsageError: No trial has finished, or its weights are not there.
    """
    metrics = load_json(folder.model / "metrics.json")
    if metrics is not None and "test" in metrics:
        return folder.model
    config = resolved(folder)
    study = load_study(folder, storage=config.search.storage)
    both = [each for each in (best_trial(study), best_of_search(study)) if each is not None]
    best = next((each for each in both if folder.trial(each.number).weights.exists()), None)
    if best is None:
        raise UsageError(f"no model in {folder.root} yet: no trial has finished")
    finished = study.user_attrs.get("refitted") is not None and (folder.model / "package.json").exists()
    if finished and (metrics is None or "trial" not in metrics):
        raise UsageError(
            f"the model package in {folder.model} is damaged: metrics.json is missing or not its own; "
            f"make it anew with automl refit {folder.argument}"
        )
    if metrics is None or metrics.get("trial") != best.number:
        adopt_best(config, folder, best, note="the best so far of a search that has not ended", open_test=False)
    return folder.model


def resolved(folder: StudyFolder) -> SearchConfig:
    if not folder.resolved.exists():
        raise UsageError(no_study(folder))
    return load_config(folder.resolved)


def _note_package(study: optuna.Study, metrics: Mapping[str, Any]) -> None:
    """Remember what the package holds."""
    study.set_user_attr("refitted", metrics["trial"])
    study.set_user_attr("handing_over", None)
    study.set_user_attr("refit_epochs", metrics["epochs"] if metrics["refitted"] else 0)


def _confirmation_over(study: optuna.Study) -> None:
    """Note that nothing is being trained again, whatever an earlier command has left."""
    kept = confirmation_of(study)
    if kept and "winner" not in kept:
        study.set_user_attr("confirmation", {**kept, "over": True})


def _is_packaged(folder: StudyFolder, best: optuna.trial.FrozenTrial, *, seconds: float, epoch_seconds: float) -> bool:
    """Whether the package holds `best` as well as `seconds` allow: retrained for all of its epochs, or, where there is
    no time for that, trained on, or where there is none for that either, with its own weights."""
    metrics = load_json(folder.model / "metrics.json") or {}
    if metrics.get("trial") != best.number or "test" not in metrics or not is_whole(folder, best):
        return False
    spec = TrialSpec.from_dict(best.user_attrs["spec"])
    if metrics.get("refit_spoiled") or (metrics.get("refitted", True) and metrics["epochs"] >= spec.epochs):
        return True
    if metrics.get("refitted", True) or seconds >= epoch_seconds * spec.epochs:
        return False
    more = more_epochs(spec, seconds=seconds, epoch_seconds=epoch_seconds)
    return bool(metrics.get("trained_on")) or not more or not folder.trial(best.number).weights.exists()


def _numbered(study: optuna.Study, number: int) -> optuna.trial.FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise UsageError(f"no trial {number} in study {study.study_name}: it has trials 0 to {len(trials) - 1}")
    if "spec" not in trials[number].user_attrs:
        raise UsageError(f"trial {number} never started; see automl leaderboard for those that did")
    return trials[number]


def add_stage(study: optuna.Study, stage: str, seconds: float) -> None:
    stages = dict(study.user_attrs.get("stage_seconds", {}))
    stages[stage] = stages.get(stage, 0.0) + round(seconds, 1)
    study.set_user_attr("stage_seconds", stages)
