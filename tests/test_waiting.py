"""How threads of a step wait for each other is settled before torch is imported, and a person's own choice stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOWN = "import automl, os; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("own", "used"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_do_not_look_on_for_long_unless_told_to(own: dict[str, str], used: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    ran = subprocess.run([sys.executable, "-c", SHOWN], env=plain | own, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == used


def test_it_is_settled_before_torch_is_imported() -> None:
    code = "import automl, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
