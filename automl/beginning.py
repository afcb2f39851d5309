"""How a study begins, and how it is widened: what is written where, so that it can be resumed from any moment on."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Literal

from automl import __version__
from automl.config import dump_config
from automl.job import Job
from automl.paths import write_atomic
from automl.search.dataset_features import dataset_features
from automl.search.plan import Plan
from automl.search.storage import create_study, extend_choices, load_study, shown_url
from automl.space import Space, make_space

if TYPE_CHECKING:
    import optuna

__all__ = ["begin", "space_of", "widen"]


def space_of(job: Job, made: Plan) -> Space:
    """Return the space that the plan leaves: that of the config, with the backbones of the shortlist."""
    return make_space(made.backbones, job.config.params)


def begin(job: Job, made: Plan) -> optuna.Study:
    """Create the study of a plan, and what resuming it needs.

    Raises:
        NoTrialFinishedError: The budget ends before the cheapest trial does.
    """
    made.check_budget()
    study = _create(job)
    _describe(study, job, made)
    write_atomic(job.folder.plan, made.to_json())
    write_atomic(job.folder.resolved, dump_config(job.config))  # last: its presence says that there is a study
    return study


def _create(job: Job) -> optuna.Study:
    config, folder = job.config, job.folder
    if config.search.storage is None:  # of a search that was killed before its first trial
        for leftover in folder.root.glob(f"{folder.database.name}*"):
            leftover.unlink()
    direction: Literal["minimize", "maximize"] = "minimize" if config.search.metric == "log_loss" else "maximize"
    study = create_study(folder, storage=config.search.storage, direction=direction)
    attrs = {
        "metric": config.search.metric,
        "seed": config.search.seed,
        "dataset_fingerprint": job.dataset.fingerprint,
        "classes": list(job.dataset.classes),
        "max_epochs": config.training.epochs,
        "budget_seconds": config.search.budget,
        "command": shlex.join(["automl", *map(shown_url, sys.argv[1:])]),
        "version": __version__,
    }
    for key, value in attrs.items():
        study.set_user_attr(key, value)
    return study


def widen(study: optuna.Study, job: Job, made: Plan) -> optuna.Study:
    """Let the study go on with the backbones of the plan `made`. Returns it loaded anew.

    Killed in between, it is done again when the study is resumed.
    """
    _describe(study, job, made)
    write_atomic(job.folder.plan, made.to_json())
    extend_choices(study, space_of(job, made))
    return load_study(job.folder, storage=job.config.search.storage)


def _describe(study: optuna.Study, job: Job, made: Plan) -> None:
    """Keep in the study what it needs of its data, its plan, and the places of its weights."""
    study.set_user_attr("config", dump_config(job.config))
    study.set_user_attr("weights", dict(job.weights))
    study.set_user_attr("dataset_features", dataset_features(job.dataset.audit, made.to_dict()).to_dict())
    if made.warm_start:
        study.set_user_attr("warm_start", made.warm_start)
