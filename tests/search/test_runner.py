"""Searches on Ray whose trials follow scripts: what becomes of every way in which a trial can end."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

from automl.paths import StudyFolder
from automl.search.cluster import Resources
from automl.search.driver import Driver
from automl.search.runner import _Asks, _Failed, _Tells, run_one, run_search
from automl.search.storage import load_study
from automl.search.study import StudyRecord
from automl.search.trial import load_dataset
from tests.faults import Gate, Step, calls, run_script, write_script
from tests.small import ONE_GROUP, make_driver, small_config

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Tune's actors and loggers

GOOD: list[Step] = [["report", 0.5], ["report", 0.6]]


def search(
    folder: StudyFolder, share: Resources, script: dict[str, list[Step]], driver: Driver | None = None, **options: Any
) -> Driver:
    """Run a search of scripted trials to its end."""
    write_script(folder, script)
    driver = driver or make_driver(folder, small_config(scheduler="none", **options))
    run_search(driver, folder, share, interrupted=driver._interrupted, run=run_script)
    return driver


def told(folder: StudyFolder) -> list[tuple[str, str]]:
    """State and reason of every trial, as another process reads them."""
    return [(trial.state.name, trial.user_attrs.get("reason", "")) for trial in load_study(folder).get_trials()]


def test_a_trial_alone_ends_as_one_of_many_does(scripted: StudyFolder, one_cluster: Resources) -> None:
    write_script(scripted, {"*": [*GOOD, ["exit", 7]], "0": [["report", 0.4], ["oom"]], "1": GOOD})
    driver = make_driver(scripted, small_config(scheduler="none", max_failures=10))
    for _ in range(2):
        run_one(driver, scripted, one_cluster, interrupted=driver._interrupted, run=run_script)
    assert told(scripted)[0] == ("FAIL", "out_of_memory")
    assert told(scripted)[-1] == ("COMPLETE", "complete")
    assert "out of memory" in scripted.trial(0).log.read_text()


def test_every_end_of_a_trial_is_told_and_the_search_goes_on(scripted: StudyFolder, one_cluster: Resources) -> None:
    script: dict[str, list[Step]] = {
        "*": GOOD,
        "0": [["report", 0.4], ["exit", 7]],
        "1": [["report", 0.4], ["exit", 7]],
        "2": [["report", 0.4], ["oom"]],
        "3": [["report", 0.4], ["oom"]],
        "4": [["report", 0.4], ["report", "nan"], ["exit", 7]],
        "5": [["report", 0.4], ["diverge"]],
    }
    driver = search(scripted, one_cluster, script, trials=7, max_failures=10)
    assert driver.stop_reason == "trials"
    assert told(scripted) == [
        ("FAIL", "crashed"), ("FAIL", "crashed"), ("FAIL", "out_of_memory"), ("PRUNED", "out_of_memory"),
        ("PRUNED", "diverged"), ("PRUNED", "diverged"),
        ("COMPLETE", "complete"), ("COMPLETE", "complete"), ("COMPLETE", "complete"),
    ]  # fmt: skip
    trials = load_study(scripted).get_trials()
    assert [trial.value for trial in trials] == [None, None, None, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6]
    origins = ["default", "retry", "default", "retry", *["default"] * 4, "sampler"]
    assert [trial.user_attrs["origin"] for trial in trials] == origins
    assert trials[0].user_attrs["message"]
    assert "CUDA out of memory" in trials[2].user_attrs["message"]
    assert "CUDA out of memory" in scripted.trial(2).log.read_text()
    assert trials[3].user_attrs["spec"]["micro_batch"] == 8
    assert trials[6].intermediate_values == {1: 0.5, 2: 0.6}
    assert trials[6].user_attrs["epochs"] == 2

    asked = calls(scripted)
    dataset = load_dataset(scripted)
    assert [each["seed"] for each in asked.values()] == [trial.user_attrs["spec"]["seed"] for trial in trials]
    assert asked[8]["rows"] == [dataset.rows("train").tolist(), dataset.rows("validation").tolist()]
    processes = [each["pid"] for each in asked.values()]
    assert len({os.getpid(), *processes[:5]}) == 6  # a fresh one after a death and after an error
    assert processes[4:] == processes[4:5] * 5  # and the same one as long as it is sound


def test_a_paused_trial_stops_at_its_report_and_is_resumed_from_there_in_the_same_worker(
    scripted: StudyFolder, one_cluster: Resources
) -> None:
    """A trial that trained on until its next report would hold up, or fail, the one that gets its worker."""
    first: list[Step] = [["report", 0.9]] * 4  # of its kind: never pauses
    good: list[Step] = [["report", 0.5], ["checkpoint"], ["exit", 7]]
    low: list[Step] = [["report", 0.1], ["exit", 7]]
    rest: list[Step] = [["report", 0.95]] * 3
    driver = make_driver(scripted, small_config(ONE_GROUP, trials=4), defaults=False)
    search(scripted, one_cluster, {"0": first, "1": good, "2": low, "3": low, "4": rest}, driver)
    assert told(scripted) == [("COMPLETE", "complete"), *[("PRUNED", "paused")] * 3, ("COMPLETE", "complete")]
    trials = load_study(scripted).get_trials()
    assert trials[2].intermediate_values == {1: 0.1}
    assert trials[4].intermediate_values == {1: 0.5, 2: 0.95, 3: 0.95, 4: 0.95}
    asked = calls(scripted)
    assert [asked[4]["from_epoch"], asked[4]["seed"]] == [1, asked[1]["seed"]]
    assert len({each["pid"] for each in asked.values()}) == 1


@pytest.mark.slow
def test_failures_in_a_row_end_the_search_and_are_told(
    scripted: StudyFolder, one_cluster: Resources, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("ERROR", logger="automl"):
        driver = search(scripted, one_cluster, {"*": [["raise", "no such device"]]}, trials=50, max_failures=3)
    assert driver.stop_reason == "failures"
    assert told(scripted) == [("FAIL", "crashed")] * 3 + [("WAITING", "")]
    assert "no such device" in caplog.text


def test_an_interrupted_search_goes_on_where_it_was(scripted: StudyFolder, one_cluster: Resources) -> None:
    """The second trial is stopped between its second and third epoch, after its checkpoint."""
    config = small_config(scheduler="none", trials=4)
    stuck: list[Step] = [["report", 0.1], ["report", 0.2], ["checkpoint"], ["hang", "middle"], ["report", 0.3]]
    gate = Gate(scripted, "middle").create()
    signalled = threading.Event()
    driver = make_driver(scripted, config, interrupted=signalled.is_set)

    def interrupt() -> None:
        gate.wait()
        signalled.set()

    threading.Thread(target=interrupt, daemon=True).start()
    search(scripted, one_cluster, {"*": GOOD, "1": stuck}, driver)
    record = StudyRecord(load_study(scripted))
    record.fail_orphans(max_retries=2)  # as the pipeline does after a search and before a resume
    assert told(scripted) == [("COMPLETE", "complete"), ("FAIL", "interrupted"), ("WAITING", "")]
    process = calls(scripted)[1]["pid"]
    assert psutil.wait_procs([psutil.Process(process)] if psutil.pid_exists(process) else [], timeout=60)[1] == []

    again = make_driver(scripted, config, record)
    search(scripted, one_cluster, {"*": GOOD, "2": [["report", 0.3], ["report", 0.4]]}, again)
    trials = load_study(scripted).get_trials()
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 4
    retry = trials[2]
    assert (retry.user_attrs["origin"], retry.user_attrs["root"], retry.params) == ("retry", 1, trials[1].params)
    assert retry.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}
    asked = calls(scripted)
    assert asked[2]["from_epoch"] == 2
    assert asked[2]["seed"] == asked[1]["seed"]
    assert [trial.user_attrs["origin"] for trial in trials] == ["default", "default", "retry", "default", "default"]


@pytest.mark.slow
def test_a_trial_that_ignores_its_deadline_is_ended(scripted: StudyFolder, one_cluster: Resources) -> None:
    now = [0.0]
    gate = Gate(scripted, "for-ever").create()
    driver = make_driver(scripted, small_config(budget=600.0, scheduler="none"), clock=lambda: now[0])

    def night_passes() -> None:
        gate.wait()
        now[0] = 1000.0

    threading.Thread(target=night_passes, daemon=True).start()
    search(scripted, one_cluster, {"*": GOOD, "1": [["report", 0.5], ["hang", "for-ever"]]}, driver)
    StudyRecord(load_study(scripted)).fail_orphans(max_retries=0)
    states = told(scripted)
    assert states[0] == ("COMPLETE", "complete")
    assert len(states) == 2
    assert states[1][0] != "RUNNING"


def test_a_trial_that_hangs_is_ended_and_tried_once_more(scripted: StudyFolder, one_cluster: Resources) -> None:
    Gate(scripted, "for-ever").create()
    script: dict[str, list[Step]] = {"*": GOOD, "1": [["report", 0.5], ["hang", "for-ever"]]}
    search(scripted, one_cluster, script, trials=3, hang_after=2.0)
    assert told(scripted) == [
        ("COMPLETE", "complete"), ("FAIL", "crashed"), ("COMPLETE", "complete"), ("COMPLETE", "complete"),
    ]  # fmt: skip
    hung = load_study(scripted).get_trials()[1].user_attrs
    assert hung["retried"]
    assert hung["message"].startswith("silent for 0:00:02 h, so it was ended; where it stood: ")
    assert "in hang" in scripted.trial(1).log.read_text()
    assert not scripted.trial(0).log.exists()


@pytest.mark.slow
def test_two_at_a_time(scripted: StudyFolder, one_cluster: Resources) -> None:
    """Each of the first two waits for the test, which lets them go only when both are there."""
    gates = [Gate(scripted, name).create() for name in ("one", "two")]

    def both() -> None:
        for gate in gates:
            gate.wait()
        for gate in gates:
            gate.release()

    threading.Thread(target=both, daemon=True).start()
    script: dict[str, list[Step]] = {
        "*": GOOD, "0": [["hang", "one"], ["report", 0.1]], "1": [["hang", "two"], ["report", 0.2]]
    }  # fmt: skip
    search(scripted, one_cluster._replace(concurrency=2), script, trials=5)
    assert told(scripted) == [("COMPLETE", "complete")] * 5
    assert [trial.value for trial in load_study(scripted).get_trials()] == [0.1, 0.2, 0.6, 0.6, 0.6]


def test_a_trial_that_tune_gives_up_without_a_word_is_told_and_leaves_its_place(study_data: StudyFolder) -> None:
    """Tune does so where a worker cannot be used again, because its last trial takes too long to stop."""
    driver, failed = make_driver(study_data, small_config()), _Failed()
    asks, tells = _Asks(driver, failed, 2), _Tells(driver, failed)
    configs = [asks.suggest("a"), asks.suggest("b")]
    assert asks.suggest("c") is None
    trials = [
        SimpleNamespace(config=config, status=status, error_file=None, last_result={}, get_pickled_error=lambda: None)
        for config, status in zip(configs, ("RUNNING", "ERROR"), strict=True)
    ]
    tells.on_step_end(1, trials)
    assert driver.running == [0]
    trial = driver.record.trials()[1]
    assert (trial.state, trial.user_attrs["message"]) == (TrialState.FAIL, "its worker could not be used again")
    again = asks.suggest("d")
    assert isinstance(again, dict)
    assert again["spec"]["learning_rate"] == configs[1]["spec"]["learning_rate"]  # type: ignore[index]
    tells.on_step_end(2, trials)
    assert driver.running == [0, again["number"]]
