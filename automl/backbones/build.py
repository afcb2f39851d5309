"""A pretrained backbone with a new head: how it is built, frozen by depth, and split into parameter groups.

**Depth.** A backbone is a list of blocks in the order in which they see the data (timm's ``group_matcher``: a residual
block, an encoder block, a convolution of a VGG with its BatchNorm). Freeze depth is a fraction of that list, so 0.5
means the first half of a ResNet as it means the first half of a ViT; 1.0 leaves only the head to train.

**Head.** The head is the model's own classifier submodule, replaced in place, and nothing else: pooling, final norms
and the two hidden layers of a VGG belong to the backbone.
"""

from __future__ import annotations

from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional

from automl.backbones.catalog import Backbone, pretrained_cfg, resolution_problem
from automl.backbones.weights import load_state_dict
from automl.errors import ConfigError

__all__ = [
    "build",
    "build_pretrained",
    "classifier_name",
    "features",
    "freeze",
    "head_of",
    "layer_groups",
    "parameter_groups",
    "set_train_mode",
]

HIDDEN_WIDTH = 1024
# Small, so that the first steps move the backbone by a loss near log(classes) and not by a random classifier.
HEAD_STD = 0.01


class LinearHead(nn.Linear):
    """A linear classifier with dropout on its input. Keys and shapes are nn.Linear's, so timm loads it as its own."""

    def __init__(self, in_features: int, num_classes: int, dropout: float) -> None:
        super().__init__(in_features, num_classes)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.dropout(x, self.dropout, self.training))


class ConvHead(nn.Conv2d):
    """As LinearHead, for architectures whose classifier is a 1x1 convolution; takes (B, F) and (B, F, 1, 1)."""

    def __init__(self, in_features: int, num_classes: int, dropout: float) -> None:
        super().__init__(in_features, num_classes, 1)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout(x, self.dropout, self.training)
        return super().forward(x) if x.ndim == 4 else super().forward(x[:, :, None, None]).flatten(1)


class MlpHead(nn.Module):
    """One hidden layer of width 1024 with ReLU, dropout before the last layer. (B, F) → (B, classes)."""

    def __init__(self, in_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, HIDDEN_WIDTH)
        self.dropout = dropout
        self.fc2 = nn.Linear(HIDDEN_WIDTH, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.fc1(x.flatten(1)))
        return self.fc2(functional.dropout(hidden, self.dropout, self.training))  # type: ignore[no-any-return]


def build(
    backbone: Backbone,
    num_classes: int,
    *,
    resolution: int,
    head: Literal["linear", "mlp"] = "linear",
    dropout: float = 0.0,
    drop_path: float = 0.0,
    weights: Path | None,
) -> nn.Module:
    """Build `backbone` for (B, 3, resolution, resolution) inputs and `num_classes` logits, every parameter trainable.

    weights: the backbone's weights file, or None for random initialisation. The new head is random in either case.

    drop_path: rate of stochastic depth; architectures without it (VGG, Inception, DenseNet) have nothing to drop.

    Raises:
        ConfigError: The resolution does not fit, or the file does not fit the architecture.
    """
    model = build_pretrained(backbone, resolution=resolution, drop_path=drop_path, weights=weights)
    _timm(model).reset_classifier(num_classes)
    old = head_of(model)
    width = _in_features(old, backbone)
    new: LinearHead | ConvHead | MlpHead
    if head == "mlp":
        new = MlpHead(width, num_classes, dropout)
    elif isinstance(old, nn.Conv2d):
        new = ConvHead(width, num_classes, dropout)
    else:
        new = LinearHead(width, num_classes, dropout)
    last = new.fc2 if isinstance(new, MlpHead) else new
    nn.init.trunc_normal_(last.weight, std=HEAD_STD)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    parent, _, attribute = classifier_name(model).rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)
    return model


def build_pretrained(backbone: Backbone, *, resolution: int, drop_path: float = 0.0, weights: Path | None) -> nn.Module:
    """Build `backbone` with the classifier that its weights came with (none for self-supervised weights).

    Loading goes through timm's own filters: foreign key names are mapped, position embeddings are resampled to
    `resolution`, and every parameter has to be in the file.

    Raises:
        ConfigError: As `build`.
    """
    problem = resolution_problem(backbone, resolution)
    if problem:
        raise ConfigError(problem)
    cfg = pretrained_cfg(backbone)
    arguments: dict[str, Any] = {"img_size": resolution} if cfg.get("fixed_input_size") else {}
    if drop_path:
        arguments["drop_path_rate"] = drop_path
    try:
        return _create(backbone, cfg, arguments, weights)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        del arguments["drop_path_rate"]
        return _create(backbone, cfg, arguments, weights)


def _create(backbone: Backbone, cfg: dict[str, Any], arguments: dict[str, Any], weights: Path | None) -> nn.Module:
    if weights is None:
        return timm.create_model(backbone.architecture, pretrained_cfg=cfg, **arguments)
    if weights.suffix == ".npz":  # JAX weights, which only the architecture itself can read
        overlay = {"file": str(weights), "custom_load": True}
        return timm.create_model(
            backbone.architecture, pretrained=True, pretrained_cfg=cfg, pretrained_cfg_overlay=overlay, **arguments
        )
    return _load(backbone, cfg, arguments, weights)


def _load(backbone: Backbone, cfg: dict[str, Any], arguments: dict[str, Any], weights: Path) -> nn.Module:
    state = load_state_dict(weights)
    if backbone.architecture == "inception_v3":  # the auxiliary classifier, which only training from scratch uses
        state = {key: value for key, value in state.items() if not key.startswith("AuxLogits.")}
    if "_conv_stem.weight" in state:  # the key names of the efficientnet_pytorch package: same tensors, same order
        with torch.device("meta"):
            keys = list(timm.create_model(backbone.architecture).state_dict())
        state = dict(zip(keys, state.values(), strict=False))
    classifier = state.get(f"{cfg['classifier']}.weight")
    stated = int(cfg["num_classes"]) if classifier is None else len(classifier)
    reasons = []
    # timm loads strictly where the class count is the one the weights came with; a file without head counts 0.
    for count in dict.fromkeys([stated, 0] if classifier is None else [stated]):
        try:
            model: nn.Module = timm.create_model(
                backbone.architecture,
                pretrained=True,
                pretrained_cfg=cfg,
                pretrained_cfg_overlay={"state_dict": state, "num_classes": count},
                num_classes=count,
                **arguments,
            )
        except (RuntimeError, KeyError) as error:
            reasons.append(" ".join(str(error).split())[:300])
            continue
        _timm(model).pretrained_cfg.pop("state_dict", None)
        _timm(model).pretrained_cfg["num_classes"] = cfg["num_classes"]
        return model
    raise ConfigError(f"{weights} does not hold weights of {backbone.name}: {reasons[-1]}")


def classifier_name(model: nn.Module) -> str:
    """Dotted name of the classifier submodule, such as ``fc`` or ``head.fc``."""
    return str(_timm(model).pretrained_cfg["classifier"])


def head_of(model: nn.Module) -> nn.Module:
    """The classifier submodule: takes (B, F) features, gives (B, classes) logits."""
    return model.get_submodule(classifier_name(model))


def features(model: nn.Module, images: Tensor) -> Tensor:
    """(B, F) inputs of the head for (B, 3, R, R) normalised images; ``head_of(model)(features)`` is the model."""
    parts = _timm(model)
    result: Tensor = parts.forward_head(parts.forward_features(images), pre_logits=True)
    return result.flatten(1)


def layer_groups(model: nn.Module) -> list[list[str]]:
    """Parameter names of each block of the backbone, first block first; the head is left out."""
    head = classifier_name(model) + "."
    found = group_parameters(model, _timm(model).group_matcher(coarse=False))
    shapes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    groups: list[list[str]] = []
    for _, members in sorted(found.items()):
        names = [name for name in members if not name.startswith(head)]
        # A norm alone is no block: it belongs to the convolution (or the last block) before it.
        if groups and all(shapes[name] < 2 for name in names):
            groups[-1] += names
        elif names:
            groups.append(names)
    return groups


def freeze(model: nn.Module, depth: float) -> int:
    """Let the first ``round(depth * blocks)`` blocks stand still and all others train. Returns how many stand still.

    Raises:
        ConfigError: `depth` is outside 0…1.
    """
    if not 0.0 <= depth <= 1.0:
        raise ConfigError(f"freeze depth {depth} is outside 0 (everything trains) … 1 (only the head trains)")
    groups = layer_groups(model)
    count = int(depth * len(groups) + 0.5)
    frozen = {name for group in groups[:count] for name in group}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return count


def set_train_mode(model: nn.Module) -> None:
    """``model.train()``, but frozen parts stay in evaluation mode: BatchNorm statistics, dropout, stochastic depth.

    A part is frozen when it has parameters and none of them trains. With everything but the head frozen, the whole
    backbone is in evaluation mode, so its features are constants.
    """
    model.train()
    head = head_of(model)
    in_head = {id(parameter) for parameter in head.parameters()}
    if not any(p.requires_grad for p in model.parameters() if id(p) not in in_head):
        model.eval()
        head.train()
        return
    _eval_frozen(model)


def _eval_frozen(module: nn.Module) -> None:
    for child in module.children():
        trains = [parameter.requires_grad for parameter in child.parameters()]
        if trains and not any(trains):
            child.eval()
        elif trains:
            _eval_frozen(child)


def parameter_groups(
    model: nn.Module, *, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Groups for a torch optimiser: every trainable parameter once, each with its own ``lr`` and ``weight_decay``.

    The head has `learning_rate`; a block has ``learning_rate * layer_decay ** n`` where n counts the steps down from
    the head (1 for the last block), as in BEiT (arXiv 2106.08254). Norms, biases, other vectors and what the model's
    ``no_weight_decay()`` names are not decayed.
    """
    groups = layer_groups(model)
    steps = {name: len(groups) - index for index, group in enumerate(groups) for name in group}
    undecayed = set(_timm(model).no_weight_decay()) if hasattr(model, "no_weight_decay") else set()
    members: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim < 2 or name.endswith(".bias") or any(fnmatch(name, pattern) for pattern in undecayed)
            members[steps.get(name, 0), not plain].append(parameter)
    return [
        {"params": params, "lr": learning_rate * layer_decay**step, "weight_decay": weight_decay if decayed else 0.0}
        for (step, decayed), params in sorted(members.items(), key=lambda item: (-item[0][0], item[0][1]))
    ]


def _in_features(classifier: nn.Module, backbone: Backbone) -> int:
    if isinstance(classifier, nn.Linear):
        return classifier.in_features
    if isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1):
        return classifier.in_channels
    raise ConfigError(f"{backbone.name} cannot take a new head: its classifier is {type(classifier).__name__}")


def _timm(model: nn.Module) -> Any:
    """The same model, for the methods that every timm model has and nn.Module's type does not."""
    return model
