from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich.console

from automl import live
from automl.config import dump_config
from automl.paths import StudyFolder
from automl.search.lock import driver_lock
from automl.search.storage import load_study
from tests.small import epoch, make_driver, small_config


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudyFolder]:
    """A study with one finished and one running trial."""
    monkeypatch.setattr(live, "EVERY_SECONDS", 0.05)
    folder, config = StudyFolder(tmp_path / "study"), small_config(scheduler="none")
    driver = make_driver(folder, config)
    driver.record.note(metric="accuracy", budget_seconds=600.0, stop_reason=None)
    for value in (0.5, 0.75):
        assignment = driver.next()
        assert assignment is not None
        driver.report(assignment.number, epoch(1, value))
        if value == 0.5:
            driver.report(assignment.number, {"reason": "complete"})
            driver.finish(assignment.number)
    folder.resolved.write_text(dump_config(config))
    with driver_lock(folder):
        yield folder


def shown(folder: StudyFolder, *, terminal: bool = True, seconds: float = 1.0) -> str:
    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=terminal, width=120)
    with live.live_status(folder, console):
        time.sleep(seconds)
    return screen.getvalue()


def test_running_trials_and_the_best_so_far_are_shown(running: StudyFolder) -> None:
    text = shown(running)
    assert "Trials   1 running, 1 complete" in text
    assert "Running  trial 1: epoch 1 of 4, accuracy 75.0 %" in text
    assert "Best     trial 0: 50.0 %" in text


def test_without_a_terminal_nothing_is_shown(running: StudyFolder) -> None:
    assert shown(running, terminal=False) == ""


def test_nothing_is_shown_before_the_trials_and_after_them(running: StudyFolder) -> None:
    running.resolved.rename(running.root / "later")
    assert shown(running, seconds=0.3) == ""


def test_a_study_that_nobody_drives_is_looked_at_again_once_somebody_does(running: StudyFolder) -> None:
    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=True, width=120)
    running.driver.rename(running.root / "later")
    with live.live_status(running, console):
        time.sleep(0.3)
        assert screen.getvalue() == ""
        load_study(running).set_user_attr("budget_seconds", 1200.0)
        (running.root / "later").rename(running.driver)
        until = time.monotonic() + 10
        while "of 20 min spent" not in screen.getvalue() and time.monotonic() < until:
            time.sleep(0.05)
    assert "of 20 min spent" in screen.getvalue()
