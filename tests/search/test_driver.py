from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from automl.paths import StudyFolder, make_folder
from automl.search.assignment import Assignment
from automl.search.driver import Driver
from automl.search.rungs import IN_LINE
from automl.search.spec import TrialSpec
from automl.search.storage import load_study
from automl.search.study import StudyRecord
from automl.space import make_space
from tests.small import EFFICIENTNET, ONE_GROUP, RESNET, SPACE, epoch, make_driver, new_record, small_config

DEFAULTS = [
    (RESNET, 1.0),
    (EFFICIENTNET, 1.0),
    (RESNET, 0.0),
    (RESNET, 0.75),
    (EFFICIENTNET, 0.0),
    (EFFICIENTNET, 0.75),
]


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def start(driver: Driver) -> Assignment:
    assignment = driver.next()
    assert assignment is not None
    return assignment


def run(driver: Driver, values: list[float], reason: str = "complete") -> int:
    """Run the next trial to its end as if on a worker. Returns its number."""
    number = start(driver).number
    for index, value in enumerate(values, start=1):
        if not driver.report(number, epoch(index, value)):
            driver.finish(number)
            return number
    driver.report(number, {"reason": reason})
    driver.finish(number)
    return number


def reopened(folder: StudyFolder) -> StudyRecord:
    """The study as a new process finds it, orphans told."""
    record = StudyRecord(load_study(folder))
    record.fail_orphans(max_retries=2)
    return record


def told(driver: Driver) -> list[tuple[str, str]]:
    return [(trial.state.name, trial.user_attrs.get("reason", "")) for trial in driver.record.study.get_trials()]


def test_defaults_come_first_in_order_and_once_then_the_sampler(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(scheduler="none"))
    for _ in range(9):
        run(driver, [0.5] * 4)
    trials = driver.record.study.get_trials()
    assert [(t.params["backbone"], t.params["freeze_depth"]) for t in trials[:6]] == DEFAULTS
    assert [t.user_attrs["origin"] for t in trials] == ["default"] * 6 + ["sampler"] * 3
    assert [t.params["augmentation"] for t in trials[:6]] == ["none"] * 6


def test_defaults_are_not_repeated_after_a_resume(folder: StudyFolder) -> None:
    config = small_config(scheduler="none")
    driver = make_driver(folder, config)
    for _ in range(2):
        run(driver, [0.5])
    start(driver)  # killed while the third runs
    again = make_driver(folder, config, reopened(folder))
    for _ in range(6):
        run(again, [0.5])
    trials = again.record.study.get_trials()
    assert [t.user_attrs["origin"] for t in trials] == ["default"] * 3 + ["retry"] + ["default"] * 3 + ["sampler"] * 2
    ran = [(t.params["backbone"], t.params["freeze_depth"]) for t in trials if t.state == TrialState.COMPLETE]
    assert ran[:6] == DEFAULTS


def test_a_default_whose_driver_died_before_it_started_runs_once(folder: StudyFolder) -> None:
    config = small_config(scheduler="none")
    record = new_record(folder, config)
    first = make_driver(folder, config, record)._agenda.defaults[0]
    record.study.enqueue_trial(first, user_attrs={"origin": "default"})
    driver = make_driver(folder, config, reopened(folder))
    for _ in range(7):
        run(driver, [0.5])
    origins = [trial.user_attrs["origin"] for trial in driver.record.study.get_trials()]
    assert origins == ["default"] * 6 + ["sampler"]


def test_a_retry_goes_on_from_the_checkpoint_with_the_seed_it_had(folder: StudyFolder) -> None:
    config = small_config(scheduler="none")
    driver = make_driver(folder, config)
    run(driver, [0.5])
    assignment = start(driver)
    files = folder.trial(assignment.number)
    files.root.mkdir(parents=True)
    for number in (1, 2):
        driver.report(assignment.number, epoch(number, 0.1 * number))
    files.metrics.write_text("".join(json.dumps(epoch(number, 0.1 * number)) + "\n" for number in (1, 2)))
    files.validation_logits.write_bytes(b"logits")
    files.checkpoint.write_bytes(b"weights")

    again = make_driver(folder, config, reopened(folder))
    retry = start(again)
    assert retry.number == 2
    assert retry.spec == assignment.spec  # so its identity, which the checkpoint names, is the same
    theirs = folder.trial(retry.number)
    assert theirs.checkpoint.read_bytes() == b"weights"
    assert not files.checkpoint.exists()
    assert theirs.metrics.read_text() == files.metrics.read_text()
    assert theirs.validation_logits.read_bytes() == b"logits"
    again.report(retry.number, epoch(2, 0.2))  # the checkpoint may lag an epoch behind the metrics
    again.report(retry.number, epoch(3, 0.3))
    again.report(retry.number, {"reason": "complete"})
    again.finish(retry.number)
    trial = again.record.study.get_trials()[2]
    assert trial.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.3)
    assert trial.user_attrs["root"] == 1
    assert not theirs.checkpoint.exists()


def test_without_a_checkpoint_a_retry_starts_anew(folder: StudyFolder) -> None:
    config = small_config()
    driver = make_driver(folder, config)
    first = start(driver)
    driver.report(first.number, epoch(1, 0.4))
    again = make_driver(folder, config, reopened(folder))
    retry = start(again)
    assert retry.spec.seed == first.spec.seed
    assert again.record.study.get_trials()[retry.number].intermediate_values == {}


def test_every_trial_has_its_own_seed(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config())
    seeds = [start(driver).spec.seed for _ in range(8)]
    assert len(set(seeds)) == 8


def test_the_number_of_trials_is_what_was_asked_for_and_interrupted_ones_do_not_count(folder: StudyFolder) -> None:
    config = small_config(trials=4, scheduler="none")
    driver = make_driver(folder, config)
    run(driver, [0.5])
    run(driver, [], reason="crashed")
    run(driver, [], reason="crashed")  # the same once more; now it counts
    start(driver)
    again = make_driver(folder, config, reopened(folder))
    run(again, [0.5])
    run(again, [0.5])
    assert again.next() is None
    assert again.stop_reason == "trials"
    reasons = [reason for _, reason in told(again)]
    assert sorted(reasons) == ["complete", "complete", "complete", "crashed", "crashed", "interrupted"]


def test_running_trials_count_too(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(trials=2))
    first, second = start(driver).number, start(driver).number
    assert driver.next() is None
    assert driver.stop_reason is None  # one of them may crash
    driver.finish(first, error="the worker process died")
    assert start(driver).spec.seed == driver.record.study.get_trials()[first].user_attrs["spec"]["seed"]
    driver.report(second, epoch(1, 0.5))
    driver.report(second, {"reason": "complete"})
    driver.finish(second)
    driver.finish(2, error="the worker process died")
    assert driver.next() is None
    assert driver.stop_reason == "trials"


def test_a_driver_killed_while_a_trial_was_asked_for_does_not_stop_the_next(folder: StudyFolder) -> None:
    """The params of a trial are written one after the other."""
    config = small_config()
    driver = make_driver(folder, config, defaults=False)
    names = [*driver._space.distributions][:1]
    trial = driver.record.study.ask({name: driver._space.distributions[name] for name in names})
    assert len(trial.params) == 1
    assert start(make_driver(folder, config, reopened(folder))).number > trial.number


def test_an_epoch_is_recorded_with_what_it_cost(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(metric="macro_f1"))
    number = start(driver).number
    facts = epoch(1, 0.5, peak_memory_mb=10.0, host="box", device="cpu", dtype="float32", from_embeddings=True)
    assert driver.report(number, facts | {"macro_f1": 0.25})
    (trial,) = driver.record.study.get_trials()
    assert trial.intermediate_values == {1: 0.25}
    attrs = trial.user_attrs
    assert (attrs["epochs"], attrs["max_epochs"], attrs["train_seconds"], attrs["latency_ms"]) == (1, 4, 1.0, 2.0)
    assert (attrs["host"], attrs["device"], attrs["from_embeddings"]) == ("box", "cpu", True)
    assert attrs["metrics"] == {"accuracy": 0.5, "macro_f1": 0.5, "log_loss": 0.5}
    assert attrs["spec"]["epochs"] == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_ends_the_trial_as_diverged(folder: StudyFolder, value: float) -> None:
    driver = make_driver(folder, small_config())
    number = start(driver).number
    assert driver.report(number, epoch(1, 0.5))
    assert not driver.report(number, epoch(2, value))
    driver.finish(number)
    (trial,) = driver.record.study.get_trials()
    assert (trial.state, trial.value) == (TrialState.PRUNED, 0.5)
    assert (trial.user_attrs["reason"], trial.user_attrs["epochs"]) == ("diverged", 1)
    assert trial.user_attrs["message"] == f"accuracy became {value} in epoch 2"


def pause(driver: Driver, value: float, number: int | None = None) -> int:
    """Run the next trial (or `number`) until it pauses at its first rung, with a checkpoint. Returns its number."""
    number = start(driver).number if number is None else number
    line = epoch(1, value)
    files = driver._folder.trial(number)
    make_folder(files.root)
    files.metrics.write_text(json.dumps(line) + "\n")
    files.checkpoint.write_text(f"weights of {number}")
    assert not driver.report(number, line)
    driver.finish(number)
    return number


def pauses(driver: Driver, *values: float) -> list[int]:
    """Run the first of its kind, which never pauses, in full, and then one to its first rung for each of `values`."""
    run(driver, [0.9] * 4)
    for value in values:
        pause(driver, value)
    return [each.number for each in driver.record.trials()]


def resumed(driver: Driver) -> Assignment:
    """The next assignment, which is to go on with a paused trial."""
    assignment = start(driver)
    assert driver.record.trials()[assignment.number].user_attrs["origin"] == "resume"
    return assignment


def origins(driver: Driver) -> list[str]:
    return [each.user_attrs["origin"] for each in driver.record.trials()]


def test_a_trial_that_is_not_among_the_best_at_a_rung_pauses_with_its_value(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(ONE_GROUP), defaults=False)
    number = pauses(driver, 0.5)[-1]
    trial = driver.record.trials()[number]
    assert (trial.state, trial.value, trial.last_step) == (TrialState.PRUNED, 0.5, 1)
    assert trial.user_attrs["reason"] == "paused"
    assert trial.user_attrs["message"] == "not among the best 1/2 of its kind at epoch 1"
    assert folder.trial(number).checkpoint.exists()


@pytest.mark.parametrize("reopens", [False, True])
def test_the_best_paused_trial_is_resumed_when_enough_others_have_come(folder: StudyFolder, reopens: bool) -> None:
    config = small_config(ONE_GROUP)
    driver = make_driver(folder, config, defaults=False)
    pauses(driver, 0.5, 0.3, 0.2)
    spec = driver.record.trials()[1].user_attrs["spec"]
    if reopens:
        driver = make_driver(folder, config, reopened(folder), defaults=False)
    number = (again := resumed(driver)).number
    assert again.spec == TrialSpec.from_dict(spec)
    assert folder.trial(number).checkpoint.read_text() == "weights of 1"
    attrs = driver.record.trials()[number].user_attrs
    assert (attrs["resumes"], attrs["root"]) == (1, 1)
    assert driver.record.trials()[number].intermediate_values == {1: 0.5}
    for epochs in (2, 3, 4):
        assert driver.report(number, epoch(epochs, 0.95))
    driver.report(number, {"reason": "complete"})
    driver.finish(number)
    best = driver.record.incumbent()
    assert best is not None
    assert (best.number, best.value) == (number, 0.95)
    following = start(driver).number
    assert driver.record.trials()[following].user_attrs["origin"] == "sampler"


def test_a_resumed_trial_that_was_interrupted_goes_on_and_is_not_resumed_twice(folder: StudyFolder) -> None:
    config = small_config(ONE_GROUP)
    driver = make_driver(folder, config, defaults=False)
    pauses(driver, 0.5, 0.3, 0.2)
    number = resumed(driver).number  # and the driver is killed
    again = make_driver(folder, config, reopened(folder), defaults=False)
    retry = start(again).number
    assert folder.trial(retry).checkpoint.read_text() == "weights of 1"
    assert again.record.trials()[retry].user_attrs["resumes"] == number
    pause(again, 0.1)  # one more, of the sampler
    assert origins(again) == [*["sampler"] * 4, "resume", "retry", "sampler"]


def test_a_paused_trial_counts_once_and_is_resumed_after_the_last_new_one(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(ONE_GROUP, trials=4), defaults=False)
    pauses(driver, 0.5, 0.3, 0.2)
    run(driver, [0.5, 0.95, 0.95, 0.95])
    assert driver.next() is None
    assert driver.stop_reason == "trials"
    assert origins(driver) == [*["sampler"] * 4, "resume"]


def test_a_paused_trial_without_the_time_for_its_next_rung_waits(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(ONE_GROUP, budget=1000.0), defaults=False, clock=clock)
    pauses(driver, 0.5, 0.3, 0.2)
    clock.now = 995.0
    assert driver.next() is None
    assert driver.stop_reason == "budget"


def test_checkpoints_of_paused_trials_far_behind_are_deleted(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(ONE_GROUP, reduction=30), defaults=False)
    numbers = pauses(driver, *(0.9 - number / 100 for number in range(IN_LINE + 2)))
    there = [folder.trial(number).checkpoint.exists() for number in numbers[1:]]
    assert there == [*[True] * (IN_LINE - 1), *[False] * 3]  # the first of the kind is in line as well


def test_the_values_of_an_interrupted_trial_are_not_held_against_its_retry(folder: StudyFolder) -> None:
    config = small_config(ONE_GROUP)
    driver = make_driver(folder, config, defaults=False)
    run(driver, [0.3] * 4)
    assert driver.report(start(driver).number, epoch(1, 0.9))
    again = make_driver(folder, config, reopened(folder), defaults=False)
    assert again.report(start(again).number, epoch(1, 0.4))


@pytest.mark.parametrize("reopens", [False, True])
def test_what_a_shortened_schedule_reached_is_not_held_against_others(folder: StudyFolder, reopens: bool) -> None:
    config = small_config(ONE_GROUP)
    driver = make_driver(folder, config, defaults=False)
    run(driver, [0.3] * 4)  # the first of a kind is compared with nothing
    number = start(driver).number
    assert driver.report(number, epoch(1, 0.9, last=1))  # its learning rate has decayed
    driver.report(number, {"reason": "truncated"})
    driver.finish(number)
    if reopens:
        driver = make_driver(folder, config, reopened(folder), defaults=False)
    assert driver.report(start(driver).number, epoch(1, 0.4))


def test_without_early_stopping_nothing_is_pruned(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(scheduler="none"))
    for value in (0.9, 0.8, 0.0, 0.0):
        run(driver, [value] * 4)
    assert {state for state, _ in told(driver)} == {"COMPLETE"}


def crash(driver: Driver) -> None:
    """Let the next configuration end its worker, twice."""
    for _ in range(2):
        driver.finish(start(driver).number, error="no kernel image is available")


def test_failures_in_a_row_stop_the_search_with_their_cause(
    folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    driver = make_driver(folder, small_config(max_failures=3))
    crash(driver)
    crash(driver)
    run(driver, [0.5])  # in a row means in a row
    crash(driver)
    crash(driver)
    with caplog.at_level("ERROR", logger="automl"):
        crash(driver)
    assert driver.next() is None
    assert driver.stop_reason == "failures"
    assert "3 trials in a row ended as crashed; the last one: no kernel image is available" in caplog.text


def test_a_lost_machine_takes_many_trials_and_not_the_search(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(max_failures=3))
    lost, others = [start(driver).number for _ in range(6)], [start(driver).number for _ in range(2)]
    for number in lost:
        driver.finish(number, error="the worker process died")
    assert driver.stop_reason is None
    assert [start(driver).number for _ in lost]  # all of them again
    driver.report(others[0], epoch(4, 0.5))
    driver.report(others[0], {"reason": "complete"})
    driver.finish(others[0])
    assert told(driver)[others[0]] == ("COMPLETE", "complete")


def test_backbones_that_do_not_fit_leave_the_others_their_turn(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(max_failures=3))
    for reason in ("out_of_memory", "diverged", "out_of_memory"):  # no common cause
        run(driver, [], reason=reason)
    run(driver, [], reason="out_of_memory")
    assert driver.stop_reason is None
    for _ in range(20):
        if driver.stop_reason is None:
            run(driver, [], reason="diverged")
    assert driver.stop_reason == "failures"


def test_trials_that_ran_well_when_others_failed_go_on_later(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(max_failures=1))
    healthy = start(driver).number
    driver.report(healthy, epoch(1, 0.7))
    crash(driver)
    assert driver.stop_reason == "failures"
    driver.finish_rest()
    assert told(driver)[healthy] == ("FAIL", "interrupted")
    waiting = driver.record.trials(TrialState.WAITING)
    assert [each.user_attrs["resumes"] for each in waiting] == [healthy]


def test_a_trial_that_the_budget_cut_short_goes_on_with_more_of_it(folder: StudyFolder, clock: Clock) -> None:
    config = small_config(budget=600.0)
    driver = make_driver(folder, config, clock=clock)
    cut = start(driver).number
    driver.report(cut, epoch(1, 0.5))
    checkpoint = folder.trial(cut).checkpoint
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(b"weights")
    folder.trial(cut).metrics.write_text(json.dumps({"epoch": 1, "accuracy": 0.5}) + "\n")
    driver.finish(cut)
    assert told(driver)[cut] == ("COMPLETE", "truncated")
    again = make_driver(folder, config, record=reopened(folder), clock=clock)
    assignment = start(again)
    trial = again.record.trials()[assignment.number]
    assert (trial.user_attrs["resumes"], trial.params) == (cut, again.record.trials()[cut].params)
    assert folder.trial(assignment.number).checkpoint.exists()
    number = start(again).number
    assert again.record.trials()[number].user_attrs["origin"] == "default"  # once


def test_what_waits_and_does_not_fit_is_set_aside(folder: StudyFolder, clock: Clock) -> None:
    seconds = {RESNET: 0.001, EFFICIENTNET: 3.0}
    config = small_config(budget=3600.0)
    driver = make_driver(folder, config, clock=clock, seconds=seconds)
    while (assignment := start(driver)).spec.backbone != EFFICIENTNET or assignment.spec.from_embeddings:
        driver.report(assignment.number, {"reason": "complete"})
        driver.finish(assignment.number)
    config = small_config(budget=100.0)
    short = make_driver(folder, config, record=reopened(folder), clock=clock, seconds=seconds)
    assert start(short).spec.backbone == RESNET
    assert ("FAIL", "skipped") in told(short)
    config = small_config(budget=7200.0)
    long = make_driver(folder, config, record=reopened(folder), clock=clock, seconds=seconds)
    started = [start(long).spec for _ in range(2)]
    assert assignment.spec in started


def test_a_killed_driver_forgets_no_more_than_seconds(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(), clock=clock)
    number = start(driver).number
    clock.now += 100.0
    driver.report(number, epoch(1, 0.5))
    clock.now += 5.0
    driver.report(number, epoch(2, 0.6))
    assert load_study(folder).user_attrs["spent_seconds"] == pytest.approx(100.0)


def test_a_trial_cut_off_before_its_first_epoch_is_tried_again_with_more_time(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(), defaults=True)
    cut = start(driver)
    driver.finish(cut.number)
    assert told(driver)[cut.number] == ("FAIL", "skipped")
    again = make_driver(folder, small_config(), record=reopened(folder))
    taken_up = start(again)
    assert taken_up.spec == cut.spec


def test_what_an_end_without_a_reason_means(folder: StudyFolder) -> None:
    signals: list[bool] = []
    driver = make_driver(folder, small_config(), interrupted=lambda: bool(signals))
    cut, died, stopped = (start(driver).number for _ in range(3))
    driver.report(cut, epoch(1, 0.5))
    driver.finish(cut)
    driver.finish(died, error="the worker process died")
    signals.append(True)
    driver.finish(stopped)
    assert told(driver) == [
        ("COMPLETE", "truncated"), ("FAIL", "crashed"), ("FAIL", "interrupted"), ("WAITING", ""), ("WAITING", "")
    ]  # fmt: skip
    assert driver.record.study.get_trials()[died].user_attrs["message"] == "the worker process died"
    assert driver.next() is None
    assert driver.stop_reason == "interrupted"


def test_what_runs_out_of_memory_is_tried_once_more_with_half_as_many_images_at_a_time(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config())
    first = start(driver)
    driver.report(first.number, {"reason": "out_of_memory", "message": "CUDA out of memory"})
    driver.finish(first.number, error="RuntimeError")
    second = start(driver)
    assert (first.spec.micro_batch, second.spec.micro_batch, second.spec.batch_size) == (None, 8, 16)
    assert second.spec.identity == first.spec.identity  # of its checkpoint
    driver.report(second.number, {"reason": "out_of_memory", "message": "CUDA out of memory"})
    driver.finish(second.number, error="RuntimeError")
    assert told(driver) == [("FAIL", "out_of_memory"), ("PRUNED", "out_of_memory")]
    assert start(driver).spec.micro_batch is None


def test_a_checkpoint_is_found_although_a_driver_was_killed_while_handing_it_over(folder: StudyFolder) -> None:
    config = small_config()
    driver = make_driver(folder, config)
    first = start(driver).number
    trial = folder.trial(first)
    trial.root.mkdir(parents=True)
    trial.checkpoint.write_bytes(b"weights")
    trial.metrics.write_text(json.dumps({"epoch": 1, "accuracy": 0.5}) + "\n")
    record = reopened(folder)
    record.ask(driver._space.distributions)  # killed before it moved the checkpoint
    again = make_driver(folder, config, reopened(folder))
    second = start(again).number
    assert folder.trial(second).checkpoint.read_bytes() == b"weights"
    assert again.record.study.get_trials()[second].intermediate_values == {1: 0.5}


def with_memory(driver: Driver, fixed: float, image: float, available: float) -> None:
    memory = {"fixed_mb": {0.0: fixed}, "image_mb": {0.0: image}, "available_mb": available}
    driver._costs.costs = {name: replace(each, **memory) for name, each in driver._costs.costs.items()}  # type: ignore[arg-type]


def test_a_batch_that_does_not_fit_is_passed_in_equal_parts(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(ONE_GROUP))
    with_memory(driver, fixed=100.0, image=10.0, available=200.0)  # eight images with the headroom
    assignment = start(driver)
    assert (assignment.spec.micro_batch, assignment.spec.batch_size) == (8, 16)
    attrs = driver.record.study.get_trials()[0].user_attrs
    assert attrs["micro_batch_reason"] == "8 images of 32 px fit into 200 MB of memory: batches of 16 in 2 passes"
    assert attrs["spec"]["micro_batch"] == 8
    assert attrs["predicted_mb"] == 180.0


def test_a_trial_trains_in_the_precision_that_the_screening_found_quicker(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(ONE_GROUP))
    assert start(driver).spec.dtype == "auto"
    quicker: dict[str, Any] = {"training_dtype": "float32", "dtype_seconds": {"bfloat16": 2.0, "float32": 1.0}}
    driver._costs.costs = {name: replace(each, **quicker) for name, each in driver._costs.costs.items()}
    assignment = start(driver)
    assert assignment.spec.dtype == "float32"
    assert driver.record.study.get_trials()[1].user_attrs["spec"]["dtype"] == "float32"


def test_trials_on_one_device_share_its_memory(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(ONE_GROUP))
    driver._costs.memory_share = 0.7
    with_memory(driver, fixed=100.0, image=10.0, available=200.0)  # 126 MB with the headroom: two images
    assert start(driver).spec.micro_batch == 2


def test_a_trial_of_which_no_image_fits_is_told_and_not_started(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(trials=20, max_failures=3))
    with_memory(driver, fixed=1000.0, image=10.0, available=200.0)
    assert start(driver).spec.from_embeddings  # needs no such memory
    assert start(driver).spec.from_embeddings
    while driver.next() is not None:
        pass
    assert driver.stop_reason == "failures"
    assert told(driver)[2:6] == [("PRUNED", "out_of_memory")] * 4  # the defaults, however many
    message = driver.record.study.get_trials()[2].user_attrs["message"]
    assert message == "not started: 0 images of 32 px fit into 200 MB of memory"


def test_a_finite_space_is_tried_once_through(folder: StudyFolder) -> None:
    text = SPACE.replace("{low: 1.0e-4, high: 1.0e-1, log: true}", "0.01").replace("[none, light]", "none")
    driver = make_driver(folder, small_config(text, scheduler="none"))
    for _ in range(6):
        run(driver, [0.5] * 4)
    assert driver.next() is None
    assert driver.stop_reason == "converged"
    trials = driver.record.study.get_trials()
    assert len({tuple(sorted(trial.params.items())) for trial in trials}) == len(trials) == 6


@pytest.mark.parametrize("at_once", [2, 3])
def test_a_finite_space_is_tried_once_through_by_several_at_once(folder: StudyFolder, at_once: int) -> None:
    text = SPACE.replace("{low: 1.0e-4, high: 1.0e-1, log: true}", "0.01").replace("[none, light]", "none")
    driver = make_driver(folder, small_config(text, scheduler="none"), at_once=at_once)
    running: list[Assignment] = []
    for _ in range(20):
        while len(running) < at_once and (assignment := driver.next()) is not None:
            running.append(assignment)
        if not running:
            break
        one = running.pop(0)
        for number in range(1, 5):
            driver.report(one.number, epoch(number, 0.5))
        driver.report(one.number, {"reason": "complete"})
        driver.finish(one.number)
    assert driver.stop_reason == "converged"
    trials = driver.record.study.get_trials()
    assert len({tuple(sorted(trial.params.items())) for trial in trials}) == len(trials) == 6


def test_a_search_without_progress_has_converged(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(scheduler="none", patience=3), defaults=False)
    for value in (0.5, 0.6, 0.4, 0.6, 0.5):
        run(driver, [value] * 4)
    assert driver.next() is None
    assert driver.stop_reason == "converged"


def test_how_long_a_trial_may_be_silent(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config(), seconds=1.0)
    assert start(driver).hang_after == pytest.approx(120 + 10 * (2.0 + 0.0225))  # a head
    start(driver)
    assert start(driver).hang_after > 120 + 10 * 50
    assert start(make_driver(StudyFolder(folder.root / "other"), small_config(hang_after=7.0))).hang_after == 7.0


def test_finishing_twice_tells_once(folder: StudyFolder) -> None:
    driver = make_driver(folder, small_config())
    number = run(driver, [0.5])
    driver.finish(number, error="late news")
    assert told(driver) == [("COMPLETE", "complete")]


def test_no_trial_starts_that_cannot_reach_its_first_rung_before_the_refit_is_due(
    folder: StudyFolder, clock: Clock
) -> None:
    """One epoch of everything is 0.1 s an image: 10 s to train, 0.625 s or more to evaluate."""
    driver = make_driver(folder, small_config(budget=600.0), clock=clock, seconds=0.1, defaults=False)
    run(driver, [0.5] * 4)
    clock.now = 590.0
    assert driver.next() is None
    assert driver.stop_reason == "budget"


def test_a_default_that_no_longer_fits_is_left_out_and_cheaper_ones_still_run(
    folder: StudyFolder, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = {RESNET: 0.001, EFFICIENTNET: 10.0}
    driver = make_driver(folder, small_config(budget=120.0), clock=clock, seconds=seconds)
    with caplog.at_level("INFO", logger="automl"):
        started = [start(driver).spec for _ in range(4)]
        driver.finish_rest()
    heads = [(spec.backbone, spec.freeze_depth) for spec in started[:2]]
    assert heads == [(RESNET, 1.0), (EFFICIENTNET, 1.0)]  # the dear one's without the refit, which embeds again
    assert [spec.backbone for spec in started[2:]] == [RESNET] * 2
    assert f"not tried: {EFFICIENTNET}" in caplog.text


def test_a_default_that_does_not_fit_is_asked_again_when_trials_turn_out_cheaper(folder: StudyFolder) -> None:
    """The machine was busy while costs were measured: all backbones are a hundred times as fast as they seemed."""
    driver = make_driver(folder, small_config(budget=300.0, scheduler="none"), seconds={RESNET: 0.1, EFFICIENTNET: 1.0})
    backbones = []
    for _ in range(6):
        assignment = start(driver)
        backbones.append((assignment.spec.backbone, assignment.spec.freeze_depth))
        for index in range(1, 5):
            driver.report(assignment.number, epoch(index, 0.5, epoch_seconds=0.1))
        driver.report(assignment.number, {"reason": "complete"})
        driver.finish(assignment.number)
    assert sorted(backbones) == sorted(DEFAULTS)


def test_a_trial_is_given_the_time_that_the_refit_leaves(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(budget=600.0), clock=clock, seconds=0.1, defaults=False)
    early = start(driver)
    clock.now = 100.0
    driver.report(early.number, {"reason": "diverged"})
    driver.finish(early.number)
    for _ in range(3):
        assignment = start(driver)
        params = driver._space.params(driver.record.study.trials[assignment.number].params)
        assert assignment.time_limit == pytest.approx(500.0 - driver._costs.reserve(params, 4, refit=True))


def test_the_reserve_is_for_the_incumbent_too(folder: StudyFolder, clock: Clock) -> None:
    seconds = {RESNET: 0.2, EFFICIENTNET: 0.001}
    driver = make_driver(folder, small_config(budget=600.0), clock=clock, seconds=seconds, defaults=False)
    before = driver.clock.search_left()
    while start(driver).spec.from_embeddings or driver.record.study.trials[-1].params["backbone"] != RESNET:
        pass
    number = driver.record.study.trials[-1].number
    driver.report(number, epoch(4, 0.9) | {"seconds": 80.0})
    driver.report(number, {"reason": "complete"})
    driver.finish(number)
    best = driver.record.incumbent()
    assert best is not None
    assert best.number == number
    reserve = driver._costs.reserve(driver._space.params(best.params), 4, refit=True)
    assert driver.clock.search_left() == pytest.approx(before - reserve)
    assert reserve > 50


def test_where_a_refit_does_not_fit_half_a_trial_is_tried_all_the_same(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(budget=120.0), clock=clock, seconds=0.3, defaults=False)
    params = {**driver.record.study.ask(driver._space.distributions).params, "freeze_depth": 0.0}
    half = driver.clock.seconds(params, 2)
    end = driver._costs.reserve(driver._space.params(params), 4, refit=False)
    assert not driver.clock.refits(params)
    clock.now = 120.0 - end - half - 0.1
    assert driver.clock.fits(params)
    clock.now += 0.2  # time for its first rung would be left
    assert not driver.clock.fits(params)
    assert driver.clock.fits(params, 1)


def test_the_first_of_a_kind_is_tried_although_its_refit_no_longer_fits(folder: StudyFolder, clock: Clock) -> None:
    seconds = {RESNET: 0.3, EFFICIENTNET: 30.0}
    driver = make_driver(folder, small_config(budget=240.0), clock=clock, seconds=seconds)

    def end(number: int, value: float) -> None:
        driver.report(number, epoch(4, value))
        driver.report(number, {"reason": "complete"})
        driver.finish(number)

    def started() -> tuple[int, float]:
        while (assignment := start(driver)).spec.from_embeddings:
            end(assignment.number, 0.8)
        return assignment.number, assignment.spec.freeze_depth

    first, depth = started()
    frozen = {**driver.record.study.trials[first].params, "freeze_depth": 0.75}
    assert depth == 0.0
    assert driver.clock.refits(frozen)
    assert not driver.clock.refits(driver.record.study.trials[first].params)
    clock.now = 150.0
    end(first, 0.7)
    assert not driver.clock.fits(frozen)  # with its refit
    second, depth = started()
    assert depth == 0.75
    assert not driver.clock.refits(frozen)
    assert driver.clock.search_left(frozen) > driver.clock.seconds(frozen, 2)
    end(second, 0.9)
    assert driver.clock.confirmable([driver.record.study.trials[second]]) == ([], 0)
    while (assignment := driver.next()) is not None:
        assert assignment.spec.from_embeddings  # another of a kind that was tried is not worth the refit
        end(assignment.number, 0.8)


def test_the_weights_of_the_best_trials_stay(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(), clock=clock, defaults=False)
    kept = []
    for value in (0.5, 0.4, 0.7, 0.7, 0.6):
        number = start(driver).number
        driver.report(number, epoch(4, value))
        driver.report(number, {"reason": "complete"})
        path = folder.trial(number).weights
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
        driver.finish(number)
        kept.append([int(each.parent.name) for each in folder.all_weights()])
    assert kept == [[0], [0], [2], [2, 3], [2, 3]]


def test_the_weights_of_the_best_that_cannot_be_refitted_stay(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(budget=200.0), clock=clock, seconds=0.3)
    kept: dict[float, list[int]] = {}
    for value in (0.9, 0.8, 0.6, 0.7, 0.5):  # two heads, everything, mostly frozen, everything of the other
        number = start(driver).number
        other = folder.trial(number + 1).weights  # of one that runs at the same time, and has not been told yet
        for path in (folder.trial(number).weights, other):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"weights")
        driver.record.study.ask(driver._space.distributions)
        driver.report(number, epoch(4, value))
        driver.report(number, {"reason": "complete"})
        driver.finish(number)
        assert other.exists()
        other.unlink()
        kept[value] = [int(each.parent.name) for each in folder.all_weights()]
    values = {each.number: each.value for each in driver.record.trials()}
    assert {value: [values[number] for number in numbers] for value, numbers in kept.items()} == {
        0.9: [0.9], 0.8: [0.9], 0.6: [0.9, 0.6], 0.7: [0.9, 0.6], 0.5: [0.9, 0.6],
    }  # fmt: skip


def test_running_trials_past_their_deadline_are_noticed(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(budget=600.0), clock=clock)
    start(driver)
    clock.now = 600.0
    assert not driver.past_deadline()  # they have half a minute to stop by themselves
    clock.now = 631.0
    assert driver.past_deadline()


@pytest.mark.parametrize(("metric", "expected"), [("accuracy", 0.9), ("log_loss", 0.1)])
def test_the_incumbent_is_the_best_complete_trial(folder: StudyFolder, metric: Any, expected: float) -> None:
    driver = make_driver(folder, small_config(metric=metric, scheduler="none"))
    assert driver.record.incumbent() is None
    for value in (0.5, 0.9, 0.1):
        run(driver, [value] * 4)
    run(driver, [2.0 if metric == "accuracy" else -1.0], reason="diverged")
    best = driver.record.incumbent()
    assert best is not None
    assert best.value == expected


def test_seconds_spent_are_kept_for_a_resume(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(), clock=clock, spent_before=50.0)
    number = start(driver).number
    clock.now = 7.0
    driver.finish(number)
    assert driver.record.study.user_attrs["spent_seconds"] == 57.0


def test_proposals_that_no_longer_fit_end_the_search(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(budget=600.0), clock=clock, seconds=0.1, defaults=False)
    start(driver)
    clock.now = 590.0
    assert driver.next() is None
    assert driver.stop_reason == "budget"
    assert told(driver)[1:] == [("FAIL", "skipped")] * 3
    assert "s are left" in driver.record.study.trials[1].user_attrs["message"]


def test_what_was_not_begun_since_there_were_enough_trials_lacked_no_time(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(trials=1, budget=600.0), clock=clock, seconds=0.1)
    number = start(driver).number
    driver.report(number, {"reason": "complete"})
    driver.finish(number)
    clock.now = 590.0
    assert driver.next() is None
    driver.finish_rest()
    attrs = driver.record.study.user_attrs
    assert driver.stop_reason == "trials"
    assert attrs["not_begun"]
    assert attrs["not_tried"] == {}


def test_after_a_trial_cut_off_by_the_clock_what_still_fits_is_tried(folder: StudyFolder, clock: Clock) -> None:
    """A dear trial keeps the time for its own refit free, which a cheaper one does not need."""
    seconds = {RESNET: 0.001, EFFICIENTNET: 1.0}
    driver = make_driver(folder, small_config(budget=3600.0), clock=clock, seconds=seconds)
    while (dear := start(driver)).spec.backbone != EFFICIENTNET or dear.spec.from_embeddings:
        driver.report(dear.number, {"reason": "complete"})
        driver.finish(dear.number)
    clock.now += dear.time_limit
    assert driver.clock.search_left() > 60
    driver.report(dear.number, {"reason": "truncated"})
    driver.finish(dear.number)
    cheaper = start(driver).spec
    assert cheaper.freeze_depth > dear.spec.freeze_depth or cheaper.backbone == RESNET
    clock.now = 3600.0
    driver.finish_rest()
    assert driver.next() is None
    assert driver.stop_reason == "budget"


def test_the_last_minutes_go_to_heads_on_cached_features(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(budget=600.0), clock=clock, seconds=0.1, defaults=False)
    driver.report(start(driver).number, {"reason": "diverged"})
    proposed = driver.record.ask(driver._space.distributions)
    while proposed.params["freeze_depth"] == 1.0:
        proposed = driver.record.ask(driver._space.distributions)
    before = len(driver.record.trials())
    clock.now = 570.0
    assert not driver._agenda.accepts(proposed)
    assert driver.record.trials()[proposed.number].user_attrs["reason"] == "skipped"
    (added,) = driver.record.trials()[before:]
    head_only = {**proposed.params, "freeze_depth": 1.0, "augmentation": "none"}
    assert added.system_attrs["fixed_params"] == head_only
    assert added.user_attrs["origin"] == "sampler"
    clock.now = 600.0
    last = driver.record.study.ask(driver._space.distributions)
    last.set_user_attr("origin", "sampler")
    before = len(driver.record.trials())
    assert not driver._agenda.accepts(last)
    assert len(driver.record.trials()) == before


def heads_until_nothing_fits(driver: Driver) -> Assignment | None:
    """Run trials on heads alone, in no time. Returns the first that is another one."""
    while (assignment := driver.next()) is not None and assignment.spec.from_embeddings:
        driver.report(assignment.number, epoch(1, 0.5))
        driver.report(assignment.number, {"reason": "complete"})
        driver.finish(assignment.number)
    return assignment


def test_a_machine_that_was_busy_while_it_was_measured_is_given_a_try(folder: StudyFolder, clock: Clock) -> None:
    """The screening found 2 epochs to take twice the budget; in truth an epoch takes 5 s."""
    driver = make_driver(folder, small_config(budget=600.0), clock=clock, seconds=10.0)
    tried = heads_until_nothing_fits(driver)
    assert tried is not None
    assert driver.record.trials()[tried.number].user_attrs["origin"] == "default"
    assert tried.spec.freeze_depth == 0.75  # the cheapest
    assert tried.time_limit < 600.0  # and not beyond the budget
    for number in range(1, 5):
        assert driver.report(tried.number, epoch(number, 0.6, epoch_seconds=5.0, startup_seconds=1.0))
    driver.report(tried.number, {"reason": "complete"})
    driver.finish(tried.number)
    clock.now = 30.0
    assert heads_until_nothing_fits(driver) is not None
    assert driver.stop_reason is None


@pytest.mark.parametrize("seed", range(4))
def test_a_default_that_the_sampler_proposed_in_vain_is_tried_all_the_same(
    folder: StudyFolder, clock: Clock, seed: int
) -> None:
    """In a finite space a proposal that does not fit may be the very default that is then given a try."""
    text = ONE_GROUP.replace("freeze_depth: 0.0", "freeze_depth: [0.0, 1.0]")
    text = text.replace("{low: 1.0e-4, high: 1.0e-1, log: true}", "0.01").replace("[none, light]", "none")
    driver = make_driver(folder, small_config(text, scheduler="none", seed=seed), clock=clock, seconds=5.0)
    run(driver, [0.5] * 4)
    tried = driver.next()
    assert tried is not None
    assert tried.spec.freeze_depth == 0.0
    assert len(driver.record.trials()) < 10


def test_a_default_that_the_sampler_proposed_in_vain_is_tried_after_a_resume(folder: StudyFolder, clock: Clock) -> None:
    config = small_config(budget=600.0)
    driver = make_driver(folder, config, clock=clock, seconds=60.0)
    assert heads_until_nothing_fits(driver) is None
    default = next(each for each in driver.record.study.user_attrs["not_begun"] if each["freeze_depth"] == 0.0)
    driver.record.study.enqueue_trial(default, user_attrs={"origin": "sampler"})
    proposed = driver.record.ask(make_space([RESNET, EFFICIENTNET], config.params).distributions)
    driver.record.finish(proposed, "skipped", "too little time")
    again = make_driver(folder, config.model_copy(update={"search": config.search.model_copy(update={"budget": 1e6})}),
                        driver.record, clock=clock, seconds=60.0)  # fmt: skip
    assert default in again.record.study.user_attrs["not_begun"]


def test_what_a_trial_has_shown_to_be_too_slow_is_not_tried_again(folder: StudyFolder, clock: Clock) -> None:
    driver = make_driver(folder, small_config(budget=600.0), clock=clock, seconds=10.0)
    tried = heads_until_nothing_fits(driver)
    assert tried is not None
    driver.report(tried.number, epoch(1, 0.6, epoch_seconds=300.0, startup_seconds=1.0))
    driver.report(tried.number, {"reason": "diverged"})
    driver.finish(tried.number)
    clock.now = 310.0
    assert heads_until_nothing_fits(driver) is None
    assert driver.stop_reason == "budget"


def test_what_is_hopelessly_slow_or_late_is_not_tried(tmp_path: Path, clock: Clock) -> None:
    slow = make_driver(StudyFolder(tmp_path / "slow"), small_config(budget=600.0), clock=clock, seconds=60.0)
    assert heads_until_nothing_fits(slow) is None
    late = make_driver(StudyFolder(tmp_path / "late"), small_config(budget=600.0), clock=clock, seconds=3.0)
    clock.now = 500.0
    assert heads_until_nothing_fits(late) is None
    assert late.stop_reason == "budget"
