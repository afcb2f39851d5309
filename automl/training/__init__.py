"""One fine-tune: augmentation, optimiser, the loop, evaluation, checkpoints."""

from __future__ import annotations

from automl.training.augment import contact_sheet, make_policy
from automl.training.checkpoint import load_weights, save_weights
from automl.training.device import (
    KEPT_BUFFERS,
    Precision,
    choose_device,
    choose_precision,
    device_name,
    device_names,
    is_out_of_memory,
    keep_buffers,
    other_precisions,
    peak_memory_mb,
    reset_peak_memory,
)
from automl.training.evaluate import Normalise, measure, predict_logits, recalibrate
from automl.training.fine_tune import RECALIBRATION_IMAGES, Epoch, Outcome, fine_tune

__all__ = [
    "KEPT_BUFFERS",
    "RECALIBRATION_IMAGES",
    "Epoch",
    "Normalise",
    "Outcome",
    "Precision",
    "choose_device",
    "choose_precision",
    "contact_sheet",
    "device_name",
    "device_names",
    "fine_tune",
    "is_out_of_memory",
    "keep_buffers",
    "load_weights",
    "make_policy",
    "measure",
    "other_precisions",
    "peak_memory_mb",
    "predict_logits",
    "recalibrate",
    "reset_peak_memory",
    "save_weights",
]
