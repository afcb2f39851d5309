"""The hyperparameters of a trial: type, default and bounds of each. Every other module asks here."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["AUGMENTATIONS", "IMAGE_BY_IMAGE", "PARAMETERS", "Parameter"]

AUGMENTATIONS = ("none", "light", "affine", "trivial", "rand", "augmix", "three")
IMAGE_BY_IMAGE = AUGMENTATIONS[3:]  # of which every image has its own draw, one after the other


class Parameter(NamedTuple):
    """One hyperparameter of a trial: its type, the value when the space is silent, and what it may be.

    A default of None means: the backbone's own sound default (`backbones.default_params`).
    """

    kind: type
    default: Any
    doc: str
    low: float = 0.0
    high: float = 1.0
    choices: tuple[str, ...] = ()


PARAMETERS: dict[str, Parameter] = {
    "freeze_depth": Parameter(
        float, 0.0, "fraction of the backbone's stages that is frozen (0 everything trains, 1 head only)"
    ),
    "resolution": Parameter(int, 224, "side of the square input, in pixels", 28, 1024),
    "learning_rate": Parameter(
        float, None, "peak learning rate of the head; stages below it have theirs times layer_decay", 1e-8, 1.0
    ),
    "layer_decay": Parameter(float, None, "factor on the learning rate per stage below the head", 0.01, 1.0),
    "weight_decay": Parameter(float, None, "decoupled weight decay; never on norms and biases", 0.0, 1.0),
    "augmentation": Parameter(str, "light", "augmentation policy of the training images", choices=AUGMENTATIONS),
    "magnitude": Parameter(int, 9, "strength of the `rand` policy", 0, 30),
    "label_smoothing": Parameter(float, 0.1, "probability mass spread over the other classes", 0.0, 0.9),
    "mixup": Parameter(float, 0.0, "alpha of mixup, 0 is off", 0.0, 10.0),
    "cutmix": Parameter(float, 0.0, "alpha of cutmix, 0 is off", 0.0, 10.0),
    "optimizer": Parameter(str, "adamw", "optimizer", choices=("adamw", "sgd")),
    "batch_size": Parameter(int, 32, "images per optimizer step", 2, 65536),
    "head": Parameter(str, "linear", "linear, or an MLP of 1024 ReLU units", choices=("linear", "mlp")),
    "dropout": Parameter(float, 0.0, "dropout in front of the last linear layer", 0.0, 0.9),
    "drop_path": Parameter(float, 0.0, "stochastic depth, where the backbone has it", 0.0, 0.9),
}
