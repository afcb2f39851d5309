from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from automl.errors import StorageError, UsageError
from automl.paths import StudyFolder
from automl.search.snapshot import open_to_read, snapshot, view
from tests.earlier import content, write_earlier

SPACE = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True), "n": IntDistribution(1, 8),
    "choice": CategoricalDistribution(["a", 0.5, None, True]),
}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    """A study with trials in every state, odd values, and another study beside it in the same database."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    other = optuna.create_study(storage=url, study_name="other")
    other.ask(SPACE).set_user_attr("whose", "other's")
    made = optuna.create_study(storage=url, study_name="made", direction="maximize")
    made.enqueue_trial({"n": 3}, user_attrs={"origin": "default"})
    for number, value in enumerate([0.5, float("inf"), None, 0.7]):
        trial = made.ask(SPACE)
        trial.set_user_attr("spec", {"deep": [1, None, "é"], "number": number})
        trial.set_user_attr("seconds", 1.25)
        for step in range(number):
            trial.report(float("nan") if step == 1 else step / 3, step)
        made.tell(trial, value, state=TrialState.PRUNED if value is None else None)
    made.tell(made.ask(SPACE), state=TrialState.FAIL)
    made.ask(SPACE)
    made.enqueue_trial({"n": 4})
    return made


def facts(trial: FrozenTrial) -> dict[str, Any]:
    """Everything about a trial, NaN as a text, since it is not equal to itself."""
    values = {step: str(value) for step, value in trial.intermediate_values.items()}
    return {**vars(trial), "intermediate_values": values}


def test_a_snapshot_has_the_trials_that_optuna_reads(study: optuna.Study) -> None:
    expected = study.get_trials()
    assert {trial.state for trial in expected} == set(TrialState)
    found = snapshot(study).get_trials()
    assert [facts(each) for each in found] == [facts(each) for each in expected]
    assert [list(each.params) for each in found] == [list(each.params) for each in expected]
    assert snapshot(study).user_attrs == study.user_attrs
    assert snapshot(study).direction == study.direction


def test_states_are_chosen_as_optuna_does(study: optuna.Study) -> None:
    wanted = (TrialState.COMPLETE, TrialState.WAITING)
    numbers = [trial.number for trial in study.get_trials(states=wanted)]
    assert [trial.number for trial in snapshot(study).get_trials(states=wanted)] == numbers


def test_a_snapshot_stays_as_it_was(study: optuna.Study) -> None:
    before = snapshot(study)
    n = len(before.trials)
    study.enqueue_trial({"n": 5})
    assert len(before.trials) == n
    assert len(snapshot(study).trials) == n + 1


def test_a_study_in_memory_is_its_own_snapshot() -> None:
    study = optuna.create_study()
    assert snapshot(study) is study


def test_a_view_has_the_trials_given(study: optuna.Study) -> None:
    trials = study.get_trials()
    assert [trial.number for trial in view(study, trials[:2]).trials] == [0, 1]
    assert view(study, []).study_name == "made"


def test_a_study_that_is_only_looked_at_is_not_written_and_cannot_be(tmp_path: Path) -> None:
    earlier = write_earlier(tmp_path / "a ?#%{}", [({}, 0.5)])
    before = content(earlier)
    study = open_to_read(earlier)
    assert snapshot(study).get_trials()[0].value == 0.5
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.set_user_attr("written", True)
    assert content(earlier) == before


def test_a_study_that_cannot_be_looked_at_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"study\.db"):
        open_to_read(StudyFolder(tmp_path / "nowhere"))
    torn = write_earlier(tmp_path / "torn", [({}, 0.5)])
    torn.database.write_bytes(torn.database.read_bytes()[:5000])
    with pytest.raises(StorageError, match=r"cannot read .*study\.db: the file is damaged"):
        open_to_read(torn)
