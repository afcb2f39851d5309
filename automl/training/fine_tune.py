"""The training loop: a plain function that needs neither Ray nor Optuna.

It trains a model (a backbone with a head on pixels, or a head alone on embeddings) for a number of epochs and calls
`report` after each. What is evaluated is what is exported: the moving average of the weights where there is one,
with BatchNorm statistics estimated anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from timm.data import Mixup
from timm.utils import ModelEmaV3
from torch import nn

from automl.backbones import parameter_groups, set_train_mode
from automl.data import Batches
from automl.training.augment import make_policy
from automl.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from automl.training.device import Precision
from automl.training.evaluate import Normalise, measure, predict_logits, recalibrate
from automl.training.optim import Loss, class_weights, learning_rate_factor, make_optimizer

__all__ = ["Epoch", "Outcome", "fine_tune"]

RECALIBRATION_IMAGES = 256
EVALUATION_BATCH = 64
LOSS_CHECKED_EVERY = 50  # steps; each look waits for the GPU
SLOW_START = 1.5  # times the others
MARGIN = 1.03  # times as long as the epochs before, that the next ones may take

Reason = Literal["complete", "truncated", "diverged"]


@dataclass(frozen=True)
class Epoch:
    """What `report` is given after an epoch: its number (from 1), training loss, learning rate of the head, seconds
    of training so far, the validation metrics and logits (``(n, classes)``; empty without validation rows), and the
    last epoch of the schedule that it was trained by, fewer than all where there is no time for them."""

    epoch: int
    train_loss: float
    learning_rate: float
    seconds: float
    metrics: dict[str, float]
    logits: npt.NDArray[np.float32]
    last: int


@dataclass(frozen=True)
class Outcome:
    """How a run ended, after how many whole epochs, and the model of the last of them (in evaluation mode)."""

    reason: Reason
    epochs: int
    seconds: float
    model: nn.Module


def fine_tune(
    model: nn.Module,
    array: npt.NDArray[Any],
    targets: npt.NDArray[np.int64],
    *,
    train_rows: npt.NDArray[np.int64],
    validation_rows: npt.NDArray[np.int64],
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    precision: Precision,
    training_precision: Precision | None = None,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    layer_decay: float = 1.0,
    weight_decay: float = 0.05,
    optimizer: str = "adamw",
    warmup_epochs: float = 1.0,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    augmentation: str = "none",
    magnitude: int = 9,
    ema_decay: float = 0.0,
    clip_grad: float | None = 1.0,
    balanced: bool = False,
    micro_batch: int | None = None,
    checkpoint: Path | None = None,
    identity: str = "",
    time_limit: float = math.inf,
    keep: Callable[[Epoch], None] = lambda epoch: None,
    report: Callable[[Epoch], None] = lambda epoch: None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train `model` on `train_rows` and evaluate it on `validation_rows` after every epoch.

    Where by the epochs done so far there is no time for all of them, the learning rate decays until the last one for
    which there is, as it would have until the last of all: a schedule that is cut off leaves a model that is still
    moving (M. Li, E. Yumer, D. Ramanan, Budgeted Training, ICLR 2020, https://arxiv.org/abs/1905.04753).

    BatchNorm's statistics are estimated anew for every evaluation, and, without validation images, after the last epoch
    alone.

    Args:
        model: From `backbones.build`, frozen as wanted, for pixels; or its head alone, for embeddings.
        array: ``(N, R, R, 3) uint8`` pixels or ``(N, F) float32`` embeddings.
        targets: ``(N,)`` class indices.
        mean, std: Per channel, of values 0…1.
        precision: Of the evaluation, and of the training without `training_precision`.
        balanced: Weigh classes inversely to their frequency in `train_rows`.
        micro_batch: Images per forward pass; gradients of a batch are accumulated over its micro-batches.
        checkpoint: Written after every epoch but the last, and resumed from if it exists. None: neither.
        identity: What a checkpoint must have been written for to be resumed from.
        time_limit: Seconds, after which the run ends as `truncated`: after the last epoch for which there is time, or
            where it is, with its last whole epoch reported, if that takes longer than it should.
        keep: Called after each epoch, before its checkpoint is written.
        report: Called after each epoch, when all of it is on disk; may raise, or not return, to end the run.

    Raises:
        UsageError: The checkpoint is damaged or of another run.
        OutputError: A checkpoint cannot be written.
    """
    started = clock()
    normalise = Normalise(mean, std).to(device)
    model.to(device)
    computed = training_precision or precision
    if computed.channels_last and array.ndim == 4:
        model.to(memory_format=torch.channels_last)
    mixed = mixup > 0 or cutmix > 0
    weights = class_weights(targets[train_rows], classes) if balanced else None
    criterion = Loss(label_smoothing=label_smoothing, weights=weights).to(device)
    mix = Mixup(mixup, cutmix, label_smoothing=label_smoothing, num_classes=classes) if mixed else None
    policy = make_policy(augmentation if array.ndim == 4 else "none", magnitude)
    whole = array.ndim == 4  # a head on embeddings has no stages below it
    groups = (
        parameter_groups(model, learning_rate=learning_rate, weight_decay=weight_decay, layer_decay=layer_decay)
        if whole
        else _head_groups(model, learning_rate, weight_decay)
    )
    parameters = [parameter for group in groups for parameter in group["params"]]
    for group in groups:
        group["peak"] = group["lr"]
    updater = make_optimizer(optimizer, groups)
    ema = ModelEmaV3(model, decay=ema_decay, use_warmup=True, exclude_buffers=False) if ema_decay > 0 else None
    models: dict[str, nn.Module] = {"model": model} | ({"ema": ema.module} if ema else {})

    batches = Batches(
        array, targets, train_rows, batch_size=batch_size, device=device, shuffle=True,
        generator=torch.Generator(), drop_last="odd" if mixed else "single",
    )  # fmt: skip
    validation = Batches(array, targets, validation_rows, batch_size=EVALUATION_BATCH, device=device)
    steadying = Batches(
        array, targets, _spread(train_rows, RECALIBRATION_IMAGES), batch_size=EVALUATION_BATCH, device=device,
        drop_last="single",
    )  # fmt: skip
    done = Progress(0, 0, 0.0)
    if checkpoint is not None and checkpoint.exists():
        done = load_checkpoint(checkpoint, models=models, optimizer=updater, identity=identity)
    trained, step = done.seconds, done.step
    averaged: nn.Module = ema.module if ema else model
    set_train_mode(model) if whole else model.train()  # for good: what is evaluated is a copy
    training = {name for name, module in model.named_modules() if module.training}
    evaluated = _steadied(averaged, training, steadying, normalise, precision, whole) if done.epoch else averaged

    last, took = epochs, list[float]()
    if done.epoch > 1 and done.seconds > 0:  # a first epoch alone may have been a slow start
        last = max(done.epoch + 1, _last_in_time(done.epoch, epochs, time_limit, done.seconds / done.epoch))
    for epoch in range(done.epoch, epochs):
        epoch_started = clock()
        _seed_epoch(seed, epoch, batches)
        loss_sum, images_seen = torch.zeros((), device=device), 0
        for images, labels, _ in batches:
            factor = learning_rate_factor(
                step, warmup_steps=min(warmup_epochs, last / 2) * len(batches), total_steps=last * len(batches)
            )
            for group in updater.param_groups:
                group["lr"] = group["peak"] * factor
            inputs = normalise(policy(images))
            goal = labels
            if mix is not None:
                inputs, goal = mix(inputs, labels)
            total = criterion.total(goal)
            pieces = math.ceil(len(inputs) / (micro_batch or len(inputs)))  # of equal size: BatchNorm dislikes a rest
            for part, part_goal in zip(inputs.tensor_split(pieces), goal.tensor_split(pieces), strict=True):
                with torch.autocast(device.type, computed.autocast, enabled=computed.autocast is not None):
                    loss = criterion(model(part), part_goal) / total
                loss.backward()
                loss_sum += loss.detach() * len(inputs)
            if clip_grad is not None:
                nn.utils.clip_grad_norm_(parameters, clip_grad)
            updater.step()
            updater.zero_grad()
            step += 1
            images_seen += len(inputs)
            if ema is not None:
                ema.update(model, step=step)
            if clock() - started > time_limit:
                return Outcome("truncated", epoch, trained, evaluated.eval())
            if step % LOSS_CHECKED_EVERY == 0 and not torch.isfinite(loss_sum):
                break
        train_loss = float(loss_sum) / max(1, images_seen)
        trained += clock() - epoch_started
        if not math.isfinite(train_loss):
            return Outcome("diverged", epoch, trained, evaluated.eval())
        logits, metrics, steadied = np.empty((0, classes), np.float32), {}, averaged
        if len(validation_rows) or epoch + 1 == epochs:
            steadied = _steadied(averaged, training, steadying, normalise, precision, whole)
        if len(validation_rows):
            logits = predict_logits(steadied, validation, normalise=normalise, precision=precision)
            if not np.isfinite(logits).all():
                return Outcome("diverged", epoch, trained, evaluated.eval())
            metrics = measure(logits, targets[validation_rows])
        evaluated = steadied
        reached = Epoch(epoch + 1, train_loss, learning_rate * factor, trained, metrics, logits, last)
        keep(reached)
        if checkpoint is not None and epoch + 1 < epochs:
            progress = Progress(epoch + 1, step, trained)
            save_checkpoint(checkpoint, progress, models=models, optimizer=updater, identity=identity)
        report(reached)
        took.append(clock() - epoch_started)
        last = _last_in_time(epoch + 1, epochs, time_limit - (clock() - started), _each(took))
        if last == epoch + 1 < epochs:
            return Outcome("truncated", last, trained, evaluated.eval())
    return Outcome("complete", epochs, trained, evaluated.eval())


def _last_in_time(done: int, epochs: int, left: float, each: float) -> int:
    """Return the last epoch, of `epochs`, that ends within `left` seconds, where `done` are over and took `each`."""
    return epochs if (epochs - done) * MARGIN * each <= left else done + max(0, int(left / (MARGIN * each)))


def _each(took: Sequence[float]) -> float:
    """Return the seconds that an epoch should take after some that `took` so long: their mean, without the first where
    that did something else as well, as the first on a GPU does."""
    first, *rest = took
    return fmean(rest) if rest and first > SLOW_START * fmean(rest) else fmean(took)


def _seed_epoch(seed: int, epoch: int, batches: Batches) -> None:
    """Give the epoch its own random streams, so that a resumed run draws what an uninterrupted one draws."""
    order, rest, mixing = np.random.SeedSequence([seed, epoch]).generate_state(3)
    if batches.generator is not None:
        batches.generator.manual_seed(int(order))
    torch.manual_seed(int(rest))
    np.random.seed(int(mixing))  # timm's Mixup draws from NumPy's global state


def _steadied(
    model: nn.Module, training: set[str], batches: Batches, normalise: Normalise, precision: Precision, whole: bool
) -> nn.Module:
    """Return a copy of `model` with recalibrated BatchNorm; training goes on with its own statistics."""
    copy = deepcopy(model).eval()
    if whole:
        recalibrate(copy, training, batches, normalise=normalise, precision=precision)
    return copy


def _spread(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Up to `count` rows, evenly spaced: rows are ordered by content hash, so this is a fixed random sample."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]


def _head_groups(head: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    decayed = [parameter for parameter in head.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in head.parameters() if parameter.ndim <= 1]
    return [
        {"params": plain, "lr": learning_rate, "weight_decay": 0.0},
        {"params": decayed, "lr": learning_rate, "weight_decay": weight_decay},
    ]
