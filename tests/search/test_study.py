from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from automl.errors import StorageError, UsageError
from automl.paths import StudyFolder
from automl.search.lock import driver_lock, driver_of
from automl.search.storage import check_storage, create_study, load_study
from automl.search.study import StudyRecord
from tests.small import new_record, small_config

DISTRIBUTIONS = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(["a", "b"])}


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


@pytest.fixture
def record(folder: StudyFolder) -> StudyRecord:
    return new_record(folder, small_config())


@pytest.mark.parametrize(
    ("reason", "epochs", "state", "value"),
    [
        ("complete", 2, TrialState.COMPLETE, 0.5),
        ("truncated", 2, TrialState.COMPLETE, 0.5),
        ("truncated", 0, TrialState.FAIL, None),
        ("paused", 2, TrialState.PRUNED, 0.5),
        ("diverged", 2, TrialState.PRUNED, 0.5),
        ("diverged", 0, TrialState.PRUNED, None),
        ("out_of_memory", 2, TrialState.PRUNED, 0.5),
        ("out_of_memory", 0, TrialState.PRUNED, None),
        ("crashed", 2, TrialState.FAIL, None),
        ("crashed", 0, TrialState.FAIL, None),
        ("interrupted", 2, TrialState.FAIL, None),
    ],
)
def test_every_outcome_is_told_as_the_table_says(
    record: StudyRecord, reason: Any, epochs: int, state: TrialState, value: float | None
) -> None:
    trial = record.ask(DISTRIBUTIONS)
    for number in range(1, epochs + 1):
        record.epoch(trial, number, 0.25 * number, {"epochs": number})
    assert record.finish(trial, reason, "because") == state
    (told,) = record.study.get_trials()
    assert (told.state, told.value) == (state, value)
    assert (told.user_attrs["reason"], told.user_attrs["message"]) == (reason, "because")
    assert told.user_attrs["origin"] == "sampler"
    assert told.intermediate_values == {number: 0.25 * number for number in range(1, epochs + 1)}
    assert told.user_attrs.get("epochs", 0) == epochs


def test_an_epoch_reported_twice_keeps_its_first_value(record: StudyRecord) -> None:
    trial = record.ask(DISTRIBUTIONS)
    record.epoch(trial, 1, 0.25, {})
    record.epoch(trial, 1, 0.75, {"epochs": 1})
    assert record.study.trials[0].intermediate_values == {1: 0.25}
    assert record.study.trials[0].user_attrs["epochs"] == 1


@pytest.mark.parametrize(("reason", "avoided"), [("diverged", True), ("out_of_memory", True), ("crashed", False)])
def test_the_sampler_avoids_a_region_that_diverges_but_not_one_where_workers_crash(reason: Any, avoided: bool) -> None:
    """Half of the range ends badly, before the first epoch. Told as PRUNED the sampler leaves it; a FAIL it ignores,
    and samples that half no less often than the other."""
    bad = 0
    for seed in range(4):
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, multivariate=True)
        record = StudyRecord(optuna.create_study(direction="maximize", sampler=sampler))
        for number in range(50):
            trial = record.ask({"x": FloatDistribution(0, 1)})
            # values say nothing about x, so that only the failures do
            if trial.params["x"] > 0.5:
                record.finish(trial, reason)
                bad += number >= 10
            else:
                record.epoch(trial, 1, 0.5, {})
                record.finish(trial, "complete")
    assert (bad < 0.25 * 160) == avoided


def test_orphans_are_failed_and_tried_again_with_what_they_were(record: StudyRecord) -> None:
    done = record.ask(DISTRIBUTIONS)
    record.epoch(done, 1, 0.5, {})
    record.finish(done, "complete")
    orphan = record.ask(DISTRIBUTIONS)
    assert record.fail_orphans(max_retries=2) == [orphan.number]
    first, failed, waiting = record.study.get_trials()
    assert first.state == TrialState.COMPLETE
    assert (failed.state, failed.user_attrs["reason"]) == (TrialState.FAIL, "interrupted")
    assert waiting.state == TrialState.WAITING
    retry = record.ask(DISTRIBUTIONS)
    assert retry.number == waiting.number
    assert retry.params == orphan.params
    attrs = retry.user_attrs
    assert (attrs["origin"], attrs["planned_as"], attrs["retries"]) == ("retry", "sampler", {"interrupted": 1})
    assert (attrs["resumes"], attrs["root"]) == (orphan.number, orphan.number)
    assert record.fail_orphans(max_retries=2) == [retry.number]
    again = record.ask(DISTRIBUTIONS)
    attrs = again.user_attrs
    assert failed.user_attrs["retried"]
    assert (attrs["retries"], attrs["resumes"], attrs["root"]) == ({"interrupted": 2}, retry.number, orphan.number)


def test_retries_end(record: StudyRecord) -> None:
    record.ask(DISTRIBUTIONS)
    for _ in range(2):
        record.fail_orphans(max_retries=2)
        record.ask(DISTRIBUTIONS)
    record.fail_orphans(max_retries=2)
    assert [trial.state for trial in record.study.get_trials()] == [TrialState.FAIL] * 3
    assert record.study.trials[-1].user_attrs["message"] == "the search was interrupted 3 times during this trial"
    assert record.fail_orphans(max_retries=2) == []


def test_an_orphan_of_a_driver_killed_while_asking_is_retried_whole(record: StudyRecord) -> None:
    """The params of an enqueued trial are written one after the other; a kill in between loses none of them."""
    wanted = {"x": 0.25, "kind": "b"}
    record.study.enqueue_trial(wanted, user_attrs={"origin": "default"})
    record.study.ask({"x": DISTRIBUTIONS["x"]})
    assert record.study.trials[0].params == {"x": 0.25}
    record.fail_orphans(max_retries=2)
    retry = record.ask(DISTRIBUTIONS)
    assert retry.params == wanted
    assert retry.user_attrs["planned_as"] == "default"


def test_a_driver_killed_between_enqueueing_a_retry_and_telling_its_trial_enqueues_no_second(
    record: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = record.ask(DISTRIBUTIONS)
    with monkeypatch.context() as patched:
        patched.setattr(StudyRecord, "finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            record.retry(orphan, "interrupted", "", limit=2)
    assert [trial.state for trial in record.study.get_trials()] == [TrialState.RUNNING, TrialState.WAITING]
    assert record.fail_orphans(max_retries=2) == [orphan.number]
    assert [trial.state for trial in record.study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_reasons_have_limits_of_their_own(record: StudyRecord) -> None:
    trial = record.ask(DISTRIBUTIONS)
    assert record.retry(trial, "crashed", "it broke", limit=1)
    trial = record.ask(DISTRIBUTIONS)
    assert record.retry(trial, "out_of_memory", "full", limit=1, micro_batch=8)
    trial = record.ask(DISTRIBUTIONS)
    assert record.retry(trial, "interrupted", "by a person", limit=None)
    trial = record.ask(DISTRIBUTIONS)
    assert trial.user_attrs["retries"] == {"crashed": 1, "out_of_memory": 1}
    assert (trial.user_attrs["micro_batch"], trial.user_attrs["root"]) == (8, 0)
    assert not record.retry(trial, "crashed", "it broke again", limit=1)
    assert record.finish(trial, "crashed", "it broke again") == TrialState.FAIL
    assert [each.user_attrs.get("retried", False) for each in record.study.get_trials()] == [True, True, True, False]


def test_facts_that_stay_the_same_are_written_once(record: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = record.ask(DISTRIBUTIONS)
    written: list[str] = []
    write = optuna.Trial.set_user_attr
    monkeypatch.setattr(
        optuna.Trial, "set_user_attr", lambda self, key, value: (written.append(key), write(self, key, value))[1]
    )
    record.epoch(trial, 1, 0.5, {"host": "here", "latency_ms": None, "epochs": 1})
    record.epoch(trial, 2, 0.6, {"host": "here", "latency_ms": None, "epochs": 2})
    assert written == ["host", "latency_ms", "epochs", "epochs"]
    read = record.study.get_trials()[0]
    assert read.user_attrs == {"origin": "sampler", "host": "here", "latency_ms": None, "epochs": 2}
    assert read.intermediate_values == {1: 0.5, 2: 0.6}


def test_a_trial_of_a_space_that_holds_one_is_retried_too(record: StudyRecord) -> None:
    record.enqueue({}, origin="default")
    trial = record.ask({})
    record.epoch(trial, 1, 0.5, {"epochs": 1})
    assert record.fail_orphans(max_retries=2) == [0]
    again = record.ask({})
    assert (again.number, again.user_attrs["resumes"]) == (1, 0)


def test_an_orphan_that_was_asked_nothing_is_not_retried(record: StudyRecord) -> None:
    record.study.ask()
    assert record.fail_orphans(max_retries=2) == [0]
    assert [trial.state for trial in record.study.get_trials()] == [TrialState.FAIL]


HOLD = """
import sys
import time
from pathlib import Path
from automl.paths import StudyFolder
from automl.search.lock import driver_lock
with driver_lock(StudyFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_and_told_who_the_first_is(record: StudyRecord, folder: StudyFolder) -> None:
    command = [sys.executable, "-c", HOLD, str(folder.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(StorageError) as refused, driver_lock(folder):
            pass
        assert str(refused.value).startswith(
            f"study {folder.root} is in use by process {first.pid} on {socket.gethostname()}"
        )
        assert refused.value.exit_code == 5
        first.kill()  # no clean-up: a lock must not outlive its holder
    with driver_lock(folder):
        holder = driver_of(folder)
        assert holder is not None
        assert holder[:2] == (os.getpid(), socket.gethostname())
        assert holder.since == pytest.approx(time.time(), abs=60)
    with driver_lock(folder):  # and again after a release
        pass
    assert driver_of(folder) is None


def test_a_driver_that_was_killed_drives_no_more(record: StudyRecord, folder: StudyFolder) -> None:
    command = [sys.executable, "-c", HOLD, str(folder.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        first.stdout.readline()
        assert driver_of(folder) is not None
        first.kill()
    assert folder.driver.exists()
    assert driver_of(folder) is None


def test_readers_see_a_study_that_its_driver_writes(record: StudyRecord, folder: StudyFolder) -> None:
    with sqlite3.connect(folder.database) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    record.study.set_user_attr("metric", "accuracy")
    record.ask(DISTRIBUTIONS)
    other = load_study(folder)
    assert other.study_name == "study"
    assert other.user_attrs["metric"] == "accuracy"
    assert [trial.state for trial in other.get_trials()] == [TrialState.RUNNING]


def test_a_study_is_created_once(record: StudyRecord, folder: StudyFolder) -> None:
    record.ask(DISTRIBUTIONS)
    with pytest.raises(UsageError, match=f"has a study study already, of .*:{folder.root}; choose another --out"):
        new_record(folder, small_config())


def test_what_a_driver_killed_before_its_first_trial_left_in_a_shared_storage_is_replaced(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    mine, other = StudyFolder(tmp_path / "mine" / "study"), StudyFolder(tmp_path / "other" / "study")
    for folder in (mine, other):
        folder.root.mkdir(parents=True)
    check_storage(mine, url)
    left = create_study(mine, storage=url, direction="maximize")
    check_storage(mine, url)
    assert create_study(mine, storage=url, direction="minimize").direction != left.direction
    for refused in (lambda: check_storage(other, url), lambda: create_study(other, storage=url, direction="maximize")):
        with pytest.raises(UsageError, match=f"has a study study already, of .*:{mine.root}"):
            refused()


def test_no_study_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected study\.db there"):
        load_study(StudyFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("sqlite:////proc/none/study.db", "automl resume"),
        ("postgresql://user:secret@localhost:1/x", "automl resume"),
        ("nonsense", "correct --storage"),
        ("postgress://user:secret@localhost/x", "correct --storage"),
    ],
)
def test_a_storage_that_cannot_be_reached(folder: StudyFolder, url: str, remedy: str) -> None:
    folder.root.mkdir()
    for reach in (
        lambda: create_study(folder, storage=url, direction="maximize"),
        lambda: load_study(folder, storage=url),
    ):
        with pytest.raises(StorageError, match="cannot use study storage") as error:
            reach()
        assert len(str(error.value).splitlines()) == 1
        assert "secret" not in str(error.value)
        assert remedy in str(error.value)


def test_another_sqlite_file_takes_the_study(folder: StudyFolder, tmp_path: Path) -> None:
    folder.root.mkdir()
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    create_study(folder, storage=url, direction="minimize")
    assert not folder.database.exists()
    with sqlite3.connect(tmp_path / "elsewhere.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert load_study(folder, storage=url).direction == optuna.study.StudyDirection.MINIMIZE
    with pytest.raises(UsageError, match="no study named other"):
        load_study(StudyFolder(tmp_path / "other"), storage=url)


def test_a_damaged_database_is_a_storage_error(folder: StudyFolder) -> None:
    folder.root.mkdir()
    folder.database.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match="cannot use study storage"):
        load_study(folder)


@pytest.mark.parametrize("name", ["we ird%20?#é", "a b", "100%", "x?mode=ro"])
def test_a_study_lives_in_its_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    folder = StudyFolder(tmp_path / name)
    record = new_record(folder, small_config())
    record.finish(record.ask(DISTRIBUTIONS), "paused")
    assert folder.database.exists()
    assert os.listdir(tmp_path) == [name]
    assert len(load_study(folder).get_trials()) == 1


def test_a_folder_that_was_renamed_holds_its_study(record: StudyRecord, folder: StudyFolder) -> None:
    record.ask(DISTRIBUTIONS)
    moved = StudyFolder(folder.root.rename(folder.root.with_name("renamed")))
    assert len(load_study(moved).get_trials()) == 1
