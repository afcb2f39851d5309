"""Ray itself: connecting to a cluster, dividing it among trials, running plain functions on it; and signals."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import ray

from automl.errors import StorageError, UsageError
from automl.search.trial import prepare_process
from automl.training import KEPT_BUFFERS

__all__ = ["Interrupt", "Resources", "check_address", "cluster", "each_task", "resources"]


KNOCK_SECONDS = 10.0
WORKERS = {
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # that a stopped trial may take until its worker has another one
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial that is to get no GPU sees none
}


WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # of the threads of a step for each other, see `automl.neighbours`


class Resources(NamedTuple):
    """What each trial gets, how many trials run at once, and how many of them on one machine (None: all)."""

    cpus: int
    gpus: float
    concurrency: int
    on_one: int | None = None

    @property
    def memory(self) -> float:
        """Part of a device's memory (of the machine's, without GPUs) that one trial can have."""
        return min(1.0, self.gpus) or 1 / (self.on_one or self.concurrency)


class Machine(NamedTuple):
    """What Ray can give of one machine."""

    cpus: int
    gpus: float

    def slots(self, share: float) -> int:
        """Trials that its GPUs serve, each with so much of one, or so many: no part spans two GPUs."""
        return int(self.gpus) * int(1 / share + 1e-9) if share < 1 else int(self.gpus / share)

    def trials(self, cpus: int, gpus: float) -> int:
        """Trials that it can run at once, each with so many CPUs and GPUs."""
        return min(self.cpus // cpus, self.slots(gpus)) if gpus else self.cpus // cpus


class Interrupt:
    """SIGINT, SIGTERM and SIGHUP (the terminal was closed): raised as KeyboardInterrupt where every step can be
    repeated, and kept as a flag inside `deferred`, where running trials have to be told. A second signal ends the
    process at once.

    `code` is the exit code that the signal stands for: 130, 143 or 129.
    """

    def __init__(self) -> None:
        self.code = 0
        self._deferred = False

    def __call__(self) -> bool:
        return self.code != 0

    @contextlib.contextmanager
    def installed(self) -> Iterator[Interrupt]:
        """Catch the signals for the duration of the block. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        def caught(number: int, frame: object) -> None:
            if self.code:
                os._exit(128 + number)
            self.code = 128 + number
            if not self._deferred:
                raise KeyboardInterrupt
            with contextlib.suppress(OSError):  # not by the log: the signal may have come in the middle of a line of it
                os.write(2, b"stopping and saving; a second signal stops at once\n")

        caught_ones = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else started with nohup
            caught_ones.append(signal.SIGHUP)
        before = {each: signal.signal(each, caught) for each in caught_ones}
        try:
            yield self
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Keep a signal as a flag for the duration of the block."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False


def check_address(address: str | None) -> None:
    """Knock at the door of the Ray cluster at `address` ("HOST:PORT"), before anything costs time: Ray itself waits for
    minutes.

    Raises:
        StorageError: Nobody answers.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():  # "auto", "local": Ray knows
        return
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise StorageError(f"cannot reach the Ray cluster at {address}: {error}") from error


@contextlib.contextmanager
def cluster(address: str | None, gpus: float | str = "auto") -> Iterator[None]:
    """Connect to the Ray cluster at `address`, or start one on this machine and stop it afterwards.

    Args:
        gpus: Of a trial. With 0, this process, which refits the winner, leaves those of this machine alone as well.

    Raises:
        StorageError: The cluster cannot be reached.
    """
    if gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    logging.getLogger("ray").setLevel(logging.ERROR)
    patience = {name: os.environ.get(name, value) for name, value in WORKERS.items()}
    waiting = {name: os.environ[name] for name in WAITING if name in os.environ}
    environment = KEPT_BUFFERS | patience | waiting
    os.environ.update(environment)  # inherited by workers on this machine, which start a second sooner than with
    try:  # a runtime environment, the way to reach those of another's cluster
        with _signals_kept():
            ray.init(
                address=address or "local",
                configure_logging=False,
                log_to_driver=False,
                include_dashboard=False if address is None else None,
                runtime_env={"env_vars": environment} if address else None,
            )
    except (OSError, RuntimeError, ValueError) as error:
        what = f"reach the Ray cluster at {address}" if address else "start Ray on this machine"
        hint = "; set TMPDIR or RAY_TMPDIR to a short path" if "AF_UNIX" in str(error) else ""
        if address and "RAY_AUTH_MODE" not in os.environ:  # a cluster takes to tokens where it finds one when it starts
            hint = f"; if it asks for a token, set RAY_AUTH_MODE=token{hint}"
        raise StorageError(f"cannot {what}: {str(error).splitlines()[0]}{hint}") from error
    try:
        yield
    finally:
        with _signals_kept():
            ray.shutdown()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray's core takes SIGTERM for itself when it starts (a stack trace and an abort) and resets it when it stops; one
    that comes while it starts ends in SystemExit."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    left = False
    try:
        yield
    except SystemExit:
        left = True
    finally:
        if threading.current_thread() is threading.main_thread():
            for each, handler in handlers.items():
                signal.signal(each, handler)
    if left:
        signal.raise_signal(signal.SIGTERM)


def resources(cpus: int | str, gpus: float | str, concurrency: int | str) -> tuple[Resources, str]:
    """Divide the connected cluster among trials; "auto" parts are chosen here. Returns them with the reason.

    With GPUs: one GPU per trial and an even share of the CPUs of its machine. Without: up to 8 threads a trial, on two
    cores one trial at a time, since a second one at half the speed only delays what the first teaches the sampler. A
    trial runs on one machine, so it gets no more than one has.

    Raises:
        UsageError: A trial is to get more than a machine has, which Ray would wait for without end.
    """
    machines = _machines()
    most = Machine(max(each.cpus for each in machines), max(each.gpus for each in machines))
    gpu_share = float(gpus) if gpus != "auto" else (1.0 if most.gpus >= 1 else 0.0)
    if gpu_share > 1 and gpu_share != int(gpu_share):
        raise UsageError(f"search.gpus_per_trial is {gpu_share:g}: above 1 it is a whole number")
    where = "" if len(machines) == 1 else " on one machine"
    for name, asked, there in (("cpus", cpus, most.cpus), ("gpus", gpus, most.gpus)):
        if asked != "auto" and float(asked) > there:
            raise UsageError(
                f"search.{name}_per_trial is {asked} and there are {there:g}{where}: lower it, or leave it out"
            )
    if cpus != "auto":
        cpu_share = int(cpus)
    elif gpu_share:
        slots = [(each.cpus, each.slots(gpu_share)) for each in machines if each.slots(gpu_share)]
        cpu_share = max(1, min((own // parts for own, parts in slots), default=1))
    else:
        cpu_share = min(most.cpus, 8)
    at_once = [each.trials(cpu_share, gpu_share) for each in machines]
    if not any(at_once):
        raise UsageError(
            f"no machine has {cpu_share} CPUs and {gpu_share:g} GPUs for a trial: lower search.cpus_per_trial or "
            "search.gpus_per_trial, or leave them out"
        )
    wanted = sum(at_once) if concurrency == "auto" else int(concurrency)
    all_cpus, all_gpus = sum(each.cpus for each in machines), sum(each.gpus for each in machines)
    known = f"{all_cpus} CPUs and {all_gpus:g} GPUs are available" + (f" on {len(machines)} machines" if where else "")
    reason = f"{known}; {cpu_share} CPUs and {gpu_share:g} GPUs a trial"
    return Resources(cpu_share, gpu_share, wanted, min(wanted, max(at_once)) if where else None), reason


def _machines() -> list[Machine]:
    """Return the machines of the connected cluster that can run something."""
    alive = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    found = [Machine(int(each.get("CPU", 0)), float(each.get("GPU", 0))) for each in alive]
    return [each for each in found if each.cpus >= 1] or [Machine(1, 0.0)]


def each_task(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    share: Resources,
    *,
    done: Callable[[int, Any], None],
    enough: Callable[[], bool] = lambda: False,
) -> list[Any]:
    """Run ``function(*arguments[i])`` for every i as Ray tasks with `share` each; results in order.

    An exception of a task is returned in its place.

    Args:
        done: Called with the index and the result of each task that has ended.
        enough: Once this is true, the rest is cancelled and None in their places.
    """
    remote = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0)(_in_process)
    pending = {remote.remote(function, share.cpus, each): index for index, each in enumerate(arguments)}
    results: list[Any] = [None] * len(arguments)
    while pending:
        ready, _ = ray.wait(list(pending), timeout=0.5)
        for reference in ready:
            index = pending.pop(reference)
            try:
                results[index] = ray.get(reference)
            except ray.exceptions.RayError as error:
                results[index] = error
            done(index, results[index])
        if enough():
            for reference in pending:
                ray.cancel(reference, force=True)
            break
    return results


def _in_process(function: Callable[..., Any], threads: int, arguments: tuple[Any, ...]) -> Any:
    prepare_process(threads)
    return function(*arguments)
