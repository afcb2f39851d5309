from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
import ray

from automl.errors import StorageError, UsageError
from automl.search.cluster import Interrupt, Resources, _signals_kept, check_address, cluster, each_task, resources


@pytest.mark.parametrize(
    ("have", "asked", "expected"),
    [
        ([(2, 0)], ("auto", "auto", "auto"), Resources(2, 0.0, 1)),
        ([(64, 0)], ("auto", "auto", "auto"), Resources(8, 0.0, 8)),
        ([(64, 4)], ("auto", "auto", "auto"), Resources(16, 1.0, 4)),
        ([(8, 1)], ("auto", 0.5, "auto"), Resources(4, 0.5, 2)),
        ([(2, 4)], ("auto", "auto", "auto"), Resources(1, 1.0, 2)),
        ([(8, 0)], (1, "auto", 3), Resources(1, 0.0, 3)),
        ([(8, 2)], (2, 0, "auto"), Resources(2, 0.0, 4)),
        ([(16, 4)], ("auto", 0.6, "auto"), Resources(4, 0.6, 4)),  # no two parts of 0.6 share a GPU
        ([(16, 4)], ("auto", 0.1, "auto"), Resources(1, 0.1, 16)),
        ([(16, 8)], ("auto", 2, "auto"), Resources(4, 2.0, 4)),
        ([(4, 0), (4, 0), (4, 0)], ("auto", "auto", "auto"), Resources(4, 0.0, 3, 1)),
        ([(2, 0), (32, 0)], ("auto", "auto", "auto"), Resources(8, 0.0, 4, 4)),
        ([(8, 0), (8, 1), (8, 1)], ("auto", "auto", "auto"), Resources(8, 1.0, 2, 1)),
        ([(8, 0), (32, 8), (8, 1)], ("auto", "auto", "auto"), Resources(4, 1.0, 9, 8)),
        ([(1, 0), (1, 0)], ("auto", "auto", "auto"), Resources(1, 0.0, 2, 1)),
        ([(4, 0), (4, 0)], (2, "auto", 3), Resources(2, 0.0, 3, 2)),
    ],
)
def test_a_cluster_is_divided_among_trials(
    monkeypatch: pytest.MonkeyPatch, have: list[tuple[int, int]], asked: tuple[Any, Any, Any], expected: Resources
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: nodes(have))
    share, reason = resources(*asked)
    assert share == expected
    assert f"{sum(cpus for cpus, _ in have)} CPUs" in reason
    assert ("machines" in reason) == (len(have) > 1)


def nodes(have: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """What Ray says of machines with so many CPUs and GPUs, and of one that has gone."""
    gone = {"Alive": False, "Resources": {"CPU": 128.0, "GPU": 8.0}}
    there = [{"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {}) for cpus, gpus in have]
    return [gone, *({"Alive": True, "Resources": each} for each in there)]


def test_trials_at_once_share_the_memory() -> None:
    shares = [Resources(2, 0.0, 1), Resources(1, 0.0, 8), Resources(4, 0.5, 2), Resources(4, 2.0, 2)]
    assert [each.memory for each in shares] == [1.0, 1 / 8, 0.5, 1.0]
    assert Resources(4, 0.0, 6, 2).memory == 0.5  # two on each of three machines


def test_more_than_there_is_would_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for machines in ([(2, 0)], [(2, 0), (2, 0), (2, 0)]):
        monkeypatch.setattr(ray, "nodes", lambda machines=machines: nodes(machines))
        for asked in ((3, "auto", "auto"), ("auto", 1, "auto")):
            with pytest.raises(UsageError, match="lower it"):
                resources(*asked)
    monkeypatch.setattr(ray, "nodes", lambda: nodes([(64, 0), (2, 4)]))
    with pytest.raises(UsageError, match="no machine has 8 CPUs and 1 GPUs"):
        resources(8, 1, "auto")
    with pytest.raises(UsageError, match="whole number"):
        resources("auto", 1.5, "auto")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_outside_the_search_and_kept_inside(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interrupt().installed() as interrupt:
        assert not interrupt()
        with interrupt.deferred():
            os.kill(os.getpid(), number)
        assert interrupt()
        assert interrupt.code == 128 + number
    assert signal.getsignal(number) == before
    with Interrupt().installed() as interrupt:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert interrupt.code == 128 + number


TWICE = """
import os, signal
from automl.search.cluster import Interrupt
with Interrupt().installed() as interrupt, interrupt.deferred():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""


def test_a_second_signal_stops_at_once() -> None:
    ran = subprocess.run([sys.executable, "-c", TWICE], stdout=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (143, "")


IN_A_LINE = """
import io, logging, signal, sys
from automl.search.cluster import Interrupt
class Raw(io.RawIOBase):
    def writable(self):
        return True
    def write(self, data):
        if not interrupt():
            signal.raise_signal(signal.SIGTERM)
        return len(data)
def failed(handler, record):
    sys.exit(9)
interrupt, logging.Handler.handleError = Interrupt(), failed
sys.stderr = io.TextIOWrapper(io.BufferedWriter(Raw()), line_buffering=True)
logging.basicConfig(stream=sys.stderr)
with interrupt.installed(), interrupt.deferred():
    logging.getLogger("automl").warning("a line")
sys.exit(interrupt.code)
"""


def test_a_signal_in_the_middle_of_a_line_of_the_log_breaks_nothing() -> None:
    ran = subprocess.run([sys.executable, "-c", IN_A_LINE], stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (143, "stopping and saving; a second signal stops at once\n")


def test_a_sigterm_while_ray_starts_is_no_other_than_one_before_or_after() -> None:
    """Ray's own handler is in place for a second or so."""

    def start() -> None:
        with _signals_kept():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)

    interrupt = Interrupt()
    with interrupt.installed():
        with pytest.raises(KeyboardInterrupt):
            start()
        assert interrupt.code == 143


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before, inside = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with Interrupt().installed() as interrupt:
            inside.append((interrupt(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [(False, before)]


def number_or_wait(number: int) -> int:
    if number > 1:
        threading.Event().wait()
    return number


def test_tasks_that_are_not_waited_for_are_cancelled(one_cluster: Resources) -> None:
    done: list[tuple[int, int]] = []
    found = each_task(
        number_or_wait,
        [(1,), (2,), (3,)],
        one_cluster,
        done=lambda *ended: done.append(ended),
        enough=lambda: bool(done),
    )
    assert found == [1, None, None]
    assert done == [(0, 1)]
    nothing_more = each_task(number_or_wait, [(0,)], one_cluster, done=lambda *ended: done.append(ended))
    assert nothing_more == [0]  # nothing is left in the way


def test_workers_wait_as_the_driver_does() -> None:
    code = """if True:
        import os
        os.environ["GOMP_SPINCOUNT"] = "2999"
        from automl.search.cluster import Resources, cluster, each_task
        with cluster(None):
            print(each_task(os.getenv, [("GOMP_SPINCOUNT",)], Resources(1, 0.0, 1), done=lambda *ended: None))"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().splitlines()[-1] == "['2999']"


def test_trials_without_gpus_see_none() -> None:
    code = """if True:
        import os
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
        from automl.search.cluster import Resources, cluster, each_task
        with cluster(None, 0):
            seen = each_task(os.getenv, [("CUDA_VISIBLE_DEVICES", "all")], Resources(1, 0.0, 1), done=lambda *_: None)
        print([*seen, os.environ["CUDA_VISIBLE_DEVICES"]])"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().splitlines()[-1] == "['', '']"


@pytest.mark.parametrize(("mode", "told"), [(None, True), ("token", False)])
def test_a_cluster_that_may_ask_for_a_token_is_told_how_to_be_given_it(
    monkeypatch: pytest.MonkeyPatch, mode: str | None, told: bool
) -> None:
    def refuse(**options: Any) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 127.0.0.1:6379")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(StorageError, match="Failed to connect") as error, cluster("127.0.0.1:6379"):
        pass
    assert ("RAY_AUTH_MODE=token" in str(error.value)) == told


def test_a_closed_terminal_interrupts_and_nohup_does_not() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Interrupt().installed() as interrupt, interrupt.deferred():
            signal.raise_signal(signal.SIGHUP)
            assert interrupt.code == 129
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Interrupt().installed() as interrupt, interrupt.deferred():
            signal.raise_signal(signal.SIGHUP)
            assert interrupt.code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nobody_at_the_address_of_a_cluster_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "auto", None):
            check_address(address)
    with pytest.raises(StorageError, match=f"cannot reach the Ray cluster at 127.0.0.1:{port}"):
        check_address(f"127.0.0.1:{port}")
