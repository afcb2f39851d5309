"""A look at trainability: a few optimisation steps with everything trainable on a small sample, at a fixed cost.

A probe ranks frozen features. This look lets the whole backbone move, for as many steps as it takes to see whether it
does, and asks held-out images of the same sample. It was measured and not built into the program: see README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from automl.training import Epoch, Precision, fine_tune

__all__ = ["Look", "look"]


@dataclass(frozen=True)
class Look:
    """Log loss on the held-out images, and which of them were right ``(held,)``; of a look that diverged, that of
    an even guess, and none."""

    log_loss: float
    right: npt.NDArray[np.bool_]


def look(
    model: nn.Module,
    array: npt.NDArray[Any],
    targets: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    *,
    images: int,
    passes: int,
    batch_size: int,
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    precision: Precision,
    learning_rate: float,
    layer_decay: float,
    weight_decay: float,
    seed: int = 0,
) -> Look:
    """Train everything in `model` on a sample of `images` of `rows`, each seen `passes` times; judge as many others.

    Args:
        array: Pixels ``(N, R, R, 3) uint8``.
        targets: ``(N,)`` class indices.
        rows: What to draw from, in proportion to the classes; with fewer than twice `images`, half and half.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    generator = np.random.default_rng(seed)
    by_class = rows[np.lexsort((generator.random(len(rows)), targets[rows]))]
    drawn = by_class[np.linspace(0, len(rows) - 1, min(2 * images, len(rows))).astype(np.int64)]
    train, held = drawn[::2], drawn[1::2]
    found: list[Epoch] = []
    fine_tune(
        model, array, targets, train_rows=np.tile(train, passes), validation_rows=held, classes=classes, mean=mean,
        std=std, device=device, precision=precision, seed=seed, epochs=1, batch_size=batch_size,
        learning_rate=learning_rate, layer_decay=layer_decay, weight_decay=weight_decay, warmup_epochs=0.25,
        report=found.append,
    )  # fmt: skip
    if not found:
        return Look(float(np.log(classes)), np.zeros(len(held), dtype=np.bool_))
    return Look(found[0].metrics["log_loss"], np.asarray(found[0].logits.argmax(1) == targets[held]))
