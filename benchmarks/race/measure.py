"""Run a command, and measure how much of the machine others used meanwhile."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

_PERIOD = 1.0  # seconds between looks at the processes of a command
_PATIENCE = 30.0  # seconds that what a command leaves behind has to end


class Measured(NamedTuple):
    """How a command ended, and what went on meanwhile.

    wall_seconds: from its start to its end.
    load_average: of the last minute before its start.
    own_seconds: CPU time of the command and all below it.
    others_share: CPU time of everything else, stolen time of a virtual machine included, as a share of all cores.
    """

    exit_code: int
    wall_seconds: float
    load_average: float
    own_seconds: float
    others_share: float


def run(command: list[str], log: Path, environment: Mapping[str, str]) -> Measured:
    """Run `command` in `environment`, with its output in `log`, wait for it, and for the processes it leaves behind.

    CPU time of the command is that of its processes and all below them, looked at every second, so what a process does
    in its last second counts as others'.
    """
    load = os.getloadavg()[0]
    seen: dict[psutil.Process, float] = {}
    busy, own, started = _busy_seconds(), time.process_time(), time.monotonic()
    with open(log, "w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        seen[psutil.Process(process.pid)] = 0.0
        while True:
            _look(seen)
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_PERIOD)
                break
    wall = time.monotonic() - started
    _look(seen)
    mine = sum(seen.values())
    others = _busy_seconds() - busy - (time.process_time() - own) - mine
    psutil.wait_procs([each for each in seen if each.is_running()], timeout=_PATIENCE)
    return Measured(code, wall, load, mine, max(0.0, others) / (wall * (os.cpu_count() or 1)))


def _look(seen: dict[psutil.Process, float]) -> None:
    """Add the processes below those in `seen`, and set the CPU seconds of all that live."""
    for process in list(seen):
        with contextlib.suppress(psutil.NoSuchProcess):
            seen.update((child, 0.0) for child in process.children() if child not in seen)
    for process in seen:
        with contextlib.suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            seen[process] = max(seen[process], used.user + used.system)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user and nice already
    return float(sum(times) - idle - guest)
