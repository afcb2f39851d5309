"""The package as one file for other runtimes: ONNX, or a torch.export program. Each is checked against the original.

Input: ``(N, 3, R, R) float32`` images standardised as `package.json` says. Output: logits ``(N, classes)``.
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import torch
from torch import nn

from automl.errors import OutputError, UsageError
from automl.paths import make_folder, write_atomic
from automl.refit.package import load_package

__all__ = ["export_package"]

TOLERANCE = 1e-3


def export_package(folder: Path, style: str, out: Path | None) -> Path:
    """Write the package in `folder` as `style` ("onnx" or "torch-export") and return the file.

    Raises:
        UsageError: `folder` is not a package, the extra is not installed, or the file's logits are not the model's.
        OutputError: The file cannot be written.
    """
    model, package = load_package(folder)
    path = out or folder / {"onnx": "model.onnx", "torch-export": "model.pt2"}[style]
    make_folder(path.parent)
    images = torch.randn(2, 3, package.resolution, package.resolution, generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1, max=4096)
    try:
        program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},), strict=False)
        if style == "onnx":
            difference = _onnx(program, model, images, path)
        else:
            buffer = io.BytesIO()
            torch.export.save(program, buffer)
            write_atomic(path, buffer.getvalue())
            difference = _difference(torch.export.load(path).module()(images), model, images)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    if difference > TOLERANCE:
        path.unlink(missing_ok=True)
        raise UsageError(f"{path} differs from the model by {difference:.2g} in its logits: do not use it")
    return path


def _onnx(program: torch.export.ExportedProgram, model: nn.Module, images: torch.Tensor, path: Path) -> float:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX export needs {', '.join(missing)}: pip install 'automl-search[onnx]'")
    import onnxruntime

    exported = torch.onnx.export(program, input_names=["images"], output_names=["logits"], dynamo=True, verbose=False)
    assert exported is not None
    exported.save(str(path), include_initializers=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return _difference(torch.from_numpy(np.asarray(logits)), model, images)


@torch.no_grad()
def _difference(logits: torch.Tensor, model: nn.Module, images: torch.Tensor) -> float:
    return float((logits - model(images)).abs().max())
