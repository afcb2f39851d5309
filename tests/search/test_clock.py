from __future__ import annotations

from pathlib import Path

import pytest

from automl.paths import StudyFolder
from automl.search.budget import REFIT_MARGIN as MARGIN
from automl.search.budget import Budget, together
from automl.search.clock import Clock
from automl.search.study import StudyRecord
from automl.space import make_space
from tests.small import RESNET, cost_model, epoch, make_driver, new_record, small_config

EVERYTHING = {"backbone": RESNET, "freeze_depth": 0.0, "learning_rate": 0.01, "augmentation": "none"}


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def clock_of(
    record: StudyRecord, hands: Hands, *, budget: float, repeats: int = 3, at_once: int = 1, seconds: float = 0.1
) -> Clock:
    """A trial of everything takes 100 images × 0.1 s × 4 epochs and a bit for the evaluation."""
    config = small_config()
    space = make_space([each.name for each in config.backbones], config.params)
    costs = cost_model(config, seconds)
    return Clock(record, Budget(budget, hands), costs, space, epochs=4, first_rung=1, repeats=repeats, at_once=at_once)


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    return new_record(StudyFolder(tmp_path / "run"), small_config())


def kept_free(record: StudyRecord, budget: float, **options: int) -> float:
    """Seconds that repeats take from the search."""
    with_none = clock_of(record, Hands(), budget=budget, repeats=0).search_left(EVERYTHING)
    return with_none - clock_of(record, Hands(), budget=budget, **options).search_left(EVERYTHING)


def test_time_for_three_runs_or_more_is_kept_free_and_never_over_a_fifth(record: StudyRecord) -> None:
    one = clock_of(record, Hands(), budget=1e5)._costs.run_seconds(
        {**EVERYTHING, "resolution": 32, "mixup": 0.0, "cutmix": 0.0, "batch_size": 8}, 4
    )
    assert kept_free(record, 17.2 * one) == 0
    assert kept_free(record, 17.3 * one) == pytest.approx(MARGIN * 3 * one)
    assert kept_free(record, 34.6 * one) == pytest.approx(MARGIN * 6 * one)
    assert kept_free(record, 1000 * one) == pytest.approx(MARGIN * 9 * one)
    assert kept_free(record, 1000 * one, repeats=1) == pytest.approx(MARGIN * 3 * one)
    assert kept_free(record, 1000 * one, at_once=9) == pytest.approx(MARGIN * together(9 * one, one, 9))


def test_as_many_are_trained_again_as_there_is_time_for_before_the_refit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = small_config(scheduler="none"), StudyFolder(tmp_path / "run")
    driver = make_driver(folder, config)
    while len(done := driver.record.trials()) < 4 or not all(each.state.is_finished() for each in done):
        assignment = driver.next()
        assert assignment is not None
        for number in range(1, 5):
            driver.report(assignment.number, epoch(number, 0.9, epoch_seconds=10.0))
        driver.report(assignment.number, {"reason": "complete"})
        driver.finish(assignment.number)
    trials, hands = driver.record.trials()[:4], Hands()
    clock = clock_of(driver.record, hands, budget=10_000.0)
    found, often = clock.confirmable(trials)
    assert ([each.number for each in found], often) == ([0, 1, 2, 3], 3)
    while hands.now < 10_000:
        found, often = clock.confirmable(trials)
        assert often >= 2 or len(found) <= 3  # rather three of them twice than four once
        if often:
            needed = sum(clock.seconds(each.params, 4) for each in found) * often
            assert needed <= clock.before_refit(found)
        hands.now += 50
    hands.now = 9_999
    assert clock.confirmable(trials) == ([], 0)
    hands.now = 0
    with monkeypatch.context() as patch:
        patch.setattr(clock, "refits", lambda params: params != trials[0].params)
        assert clock.confirmable(trials) == ([], 0)  # the best cannot, so nothing may be chosen in its place
        assert [each.number for each in clock.confirmable(trials[1:])[0]] == [1, 2, 3]
    assert 0 < clock.before_refit(trials) < 10_000
    assert clock_of(driver.record, Hands(), budget=10_000.0, repeats=0).confirmable(trials)[1] == 0


def test_tasks_together_take_at_least_the_longest_and_their_share() -> None:
    assert together(30.0, 10.0, 1) == 30.0
    assert together(30.0, 10.0, 2) == 20.0
    assert together(10.0, 10.0, 8) == 10.0


def test_time_for_the_refit_of_what_was_trained_stays_when_epochs_turn_out_slower(record: StudyRecord) -> None:
    """A whole trial and its refit no longer fit the whole search by then, but the trial is over."""
    hands = Hands()
    clock = clock_of(record, hands, budget=130.0, repeats=0)
    trial = record.study.ask(clock._space.distributions)
    whole = clock._space.params(EVERYTHING)
    assert clock.refits(EVERYTHING)
    record.study.tell(trial, 0.9)
    record._seen = None
    best = record.incumbent()
    assert best is not None
    best.params.update(EVERYTHING)
    hands.now = 50.0
    clock._costs.learn(whole, 1.1 * clock._costs.epoch_seconds(whole))
    assert not clock.refits(EVERYTHING)
    reserve = clock._costs.reserve(whole, 4, refit=True)
    assert clock.search_left() == pytest.approx(80.0 - reserve)
    hands.now = 130.0 - clock._costs.refit_seconds(whole, 4)
    own = clock._costs.reserve(whole, 4, refit=False)
    assert clock.search_left() == pytest.approx(130.0 - hands.now - own)
