"""Which pretrained backbones there are, and the preprocessing each one was trained with.

A name is ``timm/<architecture>.<tag>`` or ``torchvision/<model>.<weights>``. timm gives every architecture; torchvision
is a provider of weights and preprocessing only. A torchvision backbone is built as its twin in timm, so that freezing,
parameter groups, heads and the exported folder mean one thing for both. The catalogue has a torchvision model only
where the twin computes the same function (``tests/backbones/test_build.py`` compares the logits).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import timm
from timm.models import get_deprecated_models, get_pretrained_cfg, model_entrypoint
from torchvision.models import WeightsEnum

from automl.backbones import twins
from automl.errors import UnknownBackboneError, did_you_mean

__all__ = [
    "Backbone",
    "find",
    "module_of",
    "names",
    "pretrained_cfg",
    "resolution_problem",
    "torchvision_weights",
]

Family = Literal["cnn", "transformer"]
Interpolation = Literal["bilinear", "bicubic"]

# timm modules (files of timm.models) that cannot take one new linear head or cannot be frozen by depth.
_HEAD = "its classifier is not one linear layer"
_GROUPS = "timm declares no layer groups for it, so it cannot be frozen by depth"
_ENCODER = "it encodes images for a language model, at free resolutions, and was not tried with a new head"
_UNSUPPORTED: Mapping[str, str] = {
    **dict.fromkeys(["cpubone", "iformer", "repvit", "sequencer", "vision_transformer_sam"], _HEAD),
    **dict.fromkeys(["csatv2", "metaformer", "pit"], _GROUPS),
    **dict.fromkeys(["deepseek_vit", "gemma4_vit", "qwen3_vit", "naflexvit"], _ENCODER),
}
# timm modules whose mixing is attention or tokens, by prefix; everything else is a CNN.
_TRANSFORMERS = (
    *("beit", "cait", "coat", "convit", "davit", "deit", "edgenext", "efficientvit_msra", "eva"),
    *("gcvit", "hiera", "hieradet", "lowformer", "maxxvit", "mlp_mixer", "mobilevit", "mvitv2"),
    *("nest", "nextvit", "pvt_v2", "swin_transformer", "tiny_vit", "tnt", "twins"),
    *("vision_transformer", "visformer", "vitamin", "xcit"),
)
# Weights of these modules cannot be moved to another resolution: they have one weight per position, which timm does not
# resample. Of byobnet, only the architectures that timm marks as fixed (those with self-attention).
_FIXED_RESOLUTION = ("byobnet", "cait", "convit", "gcvit", "hiera", "mlp_mixer", "nest", "visformer")
# These join branches of different stride, so every stride has to divide the resolution.
_STEP_32 = ("dla", "hrnet")
# Smallest input side where a stem without padding (or a deep stack of strides) still leaves a feature map.
_MIN_RESOLUTION = {"inception_v3": 75, "inception_v4": 75, "inception_resnet_v2": 75, "nasnet": 75, "pnasnet": 75}


@dataclass(frozen=True)
class Backbone:
    """One pretrained backbone and how its inputs are prepared.

    mean and std are for pixels scaled to 0…1; resolutions are the side of a square input in pixels.
    `fixed_resolution` is true where the weights work at `native_resolution` only.
    `resolution_step`: the resolution has to be a multiple of it (the patch size of a transformer, 1 for a CNN).
    """

    name: str
    provider: Literal["timm", "torchvision"]
    architecture: str
    tag: str
    family: Family
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation
    native_resolution: int
    min_resolution: int
    fixed_resolution: bool
    resolution_step: int = 1


def find(name: str) -> Backbone:
    """Return the backbone called `name`.

    The provider may be left out (``resnet50.a1_in1k`` is timm's), and so may the tag (the provider's default weights).

    Raises:
        UnknownBackboneError: No provider has it, or it cannot take a new head or be frozen; the message says what to
            use instead.
    """
    return _find(name.strip())


def names(pattern: str = "*") -> list[str]:
    """Names of all pretrained backbones that match a shell pattern such as ``*resnet50*`` or ``torchvision/*``."""
    return [name for name in _all_names() if fnmatchcase(name, pattern) or fnmatchcase(name.partition("/")[2], pattern)]


def pretrained_cfg(backbone: Backbone) -> dict[str, Any]:
    """timm's ``pretrained_cfg`` of a backbone; for torchvision, that of its twin with torchvision's preprocessing."""
    if backbone.provider == "timm":
        cfg = get_pretrained_cfg(_join(backbone.architecture, backbone.tag))
        assert cfg is not None
        return dict(cast(Any, cfg).to_dict())
    twin = get_pretrained_cfg(backbone.architecture)
    assert twin is not None
    weights = torchvision_weights(backbone)
    preset = weights.transforms()
    return {
        **cast(Any, twin).to_dict(remove_source=True),
        "tag": backbone.tag,
        "mean": backbone.mean,
        "std": backbone.std,
        "interpolation": backbone.interpolation,
        "input_size": (3, backbone.native_resolution, backbone.native_resolution),
        "crop_pct": round(preset.crop_size[0] / preset.resize_size[0], 4),
        "num_classes": len(weights.meta["categories"]),
        "license": "bsd-3-clause",
        "origin_url": weights.meta["recipe"],
    }


def torchvision_weights(backbone: Backbone) -> WeightsEnum:
    """torchvision's own entry (URL, transforms, figures) of a backbone whose provider is torchvision."""
    return twins.entries(backbone.architecture)[backbone.tag]


def resolution_problem(backbone: Backbone, resolution: int) -> str:
    """One line on why the backbone cannot be used at `resolution`, with the nearest that fit; empty if it can."""
    given = f"resolution {resolution} does not fit {backbone.name}"
    if backbone.fixed_resolution and resolution != backbone.native_resolution:
        return f"{given}: its weights work at {backbone.native_resolution} only"
    if resolution < backbone.min_resolution:
        return f"{given}: at least {backbone.min_resolution} is needed"
    step = backbone.resolution_step
    if resolution % step:
        below = max(resolution // step * step, math.ceil(backbone.min_resolution / step) * step)
        nearest = sorted({below, below + step})
        return f"{given}: a multiple of {step} is needed, such as {' or '.join(map(str, nearest))}"
    return ""


@functools.cache
def _find(name: str) -> Backbone:
    provider, slash, rest = name.partition("/")
    if not slash:
        return _find_timm(name, given=name)
    if provider == "timm":
        return _find_timm(rest, given=name)
    if provider == "torchvision":
        return _find_torchvision(rest, given=name)
    raise UnknownBackboneError(
        f'unknown provider "{provider}" in backbone "{name}": expected timm/ or torchvision/{_suggest(name)}'
    )


def _find_timm(rest: str, *, given: str) -> Backbone:
    architecture, _, tag = rest.partition(".")
    renamed = get_deprecated_models().get(architecture)
    if renamed:
        raise UnknownBackboneError(f'backbone "{given}" has a new name in timm: use "timm/{renamed}"')
    if not timm.is_model(architecture):
        raise UnknownBackboneError(f'unknown backbone "{given}"{_suggest(given) or ": timm has no such model"}')
    try:
        cfg = get_pretrained_cfg(rest)
    except RuntimeError as error:  # timm knows the architecture, not the tag
        tags = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", include_tags=True)]
        hint = did_you_mean(tag, tags) or ":"
        raise UnknownBackboneError(
            f'unknown pretrained tag "{tag}" of backbone "{given}"{hint} timm/{architecture} has {", ".join(tags)}'
        ) from error
    module = module_of(architecture)
    reason = _UNSUPPORTED.get(module) or (_HEAD if cfg is None or not isinstance(cfg.classifier, str) else "")
    if cfg is None or reason:
        raise UnknownBackboneError(f'backbone "{given}" cannot be used here: {reason}')
    _, height, width = cfg.input_size
    if height != width:
        raise UnknownBackboneError(
            f'backbone "{given}" cannot be used here: its inputs are {height}x{width}, square ones are needed'
        )
    tag = tag or cfg.tag or ""
    step = _resolution_step(architecture) if cfg.fixed_input_size or module in _STEP_32 else 1
    fixed = bool(cfg.fixed_input_size) and module in _FIXED_RESOLUTION
    smallest = cfg.min_input_size[-1] if cfg.min_input_size else _MIN_RESOLUTION.get(module, 32)
    return Backbone(
        name="timm/" + _join(architecture, tag),
        provider="timm",
        architecture=architecture,
        tag=tag,
        family="transformer" if module.startswith(_TRANSFORMERS) else "cnn",
        mean=_three(cfg.mean),
        std=_three(cfg.std),
        interpolation="bilinear" if cfg.interpolation == "bilinear" else "bicubic",
        native_resolution=height,
        min_resolution=height if fixed else math.ceil(smallest / step) * step,
        fixed_resolution=fixed,
        resolution_step=1 if fixed else step,
    )


def _find_torchvision(rest: str, *, given: str) -> Backbone:
    architecture, _, tag = rest.partition(".")
    if architecture not in twins.models():
        raise UnknownBackboneError(f'unknown backbone "{given}"{_suggest(given) or ": torchvision has no such model"}')
    if not twins.has_twin(architecture):
        instead = find(twins.nearest(architecture)).name
        raise UnknownBackboneError(
            f'backbone "{given}" is not in the catalogue (no proven twin in timm): use "{instead}" instead'
        )
    entries = twins.entries(architecture)
    if tag == "DEFAULT" or not tag:
        tag = next(reversed(entries))
    if tag not in entries:
        hint = did_you_mean(tag, entries) or ":"
        raise UnknownBackboneError(
            f'unknown weights "{tag}" of backbone "{given}"{hint} torchvision/{architecture} has {", ".join(entries)}'
        )
    preset = entries[tag].transforms()
    mean, std = _three(preset.mean), _three(preset.std)
    if architecture == "inception_v3":
        # These weights come from TensorFlow. torchvision's model takes ImageNet-normalised inputs and maps them back
        # (transform_input) to what the weights expect, which is mean and std 0.5; the twin is given that directly.
        mean = std = (0.5, 0.5, 0.5)
    return Backbone(
        name=f"torchvision/{architecture}.{tag}",
        provider="torchvision",
        architecture=architecture,
        tag=tag,
        family="cnn",
        mean=mean,
        std=std,
        interpolation="bicubic" if preset.interpolation.value == "bicubic" else "bilinear",
        native_resolution=preset.crop_size[0],
        min_resolution=max(32, *entries[tag].meta["min_size"]),
        fixed_resolution=False,
    )


@functools.cache
def _all_names() -> tuple[str, ...]:
    found = []
    for name in timm.list_pretrained():
        cfg = get_pretrained_cfg(name)
        if cfg is None or not isinstance(cfg.classifier, str) or cfg.input_size[1] != cfg.input_size[2]:
            continue
        if module_of(name.partition(".")[0]) not in _UNSUPPORTED:
            found.append("timm/" + name)
    for model in filter(twins.has_twin, sorted(twins.models())):
        found += [f"torchvision/{model}.{tag}" for tag in twins.entries(model)]
    return tuple(found)


def _suggest(given: str) -> str:
    """The closest name in the catalogue, written with as many parts (provider, tag) as were given."""
    known = _all_names()
    if "." not in given:
        known = tuple(dict.fromkeys(name.partition(".")[0] for name in known))
    if "/" not in given:
        known = tuple(name.partition("/")[2] for name in known)
    hint = did_you_mean(given, known)
    return hint + " (automl backbones shows all)" if hint else ""


def module_of(architecture: str) -> str:
    """Return the name of timm's file that `architecture` is in."""
    return str(model_entrypoint(architecture).__module__).rpartition(".")[2]


def _resolution_step(architecture: str) -> int:
    patch = re.search(r"patch(\d+)", architecture)
    return int(patch.group(1)) if patch and int(patch.group(1)) > 8 else 32


def _join(architecture: str, tag: str) -> str:
    return f"{architecture}.{tag}" if tag else architecture


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = values
    return (float(first), float(second), float(third))
