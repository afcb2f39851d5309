"""Whether what is handed over is as good as the time allows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import create_trial

from automl.handing_over import _is_packaged
from automl.paths import StudyFolder, make_folder
from automl.ranking.status import look, status_lines
from tests.small import new_record, small_config, spec_of

SPEC = spec_of(epochs=4)


def packaged(root: Path, *, seconds: float, weights: bool = True, **metrics: Any) -> bool:
    """Whether nothing better than a package with these metrics is to be made of trial 0 in so many seconds, when an
    epoch of its refit takes one."""
    folder = StudyFolder(root)
    make_folder(folder.model)
    make_folder(folder.trial(0).root)
    for name in ("package.json", "model.safetensors"):
        (folder.model / name).write_text("{}")
    content = {"trial": 0, "refitted": True, "epochs": 4, "test": {"accuracy": 0.5}, **metrics}
    (folder.model / "metrics.json").write_text(json.dumps(content))
    if weights:
        folder.trial(0).weights.write_bytes(b"weights")
    trial = create_trial(value=0.5, user_attrs={"spec": asdict(SPEC)})
    trial.number = 0
    return _is_packaged(folder, trial, seconds=seconds, epoch_seconds=1.0)


@pytest.mark.parametrize(
    ("metrics", "seconds", "expected"),
    [
        ({}, 100.0, True),
        ({"epochs": 2}, 1.0, False),  # a refit that was cut short
        ({"trial": 3}, 1.0, False),
        ({"refitted": False}, 0.0, True),
        ({"refitted": False}, 2.0, True),  # less than two epochs with a margin
        ({"refitted": False}, 2.5, False),  # it can be trained on for two
        ({"refitted": False}, 4.0, False),
        ({"refitted": False, "trained_on": 2}, 2.5, True),
        ({"refitted": False, "trained_on": 2}, 4.0, False),
        ({"refitted": False, "refit_spoiled": True}, 4.0, True),
    ],
)
def test_a_package_is_made_anew_where_there_is_time_for_a_better_one(
    tmp_path: Path, metrics: dict[str, Any], seconds: float, expected: bool
) -> None:
    assert packaged(tmp_path, seconds=seconds, **metrics) == expected


def test_what_has_no_weights_is_not_trained_on(tmp_path: Path) -> None:
    assert packaged(tmp_path, seconds=2.5, weights=False, refitted=False)


@pytest.mark.parametrize("name", ["package.json", "model.safetensors", "head.safetensors"])
def test_a_package_that_lacks_a_file_is_made_anew(tmp_path: Path, name: str) -> None:
    assert packaged(tmp_path, seconds=0.0)
    (StudyFolder(tmp_path).model / name).unlink(missing_ok=True)
    head = "mlp" if name == "head.safetensors" else "linear"
    trial = create_trial(value=0.5, user_attrs={"spec": {**asdict(SPEC), "head": head}})
    trial.number = 0
    assert not _is_packaged(StudyFolder(tmp_path), trial, seconds=0.0, epoch_seconds=1.0)


def test_a_hand_over_that_was_cut_off_is_told_although_there_is_an_older_model(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "run")
    study = new_record(folder, small_config()).study
    study.add_trial(create_trial(value=0.5, user_attrs={"spec": asdict(SPEC), "reason": "complete"}))
    study.set_user_attr("stop_reason", "budget")
    make_folder(folder.model)
    (folder.model / "metrics.json").write_text(json.dumps({"trial": 0, "test": {"accuracy": 0.5}}))

    def told() -> str:
        return " ".join(status_lines(look(folder, study)))

    assert "not tested yet" not in told()
    study.set_user_attr("handing_over", 0)
    assert "its model is not tested yet: automl resume goes on" in told()
