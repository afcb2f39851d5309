"""The main job from end to end, for the command line and the service alike.

audit → decode once → screening → plan → trials → refit → report
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from automl import __version__
from automl.config import SearchConfig, dump_config, load_config
from automl.data import Dataset
from automl.errors import AutoMLError, NoTrialFinishedError, UsageError
from automl.paths import StudyFolder, make_folder, write_atomic
from automl.ranking.leaderboard import best_trial
from automl.reporting import write_report
from automl.search.budget import Budget
from automl.search.cluster import Interrupt, Resources, cluster, resources
from automl.search.dataset_features import dataset_features
from automl.search.earlier import find_studies
from automl.search.plan import Plan, cost_model, default_trials, make_plan
from automl.search.runner import run_search
from automl.search.searcher import Driver
from automl.search.spec import wants_balance
from automl.search.storage import (
    check_storage,
    create_study,
    driver_lock,
    load_study,
    storage_kept,
    storage_url,
)
from automl.search.study import StudyRecord
from automl.search.taken import WarmStart
from automl.search.warm_start import learn
from automl.space import make_space
from automl.stages import Progress, audit, decode_once, locate_weights, refit_best, screen, with_full_names

if TYPE_CHECKING:
    import optuna

__all__ = ["SCREENING_SHARE", "finish", "plan", "refit_trial", "resolved", "run_trials", "search", "train_counts"]

logger = logging.getLogger(__name__)

SCREENING_SHARE = 0.25  # of the budget, at most


def search(
    config: SearchConfig,
    folder: StudyFolder,
    reports: Path,
    *,
    weights_dir: Path | None,
    ray_address: str | None,
    interrupt: Interrupt,
    progress: Progress,
    show_plan: Callable[[Plan, Dataset], None],
    plan_only: bool = False,
    started: float | None = None,
) -> Path | None:
    """Run a new study in `folder`. Returns the report's page (None for a plan only).

    Args:
        started: When the command started (time.monotonic), from where the budget counts; default: now.

    Raises:
        ConfigError, MissingWeightsError, DataError, OutputError, StorageError: Before any trial starts.
        NoTrialFinishedError: The search ended without one usable trial.
    """
    budget = Budget(config.search.budget, started=started)
    if folder.resolved.exists():
        raise UsageError(
            f"{folder.root} holds a study already; go on with: automl resume {folder.root} (or choose another --out)"
        )
    if folder.database.exists() and not folder.manifest.exists():
        raise UsageError(f"{folder.database} is not of a search in this folder; choose another --out")
    earlier = find_studies(config.search.warm_start, folder)
    config = with_full_names(config)
    weights = locate_weights(config, weights_dir)
    check_storage(config.search.storage)
    make_folder(folder.root)
    if not plan_only:
        make_folder(reports)  # found to be unwritable now and not after hours
    with driver_lock(folder), storage_kept(storage_url(folder, config.search.storage)):
        dataset = audit(config, folder, progress)
        space = make_space([each.name for each in config.backbones], config.params)
        decode_once(config, folder, dataset, space, progress)
        audit_seconds = budget.spent()
        with cluster(ray_address):
            share, reason = resources(
                config.search.cpus_per_trial, config.search.gpus_per_trial, config.search.concurrency
            )
            balanced, balance_reason = wants_balance(
                config.training.class_weights, config.search.metric, train_counts(dataset)
            )
            screened = screen(
                config, folder, space, weights, share, progress, seconds=SCREENING_SHARE * config.search.budget
            )
            made = make_plan(
                config, dataset, space, screened, seconds_left=budget.left(), seconds_spent=budget.spent(),
                choices=[
                    *screened[0].choices,
                    {"name": "trials at once", "value": share.concurrency, "reason": reason},
                    {"name": "class weights", "value": "balanced" if balanced else "none", "reason": balance_reason},
                ],
            )  # fmt: skip
            features = dataset_features(dataset.audit, made.to_dict())
            taught = WarmStart()
            if earlier:
                kept = make_space(made.backbones, config.params)
                taught = learn(earlier, features, kept, metric=config.search.metric, weights=weights)
                made = replace(made, warm_start=taught.to_dict())
            write_atomic(folder.plan, made.to_json())
            show_plan(made, dataset)
            if plan_only:
                return None
            made.check_budget()
            study = _create(config, folder, dataset)
            study.set_user_attr("weights", weights)
            study.set_user_attr("dataset_features", features.to_dict())
            if earlier:
                study.set_user_attr("warm_start", taught.to_dict())
            study.set_user_attr("stage_seconds", {"audit": audit_seconds, "screening": budget.spent() - audit_seconds})
            write_atomic(folder.resolved, dump_config(config))  # last: its presence says that there is a study
            driver = run_trials(config, folder, study, dataset, made, weights, budget, share, balanced, interrupt)
        return finish(config, folder, reports, study, driver, budget, interrupt)


def plan(config: SearchConfig, folder: StudyFolder, **options: Any) -> None:
    """Audit, screen and plan, without searching. Options as `search`."""
    search(config, folder, Path("reports"), plan_only=True, **options)


def refit_trial(folder: StudyFolder, reports: Path, number: int | None) -> dict[str, Any]:
    """Refit one trial of a study (the best by default), write its package and the report. Returns the metrics.

    Raises:
        UsageError: There is no such trial, or it never finished an epoch.
        NoTrialFinishedError: No trial of the study has finished.
    """
    config = resolved(folder)
    with driver_lock(folder), storage_kept(storage_url(folder, config.search.storage)):
        study = load_study(folder, storage=config.search.storage)
        trial = best_trial(study) if number is None else _numbered(study, number)
        if trial is None:
            raise NoTrialFinishedError(
                f"no trial of {folder.root} has finished; go on with: automl resume {folder.root}"
            )
        metrics = refit_best(config, folder, trial)
        _note_refit(study, metrics)
        write_report(folder, reports, study)
    return metrics


def _create(config: SearchConfig, folder: StudyFolder, dataset: Dataset) -> optuna.Study:
    if config.search.storage is None:  # of a search that was killed before its first trial
        for leftover in folder.root.glob(f"{folder.database.name}*"):
            leftover.unlink()
    direction: Literal["minimize", "maximize"] = "minimize" if config.search.metric == "log_loss" else "maximize"
    study = create_study(folder, storage=config.search.storage, direction=direction)
    attrs = {
        "metric": config.search.metric,
        "seed": config.search.seed,
        "dataset_fingerprint": dataset.fingerprint,
        "classes": list(dataset.classes),
        "max_epochs": config.training.epochs,
        "budget_seconds": config.search.budget,
        "command": shlex.join(["automl", *sys.argv[1:]]),
        "version": __version__,
    }
    for key, value in attrs.items():
        study.set_user_attr(key, value)
    return study


def run_trials(
    config: SearchConfig,
    folder: StudyFolder,
    study: optuna.Study,
    dataset: Dataset,
    made: Plan,
    weights: Mapping[str, str],
    budget: Budget,
    share: Resources,
    balanced: bool,
    interrupt: Interrupt,
) -> Driver:
    space = make_space(made.backbones, config.params)
    started = budget.spent()
    before = float(study.user_attrs.get("spent_seconds", 0.0))
    driver = Driver(
        StudyRecord(study),
        folder=folder,
        config=config,
        space=space,
        weights=weights,
        defaults=default_trials(made.backbones, space),
        taken=WarmStart.from_dict(study.user_attrs.get("warm_start", {})).taken,
        costs=cost_model(made.screened, dataset),
        latency={(each.backbone, side): ms for each in made.screened for side, ms in each.latencies.items()},
        budget=budget,
        balanced=balanced,
        interrupted=interrupt,
        spent_before=before,
        memory_share=share.gpus or 1 / share.concurrency,
    )
    study.set_user_attr("stop_reason", None)
    study.set_user_attr("spent_before", before)
    with interrupt.deferred():
        run_search(driver, folder, share, interrupted=interrupt)
        driver.finish_rest()
    if interrupt():
        driver.stop_reason = "interrupted"
    study.set_user_attr("stop_reason", driver.stop_reason or "budget")
    _add_stage(study, "search", budget.spent() - started)
    return driver


def finish(
    config: SearchConfig,
    folder: StudyFolder,
    reports: Path,
    study: optuna.Study,
    driver: Driver,
    budget: Budget,
    interrupt: Interrupt,
) -> Path:
    """Refit the best trial, unless it is the one that the package holds, and write the report."""
    best = best_trial(study)
    if best is None and not interrupt():
        page = write_report(folder, reports, study)
        failures = [each.user_attrs.get("message") for each in study.trials if each.user_attrs.get("message")]
        cause = f"; the last failure: {failures[-1]}" if failures else ""
        raise NoTrialFinishedError(f"no trial finished (stopped by {driver.stop_reason}){cause}; see {page}")
    if best is not None and not interrupt() and not _is_refitted(study, best):
        started = budget.spent()
        seconds, epoch_seconds = driver.clock.refit_time(best)
        try:
            metrics = refit_best(config, folder, best, seconds=seconds, epoch_seconds=epoch_seconds)
        except AutoMLError:
            write_report(folder, reports, study)  # what the search found, all the same
            raise
        _note_refit(study, metrics)
        _add_stage(study, "refit", budget.spent() - started)
    study.set_user_attr("spent_seconds", driver.spent_before + budget.spent())
    return write_report(folder, reports, study)


def resolved(folder: StudyFolder) -> SearchConfig:
    if not folder.resolved.exists():
        raise UsageError(
            f"no study in {folder.root}: expected {folder.resolved.name} there; start one with automl search"
        )
    return load_config(folder.resolved)


def _note_refit(study: optuna.Study, metrics: Mapping[str, Any]) -> None:
    """Remember what the package holds."""
    study.set_user_attr("refitted", metrics["trial"])
    study.set_user_attr("refit_epochs", metrics["epochs"])


def _is_refitted(study: optuna.Study, best: optuna.trial.FrozenTrial) -> bool:
    """Whether the package holds `best`, trained for all of its epochs."""
    attrs = study.user_attrs
    return attrs.get("refitted") == best.number and attrs.get("refit_epochs", 0) >= best.user_attrs["spec"]["epochs"]


def _numbered(study: optuna.Study, number: int) -> optuna.trial.FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise UsageError(f"no trial {number} in study {study.study_name}: it has trials 0 to {len(trials) - 1}")
    if "spec" not in trials[number].user_attrs:
        raise UsageError(f"trial {number} never started; see automl leaderboard for those that did")
    return trials[number]


def train_counts(dataset: Dataset) -> dict[str, int]:
    return {label: counts["train"] for label, counts in dataset.audit.counts.items()}


def _add_stage(study: optuna.Study, stage: str, seconds: float) -> None:
    stages = dict(study.user_attrs.get("stage_seconds", {}))
    stages[stage] = stages.get(stage, 0.0) + round(seconds, 1)
    study.set_user_attr("stage_seconds", stages)
