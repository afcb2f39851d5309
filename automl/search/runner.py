"""Runs a search on Ray: screening as tasks, trials as Tune trials. The only room that imports Ray.

Ray executes and is never asked to remember: its own checkpoints are written to a scratch folder and thrown away.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.update(
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_WARN_THRESHOLD_S="30",
    RAY_AIR_NEW_OUTPUT="0",
    TUNE_GLOBAL_CHECKPOINT_S="100000",
)

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from automl.errors import StorageError
from automl.paths import StudyFolder
from automl.search.searcher import Driver
from automl.search.spec import TrialSpec
from automl.search.trial import load_dataset, prepare_process, run_trial

__all__ = ["Interrupt", "Resources", "cluster", "each_task", "resources", "run_search"]

logger = logging.getLogger(__name__)


class Resources(tuple[int, float, int]):
    """(cpus per trial, gpus per trial, trials at once)."""

    @property
    def cpus(self) -> int:
        return self[0]

    @property
    def gpus(self) -> float:
        return self[1]

    @property
    def concurrency(self) -> int:
        return self[2]


class Interrupt:
    """SIGINT and SIGTERM as a flag; a second signal ends the process at once.

    `code` is the exit code that the signal stands for: 130 or 143.
    """

    def __init__(self) -> None:
        self.code = 0

    def __call__(self) -> bool:
        return self.code != 0

    @contextlib.contextmanager
    def installed(self) -> Iterator[Interrupt]:
        """Catch the signals for the duration of the block. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        def caught(number: int, frame: object) -> None:
            if self.code:
                os._exit(128 + number)
            self.code = 128 + number
            logger.warning("stopping after the present step and saving; a second signal stops at once")

        before = {each: signal.signal(each, caught) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to the Ray cluster at `address`, or start one on this machine and stop it afterwards.

    Raises:
        StorageError: The cluster cannot be reached.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            address=address or "local",
            configure_logging=False,
            log_to_driver=False,
            include_dashboard=False if address is None else None,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StorageError(f"cannot reach the Ray cluster at {address}: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def resources(cpus: int | str, gpus: float | str, concurrency: int | str) -> tuple[Resources, str]:
    """Divide the connected cluster among trials; "auto" parts are chosen here. Returns them with the reason.

    With GPUs: one GPU per trial and an even share of the CPUs. Without: one trial at a time with up to 8 threads,
    since on few cores a second trial at half the speed only delays what the first one teaches the sampler.
    """
    have = ray.cluster_resources()
    all_cpus, all_gpus = int(have.get("CPU", 1)), float(have.get("GPU", 0))
    gpu_share = float(gpus) if gpus != "auto" else (1.0 if all_gpus >= 1 else 0.0)
    if cpus != "auto":
        cpu_share = int(cpus)
    elif gpu_share:
        cpu_share = max(1, int(all_cpus / (all_gpus / gpu_share)))
    else:
        cpu_share = min(all_cpus, 8)
    at_once = max(1, min(all_cpus // cpu_share, int(all_gpus / gpu_share) if gpu_share else all_cpus))
    if concurrency != "auto":
        at_once = int(concurrency)
    reason = f"{all_cpus} CPUs and {all_gpus:g} GPUs are available; {cpu_share} CPUs and {gpu_share:g} GPUs a trial"
    return Resources((cpu_share, gpu_share, at_once)), reason


def each_task(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    share: Resources,
    *,
    interrupted: Callable[[], bool],
    done: Callable[[int], None],
) -> list[Any]:
    """Run ``function(*arguments[i])`` for every i as Ray tasks with `share` each; results in order.

    Stops early, with None for what is missing, when `interrupted`. An exception of a task is returned in its place.
    """
    remote = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0)(_in_process)
    pending = {remote.remote(function, share.cpus, each): index for index, each in enumerate(arguments)}
    results: list[Any] = [None] * len(arguments)
    while pending and not interrupted():
        ready, _ = ray.wait(list(pending), timeout=0.5)
        for reference in ready:
            index = pending.pop(reference)
            try:
                results[index] = ray.get(reference)
            except ray.exceptions.RayError as error:
                results[index] = error
            done(index)
    for reference in pending:
        ray.cancel(reference, force=True)
    return results


def _in_process(function: Callable[..., Any], threads: int, arguments: tuple[Any, ...]) -> Any:
    prepare_process(threads)
    return function(*arguments)


def run_search(driver: Driver, folder: StudyFolder, share: Resources, *, interrupted: Callable[[], bool]) -> None:
    """Run trials until `driver` starts no more and those running have ended."""
    scratch = Path(tempfile.mkdtemp(prefix="automl-ray-"))
    trainable = tune.with_resources(
        tune.with_parameters(_trial_on_worker, root=str(folder.root.resolve()), threads=share.cpus),
        {"cpu": share.cpus, "gpu": share.gpus},
    )
    try:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_Asks(driver),
                scheduler=_Reports(driver),
                num_samples=-1,
                max_concurrent_trials=share.concurrency,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(scratch),
                verbose=0,
                stop=_Stops(driver, interrupted),
                callbacks=[_Tells(driver)],
                checkpoint_config=tune.CheckpointConfig(),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _trial_on_worker(config: dict[str, Any], *, root: str, threads: int) -> None:
    """The Tune function: one assignment, in a worker process that may run several one after the other."""
    prepare_process(threads)
    folder = StudyFolder(Path(root))
    trial = folder.trial(config["number"])
    try:
        dataset = load_dataset(folder)
        outcome = run_trial(
            TrialSpec.from_dict(config["spec"]),
            folder,
            trial,
            train_rows=dataset.rows("train"),
            validation_rows=dataset.rows("validation"),
            time_limit=config["time_limit"],
            report=tune.report,
        )
    except Exception as error:
        message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        with contextlib.suppress(OSError):
            trial.log.write_text(traceback.format_exc())
        tune.report({"reason": "out_of_memory" if _is_out_of_memory(error) else "crashed", "message": message[:500]})
        raise  # the process is not used again
    tune.report({"reason": outcome.reason})


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


class _Asks(Searcher):
    """Tune's question "what next?", answered by the driver. Keeps no state of its own."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(metric=None, mode=None)
        self._driver = driver
        self.numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        assignment = self._driver.next()
        if assignment is None:
            return Searcher.FINISHED
        return {
            "number": assignment.number,
            "spec": asdict(assignment.spec),
            "time_limit": assignment.time_limit,
        }

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


class _Reports(FIFOScheduler):
    """Every epoch goes to the driver, which says whether the trial goes on."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result.get("done") and "reason" in result:
            return TrialScheduler.CONTINUE  # Tune repeats the last report when the function returns
        goes_on = self._driver.report(trial.config["number"], _unflattened(result))
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


class _Tells(tune.Callback):
    """Ends of trials, with the exception where there was one."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._driver.finish(trial.config["number"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cause = trial.get_pickled_error() if trial.error_file else None
        text = str(cause).strip().splitlines() if cause is not None else []
        self._driver.finish(trial.config["number"], error=text[0] if text else "the worker process died")


class _Stops(tune.Stopper):
    """Ends the whole run on a signal, or when trials ignore their deadline."""

    def __init__(self, driver: Driver, interrupted: Callable[[], bool]) -> None:
        self._driver, self._interrupted = driver, interrupted

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._interrupted() or self._driver.past_deadline() or self._driver.stop_reason == "failures"


def _unflattened(result: Mapping[str, Any]) -> dict[str, Any]:
    """Undo Tune's flattening of the one nested value that trials report."""
    facts = {key: value for key, value in result.items() if "/" not in key}
    metrics = {key.removeprefix("metrics/"): value for key, value in result.items() if key.startswith("metrics/")}
    return {**facts, "metrics": metrics} if metrics else facts
