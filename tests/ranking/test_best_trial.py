"""The trial that is refitted is the one that the leaderboard has first, also where scores are equal."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.trial import TrialState, create_trial

from automl.paths import StudyFolder
from automl.ranking.leaderboard import best_trial, build


def test_of_equal_scores_the_smaller_model_is_best(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    assert best_trial(study) is None
    for value, parameters, log_loss in ((0.9, 30, 0.5), (1.0, 30, 0.2), (1.0, 10, 0.4), (1.0, 10, 0.3)):
        attrs = {"reason": "complete", "model_parameters": parameters, "metrics": {"log_loss": log_loss}}
        study.add_trial(create_trial(value=value, user_attrs=attrs, intermediate_values={1: value}))
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: 1.0}))
    best = best_trial(study)
    assert best is not None
    assert best.number == build(StudyFolder(tmp_path), study=study).rows[0].trial == 3
    assert study.best_trial.number == 1
