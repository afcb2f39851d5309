"""Logits of a model on rows of an array, and the metrics of logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata
from sklearn import metrics as sk
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from automl.data import Batches
from automl.training.device import Precision

__all__ = ["Normalise", "measure", "predict_logits", "recalibrate"]


class Normalise(nn.Module):
    """``(B, 3, R, R) uint8`` → float32, scaled to 0…1, then standardised by the backbone's mean and std.

    The result is in channels_last memory, which convolutions prefer. Embeddings ``(B, F)`` pass through unchanged.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, -1, 1, 1)))
        self.register_buffer("shift", -(torch.tensor(mean) / torch.tensor(std)).view(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim == 2:
            return images
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        return torch.addcmul(self.shift, pixels, self.scale)


@torch.inference_mode()
def predict_logits(
    model: nn.Module, batches: Batches, *, normalise: Normalise, precision: Precision
) -> npt.NDArray[np.float32]:
    """Return logits ``(n, classes)`` in the order of the batches' rows; the model is left in evaluation mode."""
    model.eval()
    parts = []
    for images, _, _ in batches:
        with torch.autocast(images.device.type, precision.autocast, enabled=precision.autocast is not None):
            parts.append(model(normalise(images)).float().cpu())
    return torch.cat(parts).numpy()


@torch.no_grad()
def recalibrate(
    model: nn.Module, trainable: set[str], batches: Batches, *, normalise: Normalise, precision: Precision
) -> None:
    """Estimate BatchNorm's running statistics anew: their plain average over `batches`, at the present weights.

    The moving average that training leaves lags behind weights that still move fast, and that lag, not the weights,
    is most of an early epoch's error (arXiv 1803.05407, section 3.2 does the same after weight averaging). Only
    modules named in `trainable` change; frozen BatchNorm keeps its statistics.
    """
    layers = [
        module
        for name, module in model.named_modules()
        if name in trainable and isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if not layers:
        return
    model.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    for images, _, _ in batches:
        with torch.autocast(images.device.type, precision.autocast, enabled=precision.autocast is not None):
            model(normalise(images))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()


def measure(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy, balanced_accuracy, macro_precision, macro_recall, macro_f1, log_loss, auroc and ece.

    Args:
        logits: ``(n, classes)``.
        targets: ``(n,)`` class indices.

    Macro averages are scikit-learn's: over the classes that occur in targets or predictions; balanced accuracy, over
    those in targets. auroc is the mean over classes of each against the rest (with two classes that of the second); it
    is left out where no class has both images and other images. ece is the expected calibration error over 15 equal
    bins of confidence (arXiv 1706.04599), 0…1.
    """
    classes = np.arange(logits.shape[1])
    predicted = logits.argmax(axis=1)
    present = np.unique(targets)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        targets, predicted, average="macro", zero_division=0.0
    )
    balanced = sk.recall_score(targets, predicted, labels=present, average="macro")
    area = _auroc(probabilities, targets)
    return {
        "accuracy": float(np.mean(predicted == targets)),
        "balanced_accuracy": float(balanced),
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "macro_f1": float(f1),
        "log_loss": float(-log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(targets)), targets].mean()),
        **({} if area is None else {"auroc": area}),
        "ece": float(
            multiclass_calibration_error(
                torch.from_numpy(probabilities), torch.from_numpy(targets), num_classes=len(classes), n_bins=15
            )
        ),
    }


def _auroc(probabilities: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> float | None:
    """Return the mean area under the ROC curve, from the ranks of all classes at once (Mann and Whitney's U):
    scikit-learn goes through the classes, which took 4 to 30 times as long, every epoch."""
    images, classes = probabilities.shape
    inside = np.bincount(targets, minlength=classes)
    curved = np.flatnonzero((inside > 0) & (inside < images))
    if not len(curved):
        return None
    if classes == 2:
        curved = curved[-1:]
    ranks = rankdata(probabilities[:, curved], axis=0)
    summed = (ranks * (targets[:, None] == curved)).sum(axis=0)
    inside = inside[curved]
    return float(np.mean((summed - inside * (inside + 1) / 2) / (inside * (images - inside))))
