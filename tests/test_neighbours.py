from __future__ import annotations

import os
import subprocess
import sys

import pytest

from automl import neighbours

ASK = "from automl import neighbours; import os; neighbours.make_room(); print(os.environ.get('GOMP_SPINCOUNT'))"
LOOP = "print(flush=True)\nwhile True: pass"


def made(monkeypatch: pytest.MonkeyPatch, used: float, niceness: int, own: dict[str, str]) -> tuple[str | None, str]:
    """What is told and set where others use so many percent of all processors."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(neighbours.psutil, "cpu_percent", lambda seconds: used)
    monkeypatch.setattr(neighbours.psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(neighbours.psutil.Process, "nice", lambda process: niceness)
    return neighbours.make_room(), os.environ.get("GOMP_SPINCOUNT", "")


@pytest.mark.parametrize(
    ("used", "niceness", "own", "set_to"),
    [
        (12.0, 0, {}, ""),
        (13.0, 0, {}, "3000"),
        (0.0, 10, {}, "3000"),
        (99.0, 0, {"GOMP_SPINCOUNT": "7"}, "7"),
        (99.0, 0, {"OMP_WAIT_POLICY": "active"}, ""),
    ],
)
def test_room_is_made_where_others_are_or_may_come(
    monkeypatch: pytest.MonkeyPatch, used: float, niceness: int, own: dict[str, str], set_to: str
) -> None:
    told, found = made(monkeypatch, used, niceness, own)
    assert found == set_to
    assert (told is None) == (set_to != "3000")


def test_too_late_after_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert neighbours.make_room() is None


def test_a_real_neighbour_is_seen() -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    with subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()  # it is at its loop
            ran = subprocess.run([sys.executable, "-c", ASK], env=plain, capture_output=True, text=True, check=True)
        finally:
            neighbour.kill()
    assert ran.stdout.strip() == "3000"
