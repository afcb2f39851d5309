"""What the screening does with one backbone, in a process of its own: embed, probe, measure the cost."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from automl.backbones import build, find
from automl.data import open_cache
from automl.paths import StudyFolder
from automl.screening import knn_accuracy, latency_ms, linear_accuracy, measure_cost
from automl.search.plan import Screened
from automl.search.spec import TrialSpec
from automl.search.trial import embedding_of, load_dataset, variant_of
from automl.training import choose_device, choose_precision

__all__ = ["screen_backbone"]

CPU_BATCH = 8  # there, the time per image hardly depends on the batch


def screen_backbone(root: str, spec: TrialSpec, resolutions: list[int]) -> Screened:
    """Embed training and validation images with `spec`'s backbone, probe the embedding, and time a few steps.

    The embedding stays in the study's cache for the trials that train a head on it. Latency is measured at each of
    `resolutions`, everything else at the specification's.
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
    train, validation = dataset.rows("train"), dataset.rows("validation")
    rows = np.sort(np.concatenate([train, validation]))
    embedding_started = time.perf_counter()
    embedding = embedding_of(spec, folder, dataset, model, array, rows, device=device, precision=precision)
    embed_seconds = time.perf_counter() - embedding_started
    targets = dataset.table["target"].to_numpy(np.int64)
    at_train, at_validation = np.searchsorted(rows, train), np.searchsorted(rows, validation)
    sample = (embedding[at_train], targets[train], embedding[at_validation], targets[validation])
    cost = measure_cost(
        model,
        resolution=spec.resolution,
        batch_size=CPU_BATCH if device.type == "cpu" else spec.batch_size,
        device=device,
        precision=precision,
        start_seconds=start_seconds,
    )
    latencies = {spec.resolution: cost.latency_ms}
    for side in resolutions:
        if side not in latencies:
            sized = build(backbone, len(dataset.classes), resolution=side, weights=None).to(device)
            latencies[side] = latency_ms(sized, resolution=side, device=device, precision=precision)
    return Screened(
        backbone=spec.backbone,
        resolution=spec.resolution,
        knn_accuracy=knn_accuracy(*sample),
        linear_accuracy=linear_accuracy(*sample),
        embed_seconds=embed_seconds,
        cost=cost,
        latencies=latencies,
        choices=[
            {"name": "device", "value": device.type, "reason": device_reason},
            {"name": "precision", "value": precision.name, "reason": precision.reason},
        ],
    )
