"""The refit: the chosen configuration trained on train + validation, and the test split opened once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from automl.backbones import find
from automl.data import Batches, Dataset, open_cache
from automl.paths import StudyFolder, write_atomic
from automl.refit.package import save_package
from automl.search.spec import TrialSpec
from automl.search.trial import load_dataset, run_trial, variant_of
from automl.training import Normalise, choose_device, choose_precision, measure, predict_logits

__all__ = ["RefitSpec", "affordable_epochs", "refit", "score"]


@dataclass(frozen=True)
class RefitSpec:
    """What is retrained: the trial's number and validation metrics, its specification, and why its epochs were cut
    (empty if they were not)."""

    trial: int
    spec: TrialSpec
    validation: dict[str, float]
    note: str = ""


def refit(
    wanted: RefitSpec,
    study: StudyFolder,
    *,
    max_pixels: int,
    report: Callable[[dict[str, Any]], None] = lambda facts: None,
) -> dict[str, Any]:
    """Train on train + validation, score the test split, write the package. Returns what `metrics.json` holds.

    An interrupted refit of the same specification goes on from its checkpoint.

    Raises:
        OutputError: A file cannot be written.
    """
    dataset = load_dataset(study)
    rows = np.sort(np.concatenate([dataset.rows("train"), dataset.rows("validation")]))
    folder = study.refit
    if folder.spec.exists() and folder.spec.read_text() != wanted.spec.to_json():
        folder.checkpoint.unlink(missing_ok=True)
    started = time.monotonic()
    outcome = run_trial(
        wanted.spec, study, folder, train_rows=rows, validation_rows=np.empty(0, np.int64), report=report
    )
    if outcome.reason == "diverged":
        raise FloatingPointError(f"the refit of trial {wanted.trial} diverged after {outcome.epochs} epochs")
    seconds = time.monotonic() - started
    logits, test_rows = _test_logits(outcome.model, wanted.spec, study, dataset)
    targets = dataset.table["target"].to_numpy(np.int64)[test_rows]
    metrics = {
        "trial": wanted.trial,
        "epochs": outcome.epochs,
        "note": wanted.note,
        "train_images": len(rows),
        "train_seconds": round(seconds, 1),
        "validation": wanted.validation,
        "test": score(logits, targets, dataset.classes),
        "test_opened": _opened(study),
    }
    package = save_package(
        study.model, outcome.model, wanted.spec, labels=dataset.classes, max_pixels=max_pixels, metrics=metrics
    )
    assert package.labels == dataset.classes
    folder.checkpoint.unlink(missing_ok=True)
    return metrics


def score(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], labels: tuple[str, ...]) -> dict[str, Any]:
    """Return every metric of `logits` ``(n, classes)``, per class, and the confusion matrix (rows: true class).

    ci95 is Wilson's interval of the accuracy (scipy's `proportion_ci`).
    """
    predicted = logits.argmax(axis=1)
    classes = np.arange(len(labels))
    hits = int(np.sum(predicted == targets))
    low, high = binomtest(hits, len(targets)).proportion_ci(method="wilson")
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, predicted, labels=classes, average=None, zero_division=0.0
    )
    return {
        **measure(logits, targets),
        "images": len(targets),
        "correct": hits,
        "ci95": [float(low), float(high)],
        "per_class": [
            {
                "label": label,
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, label in enumerate(labels)
        ],
        "confusion": confusion_matrix(targets, predicted, labels=classes).tolist(),
    }


def affordable_epochs(spec: TrialSpec, *, seconds: float, epoch_seconds: float) -> tuple[TrialSpec, str]:
    """Return `spec` with as many of its epochs as `seconds` allow, and a note if that is fewer.

    At least half of the epochs stay: the search keeps time for all of them, and where that was not enough a model
    that is handed over a little late is worth more than one that was hardly trained.
    """
    least = (spec.epochs + 1) // 2
    if math.isinf(seconds) or seconds >= spec.epochs * epoch_seconds:
        return spec, ""
    epochs = max(least, int(seconds / epoch_seconds))
    if epochs >= spec.epochs:
        return spec, ""
    note = f"refitted for {epochs} of {spec.epochs} epochs: {max(0.0, seconds):.0f} s of the budget were left"
    return replace(spec, epochs=epochs, warmup_epochs=min(spec.warmup_epochs, epochs / 2)), note


def _test_logits(
    model: Any, spec: TrialSpec, study: StudyFolder, dataset: Dataset
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    backbone = find(spec.backbone)
    device, _ = choose_device()
    rows = dataset.rows("test")
    array = open_cache(
        dataset.table, study.pixels, variant_of(backbone, spec.resolution, spec.crop_mode), background=spec.background
    )
    batches = Batches(array, dataset.table["target"].to_numpy(np.int64), rows, batch_size=64, device=device)
    model.to(device)
    normalise = Normalise(backbone.mean, backbone.std).to(device)
    return predict_logits(model, batches, normalise=normalise, precision=choose_precision(device)), rows


def _opened(study: StudyFolder) -> int:
    """Count how often the study's test split has been scored, this time included."""
    counter: Path = study.refit.root / "test_opened"
    try:
        count = int(counter.read_text()) + 1
    except FileNotFoundError:
        count = 1
    except ValueError:  # damaged: at least once
        count = 2
    write_atomic(counter, str(count))
    return count
