"""The refit: the chosen configuration trained on train + validation, and the test split opened once.

Where there is no time for it, the weights that the trial itself left are handed over.
"""

from __future__ import annotations

import io
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn

from automl.backbones import build, find
from automl.data import Batches, Dataset, open_cache
from automl.paths import StudyFolder, make_folder, write_atomic
from automl.refit.package import save_package
from automl.screening import measure_latency
from automl.search.spec import TrialSpec
from automl.search.trial import load_dataset, run_trial, variant_of
from automl.training import Normalise, choose_device, choose_precision, load_weights, measure, predict_logits

__all__ = ["RefitSpec", "adopt", "affordable_epochs", "refit", "score"]

logger = logging.getLogger(__name__)

BATCH = 32  # images of which latency is measured together
LATENCY_PASSES = 50
LATENCY_SECONDS = 1.0  # for each size
SPOILED = 1.25  # times the training loss of the trial; from one seed to another it hardly changes where all goes well


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

    An interrupted refit of the same specification goes on from its checkpoint. One that ends with a much higher
    training loss than the trial did has gone wrong, as a training can by its seed; then the trial's own weights, which
    the validation images have vouched for, are handed over, if it left them.

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
        wanted.spec,
        study,
        folder,
        train_rows=rows,
        validation_rows=np.empty(0, np.int64),
        keep_weights=False,
        report=report,
    )
    if outcome.reason == "diverged":
        raise FloatingPointError(f"the refit of trial {wanted.trial} diverged after {outcome.epochs} epochs")
    spoiled, before = _spoiled(study, wanted.trial)
    if spoiled and study.trial(wanted.trial).weights.exists():
        logger.warning("%s; trial %d is handed over with its own weights", spoiled, wanted.trial)
        seconds, epochs = float(before["seconds"]), int(before["epoch"])
        kept = replace(wanted, note=f"{spoiled}, so the trial's own weights are handed over")
        metrics = adopt(kept, study, epochs=epochs, seconds=seconds, max_pixels=max_pixels, spoiled=True)
        folder.checkpoint.unlink(missing_ok=True)
        return metrics
    training = {
        "refitted": True,
        "epochs": outcome.epochs,
        "train_images": len(rows),
        "train_seconds": round(time.monotonic() - started, 1),
    }
    if spoiled:
        logger.warning(spoiled)
        wanted = replace(wanted, note="; ".join(filter(None, [wanted.note, spoiled])))
    metrics = _package(outcome.model, wanted, study, dataset, training, max_pixels=max_pixels)
    folder.checkpoint.unlink(missing_ok=True)
    return metrics


def _spoiled(study: StudyFolder, trial: int) -> tuple[str, dict[str, Any]]:
    """Say if the refit has gone wrong: it learned its training images much less than the trial did, in as many epochs.
    Returns that, or an empty text, and the last epoch of the trial."""
    try:
        before, after = (
            json.loads(folder.metrics.read_text().splitlines()[-1]) for folder in (study.trial(trial), study.refit)
        )
        losses = float(before["train_loss"]), float(after["train_loss"])
        comparable = after["epoch"] >= before["epoch"]
    except (OSError, ValueError, LookupError, TypeError):  # of an older version, or deleted
        return "", {}
    if not comparable or losses[1] <= SPOILED * losses[0] + 0.05:
        return "", before
    return f"the refit ended with a training loss of {losses[1]:.3f} where the trial had {losses[0]:.3f}", before


def adopt(
    wanted: RefitSpec,
    study: StudyFolder,
    *,
    epochs: int,
    seconds: float,
    max_pixels: int,
    open_test: bool = True,
    spoiled: bool = False,
) -> dict[str, Any]:
    """Write the package of a trial with the weights that the trial left, which know the training split alone.

    Args:
        epochs, seconds: That the trial was trained for.
        open_test: Whether the test split is scored. Without, the metrics have no `test`.
        spoiled: Whether a refit was made and has gone wrong.

    Returns:
        What `metrics.json` holds.

    Raises:
        UsageError: The trial left no weights, or they are damaged.
        OutputError: A file cannot be written.
    """
    dataset, spec = load_dataset(study), wanted.spec
    model = build(
        find(spec.backbone),
        len(dataset.classes),
        resolution=spec.resolution,
        head=spec.head,  # type: ignore[arg-type]
        weights=None,
    )
    load_weights(study.trial(wanted.trial).weights, model)
    training = {
        "refitted": False,
        "refit_spoiled": spoiled,
        "epochs": epochs,
        "train_images": len(dataset.rows("train")),
        "train_seconds": round(seconds, 1),
    }
    return _package(model.eval(), wanted, study, dataset, training, max_pixels=max_pixels, open_test=open_test)


def _package(
    model: nn.Module,
    wanted: RefitSpec,
    study: StudyFolder,
    dataset: Dataset,
    training: dict[str, Any],
    *,
    max_pixels: int,
    open_test: bool = True,
) -> dict[str, Any]:
    """Score `model` on the test split and write its package. Returns its metrics."""
    metrics = {"trial": wanted.trial, **training, "note": wanted.note, "validation": wanted.validation}
    if open_test:
        logits, rows = _test_logits(model, wanted.spec, study, dataset)
        targets = dataset.table["target"].to_numpy(np.int64)[rows]
        metrics |= {"test": score(logits, targets, dataset.classes), "test_opened": _opened(study)}
        metrics["latency"] = _latency(model, wanted.spec)
        buffer = io.BytesIO()
        np.savez(buffer, logits=logits, targets=targets, rows=rows)
        write_atomic(study.test_logits, buffer.getvalue())
    package = save_package(
        study.model, model, wanted.spec, labels=dataset.classes, max_pixels=max_pixels, metrics=metrics
    )
    assert package.labels == dataset.classes
    return metrics


def _latency(model: nn.Module, spec: TrialSpec) -> dict[str, Any]:
    """Return the latency of `model` on this device, of one image and of a batch."""
    device, _ = choose_device()
    precision = choose_precision(device)
    model.to(device)
    one, batch = (
        measure_latency(
            model, images=images, resolution=spec.resolution, device=device, precision=precision,
            repeats=LATENCY_PASSES, seconds=LATENCY_SECONDS,
        )
        for images in (1, BATCH)
    )  # fmt: skip
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {"device": name, "precision": precision.name, "one": asdict(one), "batch": asdict(batch)}


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
    counter: Path = make_folder(study.refit.root) / "test_opened"
    try:
        count = int(counter.read_text()) + 1
    except FileNotFoundError:
        count = 1
    except ValueError:  # damaged: at least once
        count = 2
    write_atomic(counter, str(count))
    return count
