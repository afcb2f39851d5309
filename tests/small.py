"""Studies that cost nothing: images that a colour tells apart, tiny architectures, plans without a measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch
from PIL import Image

from automl.backbones import find
from automl.config import SearchConfig, parse_config
from automl.data import build_cache, prepare
from automl.paths import StudyFolder
from automl.screening import Cost
from automl.search.budget import Budget, CostModel
from automl.search.defaults import default_trials
from automl.search.driver import Driver
from automl.search.spec import TrialSpec, make_spec
from automl.search.storage import create_study
from automl.search.study import StudyRecord
from automl.search.trial import load_dataset, variant_of
from automl.space import make_space
from tests.images import WHITE, save

RESNET, VIT = "timm/test_resnet.r160_in1k", "timm/test_vit.r160_in1k"
EFFICIENTNET, CONVNEXT = "timm/test_efficientnet.r160_in1k", "timm/test_convnext.r160_in1k"
COLOURS = {"blue": (60, 60, 190), "green": (60, 190, 60), "red": (190, 60, 60)}

SPACE = """
backbones:
  - {name: timm/test_resnet.r160_in1k, weights: none}
  - {name: timm/test_efficientnet.r160_in1k, weights: none}
params:
  freeze_depth: [0.0, 0.75, 1.0]
  resolution: [32]
  learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  augmentation: [none, light]
  batch_size: 16
training: {epochs: 4, warmup_epochs: 0.5}
search: {budget: 10m, grace_epochs: 1, reduction: 2, concurrency: 1, cpus_per_trial: 1, repeats: 0}
"""

# one backbone, everything trainable: every trial is compared with every other
ONE_GROUP = SPACE.replace("[0.0, 0.75, 1.0]", "0.0").replace(
    "  - {name: timm/test_efficientnet.r160_in1k, weights: none}\n", ""
)


def coloured(root: Path, per_class: int = 20) -> Path:
    """Write ``root/<colour>/<number>.png``: noise of 32 px around a colour, every image another one."""
    rng = np.random.default_rng(7)
    for label, colour in COLOURS.items():
        for number in range(per_class):
            noise = rng.integers(-50, 51, (32, 32, 3))
            picture = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            save(Image.fromarray(picture), root / label / f"{number}.png")
    return root


def small_config(text: str = SPACE, **search: Any) -> SearchConfig:
    """Return `SPACE`, with changes to its part `search`."""
    config = parse_config(text, "space.yaml")
    return config.model_copy(update={"search": config.search.model_copy(update=search)})


def with_dataset(folder: StudyFolder, images: Path) -> StudyFolder:
    """Audit `images` into `folder`."""
    folder.root.mkdir(parents=True, exist_ok=True)
    dataset = prepare(images, seed=0, validation_fraction=0.2, test_fraction=0.2, background=WHITE, max_pixels=10**6)
    dataset.save(folder.manifest, folder.audit)
    return folder


def cost(seconds: float = 0.001) -> Cost:
    """A measurement of `seconds` per training image of the whole network, and a quarter of it forward."""
    steps = {0.0: seconds, 0.5: seconds / 2}
    return Cost(seconds / 4, steps, start_seconds=1.0, latency_ms=2.0, peak_memory_mb=64.0, parameters=1000)


def cost_model(config: SearchConfig, seconds: float | Mapping[str, float] = 0.001, images: int = 100) -> CostModel:
    """Costs of every backbone of `config` for `images` training images and a quarter as many to validate on."""
    names = [each.name for each in config.backbones]
    each = dict.fromkeys(names, seconds) if isinstance(seconds, float) else seconds
    return CostModel(
        {name: cost(each[name]) for name in names}, dict.fromkeys(names, 32),
        train_images=images, validation_images=images // 4, embedded={(name, 32) for name in names},
    )  # fmt: skip


def make_driver(
    folder: StudyFolder,
    config: SearchConfig,
    record: StudyRecord | None = None,
    *,
    clock: Callable[[], float] = lambda: 0.0,
    seconds: float | Mapping[str, float] = 0.001,
    defaults: bool = True,
    interrupted: Callable[[], bool] = lambda: False,
    **options: Any,
) -> Driver:
    """Return a driver of a new study in `folder`, or of `record`'s, by a clock that stands still."""
    folder.root.mkdir(parents=True, exist_ok=True)
    names = [each.name for each in config.backbones]
    space = make_space(names, config.params)
    return Driver(
        record or new_record(folder, config),
        folder=folder,
        config=config,
        space=space,
        weights=dict.fromkeys(names, "none"),
        defaults=default_trials(names, space, config.training.epochs) if defaults else [],
        costs=cost_model(config, seconds),
        latency=dict.fromkeys(((name, 32) for name in names), 2.0),
        budget=Budget(config.search.budget, clock),
        balanced=False,
        interrupted=interrupted,
        **options,
    )


def new_record(folder: StudyFolder, config: SearchConfig) -> StudyRecord:
    """Create the study of `config` in `folder`."""
    folder.root.mkdir(parents=True, exist_ok=True)
    direction: Any = "minimize" if config.search.metric == "log_loss" else "maximize"
    return StudyRecord(create_study(folder, storage=None, direction=direction))


def epoch(number: int, value: float, **facts: Any) -> dict[str, Any]:
    """What a trial reports after an epoch."""
    metrics = {"accuracy": value, "macro_f1": value, "log_loss": value}
    return {"epoch": number, "seconds": float(number), "metrics": metrics, **metrics, **facts}


def with_pixels(folder: StudyFolder, *backbones: str, resolution: int = 32, crop_mode: str = "squash") -> StudyFolder:
    """Decode the images of `folder` for `backbones`."""
    dataset = load_dataset(folder)
    variants = {variant_of(find(name), resolution, crop_mode) for name in backbones}
    build_cache(dataset.table, folder.pixels, sorted(variants, key=str), background=WHITE, max_pixels=10**6)
    return folder


def spec_of(backbone: str = RESNET, *, number: int = 0, weights: str = "none", **params: Any) -> TrialSpec:
    """A trial's specification; without augmentation, everything trainable, 32 px, batches of 16, two epochs."""
    config = small_config()
    sound = {"resolution": 32, "augmentation": "none", "batch_size": 16, "learning_rate": 0.01, "layer_decay": 1.0}
    changes = {name: params.pop(name) for name in ("epochs", "crop_mode", "warmup_epochs") if name in params}
    made = make_spec(
        {"backbone": backbone, **sound, **params}, config=config, space=make_space([backbone], {}),
        weights={backbone: weights}, balanced=False, root=number,
    )  # fmt: skip
    return replace(made, **{"epochs": 2, **changes})


def random_weights(path: Path, backbone: str = RESNET, seed: int = 5) -> Path:
    """Write a weights file of `backbone`, as a hub would have it."""
    torch.manual_seed(seed)
    model = timm.create_model(find(backbone).architecture)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(model.state_dict(), path)
    return path
