"""Optimiser, learning-rate schedule and loss of a fine-tune."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["class_weights", "learning_rate_factor", "make_loss", "make_optimizer"]


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


def make_loss(*, label_smoothing: float, weights: Tensor | None, mixed: bool) -> nn.Module:
    """Cross-entropy on class indices, or on the soft targets that mixup and cutmix give (already smoothed)."""
    if not mixed:
        return nn.CrossEntropyLoss(weights, label_smoothing=label_smoothing)
    if weights is None:
        return SoftTargetCrossEntropy()
    return _WeightedSoftTargetCrossEntropy(weights)


class _WeightedSoftTargetCrossEntropy(nn.Module):
    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        weighted = targets * self.get_buffer("weights")
        return -(weighted * functional.log_softmax(logits, dim=-1)).sum(dim=-1).sum() / weighted.sum()
