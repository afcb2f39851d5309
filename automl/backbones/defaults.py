"""What is sound for a short fine-tune of each kind of backbone."""

from __future__ import annotations

import re

from automl.backbones.catalog import Backbone, module_of

__all__ = ["default_params"]

# CNNs that normalise without batch statistics and are fine-tuned as transformers are.
# Measured on simulated textiles, EfficientNet-Lite0: accuracy 0.83 after 4 epochs at 1e-3, 0.99 at 2e-3.
_SEPARABLE_CNNS = ("efficientnet", "mobilenetv3")
_LAYER_NORM_CNNS = ("convnext", "focalnet", "mambaout", "nfnet", "rdnet", "resnetv2")


def default_params(backbone: Backbone) -> dict[str, float]:
    """Learning rate, layer decay and weight decay sound for a short AdamW fine-tune of this kind of backbone.

    BatchNorm bears a high rate, the more so the thin networks of separable convolutions; plain VGG diverges with it;
    transformers and the CNNs built like them keep their lower layers nearly still (layer decay 0.75, as in BEiT and
    ConvNeXt).
    """
    if backbone.family == "transformer" or module_of(backbone.architecture) in _LAYER_NORM_CNNS:
        return {"learning_rate": 2e-4, "layer_decay": 0.75, "weight_decay": 0.05}
    if re.fullmatch(r"vgg\d+", backbone.architecture):
        return {"learning_rate": 1e-4, "layer_decay": 1.0, "weight_decay": 0.05}
    rate = 2e-3 if module_of(backbone.architecture) in _SEPARABLE_CNNS else 1e-3
    return {"learning_rate": rate, "layer_decay": 1.0, "weight_decay": 0.05}
