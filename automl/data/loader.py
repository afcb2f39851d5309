"""Batches of cached pixels (or of embeddings) as tensors.

There are no worker processes: the data are pages that the operating system keeps in memory, and taking a batch from
them is one copy. On a CUDA device a thread takes and pins the next batches while the present one trains.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Batch", "Batches", "DropLast"]

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
DropLast = Literal["never", "single", "odd"]

_AHEAD = 2  # pinned batches that wait for the device


class Batches:
    """Iterate over `rows` of an array in batches, once per ``iter()``.

    Yields (images, targets, rows): images ``(B, 3, R, R) uint8`` in channels_last memory for pixels ``(N, R, R, 3)``,
    or the rows as they are for embeddings ``(N, F)``; targets ``(B,) int64``; row numbers ``(B,) int64`` on the CPU.

    Args:
        array: ``(N, R, R, 3) uint8`` or ``(N, F)`` floats; usually a read-only memory map.
        targets: ``(N,)`` class numbers of all N rows of `array`, not only of `rows`.
        rows: Row numbers to go through.
        shuffle: A fresh permutation per epoch from `generator`; saving the generator's state resumes the same order.
        drop_last: What happens to a last batch that is not full. ``never`` (evaluation): it is smaller. ``single``
            (training): it is smaller, but left out if it is one image, of which BatchNorm cannot take a variance.
            ``odd`` (mixup and cutmix, which need pairs): cut to an even number. As the order is shuffled, another image
            is left out each epoch; `images` says how many are used.
        device: Where images and targets go.
    """

    def __init__(
        self,
        array: npt.NDArray[Any],
        targets: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        *,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        drop_last: DropLast = "never",
        device: torch.device | str = "cpu",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch size must be at least 1: given {batch_size}")
        if drop_last == "odd" and batch_size % 2:
            raise ValueError(f"pairs need an even batch size: given {batch_size}")
        if len(targets) != len(array):
            raise ValueError(f"one target per row of the array expected: given {len(targets)} for {len(array)} rows")
        self.array = array
        self.targets = torch.from_numpy(np.array(targets, dtype=np.int64))
        self.rows = torch.from_numpy(np.array(rows, dtype=np.int64))
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = generator
        self.device = torch.device(device)
        remainder = len(rows) % batch_size
        dropped = {"never": 0, "single": int(remainder == 1), "odd": remainder % 2}[drop_last]
        self.images = len(rows) - dropped

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.images // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = self.rows
        if self.shuffle:
            order = order[torch.randperm(len(order), generator=self.generator)]
        order = order[: self.images]
        parts = [order[start : start + self.batch_size] for start in range(0, self.images, self.batch_size)]
        if self.device.type == "cuda":
            return self._prefetch(parts)
        return (self._to_device(self._take(part)) for part in parts)

    def _take(self, rows: torch.Tensor) -> Batch:
        taken = torch.from_numpy(np.asarray(self.array[rows.numpy()]))
        images = taken.permute(0, 3, 1, 2) if taken.ndim == 4 else taken
        return images, self.targets[rows], rows

    def _to_device(self, batch: Batch) -> Batch:
        images, targets, rows = batch
        return images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True), rows

    def _prefetch(self, parts: list[torch.Tensor]) -> Iterator[Batch]:
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(_AHEAD)
        stopped = threading.Event()

        def put(item: Batch | BaseException | None) -> None:
            while not stopped.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def produce() -> None:
            try:
                for part in parts:
                    if stopped.is_set():
                        return
                    images, targets, rows = self._take(part)
                    put((images.pin_memory(), targets.pin_memory(), rows))
                put(None)
            except BaseException as error:  # raised again where the batches are used
                put(error)

        thread = threading.Thread(target=produce, name="batches", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield self._to_device(item)
        finally:
            stopped.set()
            thread.join()
