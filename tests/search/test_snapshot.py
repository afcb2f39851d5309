from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from automl.search.snapshot import snapshot, view

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
