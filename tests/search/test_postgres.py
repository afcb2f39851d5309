"""Studies on a PostgreSQL server that goes away in the middle of a search and comes back."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError, PendingRollbackError

from automl.errors import StorageError
from automl.paths import StudyFolder
from automl.search.cluster import Resources
from automl.search.driver import Driver
from automl.search.lock import driver_lock
from automl.search.runner import run_search
from automl.search.storage import create_study, load_study, patient
from automl.search.study import StudyRecord, counts
from tests.faults import Gate, Step, run_script, worked, write_script
from tests.small import make_driver, small_config

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Tune's actors and loggers


class Server:
    """A PostgreSQL server of our own, reached by a socket in its folder. It refuses to run as root."""

    def __init__(self, tools: Path, folder: Path, user: str | None) -> None:
        self._tools, self._folder, self._user = tools, folder, user
        self.url = f"postgresql+psycopg://automl@/postgres?host={folder}"

    def create(self) -> None:
        self._run("initdb", "--pgdata", self._folder / "data", "--username", "automl", "--auth", "trust", "--no-sync")
        self.control("start")

    def control(self, action: str) -> None:
        """Start, stop or restart; a stop is like a power cut for its clients."""
        how = () if action == "start" else ("--mode", "immediate")
        options = () if action == "stop" else ("--options", f"-c listen_addresses='' -k {self._folder}")
        log = self._folder / "log"
        self._run("pg_ctl", action, "--pgdata", self._folder / "data", "--wait", "--log", log, *how, *options)

    def _run(self, tool: str, *arguments: object) -> None:
        subprocess.run(
            [self._tools / tool, *map(str, arguments)], user=self._user, cwd=self._folder, check=True, timeout=120,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg")
    places = [Path(shutil.which("pg_ctl") or "/nowhere/pg_ctl"), *Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")]
    tools = [place.parent for place in places if (place.parent / "initdb").exists() and place.exists()]
    if not tools:
        pytest.skip("PostgreSQL is not installed")
    user = None
    if os.geteuid() == 0:
        user = next((each.pw_name for each in pwd.getpwall() if each.pw_name in ("postgres", "nobody")), None)
        if user is None:
            pytest.skip("no user to run PostgreSQL as")
    folder = Path(tempfile.mkdtemp(prefix="automl-pg-"))  # a short path, and one that another user may enter
    if user is not None:
        shutil.chown(folder, user)
    server = Server(tools[-1], folder, user)
    try:
        server.create()
        yield server
        server.control("stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_driver(folder: StudyFolder, server: Server, script: dict[str, list[Step]], trials: int) -> Driver:
    write_script(folder, script)
    config = small_config(scheduler="none", trials=trials, storage=server.url)
    study = create_study(folder, storage=server.url, direction="maximize")
    return make_driver(folder, config, StudyRecord(study))


def check(folder: StudyFolder, server: Server, trials: int, epochs: int) -> None:
    """Check that every trial was told once, with every epoch."""
    found = load_study(folder, storage=server.url).get_trials()
    assert all(trial.state.is_finished() for trial in found)
    counted = [trial for trial in found if counts(trial)]
    assert [trial.user_attrs["reason"] for trial in counted] == ["complete"] * trials
    for trial in counted:
        assert list(trial.intermediate_values) == list(range(1, epochs + 1))
        assert trial.value == trial.intermediate_values[epochs]
    assert not folder.database.exists()


def test_a_copy_of_the_folder_on_another_machine_is_no_second_driver(server: Server, tmp_path: Path) -> None:
    mine, copy, other = (StudyFolder(tmp_path / each) for each in ("a/study", "b/study", "b/other"))
    for folder in (mine, copy, other):
        folder.root.mkdir(parents=True)
    with driver_lock(mine, server.url), driver_lock(other, server.url):
        with pytest.raises(StorageError, match=rf"study study in .* is in use by automl, process {os.getpid()} on "):
            driver_lock(copy, server.url).__enter__()
        server.control("restart")  # in the middle of a search
    with driver_lock(copy, server.url):
        pass


def test_a_lost_connection_is_found_behind_what_optuna_tried_next() -> None:
    """`RDBStorage` takes the OperationalError of a query for too many variables and asks again, on the same session."""
    lost = OperationalError("SELECT 1", None, Exception("server closed the connection"), connection_invalidated=True)

    @patient
    def trials(answers: Iterator[BaseException | str]) -> str:
        answer = next(answers)
        if isinstance(answer, str):
            return answer
        try:
            try:
                raise answer
            except OperationalError:
                raise PendingRollbackError("Can't reconnect until invalid transaction is rolled back.")  # noqa: B904
        except PendingRollbackError as error:
            raise StorageInternalError("An exception is raised during the commit.") from error

    assert trials(iter([lost, "these"])) == "these"
    wrong = OperationalError("SELEC 1", None, Exception("syntax error"))
    with pytest.raises(StorageInternalError):
        trials(iter([wrong, "these"]))


class Noticed(logging.Handler):
    """Waits for the driver to say that its database is away."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "database is away" in record.getMessage():
            self.event.set()


@pytest.mark.slow
def test_a_server_that_is_away_in_the_middle_of_a_trial_is_waited_for(
    scripted: StudyFolder, server: Server, one_cluster: Resources
) -> None:
    gate, noticed = Gate(scripted, "middle").create(), Noticed()
    logger = logging.getLogger("automl.search.storage")
    logger.addHandler(noticed)

    def outage() -> None:
        gate.wait()
        server.control("stop")
        gate.release()
        noticed.event.wait()
        server.control("start")

    script: dict[str, list[Step]] = {"*": [["report", 0.1], ["report", 0.2]]}
    script["1"] = [["report", 0.1], ["hang", "middle"], ["report", 0.2]]
    driver = new_driver(scripted, server, script, trials=4)
    thread = threading.Thread(target=outage, daemon=True)
    thread.start()
    try:
        run_search(driver, scripted, one_cluster, interrupted=lambda: False, run=run_script)
    finally:
        logger.removeHandler(noticed)
    thread.join()
    check(scripted, server, 4, 2)


@pytest.mark.slow
def test_a_server_that_restarts_again_and_again(scripted: StudyFolder, server: Server, one_cluster: Resources) -> None:
    """Without a pause, so that statements and commits are cut off wherever they are. Where a trial was asked for and
    the answer lost, the next driver asks for it again."""
    ended = threading.Event()
    restarts = drivers = 0

    def restart() -> None:
        nonlocal restarts
        while not ended.is_set():
            begun = len(worked(scripted))
            server.control("restart")
            restarts += 1
            while not ended.is_set() and len(worked(scripted)) < begun + 2:
                ended.wait(0.01)

    driver = new_driver(scripted, server, {"*": [["work", 0.0], ["report", 0.1]] * 5}, trials=30)
    thread = threading.Thread(target=restart, daemon=True)
    thread.start()
    try:
        while True:
            run_search(driver, scripted, one_cluster, interrupted=lambda: False, run=run_script)
            drivers += 1
            driver.record.fail_orphans(max_retries=9)
            if not driver.record.trials(TrialState.WAITING):
                break
            driver = make_driver(scripted, small_config(scheduler="none", trials=30), driver.record)
    finally:
        ended.set()
        thread.join()
    check(scripted, server, 30, 5)
    print(f"\n{restarts} restarts of PostgreSQL during 30 trials of 5 epochs, {drivers} drivers")
