from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automl.errors import OutputError, UsageError
from automl.refit import load_package
from automl.refit.export import export_package
from tests.refit.conftest import Refitted
from tests.refit.test_package import SPECS, package

# the exporters' own use of what torch and onnxscript have deprecated
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def logits_of(folder: Path, images: torch.Tensor) -> np.ndarray:
    model, _ = load_package(folder)
    with torch.no_grad():
        return np.asarray(model(images))


@pytest.mark.parametrize("kind", ["linear", "vit-mlp"])
def test_onnx_gives_the_same_logits_for_any_number_of_images(tmp_path: Path, kind: str) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    package(tmp_path, SPECS[kind])
    path = export_package(tmp_path, "onnx", None)
    assert path == tmp_path / "model.onnx"
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = torch.randn(count, 3, 32, 32)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(logits, logits_of(tmp_path, images), atol=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "vit"])
def test_torch_export_gives_the_same_logits_for_any_number_of_images(tmp_path: Path, kind: str) -> None:
    package(tmp_path / "model", SPECS[kind])
    path = export_package(tmp_path / "model", "torch-export", tmp_path / "new" / "program.pt2")
    assert path == tmp_path / "new" / "program.pt2"
    program = torch.export.load(path).module()
    for count in (1, 5):
        images = torch.randn(count, 3, 32, 32)
        np.testing.assert_allclose(program(images).detach(), logits_of(tmp_path / "model", images), atol=1e-4)


def test_what_cannot_be_exported_is_one_line(
    refitted: Refitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no model package in"):
        export_package(tmp_path / "none", "onnx", None)
    with pytest.raises(OutputError, match="cannot write to /proc/none"):
        export_package(refitted.folder.model, "torch-export", Path("/proc/none/model.pt2"))
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*taken"):
        export_package(refitted.folder.model, "torch-export", tmp_path / "taken")
    with pytest.raises(OutputError, match=r"cannot write .*taken"):
        export_package(refitted.folder.model, "onnx", tmp_path / "taken")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    with pytest.raises(UsageError, match=r"needs onnxruntime: pip install 'automl-search\[onnx\]'"):
        export_package(refitted.folder.model, "onnx", tmp_path / "model.onnx")
