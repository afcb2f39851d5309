from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from automl.paths import StudyFolder


@pytest.fixture
def scripted(study_data: StudyFolder, tmp_path: Path) -> StudyFolder:
    """A study folder with data and without trials, for scripts of `tests.faults`."""
    folder = StudyFolder(tmp_path / "scripted")
    folder.root.mkdir()
    shutil.copy(study_data.manifest, folder.manifest)
    shutil.copy(study_data.audit, folder.audit)
    return folder
