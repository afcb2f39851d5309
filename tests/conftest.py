from __future__ import annotations

import pytest
import torch

from automl.paths import StudyFolder
from tests.small import coloured, with_dataset


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def study_data(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A folder with the manifest and audit of 60 images in three classes; tests only read it or copy it."""
    root = tmp_path_factory.mktemp("coloured")
    return with_dataset(StudyFolder(root / "study"), coloured(root / "images"))
