"""What the screening does with one backbone, in a process of its own: embed, probe, measure the cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from automl.backbones import build, find
from automl.data import open_cache
from automl.paths import StudyFolder
from automl.screening import (
    MAX_IMAGES,
    Speed,
    imagenet_top1,
    knn_probe,
    linear_probe,
    measure_cost,
    measure_speed,
    probe_of,
)
from automl.search.plan import Screened
from automl.search.spec import TrialSpec
from automl.search.trial import embedding_of, load_dataset, variant_of
from automl.training import choose_device, choose_precision, other_precisions

__all__ = ["measure_speeds", "sampled", "screen_backbone"]

LEAST_OF_CLASS = 5  # images in a sample, as many as the probes have folds
CPU_BATCH = 8  # there, the time per image hardly depends on the batch
GPU_BATCH = 32  # of which latency is measured
PASSES = 10
LATENCY_SECONDS = 1.0  # for each size


def screen_backbone(root: str, spec: TrialSpec, resolutions: list[int], share: float = 1.0) -> Screened:
    """Embed training and validation images with `spec`'s backbone, probe the embedding, and time a few steps.

    The embedding stays in the study's cache for the trials that train a head on it, unless the images are so many that
    a sample is looked at. Latency is measured at each of `resolutions`, everything else at the specification's.

    Args:
        share: Of the device's memory, that a trial can have.
    """
    started = time.perf_counter()
    folder = StudyFolder(Path(root))
    dataset = load_dataset(folder)
    backbone = find(spec.backbone)
    device, device_reason = choose_device()
    precision = choose_precision(device)
    torch.manual_seed(spec.seed)  # of random weights: the embedding is kept for the trial of the same seed
    model = build(
        backbone,
        len(dataset.classes),
        resolution=spec.resolution,
        weights=None if spec.weights == "none" else Path(spec.weights),
    ).to(device)
    variant = variant_of(backbone, spec.resolution, spec.crop_mode)
    array = open_cache(dataset.table, folder.pixels, variant, background=spec.background)
    start_seconds = time.perf_counter() - started
    targets = dataset.table["target"].to_numpy(np.int64)
    every = np.sort(np.concatenate([dataset.rows("train"), dataset.rows("validation")]))
    rows = sampled(every, targets)
    embedding_started = time.perf_counter()
    embedding = embedding_of(spec, folder, dataset, model, array, rows, device=device, precision=precision)
    embed_seconds = time.perf_counter() - embedding_started
    units = dataset.units(rows)
    knn, linear = (probe_of(probe(embedding, targets[rows], units)) for probe in (knn_probe, linear_probe))
    speeds = {spec.resolution: _speed(model, spec.resolution)}
    cost = measure_cost(
        model,
        resolution=spec.resolution,
        batch_size=CPU_BATCH if device.type == "cpu" else spec.batch_size,
        device=device,
        precision=precision,
        start_seconds=start_seconds,
        latency_ms=speeds[spec.resolution].one.median_ms,
        share=share,
        others=other_precisions(device),
    )
    speeds |= measure_speeds(spec.backbone, len(dataset.classes), [side for side in resolutions if side not in speeds])
    return Screened(
        backbone=spec.backbone,
        resolution=spec.resolution,
        knn_accuracy=knn.accuracy,
        linear_accuracy=linear.accuracy,
        embed_seconds=embed_seconds,
        cost=cost,
        speeds=speeds,
        choices=[
            {"name": "device", "value": device.type, "reason": device_reason},
            {"name": "precision", "value": precision.name, "reason": precision.reason},
            *_told(len(rows), len(every)),
        ],
        knn_ci95=knn.ci95,
        linear_ci95=linear.ci95,
        prior=None if spec.weights == "none" else imagenet_top1(backbone),
        pretrained=spec.weights != "none",
    )


def measure_speeds(backbone: str, classes: int, resolutions: Sequence[int]) -> dict[int, Speed]:
    """Return the latency of a backbone with a head for so many classes, by resolution."""
    return {side: _speed(build(find(backbone), classes, resolution=side, weights=None), side) for side in resolutions}


def _speed(model: nn.Module, side: int) -> Speed:
    device, _ = choose_device()
    return measure_speed(
        model.to(device),
        batch=CPU_BATCH if device.type == "cpu" else GPU_BATCH,
        resolution=side,
        device=device,
        precision=choose_precision(device),
        repeats=PASSES,
        seconds=LATENCY_SECONDS,
    )


def sampled(rows: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the `rows` ``(n,)`` that are screened: all of up to 5,000, else about as many with the shares of the
    classes, and at least five images of each class that has them. The same rows give the same sample.

    Args:
        targets: Of every row of the manifest.
    """
    if len(rows) <= MAX_IMAGES:
        return rows
    rng, chosen = np.random.default_rng(0), []
    for target in np.unique(targets[rows]):
        own = rows[targets[rows] == target]
        share = max(LEAST_OF_CLASS, round(MAX_IMAGES * len(own) / len(rows)))
        chosen.append(rng.permutation(own)[:share])
    return np.sort(np.concatenate(chosen))


def _told(screened: int, images: int) -> list[dict[str, Any]]:
    """Say that a sample is screened, if it is."""
    if screened == images:
        return []
    reason = f"a sample of the {images:,} to train and validate on, with the shares of the classes"
    return [{"name": "images screened", "value": screened, "reason": reason}]
