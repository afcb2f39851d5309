from __future__ import annotations

import mmap
import platform
import subprocess
import sys

import pytest
import torch

from automl.training import (
    choose_device,
    choose_precision,
    device,
    keep_buffers,
    other_precisions,
    peak_memory_mb,
    reset_peak_memory,
)
from automl.training.device import Precision

CPU = torch.device("cpu")


def test_the_device_and_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == (CPU, "no CUDA device is visible")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A100")
    assert choose_device() == (torch.device("cuda"), "CUDA is available: A100")


@pytest.mark.parametrize(("amx", "autocast"), [(True, torch.bfloat16), (False, None)])
def test_the_precision_of_a_cpu(monkeypatch: pytest.MonkeyPatch, amx: bool, autocast: torch.dtype | None) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    precision = choose_precision(CPU)
    assert precision.autocast == autocast
    assert "AMX" in precision.reason
    assert choose_precision(CPU, "float32").autocast is None
    assert [each.name for each in other_precisions(CPU)] == (["float32"] if amx else [])


@pytest.mark.parametrize(
    ("capability", "autocast"), [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), None)]
)
def test_the_precision_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], autocast: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    precision = choose_precision(torch.device("cuda"))
    assert choose_precision(torch.device("cuda"), "float32") == precision  # which was measured on a CPU
    assert other_precisions(torch.device("cuda")) == []
    assert (precision.autocast, precision.channels_last) == (autocast, True)
    assert "bfloat16" in precision.reason


def test_the_name_of_a_precision() -> None:
    assert Precision(None, True, "").name == "float32"
    assert Precision(torch.bfloat16, True, "").name == "bfloat16"


def test_memory_in_this_process_holds_what_it_allocated() -> None:
    before = peak_memory_mb(CPU)
    with mmap.mmap(-1, 64 * 2**20) as held:  # malloc may have kept as much from an earlier test
        held.write(b"1" * len(held))
        assert 50 < peak_memory_mb(CPU) - before < 200
    reset_peak_memory(CPU)


FAULTS = """
import resource
import runpy
import sys
import torch

keep_buffers = runpy.run_path(sys.argv[1])["keep_buffers"]  # without the rest of the package, which takes seconds
torch.set_num_threads(1)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(64 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = faults()
assert keep_buffers()
faults()
print(default, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_kept_buffers_are_not_mapped_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS, device.__file__], capture_output=True, text=True, check=True)
    default, kept = (int(number) for number in done.stdout.split())
    assert default > 100, "by default each large buffer is mapped, and its pages fault, every time"
    assert kept < default / 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_buffers() is False
