"""The refit: the chosen configuration trained on train + validation, and the test split opened once.

Where there is no time for it, the trial that was chosen is trained on, on train + validation, for as many epochs as
there is time for; where not even half of its epochs fit, the weights that it left are handed over.
"""

from __future__ import annotations

import io
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from automl.backbones import build, find
from automl.data import Batches, Dataset, open_cache
from automl.paths import StudyFolder, TrialFolder, make_folder, write_atomic
from automl.refit.measured import latency, score
from automl.refit.package import save_package
from automl.search.spec import TrialSpec
from automl.search.trial import load_dataset, run_trial, variant_of
from automl.training import Normalise, choose_device, choose_precision, load_weights, predict_logits

__all__ = ["RefitSpec", "adopt", "affordable_epochs", "count_opening", "epochs_on", "refit", "score"]

logger = logging.getLogger(__name__)

RATE_ON = 0.25  # of a trial's learning rate, where it is trained on; measured in benchmarks/training_on.py
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
    on: int = 0,
    report: Callable[[dict[str, Any]], None] = lambda facts: None,
) -> dict[str, Any]:
    """Train on train + validation, score the test split, write the package. Returns what `metrics.json` holds.

    An interrupted refit of the same specification goes on from its checkpoint. One that ends with a much higher
    training loss than the trial did has gone wrong, as a training can by its seed; then the trial's own weights, which
    the validation images have vouched for, are handed over, if it left them.

    Args:
        on: If above 0, the weights that the trial left are trained on for so many epochs, instead of training anew.

    Raises:
        OutputError: A file cannot be written.
    """
    dataset = load_dataset(study)
    rows = np.sort(np.concatenate([dataset.rows("train"), dataset.rows("validation")]))
    folder, spec = study.refit, wanted.spec
    if on:
        spec = replace(spec, epochs=on, learning_rate=RATE_ON * spec.learning_rate, warmup_epochs=on / 4)
    begun = TrialSpec.read(folder.spec)
    if folder.spec.exists() and (begun is None or begun.identity != spec.identity):
        folder.checkpoint.unlink(missing_ok=True)
    started = time.monotonic()
    outcome = run_trial(
        spec,
        study,
        folder,
        train_rows=rows,
        validation_rows=np.empty(0, np.int64),
        start_from=study.trial(wanted.trial).weights if on else None,
        keep_weights=False,
        report=report,
    )
    if outcome.reason == "diverged" and not on:
        raise FloatingPointError(f"the refit of trial {wanted.trial} diverged after {outcome.epochs} epochs")
    before = _last_epoch(study.trial(wanted.trial))
    spoiled = _spoiled(before, _last_epoch(folder), on=bool(on))
    if outcome.reason == "diverged":
        spoiled = "training the trial on diverged"
    if spoiled and study.trial(wanted.trial).weights.exists():
        logger.warning("%s; trial %d is handed over with its own weights", spoiled, wanted.trial)
        seconds, epochs = float(before.get("seconds", 0.0)), int(before.get("epoch", wanted.spec.epochs))
        kept = replace(wanted, note=f"{spoiled}, so the trial's own weights are handed over")
        metrics = adopt(kept, study, epochs=epochs, seconds=seconds, max_pixels=max_pixels, spoiled=True)
        folder.checkpoint.unlink(missing_ok=True)
        return metrics
    training = {
        "refitted": not on,
        "trained_on": on,
        "epochs": outcome.epochs + (int(before.get("epoch", 0)) if on else 0),
        "train_images": len(rows),
        "train_seconds": round(time.monotonic() - started, 1),
    }
    if spoiled:
        logger.warning(spoiled)
        wanted = replace(wanted, note="; ".join(filter(None, [wanted.note, spoiled])))
    metrics = _package(outcome.model, wanted, study, dataset, training, max_pixels=max_pixels)
    folder.checkpoint.unlink(missing_ok=True)
    return metrics


def _last_epoch(folder: TrialFolder) -> dict[str, Any]:
    """Return what was noted of the last epoch; nothing where that is of an older version, or deleted."""
    try:
        found = json.loads(folder.metrics.read_text().splitlines()[-1])
    except (OSError, ValueError, LookupError):
        return {}
    return found if isinstance(found, dict) else {}


def _spoiled(before: dict[str, Any], after: dict[str, Any], *, on: bool) -> str:
    """Say if the refit has gone wrong: it learned its training images much less than the trial did, in as many epochs
    or beginning with its weights; else an empty text.

    Args:
        before, after: The last epochs of the trial and of the refit.
    """
    try:
        losses = float(before["train_loss"]), float(after["train_loss"])
        comparable = on or after["epoch"] >= before["epoch"]
    except (LookupError, TypeError, ValueError):
        return ""
    if not comparable or losses[1] <= SPOILED * losses[0] + 0.05:
        return ""
    return f"the refit ended with a training loss of {losses[1]:.3f} where the trial had {losses[0]:.3f}"


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
    metrics = {
        "trial": wanted.trial,
        "metric": wanted.spec.metric,
        **training,
        "note": wanted.note,
        "validation": wanted.validation,
    }
    if open_test:
        logits, rows = _test_logits(model, wanted.spec, study, dataset)
        targets = dataset.table["target"].to_numpy(np.int64)[rows]
        metrics |= {"test": score(logits, targets, dataset.classes), "test_opened": count_opening(study)}
        metrics["latency"] = latency(model, resolution=wanted.spec.resolution)
        buffer = io.BytesIO()
        np.savez(buffer, logits=logits, targets=targets, rows=rows)
        write_atomic(study.test_logits, buffer.getvalue())
    package = save_package(
        study.model, model, wanted.spec, labels=dataset.classes, max_pixels=max_pixels, metrics=metrics
    )
    assert package.labels == dataset.classes
    return metrics


def epochs_on(spec: TrialSpec, *, seconds: float, epoch_seconds: float) -> int:
    """Return for how many more epochs there is time to train a trial on; 0 where it is less than half of its epochs,
    which would be as much noise as learning."""
    epochs = min(spec.epochs, int(seconds / epoch_seconds)) if seconds > 0 else 0
    return epochs if 2 * epochs >= spec.epochs else 0


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


def count_opening(study: StudyFolder) -> int:
    """Count how often the study's test split has been scored, this time included."""
    make_folder(study.refit.root)
    counter = study.test_opened
    try:
        count = int(counter.read_text()) + 1
    except FileNotFoundError:
        count = 1
    except ValueError:  # damaged: at least once
        count = 2
    write_atomic(counter, str(count))
    return count
