"""torchvision as a provider of weights: which of its models have a twin in timm, and what to use for the others.

A twin computes the same function from the same weights; ``tests/backbones/test_build.py`` compares the logits.
"""

from __future__ import annotations

import functools

import torchvision.models
from torchvision.models import WeightsEnum

__all__ = ["entries", "has_twin", "models", "nearest"]

# torchvision models whose weights fit timm's architecture of the same name, by prefix.
_TWINS = ("vgg", "resnet", "resnext", "wide_resnet", "inception_v3", "densenet")

# For the others: what timm calls the nearest architecture, by prefix (the longest counts). Several share timm's name.
_NEAREST = {
    "alexnet": "vgg11",
    "googlenet": "inception_v3",
    "maxvit_t": "maxvit_tiny_tf_224",
    "mnasnet": "mnasnet_100",
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    **dict.fromkeys(["mobilenet_v3_small", "shufflenet", "squeezenet"], "mobilenetv3_small_100"),
    **{f"efficientnet_v2_{size}": f"tf_efficientnetv2_{size}" for size in "sml"},
    "regnet_x": "regnetx_032",
    "regnet_y": "regnety_032",
    **{f"swin_{size[0]}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")},
    **{f"swin_v2_{size[0]}": f"swinv2_{size}_window8_256" for size in ("tiny", "small", "base")},
    "vit_b": "vit_base_patch16_224",
    "vit_l": "vit_large_patch16_224",
    "vit_h": "vit_huge_patch14_clip_224",
}


@functools.cache
def models() -> frozenset[str]:
    """Names of torchvision's image classification models."""
    return frozenset(torchvision.models.list_models(module=torchvision.models))


def entries(model: str) -> dict[str, WeightsEnum]:
    """torchvision's weights of `model` by name, the default last.

    Weights without categories are left out: they hold no classifier and no ImageNet preprocessing (vgg16's
    ``IMAGENET1K_FEATURES``).
    """
    weights = torchvision.models.get_model_weights(model)
    found = [entry for entry in weights if entry.meta["categories"]]
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry is weights.DEFAULT)}


def has_twin(model: str) -> bool:
    """Whether torchvision's `model` is in the catalogue."""
    return model in models() and model.startswith(_TWINS)


def nearest(model: str) -> str:
    """The timm architecture to use for a torchvision model that has no twin."""
    prefixes = [prefix for prefix in _NEAREST if model.startswith(prefix)]
    return _NEAREST[max(prefixes, key=len)] if prefixes else model
