"""What is measured of a model that is handed over: its scores on the test images, and how fast it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn

from automl.config import metric_name
from automl.screening import measure_speed
from automl.training import choose_device, choose_precision, measure

__all__ = ["in_words", "latency", "score"]

BATCH = 32  # images of which latency is measured together
PASSES = 50
SECONDS = 1.0  # for each size


def latency(model: nn.Module, *, resolution: int) -> dict[str, Any]:
    """Return the latency of `model` on this device, of one image and of a batch."""
    device, _ = choose_device()
    precision = choose_precision(device)
    model.to(device)
    return measure_speed(
        model, batch=BATCH, resolution=resolution, device=device, precision=precision, repeats=PASSES, seconds=SECONDS
    ).to_dict()


def in_words(metrics: Mapping[str, Any], accuracy: str = "accuracy {:.4f} (95 % interval {:.4f} to {:.4f})") -> str:
    """Return the scores of a model on the test images: accuracy, macro recall, macro F1, and what was searched for."""
    test = metrics["test"]
    others = dict.fromkeys(("macro_recall", "macro_f1", str(metrics.get("metric", "accuracy"))))
    told = [f"{metric_name(name)} {test[name]:.4f}" for name in others if name in test and name != "accuracy"]
    return ", ".join([accuracy.format(test["accuracy"], *test["ci95"]), *told])


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
