"""Disks that are full: at every write of a short search, and a real one. What is there stays readable, the message says
what was to be written where, and once there is space the search ends as if nothing had been."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from automl import paths, pipeline, resuming
from automl.config import SearchConfig
from automl.data import pixels
from automl.errors import OutputError, StorageError
from automl.paths import StudyFolder
from automl.refit import load_package
from automl.search.cluster import Interrupt, Resources
from automl.search.driver import Driver
from automl.search.plan import Screened
from automl.search.runner import run_search
from automl.search.storage import create_study, load_study
from automl.search.study import StudyRecord, counts
from automl.search.trial import load_dataset, run_trial
from tests.faults import Step, run_script, write_script
from tests.small import RESNET, coloured, cost, make_driver, small_config

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Tune's actors and loggers

SPACE = """
backbones: [{name: timm/test_resnet.r160_in1k, weights: none}]
params: {freeze_depth: [0.0, 0.5], resolution: [32], augmentation: none, batch_size: 16}
training: {epochs: 2, warmup_epochs: 0.5}
search: {budget: 10m, grace_epochs: 1, concurrency: 1, cpus_per_trial: 1, trials: 2, repeats: 0}
data: {validation_fraction: 0.2, test_fraction: 0.2}
"""


class Disk:
    """Counts writes to files and to SQLite, and refuses those from number `full_from` to before `full_until`."""

    def __init__(self, full_from: int = 10**9, full_until: int = 10**9) -> None:
        self.writes: list[str] = []
        self._full_from, self._full_until = full_from, full_until

    def refuses(self, what: object) -> bool:
        self.writes.append(str(what))
        return self._full_from <= len(self.writes) - 1 < self._full_until

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Every write of `write_atomic`, of the pixel cache and of SQLite goes to this disk."""

        def statement(cursor: object, text: str, parameters: object, context: object) -> None:
            if text.split()[0] in ("INSERT", "UPDATE", "DELETE", "CREATE") and self.refuses(text.split("\n")[0]):
                raise sqlite3.OperationalError("database or disk is full")

        def fsync(descriptor: int, real: Any = os.fsync) -> None:
            if self.refuses(os.readlink(f"/proc/self/fd/{descriptor}")):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor)

        def pwrite(descriptor: int, *arguments: Any, real: Any = os.pwrite) -> Any:
            if self.refuses(os.readlink(f"/proc/self/fd/{descriptor}")):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(descriptor, *arguments)

        event.listen(Engine, "do_execute", statement)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(paths.os, "fsync", fsync)
                patch.setattr(pixels.os, "pwrite", pwrite)
                yield
        finally:
            event.remove(Engine, "do_execute", statement)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run here, one after the other, and the screening knows its result."""
    screened = [Screened(RESNET, 32, 0.5, 0.5, 0.1, cost())]
    for module in (pipeline, resuming):
        monkeypatch.setattr(module, "cluster", lambda *asked: contextlib.nullcontext())
        monkeypatch.setattr(module, "resources", lambda *_: (Resources(1, 0.0, 1), ""))
    monkeypatch.setattr(pipeline, "screen", lambda *_, **__: screened)
    monkeypatch.setattr(pipeline, "run_search", run_here)


def run_here(driver: Driver, folder: StudyFolder, share: Resources, **_: Any) -> None:
    """What `run_search` does, in this process."""
    while (assignment := driver.next()) is not None:
        number, dataset = assignment.number, load_dataset(folder)
        try:
            outcome = run_trial(
                assignment.spec, folder, folder.trial(number),
                train_rows=dataset.rows("train"), validation_rows=dataset.rows("validation"),
                report=lambda facts, number=number: driver.report(number, facts),
            )  # fmt: skip
        except OutputError as error:
            driver.report(number, {"reason": "interrupted", "message": str(error)})
            driver.finish(number, error=str(error))
            raise
        else:
            driver.report(number, {"reason": outcome.reason})
            driver.finish(number)


def search(config: SearchConfig, folder: StudyFolder) -> None:
    """Begin or go on, as a person would."""
    options: dict[str, Any] = {
        "weights_dir": None, "ray_address": None, "interrupt": Interrupt(),
        "progress": lambda *_: None, "show_plan": lambda *_: None,
    }  # fmt: skip
    reports = folder.root.parent / "reports"
    if folder.resolved.exists():
        resuming.resume(folder, reports, more_budget=None, more_trials=None, **options)
    else:
        pipeline.search(config, folder, reports, **options)


def until_done(config: SearchConfig, folder: StudyFolder, disk: Disk) -> str:
    """Search on a disk that is full at some time, then go on on one that is not. Returns what was said in between."""
    said = ""
    with disk.mounted():
        try:
            search(config, folder)
        except (OutputError, StorageError) as error:
            said = str(error)
    if said:
        if folder.resolved.exists():
            load_study(folder).get_trials()
        search(config, folder)
    trials = load_study(folder).get_trials()
    assert sum(counts(trial) for trial in trials) == config.search.trials
    assert all(trial.state.is_finished() for trial in trials)
    load_package(folder.model)
    assert not list(folder.root.rglob("*.tmp"))
    return said


@pytest.fixture
def config(tmp_path: Path) -> SearchConfig:
    return small_config(SPACE).model_copy(update={"dataset": str(coloured(tmp_path / "images", 6))})


def test_a_disk_that_fills_up_while_the_study_is_created(tmp_path: Path) -> None:
    """Optuna has an error of its own for what fails in its transactions."""
    folder = StudyFolder(tmp_path / "study")
    folder.root.mkdir()
    options: Any = {"storage": None, "direction": "maximize"}
    whole = Disk()
    with whole.mounted():
        create_study(folder, **options)
    at = [number for number, what in enumerate(whole.writes) if what.startswith("INSERT INTO stud")]
    assert len(at) == 3, "the study, its direction, and the folder it is of"
    for number in at:
        folder.database.unlink()
        with Disk(number).mounted(), pytest.raises(StorageError, match=rf"{folder.database}: the disk is full"):
            create_study(folder, **options)


def test_a_worker_whose_disk_is_full_ends_the_search_and_its_trial_goes_on_later(
    scripted: StudyFolder, one_cluster: Resources
) -> None:
    """It does not count against the trial, and those after it are not wasted on the same disk."""
    good: list[Step] = [["report", 0.5], ["report", 0.6]]
    write_script(scripted, {"*": good, "1": [["report", 0.1], ["checkpoint"], ["full"]], "2": [["report", 0.2]]})
    config = small_config(trials=3, scheduler="none")
    driver = make_driver(scripted, config)
    with pytest.raises(OutputError, match=r"^cannot write 1234 bytes to .*0001/last.safetensors: No space left on"):
        run_search(driver, scripted, one_cluster, interrupted=lambda: False, run=run_script)
    record = StudyRecord(load_study(scripted))
    assert record.fail_orphans(max_retries=0) == []
    assert [trial.user_attrs.get("reason") for trial in record.trials()] == ["complete", "interrupted", None]
    again = make_driver(scripted, config, record)
    run_search(again, scripted, one_cluster, interrupted=lambda: False, run=run_script)
    trials = load_study(scripted).get_trials()
    assert [trial.user_attrs["reason"] for trial in trials] == ["complete", "interrupted", "complete", "complete"]
    assert trials[2].intermediate_values == {1: 0.1, 2: 0.2}


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("passes", [False, True])
def test_full_at_every_write(config: SearchConfig, tmp_path: Path, without_ray: None, passes: bool) -> None:
    """From a write on, or at one write alone."""
    whole = Disk()
    until_done(config, StudyFolder(tmp_path / "whole" / "study"), whole)
    wrong, told = [], 0
    for number, what in enumerate(whole.writes):
        folder = StudyFolder(tmp_path / str(number) / "study")
        try:
            said = until_done(config, folder, Disk(number, number + 1 if passes else 10**9))
        except (Exception, SystemExit) as error:
            wrong.append(f"write {number} ({what}): {error!r}")
            continue
        finally:
            shutil.rmtree(folder.root.parent, ignore_errors=True)
        told += bool(said)
        if said and (str(folder.root.parent) not in said or ("bytes" not in said and "study.db" not in said)):
            wrong.append(f"write {number} ({what}): {said}")
    print(f"\n{len(whole.writes)} writes, {told} ended the search with a message")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_real_disk_that_grows_whenever_it_is_full(config: SearchConfig, tmp_path: Path, without_ray: None) -> None:
    """It is full at a later stage each time."""
    disk = tmp_path / "disk"
    disk.mkdir()
    kilobytes, said = 64, []
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk], check=False).returncode:
        pytest.skip("not allowed to mount a file system")
    try:
        folder = StudyFolder(disk / "study")
        while True:
            try:
                search(config, folder)
                break
            except (OutputError, StorageError) as error:
                said.append(f"{kilobytes} KB: {error}")
                kilobytes += kilobytes // 4
                subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)
        assert sum(counts(trial) for trial in load_study(folder).get_trials()) == config.search.trials
        load_package(folder.model)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    print("", *said, f"{kilobytes} KB: done", sep="\n")
    assert all(str(disk) in each for each in said)
    stages = {each.split(" to ")[-1].split(":")[0] for each in said if "bytes" in each}
    assert len(stages) >= 3, "the disk is to be full at several stages"
