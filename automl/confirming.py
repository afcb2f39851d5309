"""Between the search and the refit: the best configurations are trained again on new splits, and one is chosen.

What came of each run is kept in the study as soon as it is known, so whatever is interrupted goes on from there.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from automl.errors import last_line
from automl.handing_over import add_stage
from automl.job import Job
from automl.ranking import leaderboard
from automl.ranking.confirmed import choose
from automl.ranking.ranks import confirmation_of
from automl.search.cluster import each_task
from automl.search.confirm import ConfirmationRun, confirm_on_worker
from automl.search.driver import Driver
from automl.search.spec import TrialSpec

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial
__all__ = ["confirm"]

logger = logging.getLogger(__name__)

MOST = 10  # configurations
LEAST = 3  # where the time allows, whether or not so many are tied


def confirm(job: Job, study: optuna.Study, driver: Driver) -> None:
    """Train the best configurations again, as many and as often as there is time for before the refit, and keep in the
    study which is chosen. Where there is no time for two, the best of the search stays chosen."""
    repeats = job.config.search.repeats
    if not repeats or job.interrupt():
        return
    started = job.budget.spent()
    wanted, tied = _best(job, study)
    trials, often = driver.clock.confirmable(wanted)
    if len(trials) < 2 or not often:
        logger.info("not trained again: there is no time for two of the best configurations in full before the refit")
        _choose(job, study)  # from what one that was interrupted has left, if it has
        return
    no_time = [each.number for each in tied if each not in trials and _only_itself(job, study, driver, each)]
    redrawn = job.dataset.audit.splits.get("validation") != "given"
    kept = _kept(study, trials, often) | {"redrawn": redrawn, "no_time": no_time}
    study.set_user_attr("confirmation", kept)
    known = _over(kept["done"])
    runs = [
        _run(job, driver, each, run)
        for run in range(1, often + 1)
        for each in trials
        if (each.number, run) not in known
    ]
    times = "once" if often == 1 else f"{often} times"
    where = "new splits" if kept["redrawn"] else "the validation images that were given, with new seeds"
    logger.info("training again, %s each, on %s: trials %s", times, where, ", ".join(map(str, kept["trials"])))

    def done(index: int, result: Any) -> None:
        wanted = runs[index]
        if isinstance(result, Exception):
            why = last_line(result)[:500]
            kept["failed"][str(wanted.trial)] = why
            logger.warning("trial %d could not be trained again: %s", wanted.trial, why)
        else:
            kept["done"].append(result)
            if not any(each.trial == wanted.trial for each in _still(runs, kept)):
                kept["failed"].pop(str(wanted.trial), None)
            logger.info("trial %d trained again, %d of %d: %s %.4f after %.0f s", wanted.trial, wanted.run, often,
                        wanted.spec.metric, result["score"], result["seconds"])  # fmt: skip
        study.set_user_attr("confirmation", kept)
        driver.note_spent()

    def train() -> None:
        work = [(str(job.folder.root.resolve()), each) for each in runs]
        each_task(confirm_on_worker, work, job.share, done=done, enough=lambda: driver.clock.before_refit(trials) < 0)

    try:
        train()
        if kept["failed"] and driver.clock.before_refit(trials) > 0:  # once more, as trials are: a worker may be lost
            runs = [each for each in _still(runs, kept) if str(each.trial) in kept["failed"]]
            train()
        _choose(job, study)
    finally:
        add_stage(study, "confirmation", job.budget.spent() - started)
        driver.note_spent()


def _choose(job: Job, study: optuna.Study) -> None:
    found = choose(job.folder, study)
    kept = confirmation_of(study)
    if found is None and kept:
        if "over" not in kept:
            logger.warning("nothing is chosen by training again: %d of %d runs are done, %d of the trials failed",
                           len(kept["done"]), kept["runs"] * len(kept["trials"]), len(kept["failed"]))  # fmt: skip
        study.set_user_attr("confirmation", {**kept, "over": True})
    elif found is not None:
        study.set_user_attr("confirmation", {**kept, "winner": found.winner, "why": found.why})
        logger.info("chosen: trial %d with %s %.4f on average: %s", found.winner, job.config.search.metric,
                    found.chosen.score, found.why)  # fmt: skip


def _best(job: Job, study: optuna.Study) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
    """Return the trials that are worth it, by rank: those tied with the best, and at least the first three. None where
    the budget cut the best itself short: no other may be chosen in its place. And all that are tied with the best."""
    board = leaderboard.build(job.folder, study=study, confirmation=False)
    if board.best is None or board.best.reason != "complete":
        return [], []
    whole = [row for row in board.rows if row.reason == "complete"]
    tied = [row.trial for row in whole if row.tied_with_best]
    wanted = [row.trial for i, row in enumerate(whole) if row.trial in tied or i < LEAST][:MOST]
    trials = study.get_trials(deepcopy=False)
    return [trials[number] for number in wanted], [trials[row.trial] for row in board.tied]


def _only_itself(job: Job, study: optuna.Study, driver: Driver, trial: FrozenTrial) -> bool:
    """Whether `trial` has never been trained again, cannot be refitted in time, and has its own weights."""
    done = {each["trial"] for each in confirmation_of(study).get("done", [])}
    there = job.folder.trial(trial.number).weights.exists()
    return there and trial.number not in done and not driver.clock.refits(trial.params)


def _kept(study: optuna.Study, trials: list[FrozenTrial], often: int) -> dict[str, Any]:
    """Return what is kept of the confirmation of `trials`, with what came of an earlier one."""
    numbers = [each.number for each in trials]
    earlier = confirmation_of(study)
    done = [each for each in earlier.get("done", []) if each["trial"] in numbers]
    over = _over(done)
    to_do = {str(number) for number in numbers for run in range(1, often + 1) if (number, run) not in over}
    failed = {number: why for number, why in earlier.get("failed", {}).items() if number in to_do}
    return {"trials": numbers, "runs": often, "done": done, "failed": failed}


def _over(done: list[dict[str, Any]]) -> set[tuple[int, int]]:
    """Return the trial and run of each that is done."""
    return {(each["trial"], each["run"]) for each in done}


def _still(runs: list[ConfirmationRun], kept: dict[str, Any]) -> list[ConfirmationRun]:
    """Return those of `runs` that are not done."""
    over = _over(kept["done"])
    return [each for each in runs if (each.trial, each.run) not in over]


def _run(job: Job, driver: Driver, trial: FrozenTrial, run: int) -> ConfirmationRun:
    spec = TrialSpec.from_dict(trial.user_attrs["spec"])
    silent = driver.hang_after(asdict(spec))
    return ConfirmationRun.of(trial.number, run, spec, seed=job.config.search.seed, hang_after=silent)
