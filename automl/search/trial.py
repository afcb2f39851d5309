"""One trial: from a specification of plain values to files in its folder. Knows neither Ray nor Optuna.

`run_trial` is what a Ray worker calls, what the refit calls, and what tests call directly.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from automl.backbones import Backbone, build, find, fingerprint, freeze, head_of
from automl.data import Dataset, Variant, open_cache
from automl.paths import StudyFolder, TrialFolder, make_folder, write_atomic
from automl.screening import embed, embedding_path, load_embedding, save_embedding
from automl.search.spec import TrialSpec
from automl.training import (
    Epoch,
    Normalise,
    Outcome,
    Precision,
    choose_device,
    choose_precision,
    device_name,
    fine_tune,
    keep_buffers,
    load_weights,
    peak_memory_mb,
    reset_peak_memory,
    save_weights,
)

__all__ = ["embedding_of", "find_embedding", "load_dataset", "prepare_process", "run_trial", "variant_of"]


def prepare_process(threads: int | None) -> None:
    """Settings of a process that trains: threads per operation, and a C library that keeps its buffers."""
    keep_buffers()
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True


def load_dataset(folder: StudyFolder) -> Dataset:
    """Return the dataset of a study; a warm worker reads it once."""
    return _load_dataset(folder.manifest, folder.audit, folder.manifest.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _load_dataset(manifest: Path, audit: Path, modified: int) -> Dataset:
    return Dataset.load(manifest, audit)


def variant_of(backbone: Backbone, resolution: int, crop_mode: str) -> Variant:
    """Return the pixels that `backbone` reads at `resolution`."""
    return Variant(resolution, backbone.interpolation, crop_mode)  # type: ignore[arg-type]


def run_trial(
    spec: TrialSpec,
    study: StudyFolder,
    folder: TrialFolder,
    *,
    train_rows: npt.NDArray[np.int64],
    validation_rows: npt.NDArray[np.int64],
    start_from: Path | None = None,
    time_limit: float = math.inf,
    keep_checkpoint: bool = True,
    keep_weights: bool = True,
    report: Callable[[dict[str, Any]], None] = lambda facts: None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Build the model, fine-tune it, and leave spec, metrics and validation logits in `folder`.

    Args:
        start_from: Weights of the whole network, as a trial leaves them, to start from instead of the pretrained ones.
        time_limit: Seconds for the whole trial, start included.
        keep_weights: Leave the weights of the model returned in `folder` as well.
        report: Called after each epoch with JSON values: the epoch, its metrics, and what the trial costs so far.

    Returns:
        The outcome. Its model is the whole network, also where only its head was trained.
    """
    started = clock()
    make_folder(folder.root)
    write_atomic(folder.spec, spec.to_json())
    dataset = load_dataset(study)
    device, _ = choose_device()
    precision = choose_precision(device)
    training = choose_precision(device, spec.dtype) if spec.freeze_depth < 1 else precision
    reset_peak_memory(device)
    backbone = find(spec.backbone)
    variant = variant_of(backbone, spec.resolution, spec.crop_mode)
    array = open_cache(dataset.table, study.pixels, variant, background=spec.background)
    targets = dataset.table["target"].to_numpy(np.int64)
    torch.manual_seed(spec.seed)  # the head's initial weights
    model = build(
        backbone,
        len(dataset.classes),
        resolution=spec.resolution,
        head=spec.head,  # type: ignore[arg-type]
        dropout=spec.dropout,
        drop_path=spec.drop_path,
        weights=None if spec.weights == "none" or start_from else Path(spec.weights),
    )
    if start_from is not None:
        load_weights(start_from, model)
    freeze(model, spec.freeze_depth)
    trained: nn.Module = model
    data: npt.NDArray[Any] = array
    train, validation = train_rows, validation_rows
    if spec.from_embeddings:
        rows = np.sort(np.concatenate([train_rows, validation_rows]))
        data = embedding_of(spec, study, dataset, model, array, rows, device=device, precision=precision)
        targets = targets[rows]
        train, validation = np.searchsorted(rows, train_rows), np.searchsorted(rows, validation_rows)
        trained = head_of(model)
    facts = {
        "from_embeddings": spec.from_embeddings,
        "model_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable_parameters": sum(parameter.numel() for parameter in trained.parameters() if parameter.requires_grad),
        "startup_seconds": round(clock() - started, 3),
        "host": socket.gethostname(),
        "device": device_name(device),
        "dtype": precision.name,
        "training_dtype": training.name,
    }
    history = _kept_history(folder) if folder.checkpoint.exists() else []
    began, epochs_here = clock(), 0

    def keep(epoch: Epoch) -> None:
        nonlocal epochs_here
        epochs_here += 1
        line = {
            "epoch": epoch.epoch,
            "train_loss": epoch.train_loss,
            "learning_rate": epoch.learning_rate,
            "seconds": round(epoch.seconds, 3),
            "last": epoch.last,
            **epoch.metrics,
        }
        history[:] = [each for each in history if each["epoch"] < epoch.epoch] + [line]
        write_atomic(folder.metrics, "".join(json.dumps(each) + "\n" for each in history))
        if len(epoch.logits):
            _write_logits(folder, epoch, targets[validation], validation_rows)

    def tell(epoch: Epoch) -> None:
        measured = {
            "peak_memory_mb": round(peak_memory_mb(device), 1),
            "epoch_seconds": round((clock() - began) / epochs_here, 3),  # evaluation and checkpoints included
        }
        report({**facts, **history[-1], **measured, "metrics": epoch.metrics})

    outcome = fine_tune(
        trained,
        data,
        targets,
        train_rows=train,
        validation_rows=validation,
        classes=len(dataset.classes),
        mean=backbone.mean,
        std=backbone.std,
        device=device,
        precision=precision,
        training_precision=training,
        seed=spec.seed,
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        layer_decay=spec.layer_decay,
        weight_decay=spec.weight_decay,
        optimizer=spec.optimizer,
        warmup_epochs=spec.warmup_epochs,
        label_smoothing=spec.label_smoothing,
        mixup=spec.mixup,
        cutmix=spec.cutmix,
        augmentation=spec.augmentation,
        magnitude=spec.magnitude,
        ema_decay=spec.ema_decay,
        clip_grad=spec.clip_grad,
        balanced=spec.balanced,
        micro_batch=spec.micro_batch,
        checkpoint=folder.checkpoint if keep_checkpoint and not spec.from_embeddings else None,
        identity=spec.identity,
        time_limit=time_limit - (clock() - started),
        keep=keep,
        report=tell,
        clock=clock,
    )
    if spec.from_embeddings:
        head_of(model).load_state_dict(outcome.model.state_dict())
        outcome = replace(outcome, model=model.eval())
    if keep_weights and outcome.reason != "diverged" and outcome.epochs:
        save_weights(folder.weights, outcome.model)
    return outcome


def embedding_of(
    spec: TrialSpec,
    study: StudyFolder,
    dataset: Dataset,
    model: nn.Module,
    array: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    *,
    device: torch.device,
    precision: Precision,
) -> npt.NDArray[np.float32]:
    """Return the embedding ``(n, F)`` of `rows`, from the cache or computed now and kept."""
    backbone = find(spec.backbone)
    path = _embedding_file(spec, study, dataset, rows, resolution=spec.resolution, precision=precision.name)
    kept = load_embedding(path)
    if kept is None:
        normalise = Normalise(backbone.mean, backbone.std).to(device)
        model.to(device)
        kept = embed(model, array, rows, normalise=normalise, precision=precision, device=device)
        save_embedding(path, kept)
    return kept


def find_embedding(
    spec: TrialSpec,
    study: StudyFolder,
    dataset: Dataset,
    rows: npt.NDArray[np.int64],
    *,
    resolution: int,
    precision: str,
) -> npt.NDArray[np.float32] | None:
    """Return the embedding ``(n, F)`` of `rows` that is kept of `spec`'s frozen backbone, or None."""
    path = _embedding_file(spec, study, dataset, rows, resolution=resolution, precision=precision)
    return load_embedding(path)


def _embedding_file(
    spec: TrialSpec,
    study: StudyFolder,
    dataset: Dataset,
    rows: npt.NDArray[np.int64],
    *,
    resolution: int,
    precision: str,
) -> Path:
    weights = "none" if spec.weights == "none" else fingerprint(Path(spec.weights))
    if spec.weights == "none":
        weights += f" seed {spec.seed}"
    pixels = json.dumps([spec.crop_mode, spec.background, find(spec.backbone).interpolation, precision])
    content = hashlib.sha256("".join(dataset.table["sha256"].to_numpy()[rows]).encode()).hexdigest()
    return embedding_path(
        study.embeddings, backbone=spec.backbone, weights=weights, resolution=resolution, data=pixels + content
    )


def _kept_history(folder: TrialFolder) -> list[dict[str, Any]]:
    if not folder.metrics.exists():
        return []
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def _write_logits(
    folder: TrialFolder, epoch: Epoch, targets: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, logits=epoch.logits, targets=targets, rows=rows, epoch=np.int64(epoch.epoch))
    write_atomic(folder.validation_logits, buffer.getvalue())
