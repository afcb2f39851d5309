"""TrialSpec: everything that one trial depends on, as plain values, and how it is made from sampled parameters."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from automl.backbones import Backbone, default_params, find
from automl.config import SearchConfig, metric_name
from automl.space import Space

__all__ = ["TrialSpec", "default_resolution", "effective_resolution", "make_spec", "wants_balance"]

ENOUGH = 0.45  # of the resolution that weights were made at; much below it features lose more than an image gains


@dataclass(frozen=True)
class TrialSpec:
    """Everything that a trial depends on, as plain values. `weights` is a path, or "none" for random ones; `dtype`, of
    the training past the head, is "auto" or "float32"."""

    backbone: str
    weights: str
    freeze_depth: float
    resolution: int
    learning_rate: float
    layer_decay: float
    weight_decay: float
    augmentation: str
    magnitude: int
    label_smoothing: float
    mixup: float
    cutmix: float
    optimizer: str
    batch_size: int
    head: str
    dropout: float
    drop_path: float
    epochs: int
    warmup_epochs: float
    ema_decay: float
    clip_grad: float | None
    balanced: bool
    seed: int
    crop_mode: str
    background: tuple[int, int, int]
    metric: str
    micro_batch: int | None = None
    dtype: str = "auto"

    @property
    def from_embeddings(self) -> bool:
        """Whether features are constants, so that they are computed once and only the head is trained on them."""
        return trains_on_embeddings(asdict(self))

    @property
    def identity(self) -> str:
        """Hash of the specification: a checkpoint is resumed only by the run that wrote it, or one that differs from it
        in how it computes (`micro_batch`, `dtype`) alone."""
        shared = {name: value for name, value in asdict(self).items() if name not in ("micro_batch", "dtype")}
        return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> TrialSpec:
        return cls(**{**value, "background": tuple(value["background"])})

    @classmethod
    def read(cls, path: Path) -> TrialSpec | None:
        """Return what `to_json` of this version or an older one wrote; None where nothing can be read."""
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (OSError, ValueError, LookupError, TypeError):
            return None


def trains_on_embeddings(params: Mapping[str, Any]) -> bool:
    """Whether nothing but a head trains, on features that no random augmentation changes."""
    frozen, plain = float(params["freeze_depth"]) == 1.0, params["augmentation"] == "none"
    return frozen and plain and not params["mixup"] and not params["cutmix"]


def effective_resolution(backbone: Backbone, wanted: int) -> int:
    """Return the resolution nearest to `wanted` that `backbone` can take: fixed, a multiple of its stride or patch."""
    if backbone.fixed_resolution:
        return backbone.native_resolution
    step = backbone.resolution_step
    nearest = max(step, round(wanted / step) * step)
    while nearest < backbone.min_resolution:
        nearest += step
    return nearest


def default_resolution(backbone: Backbone, space: Space, side: float = math.inf) -> int:
    """Return the resolution at which a backbone is tried first: of the space's the one nearest to that its weights were
    made at; for images of `side` pixels that are smaller, the least that does not shrink them and is about half of that
    or more. An enlarged image shows nothing new, and costs by its pixels.
    """
    nearest = int(space.params(space.nearest({"resolution": backbone.native_resolution}))["resolution"])
    least = max(side, ENOUGH * backbone.native_resolution)
    enough = [each for each in space.choices("resolution") if least <= each < nearest]
    return effective_resolution(backbone, int(min(enough, default=nearest)))


def wants_balance(setting: str, metric: str, counts: Mapping[str, int]) -> tuple[bool, str]:
    """Decide whether classes are weighted, from the config's `class_weights`, the metric and images per class."""
    ratio = max(counts.values()) / max(1, min(counts.values()))
    if setting != "auto":
        return setting == "balanced", f"class_weights: {setting} in the config"
    if metric in ("accuracy", "log_loss"):
        return False, f"{metric_name(metric)} is judged per image, not per class"
    return ratio >= 1.5, f"largest class over smallest is {ratio:.1f} and {metric_name(metric)} counts classes alike"


def make_spec(
    params: Mapping[str, Any],
    *,
    config: SearchConfig,
    space: Space,
    weights: Mapping[str, str],
    balanced: bool,
    root: int,
) -> TrialSpec:
    """Return the specification of the trial with `params`.

    Args:
        weights: Path (or "none") per backbone.
        root: Number of the trial that the random seed belongs to: a retry keeps the seed of the trial it resumes.
    """
    values = space.params(params)
    backbone = find(values["backbone"])
    sound = default_params(backbone)
    for name in ("learning_rate", "layer_decay", "weight_decay"):
        if values[name] is None:
            values[name] = sound[name]
    values["resolution"] = effective_resolution(backbone, values["resolution"])
    seed = int(np.random.SeedSequence([config.search.seed, root]).generate_state(1)[0])
    known = {each.name for each in fields(TrialSpec)}
    return TrialSpec(
        **{name: value for name, value in values.items() if name in known},
        weights=weights[values["backbone"]],
        epochs=config.training.epochs,
        warmup_epochs=config.training.warmup_epochs,
        ema_decay=config.training.ema_decay,
        clip_grad=config.training.clip_grad,
        micro_batch=config.training.micro_batch,
        balanced=balanced,
        seed=seed,
        crop_mode=config.data.crop_mode,
        background=config.data.background,
        metric=config.search.metric,
    )
