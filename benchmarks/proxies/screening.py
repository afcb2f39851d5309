"""What is measured of one backbone before it is fine-tuned: probes, looks at trainability, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from automl.backbones import build, default_params, find
from automl.data import open_cache
from automl.screening import Cost, embed, imagenet_top1, knn_probe, linear_probe, measure_cost, measure_speed
from automl.search.screen import CPU_BATCH, LATENCY_SECONDS, PASSES
from automl.search.spec import TrialSpec
from automl.search.trial import variant_of
from automl.training import Normalise, choose_device, choose_precision, fine_tune, other_precisions
from benchmarks.proxies.sets import Prepared
from benchmarks.proxies.trainability import Look, look

# Images and passes of the looks: at the set's resolution, and at half of it (a quarter of the cost of an image).
LOOKS = {"look": (128, 3), "look_half": (160, 6)}


def screening_row(prepared: Prepared, name: str) -> dict[str, Any]:
    """Measure the backbone `name` in every cheap way. Seconds are CPU seconds of one thread."""
    spec = prepared.spec(name, 0.0, 0)
    dataset, sound = prepared.dataset, default_params(find(name))
    device, _ = choose_device()
    precision = choose_precision(device)
    normalise = Normalise(find(name).mean, find(name).std).to(device)
    targets = dataset.table["target"].to_numpy(np.int64)
    train, validation = dataset.rows("train"), dataset.rows("validation")
    rows = np.sort(np.concatenate([train, validation]))
    top1 = imagenet_top1(find(name))
    row: dict[str, Any] = {
        "backbone": name,
        "weights": "none" if spec.weights == "none" else "pretrained",
        "published_top1": top1,
        "resolution": spec.resolution,
        "embedded": len(rows),
    }
    model, seconds = _timed(lambda: _model(prepared, spec, spec.resolution))
    row["build_seconds"] = seconds
    for suffix, half in (("", False), ("_half", True)):
        side = prepared.side(name, half=half)
        if half:
            model = _model(prepared, spec, side)
        array = _pixels(prepared, spec, side)
        features, seconds = _timed(
            lambda model=model, array=array: embed(
                model, array, rows, normalise=normalise, precision=precision, device=device
            )
        )
        row[f"embed{suffix}_seconds"] = seconds
        for probe, right_of in (("knn", knn_probe), ("linear", linear_probe)):
            right, seconds = _timed(lambda of=right_of, features=features: of(features, targets[rows]))
            _add(row, f"{probe}{suffix}", right, seconds)
    for key, (images, passes) in LOOKS.items():
        side = prepared.side(name, half=key == "look_half")
        array, model = _pixels(prepared, spec, side), _model(prepared, spec, side)

        def take(model: nn.Module = model, array: Any = array, images: int = images, passes: int = passes) -> Look:
            return look(
                model,
                array,
                targets,
                rows,
                images=images,
                passes=passes,
                batch_size=spec.batch_size,
                classes=len(dataset.classes),
                mean=find(name).mean,
                std=find(name).std,
                device=device,
                precision=precision,
                **sound,
            )

        found, seconds = _timed(take)
        row[f"{key}_log_loss"] = round(found.log_loss, 4)
        _add(row, key, found.right, seconds)
    array = _pixels(prepared, spec, spec.resolution)
    model = _model(prepared, spec, spec.resolution)
    cost, row["cost_seconds"] = _timed(
        lambda: _cost(model, resolution=spec.resolution, device=device, precision=precision)
    )
    row["epoch_seconds"] = _timed(
        lambda: fine_tune(
            model,
            array,
            targets,
            train_rows=train,
            validation_rows=validation,
            classes=len(dataset.classes),
            mean=find(name).mean,
            std=find(name).std,
            device=device,
            precision=precision,
            training_precision=choose_precision(device, cost.training_dtype),
            seed=0,
            epochs=1,
            batch_size=spec.batch_size,
            learning_rate=sound["learning_rate"],
            augmentation=spec.augmentation,
        )
    )[1]
    return row


def _cost(model: nn.Module, **how: Any) -> Cost:
    """Measure the latency and the cost of `model`, as the screening does."""
    speed = measure_speed(model, batch=CPU_BATCH, repeats=PASSES, seconds=LATENCY_SECONDS, **how)
    return measure_cost(
        model,
        batch_size=CPU_BATCH,
        start_seconds=0,
        latency_ms=speed.one.median_ms,
        others=other_precisions(how["device"]),
        **how,
    )


def to_hex(right: npt.NDArray[np.bool_]) -> str:
    """Pack which images were right into hexadecimal digits."""
    return np.packbits(right).tobytes().hex()


def _add(row: dict[str, Any], key: str, right: npt.NDArray[np.bool_], seconds: float) -> None:
    row[f"{key}_accuracy"] = round(float(right.mean()), 4)
    row[f"{key}_seconds"] = seconds
    row[f"{key}_images"] = len(right)
    row[f"{key}_right"] = to_hex(right)


def _model(prepared: Prepared, spec: TrialSpec, side: int) -> nn.Module:
    torch.manual_seed(spec.seed)
    weights = None if spec.weights == "none" else Path(spec.weights)
    return build(find(spec.backbone), len(prepared.dataset.classes), resolution=side, weights=weights)


def _pixels(prepared: Prepared, spec: TrialSpec, side: int) -> npt.NDArray[Any]:
    variant = variant_of(find(spec.backbone), side, spec.crop_mode)
    return open_cache(prepared.dataset.table, prepared.folder.pixels, variant, background=spec.background)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    found = call()
    return found, round(time.process_time() - began, 3)
