"""Embeddings: what a frozen backbone makes of every training and validation image, computed once and kept on disk.

They serve the probes of the screening and every trial that trains nothing but a head. The test split is never
embedded: nothing before the refit looks at it.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from torch import nn

from automl.backbones import features
from automl.data import Batches
from automl.paths import make_folder, write_atomic
from automl.training import Normalise, Precision

__all__ = ["embed", "embedding_path", "load_embedding", "save_embedding"]

BATCH = 64


def embedding_path(folder: Path, *, backbone: str, weights: str, resolution: int, data: str) -> Path:
    """Return the file of an embedding, keyed by everything that its content depends on.

    Args:
        weights: Fingerprint of the weights file.
        data: Fingerprint of the rows and of how their pixels were made.
    """
    key = hashlib.sha256("\n".join([backbone, weights, str(resolution), data]).encode()).hexdigest()[:24]
    return folder / f"{key}.npy"


def load_embedding(path: Path) -> npt.NDArray[np.float32] | None:
    """Return the embedding ``(n, F)`` as a read-only memory map, or None if it has not been computed or is damaged."""
    try:
        embedding: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError):
        path.unlink(missing_ok=True)
        return None
    return embedding


def save_embedding(path: Path, embedding: npt.NDArray[np.float32]) -> None:
    """Write `embedding` atomically; of two writers of the same content the first wins.

    Raises:
        OutputError: The disk is full or not writable.
    """
    make_folder(path.parent)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            buffer = io.BytesIO()
            np.save(buffer, embedding, allow_pickle=False)
            write_atomic(path, buffer.getvalue())


@torch.no_grad()
def embed(
    model: nn.Module,
    array: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    *,
    normalise: Normalise,
    precision: Precision,
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Return the inputs of the head, ``(n, F) float32`` in the order of `rows`, for pixels ``(N, R, R, 3) uint8``."""
    model.eval()
    if precision.channels_last:
        model.to(memory_format=torch.channels_last)
    targets = np.zeros(len(array), dtype=np.int64)
    parts = []
    for images, _, _ in Batches(array, targets, rows, batch_size=BATCH, device=device):
        with torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None):
            parts.append(features(model, normalise(images)).float().cpu())
    return torch.cat(parts).numpy()
