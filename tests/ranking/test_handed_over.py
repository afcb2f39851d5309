from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl.paths import StudyFolder, make_folder
from automl.ranking.handed_over import with_intervals
from automl.ranking.statistics import Predictions, interval

IMAGES = 120
TARGETS = np.arange(IMAGES) % 3


def left_by(folder: StudyFolder, right: np.ndarray) -> dict[str, Any]:
    """What a package that is `right` about test images keeps; the images are rows 10, 11, … of the manifest."""
    logits = np.zeros((IMAGES, 3), dtype=np.float32)
    logits[np.arange(IMAGES), np.where(right, TARGETS, (TARGETS + 1) % 3)] = 4.0
    make_folder(folder.test_logits.parent)
    buffer = io.BytesIO()
    np.savez(buffer, logits=logits, targets=TARGETS, rows=np.arange(IMAGES) + 10)
    folder.test_logits.write_bytes(buffer.getvalue())
    test = {"accuracy": float(right.mean()), "correct": int(right.sum()), "images": IMAGES, "ci95": [0.0, 1.0]}
    return {"trial": 3, "test": test}


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "run")


def test_images_of_a_group_are_wrong_together_and_count_as_few(folder: StudyFolder) -> None:
    of_image = np.repeat(np.arange(12), 10)
    refit = left_by(folder, of_image >= 2)  # two of twelve parts are misjudged, every image of them
    alone = with_intervals(folder, refit, "accuracy", None)["test"]
    grouped = with_intervals(folder, refit, "accuracy", np.concatenate([np.zeros(10, np.int64), of_image]))["test"]
    assert np.diff(grouped["ci95"])[0] > 1.8 * np.diff(alone["ci95"])[0]
    assert (alone["ci_method"], grouped["ci_method"]) == ("Wilson", "Wilson, effective number of groups")


def test_the_studys_metric_has_its_own_interval(folder: StudyFolder) -> None:
    refit = left_by(folder, np.arange(IMAGES) % 9 > 0)  # the errors are of one class: macro F1 is not the accuracy
    test = with_intervals(folder, refit, "macro_f1", None)["test"]
    kept = np.load(folder.test_logits)
    expected = interval("macro_f1", Predictions(kept["logits"], kept["targets"], kept["rows"]))
    assert test["metric"] == "macro_f1"
    assert test["metric_ci95"] == [expected.low, expected.high]
    assert test["ci95"] != test["metric_ci95"]


def test_a_metric_that_the_test_images_do_not_have_is_left_out(folder: StudyFolder) -> None:
    refit = left_by(folder, np.ones(IMAGES, dtype=bool))
    with np.load(folder.test_logits) as kept:
        logits, rows = kept["logits"], kept["rows"]
    targets = np.zeros(IMAGES, dtype=np.int64)
    np.savez(folder.test_logits, logits=logits, targets=targets, rows=rows)
    refit["test"] |= {"correct": int((logits.argmax(axis=1) == 0).sum()), "auroc": float("nan")}
    test = with_intervals(folder, refit, "auroc", None)["test"]
    assert not {"auroc", "metric", "metric_ci95"} & test.keys()
    assert test["ci_method"] == "Wilson"  # of the accuracy, which is there


def test_predictions_of_another_package_are_not_used(folder: StudyFolder) -> None:
    refit = left_by(folder, np.arange(IMAGES) % 7 > 0)
    refit["test"]["correct"] -= 1
    assert with_intervals(folder, refit, "accuracy", None) == refit
    folder.test_logits.write_bytes(b"torn")
    assert with_intervals(folder, refit, "accuracy", None) == refit
    folder.test_logits.unlink()
    assert with_intervals(folder, refit, "accuracy", None) == refit
