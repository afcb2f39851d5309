from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
import torch

from automl.paths import StudyFolder
from automl.search.cluster import Resources
from tests.small import coloured, with_dataset


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def study_data(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A folder with the manifest and audit of 60 images in three classes; tests only read it or copy it."""
    root = tmp_path_factory.mktemp("coloured")
    return with_dataset(StudyFolder(root / "study"), coloured(root / "images"))


@pytest.fixture(scope="session")
def one_cluster() -> Iterator[Resources]:
    """Ray on this machine with two CPUs, trials one at a time. A worker of xdist has at most one of these, and
    `make test` keeps the tests of a file on one worker."""
    ray.init(
        address="local", num_cpus=2, num_gpus=0, configure_logging=False, log_to_driver=False, include_dashboard=False
    )
    yield Resources(1, 0.0, 1)
    ray.shutdown()
