"""What else the machine does when a command starts, and what that means for threads that wait for each other.

A training step on several threads goes on when the last of them is done. By libgomp's default (300,000 looks, torch's
OpenMP on Linux) a thread looks on while it waits; where another program has the processor that the last thread needs,
that made a step take 18 to 116 times as long as alone. With 3,000 looks it sleeps soon, and a step takes two to four
times as long; on a machine that does nothing else it takes 7 to 25 % longer (`benchmarks/neighbour.py`), so this is
done where somebody else is there.
"""

from __future__ import annotations

import os
import sys

import psutil

__all__ = ["make_room"]

SAMPLE_SECONDS = 0.3
BUSY = 0.5  # processors that others use
LOOKS = "3000"


def make_room() -> str | None:
    """Let threads of this process and of its children wait asleep where others use the processors, or where this
    process was started to stand back (`nice`). Returns what was found; None where nothing had to be done.

    Call it before torch is imported, which reads the setting; afterwards it does nothing. Nor does it where a person
    has chosen (GOMP_SPINCOUNT, OMP_WAIT_POLICY).
    """
    if "torch" in sys.modules or os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        return None
    others = psutil.cpu_percent(SAMPLE_SECONDS) / 100 * (psutil.cpu_count() or 1)
    if others < BUSY and psutil.Process().nice() <= 0:
        return None
    os.environ["GOMP_SPINCOUNT"] = LOOKS
    return f"others use {others:.1f} of {psutil.cpu_count()} processors: threads that wait leave theirs to them"
