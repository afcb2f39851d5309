"""The main job from end to end, for the command line and the service alike.

audit → decode once → screening → plan → trials → confirmation → refit → report
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.beginning import begin, space_of, widen
from automl.config import SearchConfig
from automl.confirming import confirm
from automl.data import Dataset
from automl.errors import UsageError
from automl.handing_over import add_stage, finish
from automl.job import Job
from automl.paths import StudyFolder, make_folder, write_atomic
from automl.search.budget import Budget, CostModel
from automl.search.cluster import Interrupt, check_address, cluster, resources
from automl.search.dataset_features import dataset_features
from automl.search.defaults import default_trials
from automl.search.driver import Driver
from automl.search.earlier import find_studies
from automl.search.lock import driver_lock
from automl.search.plan import Plan
from automl.search.planning import cost_model, make_plan
from automl.search.runner import run_one, run_search
from automl.search.spec import wants_balance
from automl.search.storage import (
    check_storage,
    storage_kept,
    storage_url,
)
from automl.search.study import StudyRecord
from automl.search.taken import WarmStart
from automl.search.warm_start import learn
from automl.space import make_space
from automl.stages import (
    Progress,
    Screening,
    audit,
    check_screened,
    decode_once,
    locate_weights,
    screen,
    with_full_names,
)

if TYPE_CHECKING:
    import optuna

__all__ = ["SCREENING_SHARE", "plan", "run_trials", "search", "taught", "train_counts"]

logger = logging.getLogger(__name__)

SCREENING_SHARE = 0.25  # of the budget, at most
FIRST_SHARE = 0.05  # of the budget, that embedding the images for a first answer may take


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
            f"{folder.root} holds a study already; go on with: automl resume {folder.argument} "
            "(or choose another --out)"
        )
    if folder.database.exists() and not folder.manifest.exists():
        raise UsageError(f"{folder.database} is not of a search in this folder; choose another --out")
    earlier = find_studies(config.search.warm_start, folder)
    config = with_full_names(config)
    weights = locate_weights(config, weights_dir)
    check_storage(folder, config.search.storage)
    check_address(ray_address)
    make_folder(folder.root)
    if not plan_only:
        make_folder(reports)  # found to be unwritable now and not after hours
    with driver_lock(folder, config.search.storage), storage_kept(storage_url(folder, config.search.storage)):
        dataset = audit(config, folder, progress)
        space = make_space([each.name for each in config.backbones], config.params)
        decode_once(config, folder, dataset, space, progress)
        audit_seconds = budget.spent()
        with cluster(ray_address, config.search.gpus_per_trial):
            share, share_reason = resources(
                config.search.cpus_per_trial, config.search.gpus_per_trial, config.search.concurrency
            )
            balanced, balance_reason = wants_balance(
                config.training.class_weights, config.search.metric, train_counts(dataset)
            )
            choices: list[dict[str, Any]] = [
                {"name": "trials at once", "value": share.concurrency, "reason": share_reason},
                {"name": "class weights", "value": "balanced" if balanced else "none", "reason": balance_reason},
            ]
            job = Job(config, folder, dataset, weights, budget, share, balanced, interrupt)
            began = budget.spent()
            study, screened = _first_answer(job, choices, progress) if not plan_only else (None, Screening())
            in_trial = budget.spent() - began - screened.seconds
            screened += _look(job, _not_yet(config, screened), progress, before=screened)
            check_screened(screened, budget)
            first = study is not None or (plan_only and _answers_first(job, screened, choices))
            made = _plan(job, screened, choices, keep=[screened.found[0].backbone] if first else [])
            if earlier:
                made = taught(job, made, earlier)
            show_plan(made, dataset)
            if plan_only:
                write_atomic(folder.plan, made.to_json())
                return None
            stages = {"audit": audit_seconds, "screening": budget.spent() - audit_seconds}
            study = begin(job, made) if study is None else widen(study, job, made)
            if first:
                stages |= {"screening": stages["screening"] - in_trial, "search": round(in_trial, 1)}
            study.set_user_attr("stage_seconds", stages)
            driver = run_trials(job, study, made)
            confirm(job, study, driver)
        return finish(config, folder, reports, study, driver, budget, interrupt, ray_address)


def plan(config: SearchConfig, folder: StudyFolder, **options: Any) -> None:
    """Audit, screen and plan, without searching. Options as `search`."""
    search(config, folder, Path("reports"), plan_only=True, **options)


def taught(job: Job, made: Plan, earlier: Sequence[StudyFolder]) -> Plan:
    """Return the plan with what the studies `earlier` have taught."""
    features = dataset_features(job.dataset.audit, made.to_dict())
    found = learn(earlier, features, space_of(job, made), metric=job.config.search.metric, weights=job.weights)
    return replace(made, warm_start=found.to_dict())


def _first_answer(job: Job, choices: list[dict[str, Any]], progress: Progress) -> tuple[optuna.Study | None, Screening]:
    """Screen as many backbones as run at once and train the head of the first one: whatever happens from here on, there
    is a model. Returns the study, unless it is too early for one, and what was screened.

    Of many images the screening embeds a sample. Where embedding all of them for that head takes long, the other
    backbones are looked at first.
    """
    names = _not_yet(job.config, Screening())
    at_once = job.share.concurrency
    if len(names) <= at_once:  # all are screened as soon as the first
        return None, Screening()
    screened = _look(job, names[:at_once], progress, before=Screening())
    made = _answers_first(job, screened, choices)
    if made is None:
        return None, screened
    study = begin(job, made)
    add_stage(study, "screening", screened.seconds)
    add_stage(study, "audit", job.budget.spent() - screened.seconds)  # with decoding; told exactly once all is planned
    driver = _driver(job, study, made, _first_head(job, made))
    with job.interrupt.deferred():
        run_one(driver, job.folder, job.share, interrupted=job.interrupt)
        driver.finish_rest()
    if job.interrupt():
        raise KeyboardInterrupt
    study.set_user_attr("spent_seconds", job.budget.spent())
    return study, screened


def _answers_first(job: Job, screened: Screening, choices: list[dict[str, Any]]) -> Plan | None:
    """Return the plan for the first backbone alone, where its head is trained before others are looked at."""
    if not screened.found or len(job.config.backbones) <= job.share.concurrency:
        return None
    made = _plan(job, replace(screened, found=screened.found[:1]), choices, unfinished=True)
    params = space_of(job, made).params(_first_head(job, made)[0])
    late = _cost_model(job, made).embedding_seconds(params) > FIRST_SHARE * job.budget.seconds
    too_short = made.budget["least_seconds"] > job.budget.seconds
    return made if CostModel.is_head_only(params) and not late and not too_short else None


def _first_head(job: Job, made: Plan) -> list[dict[str, Any]]:
    return _defaults(job, made, made.backbones)[:1]


def _defaults(job: Job, made: Plan, names: Sequence[str]) -> list[dict[str, Any]]:
    return default_trials(names, space_of(job, made), job.config.training.epochs, job.dataset.audit.side)


def _not_yet(config: SearchConfig, screened: Screening) -> list[str]:
    """Return the backbones that were not looked at yet: the first of the space for a first answer, then the pinned."""
    seen = {each.backbone for each in screened.found} | {each.backbone for each in screened.left_out}
    first, *rest = config.backbones
    order = [first, *sorted(rest, key=lambda each: not each.pinned)]
    return [each.name for each in order if each.name not in seen]


def _look(job: Job, names: Sequence[str], progress: Progress, *, before: Screening) -> Screening:
    """Screen the backbones `names` in what is left of the time for the screening.

    Args:
        before: What was screened of this study by now.
    """
    seconds = SCREENING_SHARE * job.budget.seconds - before.seconds
    longest = 0.0 if before.found else job.budget.left()
    return screen(
        job.config, job.folder, names, job.weights, job.share, progress, seconds=seconds, longest=longest,
        side=job.dataset.audit.side,
    )  # fmt: skip


def _plan(job: Job, screened: Screening, choices: list[dict[str, Any]], **options: Any) -> Plan:
    return make_plan(
        job.config,
        job.dataset,
        make_space([each.name for each in job.config.backbones], job.config.params),
        screened.found,
        unscreened=screened.left_out,
        seconds_left=job.budget.left(),
        seconds_spent=job.budget.spent(),
        choices=[*screened.found[0].choices, *choices],
        at_once=job.share.concurrency,
        memory_share=job.share.memory,
        **options,
    )


def run_trials(job: Job, study: optuna.Study, made: Plan, *, spent_before: float = 0.0) -> Driver:
    """Run the trials of the plan until the search is over. Returns the driver, for what it knows of the time.

    Args:
        spent_before: Seconds that earlier commands took.
    """
    started = job.budget.spent()
    driver = _driver(job, study, made, _defaults(job, made, made.order), spent_before=spent_before)
    study.set_user_attr("stop_reason", None)
    study.set_user_attr("spent_before", spent_before)
    driver.note_spent()
    with job.interrupt.deferred():
        run_search(driver, job.folder, job.share, interrupted=job.interrupt)
        driver.finish_rest()
    if job.interrupt():
        driver.stop_reason = "interrupted"
    study.set_user_attr("stop_reason", driver.stop_reason or "budget")
    add_stage(study, "search", job.budget.spent() - started)
    return driver


def _driver(
    job: Job, study: optuna.Study, made: Plan, defaults: Sequence[Mapping[str, Any]], *, spent_before: float = 0.0
) -> Driver:
    return Driver(
        StudyRecord(study),
        folder=job.folder,
        config=job.config,
        space=space_of(job, made),
        weights=job.weights,
        defaults=defaults,
        taken=WarmStart.from_dict(study.user_attrs.get("warm_start", {})).taken,
        costs=_cost_model(job, made),
        latency={(each.backbone, side): it.one.median_ms for each in made.screened for side, it in each.speeds.items()},
        budget=job.budget,
        balanced=job.balanced,
        interrupted=job.interrupt,
        spent_before=spent_before,
        at_once=job.share.concurrency,
    )


def _cost_model(job: Job, made: Plan) -> CostModel:
    most = job.config.training.micro_batch
    return cost_model(made.screened, job.dataset, memory_share=job.share.memory, most_at_once=most)


def train_counts(dataset: Dataset) -> dict[str, int]:
    return {label: counts["train"] for label, counts in dataset.audit.counts.items()}
