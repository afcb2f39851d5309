"""Runs trials on Ray Tune: thin adapters between Tune's questions and the driver's answers.

Ray executes and is never asked to remember: its own checkpoints are written to a scratch folder and thrown away.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from automl.errors import OutputError, last_line
from automl.paths import StudyFolder
from automl.search.assignment import Assignment
from automl.search.cluster import Resources, each_task
from automl.search.driver import Driver
from automl.search.spec import TrialSpec
from automl.search.study import Reason
from automl.search.trial import load_dataset, prepare_process, run_trial
from automl.search.watch import watched
from automl.training import Outcome, is_out_of_memory

__all__ = ["run_one", "run_search"]

Result = TypeVar("Result")


def run_search(
    driver: Driver,
    folder: StudyFolder,
    share: Resources,
    *,
    interrupted: Callable[[], bool],
    run: Callable[..., Outcome] = run_trial,
) -> None:
    """Run trials until `driver` starts no more and those running have ended.

    Args:
        run: What a trial does; tests pass one that follows a script.
    """
    scratch = Path(tempfile.mkdtemp(prefix="automl-ray-"))
    failed = _Failed()
    trainable = tune.with_resources(
        tune.with_parameters(_trial_on_worker, root=str(folder.root.resolve()), threads=share.cpus, run=run),
        {"cpu": share.cpus, "gpu": share.gpus},
    )
    try:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_Asks(driver, failed, share.concurrency),
                scheduler=_Reports(driver, failed),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(scratch),
                verbose=0,
                stop=_Stops(driver, interrupted, failed),
                callbacks=[_Tells(driver, failed)],
                checkpoint_config=tune.CheckpointConfig(),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if failed.error is not None:
        raise failed.error


def run_one(
    driver: Driver,
    folder: StudyFolder,
    share: Resources,
    *,
    interrupted: Callable[[], bool],
    run: Callable[..., Outcome] = run_trial,
) -> None:
    """Run what `driver` wants next, if anything, as a Ray task: without Tune, which takes seconds to start.

    Args:
        run: As of `run_search`.
    """
    assignment = driver.next()
    if assignment is None:
        return
    work = (_task_of(assignment), str(folder.root.resolve()), run)
    (found,) = each_task(_trial_alone, [work], share, done=lambda index, result: None, enough=interrupted)
    if found is None:  # interrupted
        return
    if isinstance(found, Exception):
        driver.finish(assignment.number, error=last_line(found))
        return
    for facts in found:
        driver.report(assignment.number, facts)
    driver.finish(assignment.number)


def _task_of(assignment: Assignment) -> dict[str, Any]:
    return {**asdict(assignment), "spec": asdict(assignment.spec)}


def _trial_alone(task: dict[str, Any], root: str, run: Callable[..., Outcome]) -> list[dict[str, Any]]:
    """Run one trial to its end and return what it reported."""
    reports: list[dict[str, Any]] = []
    try:
        outcome = _train(task, root, run, reports.append)
    except Exception as error:
        return [*reports, _failure(error, task, root)]
    return [*reports, {"reason": outcome.reason}]


def _trial_on_worker(config: dict[str, Any], *, root: str, threads: int, run: Callable[..., Outcome]) -> None:
    """The Tune function: one assignment, in a worker process that may run several one after the other."""
    prepare_process(threads)
    try:
        outcome = _train(config, root, run, tune.report)
    except Exception as error:
        tune.report(_failure(error, config, root))
        raise  # the process is not used again
    tune.report({"reason": outcome.reason})


def _train(
    task: Mapping[str, Any], root: str, run: Callable[..., Outcome], report: Callable[[dict[str, Any]], None]
) -> Outcome:
    folder = StudyFolder(Path(root))
    trial = folder.trial(task["number"])
    with watched(trial.log, task["hang_after"], report) as tell:
        dataset = load_dataset(folder)
        return run(
            TrialSpec.from_dict(task["spec"]),
            folder,
            trial,
            train_rows=dataset.rows("train"),
            validation_rows=dataset.rows("validation"),
            time_limit=task["time_limit"],
            report=tell,
        )


def _failure(error: Exception, task: Mapping[str, Any], root: str) -> dict[str, Any]:
    """Keep the traceback of `error` in the trial's log, and return what is reported of it."""
    message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    with contextlib.suppress(OSError):
        StudyFolder(Path(root)).trial(task["number"]).log.write_text("".join(traceback.format_exception(error)))
    return {"reason": _reason_of(error), "message": message[:500]}


def _reason_of(error: BaseException) -> Reason:
    if isinstance(error, OutputError):  # a full disk says nothing against a trial
        return "interrupted"
    return "out_of_memory" if is_out_of_memory(error) else "crashed"


class _Failed:
    """The first exception of the driver, such as a full disk, which Tune would bury in one of its own."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def caught(self, call: Callable[[], Result], otherwise: Result) -> Result:
        """Return what `call` returns; once something has failed, `otherwise`."""
        if self.error is None:
            try:
                return call()
            except Exception as error:
                self.error = error
        return otherwise


class _Unremembered:
    """Tune pickles what it is given, to restore it; here there is nothing to restore, least of all a study's URL."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Asks(_Unremembered, Searcher):
    """Tune's question "what next?", answered by the driver. Keeps no state of its own.

    It limits how many trials run at once, by those whose end has not been told. Tune's own limit
    (`max_concurrent_trials`) counts a trial whose worker could not be used again for ever, and the search hangs.
    """

    def __init__(self, driver: Driver, failed: _Failed, concurrency: int) -> None:
        super().__init__(metric=None, mode=None)
        self._driver, self._failed, self._concurrency = driver, failed, concurrency

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if len(self._driver.running) >= self._concurrency and self._failed.error is None:
            return None
        assignment = self._failed.caught(self._driver.next, None)
        if assignment is None:  # for good, or until a running trial has ended
            over = self._driver.stop_reason is not None or self._failed.error is not None
            return Searcher.FINISHED if over else None
        return _task_of(assignment)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass  # _Tells knows the trial and its exception

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("the Optuna study is the record of a search; use automl resume")

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass


class _Reports(_Unremembered, FIFOScheduler):
    """Every epoch goes to the driver, which says whether the trial goes on."""

    def __init__(self, driver: Driver, failed: _Failed) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._driver, self._failed = driver, failed

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result.get("done") and "reason" in result:
            return TrialScheduler.CONTINUE  # Tune repeats the last report when the function returns
        facts = _unflattened(result)
        goes_on = self._failed.caught(lambda: self._driver.report(trial.config["number"], facts), False)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


class _Tells(_Unremembered, tune.Callback):
    """Ends of trials, with the exception where there was one."""

    def __init__(self, driver: Driver, failed: _Failed) -> None:
        self._driver, self._failed = driver, failed

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tell the trials that Tune gave up without a word, as it does where a worker cannot be used again."""
        running = set(self._driver.running)
        for trial in reversed(trials):
            if not running:
                break
            number = trial.config["number"]
            if number in running:
                running.remove(number)
                if trial.status == "ERROR":
                    self._failed.caught(partial(self._tell, trial), None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed.caught(lambda: self._driver.finish(trial.config["number"]), None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed.caught(lambda: self._tell(trial), None)

    def _tell(self, trial: Any) -> None:
        cause = trial.get_pickled_error() if trial.error_file else None
        text = str(cause).strip().splitlines() if cause is not None else []
        if isinstance(cause, ray.exceptions.OutOfMemoryError):  # Ray ended the worker before the kernel would
            self._driver.report(trial.config["number"], {"reason": "out_of_memory", "message": text[0][:500]})
        silent = "its worker could not be used again" if trial.status == "ERROR" else "the worker process died"
        self._driver.finish(trial.config["number"], error=text[0] if text else silent)
        if trial.last_result.get("reason") == "interrupted":  # by a full disk, which the next trials would find too
            raise OutputError(trial.last_result["message"])


class _Stops(_Unremembered, tune.Stopper):
    """Ends the whole run on a signal, or when trials ignore their deadline."""

    def __init__(self, driver: Driver, interrupted: Callable[[], bool], failed: _Failed) -> None:
        self._driver, self._interrupted, self._failed = driver, interrupted, failed

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._failed.error is not None or self._interrupted():
            return True
        return self._driver.past_deadline() or self._driver.stop_reason == "failures"


def _unflattened(result: Mapping[str, Any]) -> dict[str, Any]:
    """Undo Tune's flattening of the one nested value that trials report."""
    facts = {key: value for key, value in result.items() if "/" not in key}
    metrics = {key.removeprefix("metrics/"): value for key, value in result.items() if key.startswith("metrics/")}
    return {**facts, "metrics": metrics} if metrics else facts
