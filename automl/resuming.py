"""Going on with a study: after an interruption, with more time or trials, or in a wider space.

The study says what was done. Everything else is found in its folder, checked, and rebuilt where it is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.beginning import widen
from automl.config import RunConfig, SearchConfig, dump_config, extended, parse_config
from automl.confirming import confirm
from automl.data import Dataset, changes
from automl.errors import UsageError
from automl.handing_over import add_stage, finish, resolved
from automl.job import Job
from automl.paths import StudyFolder, make_folder, remove_leftovers, write_atomic
from automl.pipeline import SCREENING_SHARE, run_trials, taught, train_counts
from automl.ranking.ranks import confirmation_of
from automl.search.budget import Budget
from automl.search.cluster import Interrupt, Resources, check_address, cluster, each_task, resources
from automl.search.earlier import find_studies
from automl.search.lock import driver_lock
from automl.search.plan import Plan, load_plan
from automl.search.planning import make_plan
from automl.search.spec import wants_balance
from automl.search.storage import load_study, storage_kept, storage_url
from automl.search.study import StudyRecord, counts
from automl.space import make_space
from automl.stages import (
    Progress,
    Screening,
    check_screened,
    decode_once,
    locate_weights,
    measure_anew,
    screen,
    with_full_names,
)
from automl.training import device_names

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

__all__ = ["resume"]

logger = logging.getLogger(__name__)

MADE_ANEW = ("first answer", "hand over", "train again", "training precision")  # choices of a plan


def resume(
    folder: StudyFolder,
    reports: Path,
    *,
    more_budget: float | None,
    on_top: bool = False,
    more_trials: int | None,
    repeats: int | None = None,
    wider: SearchConfig | None = None,
    weights_dir: Path | None,
    ray_address: str | None,
    interrupt: Interrupt,
    progress: Progress,
    show_plan: Callable[[Plan, Dataset], None],
    started: float | None = None,
) -> Path | None:
    """Go on with the study in `folder`, with what is left of its budget, or with `more_budget` seconds instead (or
    `on_top` of what is left).

    Args:
        started: When the command started (time.monotonic), from where the budget counts; default: now.
        repeats: How often each of the best is trained again from now on; default: as the study began.
        wider: A space with more backbones or choices than the study's, to go on in.
        weights_dir: Needed only where the weights that the study began with are no longer in their places.

    Raises:
        UsageError: There is no study, or its data have changed.
        ConfigError: The wider space does not hold the study's.
        StorageError: Another driver holds it, or the storage cannot be reached.
    """
    config = resolved(folder)
    check_address(ray_address)
    make_folder(reports)
    with driver_lock(folder, config.search.storage), storage_kept(storage_url(folder, config.search.storage)):
        study = load_study(folder, storage=config.search.storage)
        remove_leftovers(folder.root)
        spent = float(study.user_attrs.get("spent_seconds", 0.0))
        if more_trials is not None:
            done = sum(each.state.is_finished() and counts(each) for each in study.get_trials(deepcopy=False))
            config = _with(config, trials=(config.search.trials or done) + more_trials)
        if repeats is not None:
            config = _with(config, repeats=repeats)
        left = max(0.0, config.search.budget - spent)
        seconds = left if more_budget is None else more_budget + (left if on_top else 0.0)
        config = _with(config, budget=max(config.search.budget, spent + seconds, 1.0))
        budget = Budget(seconds, started=started)
        if seconds <= 0:
            logger.warning("the budget of this study is spent, so no new trial starts; give it more with --budget +1h")
        orphans = StudyRecord(study).fail_orphans(max_retries=config.search.max_retries)
        if orphans:
            logger.info("interrupted trials enqueued again: %s", ", ".join(map(str, orphans)))
        dataset = Dataset.load(folder.manifest, folder.audit)
        since = folder.manifest.stat().st_mtime
        found = changes(Path(dataset.audit.source), dataset, since=since)
        if found or dataset.fingerprint != study.user_attrs["dataset_fingerprint"]:
            what = "; ".join(found) or f"{folder.manifest} is not the study's"
            raise UsageError(
                f"the data of {folder.root} have changed since the study began: {what}; "
                "start a new study with --out, or put them back"
            )
        config, known = _checked(study, config)
        made = load_plan(folder.plan)
        if wider is not None:
            config = extended(config, with_full_names(wider))
        weights = dict(study.user_attrs.get("weights", {}))
        if weights_dir is not None or wider is not None or not weights or not all(map(_is_there, weights.values())):
            weights = locate_weights(config, weights_dir)
        space = make_space([each.name for each in config.backbones], config.params)
        decode_once(config, folder, dataset, space, progress)
        with cluster(ray_address, config.search.gpus_per_trial):
            search = config.search
            share, reason = resources(search.cpus_per_trial, search.gpus_per_trial, search.concurrency)
            balanced, _ = wants_balance(config.training.class_weights, config.search.metric, train_counts(dataset))
            job = Job(config, folder, dataset, weights, budget, share, balanced, interrupt)
            _note_stages(study, spent, budget.spent())
            added, moved = len(config.backbones) > known, seconds > 0 and _moved(made, share, ray_address)
            if wider is not None or added or made.unfinished or more_budget is not None or moved:
                trials, began = study.get_trials(deepcopy=False), budget.spent()
                added = added and not made.unfinished
                at_once = {"name": "trials at once", "value": share.concurrency, "reason": reason}
                made = replace(made, choices=[at_once if each["name"] == at_once["name"] else each
                                              for each in made.choices])  # fmt: skip
                made = _planned_again(job, made, progress, added=added, moved=moved, trials=trials)
                add_stage(study, "screening", budget.spent() - began)
                show_plan(made, dataset)
            write_atomic(folder.resolved, dump_config(config))
            study = widen(study, job, made)
            study.set_user_attr("budget_seconds", config.search.budget)
            driver = run_trials(job, study, made, spent_before=spent)
            confirm(job, study, driver)
        return finish(config, folder, reports, study, driver, budget, interrupt, ray_address)


def _note_stages(study: optuna.Study, spent: float, starting: float) -> None:
    """Note for what time went that no stage was told of: what a driver did as it was killed, and `starting` again.

    Args:
        spent: Seconds that the study had taken before.
    """
    told = sum(study.user_attrs.get("stage_seconds", {}).values())
    if spent > told:
        searched = study.user_attrs.get("stop_reason") is not None
        add_stage(study, "confirmation" if searched and confirmation_of(study) else "search", spent - told)
    add_stage(study, "audit", starting)


def _checked(study: optuna.Study, config: SearchConfig) -> tuple[SearchConfig, int]:
    """Return `config` of the study's file, which a person may have edited, with how many backbones the study had.

    Raises:
        ConfigError: It no longer holds what the study tried; each difference is a line.
    """
    began = study.user_attrs.get("config")
    if began is None:
        return config, len(config.backbones)
    old = parse_config(began, "the study")
    return extended(old, config).model_copy(update={"search": config.search}), len(old.backbones)


def _moved(made: Plan, share: Resources, ray_address: str | None) -> bool:
    """Whether the plan was made on another kind of device than trials get now: of this machine, or of the cluster."""
    here = device_names()
    if ray_address is not None:
        (found,) = each_task(device_names, [()], share, done=lambda index, result: None)
        return isinstance(found, set) and not any(each.cost.device in found for each in made.screened)
    return any(each.cost.device not in here for each in made.screened)


def _planned_again(
    job: Job, made: Plan, progress: Progress, *, added: bool, moved: bool, trials: Sequence[FrozenTrial]
) -> Plan:
    """Screen the backbones that were not screened yet, measure the latency of others at resolutions that the space has
    got since, and plan again with what the study tries already kept.

    Args:
        added: Whether the space has backbones that the study did not have, one of which must do.
        moved: Whether the study was planned on another device, so that all are screened again.
        trials: Of the study.
    """
    config, budget = job.config, job.budget
    known = {each.backbone for each in made.screened}
    space = make_space([each.name for each in config.backbones], config.params)
    pinned_first = sorted(config.backbones, key=lambda each: not each.pinned)
    rest = [each.name for each in pinned_first if moved or each.name not in known]
    screened = sorted(made.screened, key=lambda each: each.backbone not in made.backbones)  # as choices are stored
    screened = measure_anew(config, screened, len(job.dataset.classes), job.share)
    new = Screening()
    if rest:
        seconds = SCREENING_SHARE * budget.seconds
        new = screen(
            config, job.folder, rest, job.weights, job.share, progress, seconds=seconds, longest=0.0, known=known,
            side=job.dataset.audit.side,
        )  # fmt: skip
    if added:
        check_screened(new, budget)
    fresh = {each.backbone: each for each in new.found}
    screened = [*(fresh.pop(each.backbone, each) for each in screened), *fresh.values()]
    choices = [each for each in made.choices if each["name"] not in MADE_ANEW]
    if moved and new.found:
        names = [each["name"] for each in new.found[0].choices]
        choices = [*new.found[0].choices, *(each for each in choices if each["name"] not in names)]
    again = make_plan(
        config, job.dataset, space, screened, seconds_left=budget.left(), seconds_spent=budget.spent(), choices=choices,
        unscreened=[each for each in new.left_out if each.backbone not in known], keep=made.backbones,
        at_once=job.share.concurrency, memory_share=job.share.memory, trials=trials,
    )  # fmt: skip
    if made.unfinished and not made.warm_start and config.search.warm_start:  # it was killed before it could learn
        try:
            return taught(job, again, find_studies(config.search.warm_start, job.folder))
        except UsageError as error:
            logger.warning("nothing is learned of earlier studies: %s", error)
    return replace(again, warm_start=made.warm_start)


def _is_there(weights: str) -> bool:
    return weights == "none" or Path(weights).exists()


def _with(config: SearchConfig, **changes: Any) -> SearchConfig:
    search = RunConfig.model_validate({**config.search.model_dump(), **changes})
    return config.model_copy(update={"search": search})
