"""A search on two Ray nodes, one of which dies in the middle of a trial."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psutil
import pytest
from optuna.trial import TrialState
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

from automl.paths import StudyFolder
from automl.search.storage import load_study
from tests.drivers import start_driver
from tests.faults import Gate, Step, calls, write_script
from tests.small import new_record, small_config

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

NOTICED_SOON = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A head that runs no trial, and two nodes for one trial each."""
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": NOTICED_SOON}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def test_a_search_finishes_on_the_other_node(scripted: StudyFolder, nodes: Cluster) -> None:
    first, second = Gate(scripted, "first").create(), Gate(scripted, "second").create()
    before: list[Step] = [["report", 0.1], ["report", 0.2], ["checkpoint"]]
    after: list[Step] = [["report", 0.3], ["report", 0.4]]
    script = {"*": after, "0": [*before, ["hang", "first"], *after], "1": [*before, ["hang", "second"], *after]}
    write_script(scripted, script)
    new_record(scripted, small_config())
    driver = start_driver(scripted, uuid.uuid4().hex, nodes.address, at_once=2, trials=6)
    try:
        first.wait()
        second.wait()
        raylets = [psutil.Process(calls(scripted)[number]["pid"]).ppid() for number in (0, 1)]
        assert raylets[0] != raylets[1]
        node = next(each for each in nodes.worker_nodes if raylet_of(each) == raylets[0])
        nodes.remove_node(node, allow_graceful=False)
        while load_study(scripted).get_trials()[0].state == TrialState.RUNNING:
            assert driver.exitcode is None
            driver.join(0.2)
        second.release()
        driver.join()
        assert driver.exitcode == 0
    finally:
        driver.kill()

    trials = load_study(scripted).get_trials()
    assert [trial.user_attrs["reason"] for trial in trials] == ["crashed", *["complete"] * 6]
    assert [trial.user_attrs.get("retried", False) for trial in trials] == [True, *[False] * 6]
    retry = next(trial for trial in trials if trial.user_attrs.get("resumes") == 0)
    assert retry.params == trials[0].params
    assert retry.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}
    assert calls(scripted)[retry.number]["from_epoch"] == 2
    assert trials[1].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}


def raylet_of(node: object) -> int:
    return int(node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid)  # type: ignore[attr-defined]
