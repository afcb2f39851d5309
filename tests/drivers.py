"""Drivers of scripted searches in processes of their own, to be killed together with what they started.

They are forked from one process that has imported everything, so that a restart costs what Ray needs and no more.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess
from typing import Any

import psutil

from automl.paths import StudyFolder
from automl.search.cluster import Interrupt, Resources, cluster
from automl.search.lock import driver_lock
from automl.search.runner import run_search
from automl.search.storage import load_study, storage_kept, storage_url
from automl.search.study import StudyRecord
from tests.faults import run_script
from tests.small import make_driver, small_config

MARK = "AUTOML_TEST_MARK"


def start_driver(folder: StudyFolder, mark: str, address: str | None = None, **options: Any) -> ForkServerProcess:
    """Go on with the study of `folder` on the Ray cluster at `address`, or on one of its own whose processes all carry
    `mark`. Options as `tests.small.small_config`, besides `at_once`: trials at the same time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.drivers"])
    process = context.Process(target=_drive, args=(folder, mark, address), kwargs=options, daemon=True)
    process.start()
    return process


def _drive(folder: StudyFolder, mark: str, address: str | None, *, at_once: int = 1, **options: Any) -> None:
    """What `resuming.resume` does, with scripted trials."""
    os.environ[MARK] = mark
    config = small_config(**{"scheduler": "none", **options})
    interrupt = Interrupt()
    try:
        with interrupt.installed(), driver_lock(folder):
            study = load_study(folder, storage=config.search.storage)
            record = StudyRecord(study)
            record.fail_orphans(max_retries=config.search.max_retries)
            with cluster(address):
                driver = make_driver(folder, config, record, interrupted=interrupt)
                with interrupt.deferred(), storage_kept(storage_url(folder, config.search.storage)):
                    run_search(driver, folder, Resources(1, 0.0, at_once), interrupted=interrupt, run=run_script)
                    driver.finish_rest()
    except KeyboardInterrupt:
        pass
    sys.exit(interrupt.code)


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that descend from a driver started with `mark`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_worker(process: psutil.Process) -> bool:
    """Whether `process` is one of Ray's that run trials."""
    with contextlib.suppress(psutil.Error, IndexError):
        title = process.cmdline()[0]
        return title.startswith("ray::") and not title.endswith("Agent")
    return False
