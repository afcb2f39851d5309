"""The best configuration retrained in full, scored once, handed over as a package, and applied to new images."""

from __future__ import annotations

from automl.refit.measured import in_words, score
from automl.refit.package import ModelPackage, load_package, save_package
from automl.refit.predict import Prediction, find_images, format_predictions, predict
from automl.refit.refit import RefitSpec, adopt, affordable_epochs, epochs_on, refit

__all__ = [
    "ModelPackage",
    "Prediction",
    "RefitSpec",
    "adopt",
    "affordable_epochs",
    "epochs_on",
    "find_images",
    "format_predictions",
    "in_words",
    "load_package",
    "predict",
    "refit",
    "save_package",
    "score",
]
