"""Searches whose processes are killed again and again: nothing is lost, nothing is done twice, nothing stays behind.

The moments are drawn from a seed. Most lie some epochs after the last one, so that every driver gets somewhere; every
fifth lies in the seconds in which a driver starts.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import uuid
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess

import psutil
import pytest
from optuna.trial import TrialState

from automl.paths import StudyFolder
from automl.search.storage import load_study
from automl.search.study import counts
from tests.drivers import is_worker, marked, start_driver
from tests.faults import Step, worked, write_script
from tests.small import new_record, small_config

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Tune's actors and loggers

EPOCHS, EPOCH_SECONDS = 10, 0.06
GONE_AFTER = 180.0  # an agent of Ray's whose raylet and server died at once waits a minute for the server's return


class Victims:
    """What is killed of the driver in `process` and of all that it started, which carries `mark`."""

    def __init__(self, mark: str, process: ForkServerProcess, rng: random.Random) -> None:
        self._mark, self._process, self._rng = mark, process, rng

    def workers(self) -> bool:
        return self._kill([each for each in marked(self._mark) if is_worker(each)])

    def driver(self) -> bool:
        """Ray's processes have to notice."""
        return self._kill([self._driver])

    def both(self) -> bool:
        return self._kill([self._driver, *(each for each in marked(self._mark) if is_worker(each))])

    def everything(self) -> bool:
        return self._kill([self._driver, *marked(self._mark)])

    def sigterm(self) -> bool:
        self._driver.terminate()
        self._process.join(60)
        assert self._process.exitcode == 128 + signal.SIGTERM
        return True

    @property
    def _driver(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def _kill(self, processes: list[psutil.Process]) -> bool:
        self._rng.shuffle(processes)
        for each in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        return bool(processes)


def kill_and_resume(
    folder: StudyFolder,
    kill: Callable[[Victims], bool],
    *,
    kills: int,
    trials: int,
    at_once: int = 1,
    address: str | None = None,
    seed: int = 20,
    scheduler: str = "none",
) -> int:
    """Drive a study of `trials` trials through `kills` kills to its end. Returns how many drivers it took."""
    write_script(folder, {str(number): epochs(random.Random(number).random()) for number in range(500)})
    new_record(folder, small_config())
    mark, rng = uuid.uuid4().hex, random.Random(seed)
    drivers, killed, process = 0, 0, None
    try:
        while process is None or process.exitcode is None:
            if process is None:
                drivers += 1
                process = start_driver(
                    folder, mark, address, at_once=at_once, trials=trials, max_retries=kills, max_failures=1000,
                    scheduler=scheduler,
                )  # fmt: skip
            if killed == kills:
                process.join()
            elif drivers % 5 == 0 and kill is not Victims.workers:
                process.join(rng.uniform(0, 5))
            else:
                enough = begun(folder) + rng.randint(1, 3 * EPOCHS * trials // (2 * kills))
                while process.is_alive() and begun(folder) < enough:
                    process.join(0.01)
                process.join(rng.uniform(0, 2 * EPOCH_SECONDS))
            if process.exitcode is None and kill(Victims(mark, process, rng)):
                killed += 1
                if kill is not Victims.workers:
                    process.join(60)
                    assert psutil.wait_procs(marked(mark), timeout=GONE_AFTER)[1] == []
                    process = None
        assert (killed, process.exitcode) == (kills, 0)
        assert psutil.wait_procs(marked(mark), timeout=GONE_AFTER)[1] == []
    finally:
        for each in [*marked(mark), *([psutil.Process(process.pid)] if process and process.is_alive() else [])]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    return drivers


def epochs(value: float) -> list[Step]:
    """A script whose trial reports `value` after each of its epochs."""
    epoch: list[Step] = [["work", EPOCH_SECONDS], ["report", value], ["checkpoint"]]
    return epoch * EPOCHS


def begun(folder: StudyFolder) -> int:
    return sum(map(len, worked(folder).values()))


def lost_epochs(folder: StudyFolder) -> int:
    """Check that every attempt at a trial goes on where the last one was. Returns how many epochs were begun again."""
    trials, begun = load_study(folder).get_trials(), worked(folder)
    lost = 0
    for trial in trials:
        here = begun.get(trial.number, [])
        if not here:
            continue
        assert here == list(range(here[0], here[-1] + 1)), f"trial {trial.number} ran twice, or not in order: {here}"
        before = trial.user_attrs.get("resumes")
        while before is not None and before not in begun:
            before = trials[before].user_attrs.get("resumes")
        last = begun[before][-1] if before is not None else 0
        assert last <= here[0] <= last + 1, f"trial {trial.number} begins with epoch {here[0]} after epoch {last}"
        lost += here[0] == last
    return lost


def check(folder: StudyFolder, trials: int) -> None:
    """Check that the study is what it would have been without a kill."""
    found = load_study(folder).get_trials()
    assert all(trial.state.is_finished() for trial in found)
    counted = [trial for trial in found if counts(trial)]
    assert len(counted) == trials
    again = defaultdict(list)
    for trial in found:
        again[trial.user_attrs.get("resumes")].append(trial.number)
        assert list(trial.intermediate_values) == list(range(1, len(trial.intermediate_values) + 1))
    assert all(len(numbers) == 1 for before, numbers in again.items() if before is not None), "retried twice"
    for trial in found:
        if trial.state == TrialState.COMPLETE:
            lines = folder.trial(trial.number).metrics.read_text().splitlines()
            assert [json.loads(line)["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
            assert list(trial.intermediate_values) == list(range(1, EPOCHS + 1))
        elif counts(trial):
            assert trial.user_attrs["reason"] in ("crashed", "paused")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kill", [Victims.everything, Victims.driver, Victims.workers, Victims.both, Victims.sigterm])
def test_forty_trials_two_at_a_time_through_twenty_five_kills(
    scripted: StudyFolder, kill: Callable[[Victims], bool]
) -> None:
    drivers = kill_and_resume(scripted, kill, kills=25, trials=40, at_once=2)
    check(scripted, 40)
    lost = lost_epochs(scripted)
    found = load_study(scripted).get_trials()
    states = [trial.state.name for trial in found if counts(trial)]
    print(
        f"\n{kill.__name__}: 25 kills, {drivers} drivers, {len(found)} attempts at {len(states)} "
        f"trials ({states.count('COMPLETE')} complete), {begun(scripted)} epochs begun, {lost} of them again"
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_paused_trials_are_resumed_once_through_fifteen_kills(scripted: StudyFolder) -> None:
    kill_and_resume(scripted, Victims.everything, kills=15, trials=40, scheduler="asha")
    check(scripted, 40)
    lost_epochs(scripted)
    found = load_study(scripted).get_trials()
    resumed = [trial for trial in found if trial.user_attrs["origin"] == "resume"]
    paused = [trial for trial in found if trial.user_attrs["reason"] == "paused"]
    assert len(paused) > len(resumed) > 0
    assert all(trial.last_step in (1, 2) for trial in paused)
