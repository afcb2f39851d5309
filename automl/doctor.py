"""Checks of an installation, each with what was found."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["check"]

PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "scikit-learn", "pandas", "pillow")


def check() -> Iterator[tuple[str, bool, str]]:
    """Yield (name, passed, what was found) of every check."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    yield "packages", True, ", ".join(versions)
    import torch

    from automl.training import choose_device, choose_precision

    device, reason = choose_device()
    precision = choose_precision(device)
    yield "device", True, f"{device.type} ({reason}); {precision.name} ({precision.reason})"
    weights = torch.randn(64, 64, device=device) @ torch.randn(64, 64, device=device)
    yield "compute", bool(torch.isfinite(weights).all()), "a matrix product on the device is finite"
    yield (
        "cores",
        True,
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} usable",
    )
    from huggingface_hub.constants import HF_HUB_CACHE

    yield _ray()
    folder = os.environ.get("AUTOML_WEIGHTS_DIR")
    if folder:
        yield "weights dir", Path(folder).is_dir(), f"AUTOML_WEIGHTS_DIR={folder}"
    yield "hub cache", True, f"{HF_HUB_CACHE} ({'exists' if Path(HF_HUB_CACHE).exists() else 'empty'})"
    try:
        with tempfile.TemporaryFile(dir="."):
            yield "current folder", True, "is writable"
    except OSError as error:
        yield "current folder", False, f"is not writable: {error.strerror}"


def _ray() -> tuple[str, bool, str]:
    from automl.errors import AutoMLError
    from automl.search.cluster import cluster, resources

    try:
        with cluster(None):
            share, reason = resources("auto", "auto", "auto")
    except AutoMLError as error:
        return "ray", False, str(error)
    return "ray", True, f"starts on this machine; trials at once: {share.concurrency} ({reason})"
