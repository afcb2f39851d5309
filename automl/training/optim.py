"""Optimiser, learning-rate schedule and loss of a fine-tune."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Loss", "class_weights", "learning_rate_factor", "make_optimizer"]


def make_optimizer(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9, over groups that carry their own ``lr`` and ``weight_decay``."""
    fused = groups[0]["params"][0].is_cuda
    if name == "adamw":
        return torch.optim.AdamW(groups, fused=fused)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=groups[0]["lr"], momentum=0.9, nesterov=True, fused=fused)
    raise ValueError(f'unknown optimizer "{name}": expected adamw or sgd')


def learning_rate_factor(step: int, *, warmup_steps: float, total_steps: int) -> float:
    """Factor on the peak learning rate at `step` (from 0): linear warm-up, then half a cosine to zero."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def class_weights(targets: npt.NDArray[np.int64], classes: int) -> Tensor:
    """Weights ``(classes,)`` inverse to frequency, 1 on average over the images (scikit-learn's `balanced`)."""
    counts = np.bincount(targets, minlength=classes)
    return torch.from_numpy(len(targets) / (classes * np.maximum(counts, 1))).to(torch.float32)


class Loss(nn.Module):
    """Cross-entropy as a sum over images; divided by `total` of the whole batch it is the batch's (weighted) mean.

    The two are apart so that gradients of micro-batches add up to those of their batch: where classes are weighted,
    the mean of the micro-batches' means is another number.
    """

    def __init__(self, *, label_smoothing: float = 0.0, weights: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.weights: Tensor | None
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum for logits ``(B, C)`` and class indices ``(B,)``, or the soft targets ``(B, C)`` of mixup and
        cutmix, which are smoothed already."""
        smoothing = self.label_smoothing if targets.ndim == 1 else 0.0
        return functional.cross_entropy(logits, targets, self.weights, reduction="sum", label_smoothing=smoothing)

    def total(self, targets: Tensor) -> Tensor | int:
        """Return what the sum over `targets` is a mean of: the images, each with the weight of its class."""
        if self.weights is None:
            return len(targets)
        return self.weights[targets].sum() if targets.ndim == 1 else (targets * self.weights).sum()
