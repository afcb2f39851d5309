from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from automl.paths import StudyFolder
from automl.refit import RefitSpec, refit
from automl.search.spec import TrialSpec
from tests.small import RESNET, spec_of, with_pixels


class Refitted(NamedTuple):
    """A study folder whose refit is done, and what it returned."""

    folder: StudyFolder
    spec: TrialSpec
    metrics: dict[str, Any]


@pytest.fixture
def fresh(study_data: StudyFolder, tmp_path: Path) -> Callable[..., StudyFolder]:
    """Return what makes a new study folder with data and pixels of 32 px and without trials."""

    def make(backbone: str = RESNET, crop_mode: str = "squash", name: str = "study") -> StudyFolder:
        shutil.copytree(study_data.root, tmp_path / name)
        return with_pixels(StudyFolder(tmp_path / name), backbone, crop_mode=crop_mode)

    return make


@pytest.fixture(scope="session")
def refitted(study_data: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> Refitted:
    """A refit of four epochs with a linear head; tests only read it."""
    root = tmp_path_factory.mktemp("refitted") / "study"
    shutil.copytree(study_data.root, root)
    folder = with_pixels(StudyFolder(root), RESNET)
    spec = spec_of(epochs=4)
    return Refitted(folder, spec, refit(RefitSpec(3, spec, {"accuracy": 0.5}), folder, max_pixels=10**6))
