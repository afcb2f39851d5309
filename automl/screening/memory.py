"""Memory of a training step: what does not depend on the batch, what each image adds, and how many images fit."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn

__all__ = ["available_mb", "largest_batch", "step_memory_mb"]

MEGABYTE = 2**20
HEADROOM = 0.9  # of what is available; the rest is for fragments and for what grows after the first steps
PROCESS_MB = 1000.0  # Python, torch and Ray in a worker on a CPU


def available_mb(device: torch.device, share: float = 1.0) -> float:
    """Memory of `device` of which `share` is a training process's: what is free now, and what this process holds.

    On a GPU it is at least that which makes the share as large as what is free, if the GPU is as large: others that are
    measured beside this one may hold theirs already, and who asks for too much there is told so. On a CPU, whose kernel
    kills in that case, they hold little, and it is not counted.
    """
    free = _free_mb(device)
    if device.type != "cuda":
        return free
    return min(free / share, torch.cuda.mem_get_info(device)[1] / MEGABYTE)


def _free_mb(device: torch.device) -> float:
    """Free plus what this process holds already."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return (free + torch.cuda.memory_reserved(device)) / MEGABYTE
    held = psutil.Process().memory_info()
    own = held.rss - getattr(held, "shared", 0)  # pages of files are given back when memory is needed
    return (min(psutil.virtual_memory().available, _left_to_container()) + own) / MEGABYTE


def _left_to_container(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes that the limit of this process's container (cgroup version 2 or 1) leaves; infinity without one.

    What files take of it as cache is given back when it is needed, so only the processes' own memory counts.
    """
    for limit, statistics, own in (
        ("memory.max", "memory.stat", "anon"),
        ("memory/memory.limit_in_bytes", "memory/memory.stat", "total_rss"),
    ):
        with contextlib.suppress(OSError, ValueError, KeyError):  # "max": no limit
            used = dict(line.split() for line in (root / statistics).read_text().splitlines())
            return max(0.0, float(int((root / limit).read_text()) - int(used[own])))
    return math.inf


def step_memory_mb(
    step: Callable[[int, bool], None], model: nn.Module, device: torch.device, batches: tuple[int, int] = (2, 4)
) -> tuple[float, float]:
    """Return (fixed, per image) MB of the training step ``step(images, update)``, from steps with two sizes of batch.

    On a CUDA device the allocator's peak is read of a forward and a backward pass with gradients and the optimizer's
    state there already: what an update takes for itself is the same for every batch and would hide the images. On a
    CPU, whose allocator does not say, it is counted: the tensors that the forward pass keeps for the backward pass, and
    parameters, gradients and the two moments of AdamW.
    """
    peaks = [_peak_mb(step, images, model, device) for images in batches]
    image = max(0.0, (peaks[1] - peaks[0]) / (batches[1] - batches[0]))
    return max(0.0, peaks[1] - image * batches[1]), image


def largest_batch(fixed_mb: float, image_mb: float, limit_mb: float) -> int:
    """Return how many images of a training step fit into `limit_mb`; 0 if not one does."""
    left = limit_mb * HEADROOM - fixed_mb
    return max(0, int(np.floor(left / image_mb))) if image_mb > 0 else 2**31 * (left > 0)


def _peak_mb(step: Callable[[int, bool], None], images: int, model: nn.Module, device: torch.device) -> float:
    if device.type == "cuda":
        step(images, True)  # the optimizer's state is there after the first
        step(images, False)  # and the gradients after the second
        torch.cuda.reset_peak_memory_stats(device)
        step(images, False)
        return torch.cuda.max_memory_allocated(device) / MEGABYTE
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        step(images, True)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    activations = sum(size for address, size in kept.items() if address not in own)
    sizes = [parameter.nbytes * (4 if parameter.requires_grad else 1) for parameter in model.parameters()]
    return PROCESS_MB + (activations + sum(sizes)) / MEGABYTE
