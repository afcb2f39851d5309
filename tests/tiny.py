"""Tiny models and data of training and screening tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from automl import backbones
from automl.training import Outcome, Precision, fine_tune

torch.set_num_threads(1)

CPU = torch.device("cpu")
FLOAT32 = Precision(None, False, "a test")
CHANNELS_LAST = Precision(None, True, "a test")
BFLOAT16 = Precision(torch.bfloat16, True, "a test")
MEAN = STD = (0.5, 0.5, 0.5)


def tiny(architecture: str, *, classes: int = 3, depth: float = 0.0, seed: int = 0, **arguments: Any) -> nn.Module:
    torch.manual_seed(seed)
    backbone = backbones.find(architecture)
    model = backbones.build(backbone, classes, resolution=32, weights=None, **arguments)
    backbones.freeze(model, depth)
    return model


def colours(images: int = 30, classes: int = 3, resolution: int = 32) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Noise ``(images, R, R, 3) uint8`` in which the class brightens one channel, and its targets."""
    random = np.random.default_rng(0)
    targets = np.arange(images, dtype=np.int64) % classes
    array = random.integers(0, 160, (images, resolution, resolution, 3), dtype=np.uint8)
    for row, target in enumerate(targets):
        array[row, ..., target % 3] += 60
    return array, targets


def train(model: nn.Module, array: npt.NDArray[Any], targets: npt.NDArray[np.int64], **arguments: Any) -> Outcome:
    """Fine-tune on the first two thirds, evaluate on the rest; any argument of `fine_tune` may be given."""
    count = 2 * len(array) // 3
    defaults: dict[str, Any] = {
        "train_rows": np.arange(count),
        "validation_rows": np.arange(count, len(array)),
        "classes": int(targets.max()) + 1,
        "mean": MEAN,
        "std": STD,
        "device": CPU,
        "precision": FLOAT32,
        "seed": 3,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "warmup_epochs": 0.5,
    }
    return fine_tune(model, array, targets, **{**defaults, **arguments})
