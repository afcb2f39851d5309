"""Studies that cost nothing: images that a colour tells apart, tiny architectures, plans without a measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from automl.config import SearchConfig, parse_config
from automl.data import prepare
from automl.paths import StudyFolder
from automl.screening import Cost
from automl.search.plan import Budget, CostModel, default_trials
from automl.search.searcher import Driver
from automl.search.study import StudyRecord, create_study
from automl.space import make_space
from tests.images import WHITE, save

RESNET, VIT = "timm/test_resnet.r160_in1k", "timm/test_vit.r160_in1k"
EFFICIENTNET = "timm/test_efficientnet.r160_in1k"
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
search: {budget: 10m, grace_epochs: 1, reduction: 2, concurrency: 1, cpus_per_trial: 1}
"""


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
        train_images=images, validation_images=images // 4,
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
        defaults=default_trials(names, space) if defaults else [],
        costs=cost_model(config, seconds),
        latency=dict.fromkeys(names, 2.0),
        budget=Budget(config.search.budget, clock),
        balanced=False,
        interrupted=interrupted,
        **options,
    )


def new_record(folder: StudyFolder, config: SearchConfig) -> StudyRecord:
    """Create the study of `config` in `folder`."""
    import optuna

    folder.root.mkdir(parents=True, exist_ok=True)
    sampler = optuna.samplers.TPESampler(seed=config.search.seed, n_startup_trials=5)
    direction: Any = "minimize" if config.search.metric == "log_loss" else "maximize"
    return StudyRecord(create_study(folder, storage=None, direction=direction, sampler=sampler))


def epoch(number: int, value: float, **facts: Any) -> dict[str, Any]:
    """What a trial reports after an epoch."""
    metrics = {"accuracy": value, "macro_f1": value, "log_loss": value}
    return {"epoch": number, "seconds": float(number), "metrics": metrics, **metrics, **facts}
