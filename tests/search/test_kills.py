"""Searches whose processes are killed again and again: nothing is lost, nothing is done twice, nothing stays behind.

The moments are drawn from a seed. Most lie within a number of epochs after the driver has begun, so that every driver
gets somewhere; every fifth lies in the seconds in which a driver starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from automl.paths import StudyFolder
from automl.search.storage import load_study
from automl.search.study import counts
from tests.drivers import is_worker, marked, start_driver
from tests.faults import Step, calls, worked, write_script
from tests.small import new_record, small_config

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Tune's actors and loggers

EPOCHS, EPOCH_SECONDS = 10, 0.06


@dataclass
class Loop:
    """Drivers of one study, and what was killed of them.

    `victims`: "everything" with Ray's processes, "driver" alone, "workers", "both" of them, or "SIGTERM" to the driver.
    """

    folder: StudyFolder
    victims: str
    kills: int
    trials: int
    at_once: int = 1
    address: str | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    rng: random.Random = field(default_factory=lambda: random.Random(20))
    killed: int = 0
    drivers: int = 0

    def run(self) -> None:
        """Start drivers until one ends by itself with everything done."""
        write_script(
            self.folder,
            {"*": [step for epoch in range(EPOCHS) for step in _epoch(epoch + 1)]},
        )
        new_record(self.folder, small_config())
        driver = None
        try:
            while True:
                if driver is None:
                    driver = self._start()
                if self.killed == self.kills:
                    driver.join()
                    assert driver.exitcode == 0
                    assert self._all_gone()
                    return
                self._await_the_moment(driver)
                if not driver.is_alive() and self.killed < self.kills:
                    raise AssertionError(f"the study ended after {self.killed} kills: exit code {driver.exitcode}")
                if self._kill(driver):
                    driver = None
        finally:
            for process in [*marked(self.mark), *([psutil.Process(driver.pid)] if driver and driver.is_alive() else [])]:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def _start(self) -> ForkServerProcess:
        self.drivers += 1
        return start_driver(
            self.folder, self.mark, self.address,
            at_once=self.at_once, trials=self.trials, max_retries=self.kills, max_failures=1000,
        )  # fmt: skip

    def _begun(self) -> int:
        return sum(len(epochs) for epochs in worked(self.folder).values())

    def _await_the_moment(self, driver: ForkServerProcess) -> None:
        if self.killed % 5 == 4 and self.victims != "workers":
            driver.join(self.rng.uniform(0, 4))
            return
        enough = self._begun() + self.rng.randint(1, 2 * EPOCHS * self.trials * 4 // (5 * 5 * self.kills // 2 * 2))
        while driver.is_alive() and self._begun() < enough:
            driver.join(0.01)
        driver.join(self.rng.uniform(0, 2 * EPOCH_SECONDS))

    def _kill(self, driver: ForkServerProcess) -> bool:
        """Kill the victims. Returns whether the driver was one of them."""
        if self.victims == "SIGTERM":
            assert driver.pid is not None
            os.kill(driver.pid, signal.SIGTERM)
            driver.join(60)
            assert driver.exitcode == 143
            assert self._all_gone()
        else:
            found = [*self._workers(), *([psutil.Process(driver.pid)] if self.victims != "workers" else [])]
            if self.victims == "driver":
                found = found[-1:]
            elif self.victims == "everything":
                found += marked(self.mark)
            self.rng.shuffle(found)
            if not found:
                return False
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if self.victims != "workers":
                driver.join(60)
                assert driver.exitcode == -signal.SIGKILL
                assert self._all_gone()
        self.killed += 1
        return self.victims != "workers"

    def _workers(self) -> list[psutil.Process]:
        if self.address is None:
            return [process for process in marked(self.mark) if is_worker(process)]
        last = max(calls(self.folder).items(), default=None)
        return [psutil.Process(last[1]["pid"])] if last and psutil.pid_exists(last[1]["pid"]) else []

    def _all_gone(self) -> bool:
        """Whether no process that a driver started outlives it for long."""
        return psutil.wait_procs(marked(self.mark), timeout=60)[1] == []
