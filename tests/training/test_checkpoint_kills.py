"""Processes that are killed while they write a checkpoint: the file is the old one or the new one, and loads."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from automl import paths
from automl.training.checkpoint import Progress, load_checkpoint, save_checkpoint

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["tests.training.test_checkpoint_kills"])


def model_of(epoch: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model whose every weight is `epoch`, 256 KB of them."""
    model = nn.Linear(256, 256)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(epoch)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def save(path: Path, epoch: int) -> None:
    model, optimizer = model_of(epoch)
    save_checkpoint(path, Progress(epoch, epoch, 1.0), models={"model": model}, optimizer=optimizer, identity="mine")


def load(path: Path) -> int:
    """Return the epoch of the checkpoint, whose weights are all of it."""
    model, optimizer = model_of(0)
    epoch = load_checkpoint(path, models={"model": model}, optimizer=optimizer, identity="mine").epoch
    assert all(bool((parameter == epoch).all()) for parameter in model.parameters())
    return epoch


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def instead_of(name: str, call: int = 1) -> None:
    """Die instead of calling ``os.<name>`` for the `call`-th time."""
    real, calls = getattr(os, name), iter(range(1, 99))
    setattr(paths.os, name, lambda *arguments: die() if next(calls) == call else real(*arguments))


def after_bytes(wanted: int) -> None:
    """Die when `wanted` bytes of the file are on disk."""

    class Torn(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(content[:wanted])
            os.fsync(self.fileno())
            die()
            return 0

    paths.open = Torn  # type: ignore[attr-defined]


def save_and_die(path: Path, moment: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    moment(*arguments)
    save(path, 2)


@pytest.mark.parametrize(
    ("moment", "arguments", "found"),
    [
        pytest.param(after_bytes, (0,), 1, id="before the first byte"),
        pytest.param(after_bytes, (4,), 1, id="in the header's length"),
        pytest.param(after_bytes, (100,), 1, id="in the header"),
        pytest.param(after_bytes, (100_000,), 1, id="in the tensors"),
        pytest.param(after_bytes, (10**9,), 1, id="after the last byte"),
        pytest.param(instead_of, ("fsync",), 1, id="before it is on disk"),
        pytest.param(instead_of, ("replace",), 1, id="before replace"),
        pytest.param(instead_of, ("fsync", 2), 2, id="after replace"),
    ],
)
def test_a_kill_at_any_point_of_a_write(
    tmp_path: Path, moment: Callable[..., None], arguments: tuple[Any, ...], found: int
) -> None:
    path = tmp_path / "last.safetensors"
    save(path, 1)
    process = FORK.Process(target=save_and_die, args=(path, moment, arguments))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert load(path) == found
    save(path, 3)
    assert load(path) == 3


def save_for_ever(path: Path, epoch: int) -> None:
    while True:
        epoch += 1
        save(path, epoch)


def test_kills_at_random_moments(tmp_path: Path) -> None:
    """Each writer goes on behind what it finds; the epochs found never go back."""
    path, rng, epoch = tmp_path / "last.safetensors", random.Random(3), 1
    save(path, epoch)
    for _ in range(10):
        before = path.stat().st_mtime_ns
        process = FORK.Process(target=save_for_ever, args=(path, epoch), daemon=True)
        process.start()
        while path.stat().st_mtime_ns == before:
            pass
        process.join(rng.uniform(0, 0.02))
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.join()
        assert load(path) > epoch
        epoch = load(path)
