"""The sound configurations that a search tries before it samples: an answer soon, and what is usually right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from automl.backbones import default_params, find
from automl.search.budget import CostModel
from automl.search.spec import default_resolution
from automl.space import Space

__all__ = ["FEW_EPOCHS", "default_trials", "sound_policy", "sound_trials"]

FEW_EPOCHS = 8  # up to here a sound trial has no augmentation


def sound_policy(epochs: int) -> str:
    """Return the augmentation policy that a sound trial of `epochs` epochs has where it trains more than the head.

    In a short run augmentation hides more than it teaches. Held-out accuracy of EfficientNet-Lite after four epochs,
    everything trainable, 480 training images at 224 px, one pair of runs for each seed and split:

        simulated textile, Lite0    none  0.992 0.987 0.979 0.987    light  0.981 0.971 0.981 0.984
        simulated textile, Lite1    none  0.718                      light  0.766
        simulated textile, Lite2    none  0.995 0.989                light  0.952 0.973
        Fashion-MNIST, Lite0        none  0.875 0.902 0.832          light  0.856 0.870 0.819

    and on a set that had no part in this choice, 400 training images at 96 px:

        scikit-learn's digits, Lite0                 none  0.981 0.973 0.974    light  0.956 0.946 0.954
        the same, three quarters frozen              none  0.974 0.968 0.973    light  0.963 0.952 0.951
    """
    return "none" if epochs <= FEW_EPOCHS else "light"


def sound_trials(name: str, space: Space, epochs: int, side: float = math.inf) -> dict[str, dict[str, Any]]:
    """Return the points of `space` nearest to the sound configurations of the backbone `name`: "head only" (on cached
    features), "everything" trainable, and "mostly frozen".

    Args:
        epochs: Of a whole trial.
        side: Of the images, in pixels, as `default_resolution` has it.
    """
    backbone = find(name)
    base = default_params(backbone)
    sound = {
        "augmentation": sound_policy(epochs),
        "batch_size": 32,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "dropout": 0.0,
    }
    sound |= {"drop_path": 0.0, "mixup": 0.0, "cutmix": 0.0, "head": "linear", "optimizer": "adamw", "magnitude": 9}
    sound |= {**base, "backbone": name, "resolution": default_resolution(backbone, space, side)}
    head = {"freeze_depth": 1.0, "augmentation": "none", "learning_rate": 10 * base["learning_rate"]}
    wanted: dict[str, dict[str, Any]] = {
        "head only": head,
        "everything": {"freeze_depth": 0.0},
        "mostly frozen": {"freeze_depth": 0.75},
    }
    return {kind: space.nearest({**sound, **params}) for kind, params in wanted.items()}


def default_trials(backbones: Sequence[str], space: Space, epochs: int, side: float = math.inf) -> list[dict[str, Any]]:
    """Return the sound configurations that are tried before anything is sampled, in order.

    First the head alone on every backbone (an answer within a minute), then for each backbone in turn everything
    trainable and three quarters frozen: which of the two is right depends on the data, and a budget that ends between
    them has had the one that learns more.

    Args:
        epochs: Of a whole trial.
        side: Of the images, in pixels.
    """
    sound = [sound_trials(name, space, epochs, side) for name in backbones]
    heads = [each["head only"] for each in sound if CostModel.is_head_only(space.params(each["head only"]))]
    unique: list[dict[str, Any]] = []
    for params in [*heads, *(each[kind] for each in sound for kind in ("everything", "mostly frozen"))]:
        if params not in unique:
            unique.append(params)
    return unique
