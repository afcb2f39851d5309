"""Where and in which precision a trial computes. Every automatic choice is a value with its reason."""

from __future__ import annotations

import ctypes
import platform
from typing import NamedTuple

import psutil
import torch

__all__ = [
    "KEPT_BUFFERS",
    "Precision",
    "choose_device",
    "choose_precision",
    "device_name",
    "device_names",
    "is_out_of_memory",
    "keep_buffers",
    "other_precisions",
    "peak_memory_mb",
    "reset_peak_memory",
]


_NO_MEMORY = (  # as torch, cuBLAS and cuDNN say it, in small letters
    "out of memory",
    "can't allocate memory",
    "alloc_failed",
    "unable to find an engine to execute this computation",
)


class Precision(NamedTuple):
    """The autocast dtype (None for plain float32), whether images are channels_last, and why."""

    autocast: torch.dtype | None
    channels_last: bool
    reason: str

    @property
    def name(self) -> str:
        return "float32" if self.autocast is None else str(self.autocast).removeprefix("torch.")


def choose_device() -> tuple[torch.device, str]:
    """Return the device of this process and the reason."""
    if torch.cuda.is_available():
        return torch.device("cuda"), f"CUDA is available: {torch.cuda.get_device_name()}"
    return torch.device("cpu"), "no CUDA device is visible"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the device or of the machine, was too small for what was asked."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in text for sign in _NO_MEMORY)


def device_name(device: torch.device) -> str:
    """The GPU's model; of every CPU "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def device_names() -> set[str]:
    """Return the `device_name` of each device on which processes of this machine may compute."""
    if not torch.cuda.is_available():  # a driver that is too old for this torch counts devices all the same
        return {"cpu"}
    return {torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())}


def choose_precision(device: torch.device, dtype: str = "auto") -> Precision:
    """bfloat16 where the device multiplies matrices in it, else float32.

    AVX512-BF16 alone does not count: on such a CPU float32 was as fast or faster (`benchmarks/training_loop.py`).

    Args:
        dtype: "float32" asks for just that on a CPU; a GPU, on which it was not measured, computes in its own.
    """
    if dtype == "float32" and device.type == "cpu":
        return Precision(None, True, "float32 was asked for")
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device)[0] >= 8:
            return Precision(torch.bfloat16, True, "the GPU has bfloat16 tensor cores")
        return Precision(None, True, "the GPU has no bfloat16 tensor cores (compute capability below 8)")
    if torch.cpu._is_amx_tile_supported():
        return Precision(torch.bfloat16, True, "the CPU has AMX")
    return Precision(None, True, "the CPU has no AMX, where float32 is the faster one")


def other_precisions(device: torch.device) -> list[Precision]:
    """Return the precisions in which a training step may be quicker than in the chosen one.

    On a CPU with AMX it is float32, for some backbones of depthwise convolutions (`benchmarks/precision.py`).
    """
    if device.type == "cpu" and choose_precision(device).autocast is not None:
        return [choose_precision(device, "float32")]
    return []


KEPT_BUFFERS = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""`keep_buffers` as the environment of a new process (mallopt(3)). Ray trains in a thread of a worker whose other
threads have allocated before, where only this takes full effect: EfficientNet-Lite0 at 224 px trained 27 images a
second with it, 21 with `keep_buffers` and 18 with neither, on two cores
(`benchmarks/training_loop.py --settings all`)."""


def keep_buffers() -> bool:
    """Make the C library keep freed memory for the next step instead of returning it to the kernel.

    A training step on a CPU frees and takes activations of tens of megabytes each; by default glibc maps and unmaps
    each, and the page faults cost a third of the step. Returns whether the C library took the settings (glibc only);
    call it before the first large allocation.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    names = {"MALLOC_MMAP_MAX_": -4, "MALLOC_ARENA_MAX": -8, "MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_TOP_PAD_": -2}
    return all(mallopt(number, int(KEPT_BUFFERS[name])) for name, number in names.items())


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of `peak_memory_mb` on a CUDA device."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float:
    """Highest memory in MB: allocated on a CUDA device since the last reset, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20
