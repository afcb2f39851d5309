from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from automl.paths import StudyFolder
from automl.search.cluster import Resources


@pytest.fixture(scope="session")
def one_cluster() -> Iterator[Resources]:
    """Ray on this machine with two CPUs, for all tests of the group "ray"; trials one at a time."""
    ray.init(
        address="local", num_cpus=2, num_gpus=0, configure_logging=False, log_to_driver=False, include_dashboard=False
    )
    yield Resources(1, 0.0, 1)
    ray.shutdown()


@pytest.fixture
def scripted(study_data: StudyFolder, tmp_path: Path) -> StudyFolder:
    """A study folder with data and without trials, for scripts of `tests.faults`."""
    folder = StudyFolder(tmp_path / "scripted")
    folder.root.mkdir()
    shutil.copy(study_data.manifest, folder.manifest)
    shutil.copy(study_data.audit, folder.audit)
    return folder
